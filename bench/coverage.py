"""How often a nominal 95 % interval holds the truth, over synthetic studies whose laws are known; and what it takes.

    python -m bench.coverage
    python -m bench.coverage --studies 20 --draws 100 --only chinchilla --out NAME

Each study draws its runs from a law with log-normal scatter (on the odds for a score), is fitted as `flipscale fit`
would, and each parameter's interval, the law's band at three times the largest run, and the band of one run there are
asked whether they hold the truth. A study of a design counts once for each of these.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.report import RESULTS, leave, machine, table
from flipscale.fit import LAWS, Options, fit

BEYOND = 3.0
"""The band is asked for at this many times the largest value of every variable."""


@dataclass(frozen=True)
class Design:
    """A kind of study."""

    law: str
    theta: tuple[float, ...]
    """Its true parameters, as they are fitted."""
    axes: tuple[tuple[float, float, int], ...]
    """First, last and number of values of each variable."""
    seeds: int
    scatter: float
    """Standard deviation of a run about the law, on its link scale."""

    @property
    def name(self) -> str:
        settings = " x ".join(str(n) for _, _, n in self.axes)
        return f"{self.law}, {settings} settings, {self.seeds} seed{'s' if self.seeds > 1 else ''}"

    def draw(self, rng: np.random.Generator) -> pd.DataFrame:
        columns = np.meshgrid(*(np.geomspace(*axis) for axis in self.axes), indexing="ij")
        x = np.repeat(np.column_stack([column.ravel() for column in columns]), self.seeds, axis=0)
        return pd.DataFrame({**dict(zip(self.roles, x.T, strict=True)), "y": self.at(x, rng)})

    @property
    def roles(self) -> tuple[str, ...]:
        return LAWS[self.law].roles

    def at(self, x: "np.ndarray[Any, Any]", rng: np.random.Generator | None = None) -> "np.ndarray[Any, Any]":
        """y at x [n, roles], of a run where rng is given."""
        z = LAWS[self.law].evaluate(np.array(self.theta), x)[0]
        z = z if rng is None else z + rng.normal(0, self.scatter, len(z))
        return np.exp(z) if LAWS[self.law].link == "log" else 1 / (1 + np.exp(z))


_LOG = np.log
DESIGNS = (
    Design("power", (_LOG(12.0), 0.3), ((1e3, 1e7, 12),), 3, 0.02),
    Design("power+floor", (_LOG(1.7), _LOG(3000.0), 0.2), ((1e17, 1e21, 12),), 3, 0.01),
    Design(
        "chinchilla",
        (_LOG(1.69), _LOG(406.4), _LOG(410.7), 0.34, 0.28),
        ((1e7, 1e10, 7), (1e9, 3e11, 5)),
        3,
        0.01,
    ),
    Design(
        "chinchilla",
        (_LOG(1.69), _LOG(406.4), _LOG(410.7), 0.34, 0.28),
        ((1e7, 1e10, 10), (1e9, 3e11, 10)),
        1,
        0.01,
    ),
    Design("odds", (_LOG(30.0), _LOG(200.0), 0.25, 0.3, 0.9), ((1e9, 1e12, 7), (1e8, 3e10, 5)), 3, 0.03),
)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and print; the facts that --out writes are returned."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200, help="of each design (200)")
    parser.add_argument("--draws", type=int, default=400, help="resamples of each study (400)")
    parser.add_argument("--only", help="designs of this law")
    parser.add_argument("--out", metavar="NAME", help="write bench/results/NAME.json and its figure")
    asked = parser.parse_args(arguments)
    facts: dict[str, Any] = {
        "benchmark": "coverage",
        "machine": machine(),
        "studies": asked.studies,
        "draws": asked.draws,
        "nominal": 0.95,
        "designs": [
            _covered(design, asked.studies, asked.draws) for design in DESIGNS if asked.only in (None, design.law)
        ],
        "thousand_draws": _thousand_draws(),
    }
    leave(asked.out, facts, _as_markdown(facts))
    if asked.out:
        _draw(facts, RESULTS / f"{Path(asked.out).stem}.svg")
    return facts


def _covered(design: Design, studies: int, draws: int) -> dict[str, Any]:
    """The share of studies in which each interval held the truth."""
    truth = LAWS[design.law].values(np.array(design.theta))
    beyond = {role: [BEYOND * last] for role, (_, last, _) in zip(design.roles, design.axes, strict=True)}
    there = np.array([[values[0] for values in beyond.values()]])
    held: dict[str, int] = dict.fromkeys((*truth, "law beyond", "run beyond"), 0)
    runs = 0
    for number in range(studies):
        rng = np.random.default_rng(1000 + number)
        drawn = design.draw(rng)
        options = Options(draws=draws, starts=8, accuracy=LAWS[design.law].link == "logit", seed=number)
        found = fit(drawn, design.law, x=design.roles, y="y", options=options)
        runs = len(found.rows)
        for name, value in truth.items():
            low, high = found.intervals[name] or (np.nan, np.nan)
            held[name] += low <= value <= high
        for name, value, one in (
            ("law beyond", design.at(there)[0], False),
            ("run beyond", design.at(there, rng)[0], True),
        ):
            low, high = found.band(beyond, one_run=one)
            held[name] += bool(low[0] <= value <= high[0])
    covered = {name: count / studies for name, count in held.items()}
    mean = sum(covered.values()) / len(covered)
    return {"design": design.name, "loss": found.loss, "runs": runs, "covered": covered, "mean": mean}


def _thousand_draws() -> dict[str, float]:
    """Seconds that 1,000 resamples of a law of five parameters take on 100 runs."""
    seconds = {}
    for design in (DESIGNS[3], Design(**{**vars(DESIGNS[4]), "axes": ((1e9, 1e12, 10), (1e8, 3e10, 10)), "seeds": 1})):
        drawn = design.draw(np.random.default_rng(0))
        options = Options(draws=0, accuracy=design.law == "odds")
        started = time.perf_counter()
        fit(drawn, design.law, x=design.roles, y="y", options=options)
        without = time.perf_counter() - started
        fit(drawn, design.law, x=design.roles, y="y", options=Options(draws=1000, accuracy=design.law == "odds"))
        seconds[design.law] = round(time.perf_counter() - started - 2 * without, 2)
    return seconds


def _as_markdown(facts: Mapping[str, Any]) -> str:
    rows = []
    for one in facts["designs"]:
        worst = min(one["covered"].items(), key=lambda item: item[1])
        best = max(one["covered"].items(), key=lambda item: item[1])
        rows.append(
            (
                one["design"],
                one["runs"],
                one["loss"],
                f"{100 * one['mean']:.1f} %",
                *(f"{100 * share:.1f} % ({name})" for name, share in (worst, best)),
            )
        )
    said = ", ".join(f"{law} {seconds} s" for law, seconds in facts["thousand_draws"].items())
    return (
        f"Nominal 95 % intervals that hold the truth, {facts['studies']} studies of each design, "
        f"{facts['draws']} resamples each\n\n"
        + table(("design", "runs", "loss", "mean", "least", "most"), rows)
        + f"\n1,000 resamples of a law of five parameters on 100 runs: {said}\n"
    )


def _draw(facts: Mapping[str, Any], path: Path) -> None:
    """A row a design: the coverage of each of its intervals, with what 200 studies can tell."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    designs, studies = facts["designs"], facts["studies"]
    with mpl.rc_context({"font.size": 9, "svg.hashsalt": "coverage", "axes.spines.top": False}):
        figure = Figure(figsize=(7.2, 0.9 + 0.5 * len(designs)), layout="constrained")
        FigureCanvasAgg(figure)
        ax = figure.subplots()
        ax.axvspan(93, 97, color="#e4e4e4", zorder=0)
        ax.axvline(95, color="#444444", linewidth=1)
        for row, one in enumerate(designs):
            for i, (name, share) in enumerate(one["covered"].items()):
                y = row + 0.5 * (i / max(len(one["covered"]) - 1, 1) - 0.5)
                spread = 196 * (share * (1 - share) / studies) ** 0.5
                marker = {"law beyond": "s", "run beyond": "^"}.get(name, "o")
                ax.errorbar(100 * share, y, xerr=spread, fmt=marker, color="#0072B2", markersize=4, linewidth=0.8)
        ax.set_yticks(range(len(designs)), [one["design"] for one in designs])
        ax.set_ylim(len(designs) - 0.5, -0.5)
        ax.set_xlim(84, 101)
        ax.set_xlabel(
            f"intervals that held the truth, % of {studies} studies (nominal 95)\n"
            "circles: parameters; square: the law at\n3 times the largest run; triangle: a run there"
        )
        figure.savefig(path, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
