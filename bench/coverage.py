"""How often a nominal 95 % interval of a law holds the truth, over synthetic studies whose laws are known.

    python -m bench.coverage --jobs 2
    python -m bench.coverage --check --out coverage
    python -m bench.coverage --studies 20 --draws 100 --only chinchilla

Each study draws its runs from a law with noise on the link scale (log y of a loss, logit of an error) and an effect of
each seed on the whole curve. It is fitted as `flipscale fit` would, and each parameter's interval, the law's band at
three times the largest run, and the band of one run of a new seed there are asked whether they hold the truth. IsoFLOP
studies draw a curve for each budget. With --out each design is kept when it is done, and a run that was cut short goes
on with the next. --check ends with 1 where the mean over the intervals of a design leaves 92 to 97 %, as long as the
seeds' effect is at most 0.03, where fewer than half of the studies with a larger one are noted, or where runs without
noise get an interval; but for designs that OUTSIDE names.
"""

import argparse
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from bench.parts import Part, digest, run_parts
from bench.report import leave, limit, machine, out_path, table
from bench.scatter import Spread, even, falling, gamma, wild
from flipscale.fit import LAWS, Options, fit, isoflop
from flipscale.fit.fitting import fit_rows
from flipscale.fit.rows import rows_of
from flipscale.fit.seeds import LARGE
from flipscale.stats import Array

BEYOND = 3.0
"""The band is asked for at this many times the largest value of every variable."""

HOLDS = (0.92, 0.97)
"""What the mean coverage of a design's intervals may be."""

NOTED = 0.5
"""The least share of studies whose fit notes the seeds' effect, where that is larger than it may be unnoticed."""

CODE = ("bench/coverage.py", "bench/scatter.py", "flipscale/fit", "flipscale/stats")
"""What a design's coverage depends on."""

OUTSIDE: Mapping[str, str] = {}
"""Design -> why its intervals are known to hold the truth too rarely, or too often."""

Noise = Literal["normal", "heavy tails"]


@dataclass(frozen=True)
class Design:
    """A kind of study."""

    law: str
    theta: tuple[float, ...]
    """Its true parameters, as they are fitted."""
    axes: tuple[tuple[float, float, int], ...]
    """First, last and number of values of each variable."""
    scatter: float
    """Standard deviation of a run about the law, on its link scale."""
    seeds: int = 3
    effect: float = 0.0
    """Standard deviation of what a seed adds to every run, on the link scale."""
    shared: bool = True
    """Whether all settings are run with the same seeds; else every run has its own."""
    noise: Noise = "normal"
    spread: Spread = even
    """How the scatter differs between settings, from the smallest to the largest."""
    lost: float = 0.0
    """Share of the runs that are missing at random."""

    @property
    def name(self) -> str:
        settings = " x ".join(str(n) for _, _, n in self.axes)
        seeds = f"{self.seeds} seed{'s' if self.seeds > 1 else ''}{'' if self.shared else ' of its own'}"
        parts = [f"{self.law}, {settings} settings, {seeds}, effect {self.effect:g}"]
        parts += [self.noise] if self.noise != "normal" else []
        parts += [SPREADS[self.spread]] if self.spread is not even else []
        parts += [f"{100 * self.lost:g} % of runs lost"] if self.lost else []
        return ", ".join(parts)

    @property
    def roles(self) -> tuple[str, ...]:
        return LAWS[self.law].roles

    def draw(self, rng: np.random.Generator) -> pd.DataFrame:
        """The runs of a study."""
        columns = np.meshgrid(*(np.geomspace(*axis) for axis in self.axes), indexing="ij")
        settings = np.column_stack([column.ravel() for column in columns])
        x = np.repeat(settings, self.seeds, axis=0)
        seed = np.tile(np.arange(self.seeds), len(settings)) if self.shared else np.arange(len(x))
        effects = rng.normal(0, self.effect, seed.max() + 1)
        wide = np.repeat(self.spread(rng, np.linspace(0, 1, len(settings))), self.seeds)
        runs = pd.DataFrame(
            {
                **dict(zip(self.roles, x.T, strict=True)),
                "y": self.at(x, wide * self._scatter(rng, len(x)) + effects[seed]),
            }
        )
        return runs.assign(seed=seed)[rng.random(len(x)) >= self.lost]

    def at(self, x: Array, above: Array | float = 0.0) -> Array:
        """y at x [n, roles], with this much on top on the link scale."""
        z = LAWS[self.law].evaluate(np.array(self.theta), x)[0] + above
        return np.exp(z) if LAWS[self.law].link == "log" else 1 / (1 + np.exp(z))

    def new_run(self, x: Array, rng: np.random.Generator) -> Array:
        """y of a run of a new seed at x [1, roles], which scatters as the largest setting does."""
        wide = self.spread(rng, np.linspace(0, 1, 20))[-1:]
        return self.at(x, wide * self._scatter(rng, 1) + rng.normal(0, self.effect))

    def _scatter(self, rng: np.random.Generator, n: int) -> Array:
        """Student's t of 3 degrees of freedom, scaled to the same variance, has heavy tails."""
        drawn = rng.standard_normal(n) if self.noise == "normal" else rng.standard_t(3, n) / np.sqrt(3)
        return self.scatter * np.asarray(drawn, dtype=np.float64)


@dataclass(frozen=True)
class Budgets:
    """A kind of IsoFLOP study: curves whose best size grows as the budget to the power 0.6."""

    seeds: int
    effect: float
    scatter: float
    sizes: int = 7
    budgets: tuple[float, ...] = (1e17, 10**17.75, 10**18.5, 10**19.25, 1e20)

    @property
    def name(self) -> str:
        runs = f"{self.seeds} seed{'s' if self.seeds > 1 else ''}"
        noise = f"effect {self.effect:g}" if self.scatter else "noise-free"
        return f"isoflop, {len(self.budgets)} budgets x {self.sizes} sizes, {runs}, {noise}"

    def draw(self, rng: np.random.Generator) -> pd.DataFrame:
        """The runs of a study; where the sizes of a budget lie beside its best one is chance."""
        effects = rng.normal(0, self.effect, self.seeds)
        rows = []
        for budget in self.budgets:
            for u in np.linspace(-3, 3, self.sizes) + rng.uniform(-0.4, 0.4):
                level = np.log(2 + 0.3 * (np.cosh(0.7 * u) - 1))
                for seed in range(self.seeds):
                    noise = effects[seed] + rng.normal(0, self.scatter)
                    rows.append((budget, budget**0.6 / 1e3 * np.exp(u), np.exp(level + noise), seed))
        return pd.DataFrame(rows, columns=["C", "N", "loss", "seed"])


SPREADS: Mapping[Spread, str] = {falling: "noise falls with size", wild: "one wild setting", gamma: "gamma variances"}

_LOG = np.log
_POWER = Design("power", (_LOG(12.0), 0.3), ((1e3, 1e7, 12),), 0.02)
_FLOOR = Design("power+floor", (_LOG(1.7), _LOG(3000.0), 0.2), ((1e17, 1e21, 12),), 0.01)
_CHINCHILLA = Design(
    "chinchilla", (_LOG(1.69), _LOG(406.4), _LOG(410.7), 0.34, 0.28), ((1e7, 1e10, 7), (1e9, 3e11, 5)), 0.01
)
_ODDS = Design("odds", (_LOG(30.0), _LOG(200.0), 0.25, 0.3, 0.9), ((1e9, 1e12, 7), (1e8, 3e10, 5)), 0.03)
_PRODUCT = Design("odds-product", (_LOG(30.0), 0.1, 0.15), ((1e9, 1e12, 4), (1e8, 3e10, 4)), 0.03)

DESIGNS: tuple[Design, ...] = (
    *(replace(_POWER, seeds=seeds, effect=effect) for seeds in (2, 3, 5) for effect in (0, 0.03, 0.08)),
    *(replace(_PRODUCT, seeds=seeds, effect=effect) for seeds in (2, 3, 5) for effect in (0, 0.03, 0.08)),
    *(replace(_FLOOR, seeds=seeds, effect=0.03) for seeds in (2, 3, 5)),
    *(replace(_CHINCHILLA, effect=effect) for effect in (0, 0.03, 0.08)),
    replace(_CHINCHILLA, axes=((1e7, 1e10, 10), (1e9, 3e11, 10)), seeds=1),
    *(replace(_ODDS, effect=effect) for effect in (0, 0.03, 0.08)),
    replace(_POWER, effect=0.03, shared=False),
    replace(_POWER, effect=0.03, noise="heavy tails"),
    replace(_PRODUCT, effect=0.03, noise="heavy tails"),
    replace(_POWER, effect=0.03, lost=0.15),
    *(replace(law, effect=0.03, spread=spread) for law in (_POWER, _PRODUCT, _FLOOR) for spread in SPREADS),
)

BUDGETS = (
    *(Budgets(seeds, 0.03, 0.01) for seeds in (1, 2, 3, 5)),
    Budgets(3, 0.08, 0.03),
    Budgets(3, 0.03, 0.0),
)

_ISOFLOP = "isoflop"


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and print; the facts that --out writes are returned. --check ends with 1 where a limit does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000, help="of each design (1000)")
    parser.add_argument("--draws", type=int, default=200, help="resamples of each study (200)")
    parser.add_argument("--only", default="", metavar="TEXT", help="designs whose name holds this, as 'isoflop'")
    parser.add_argument("--jobs", type=int, default=1, help="designs at once (1)")
    parser.add_argument("--check", action="store_true", help="end with 1 where coverage is not what it should be")
    parser.add_argument("--out", metavar="NAME", help="write bench/results/NAME.json and its figure")
    asked = parser.parse_args(arguments)
    parts = [
        Part(
            design.name,
            covered if isinstance(design, Design) else covered_isoflop,
            (design, asked.studies, asked.draws),
        )
        for design in (*DESIGNS, *BUDGETS)
        if asked.only in design.name
    ]
    path = out_path(asked.out) if asked.out else None
    folder = path.with_suffix(".parts") if path else None
    designs = run_parts(parts, folder=folder, code=digest(*CODE), jobs=asked.jobs)
    limits = [one for design in designs for one in _limits(design)]
    facts: dict[str, Any] = {
        "benchmark": "coverage",
        "machine": machine(),
        "studies": asked.studies,
        "draws": asked.draws,
        "nominal": 0.95,
        "designs": designs,
        "limits": limits,
        "thousand_draws": _thousand_draws(),
    }
    leave(asked.out, facts, _as_markdown(facts))
    if path and folder:
        _draw(facts, path.with_suffix(".svg"))
        shutil.rmtree(folder)
    if asked.check and any(one["verdict"] == "DOES NOT HOLD" for one in limits):
        raise SystemExit(1)
    return facts


def covered(design: Design, studies: int, draws: int) -> dict[str, Any]:
    """The share of studies in which each interval held the truth."""
    law = LAWS[design.law]
    truth = law.values(np.array(design.theta))
    beyond = {role: [BEYOND * last] for role, (_, last, _) in zip(design.roles, design.axes, strict=True)}
    there = np.array([[values[0] for values in beyond.values()]])
    held: dict[str, int] = dict.fromkeys((*truth, "law beyond", "run beyond"), 0)
    runs = noted = 0
    for number in range(studies):
        rng = np.random.default_rng(1000 + number)
        drawn = design.draw(rng)
        options = Options(draws=draws, starts=6, accuracy=law.link == "logit", seed=number)
        rows = rows_of(drawn, law, design.roles, "y", accuracy=options.accuracy)
        # As `fit`, but for the error on the largest runs, which is a fit of its own and nothing here asks for.
        found = fit_rows(law, rows, options, {}, hold_out=False)
        runs = len(found.rows)
        noted += found.seeds is not None and found.seeds.sd > LARGE
        for name, value in truth.items():
            low, high = found.intervals[name] or (np.nan, np.nan)
            held[name] += low <= value <= high
        for name, values, one in (
            ("law beyond", design.at(there), False),
            ("run beyond", design.new_run(there, rng), True),
        ):
            ends = found.band(beyond, one_run=one)
            held[name] += bool(ends[0][0] <= values[0] <= ends[1][0])
    return _facts(design, {name: count / studies for name, count in held.items()}, found.loss, runs, noted / studies)


def covered_isoflop(design: Budgets, studies: int, draws: int) -> dict[str, Any]:
    """The same of IsoFLOP studies; without noise what is measured is the width of the exponent's interval."""
    held = dict.fromkeys(("A", "a", "law beyond"), 0)
    width = 0.0
    beyond = 10 * max(design.budgets)
    drawn = design.draw(np.random.default_rng(0))
    for number in range(studies if design.scatter else 1):
        drawn = design.draw(np.random.default_rng(number))
        found = isoflop(drawn, x="N", y="loss", budget="C", options=Options(draws=draws, seed=number))
        low, high = found.intervals["a"] or (np.nan, np.nan)
        width = max(width, high - low)
        held["a"] += low <= 0.6 <= high
        low, high = found.intervals["A"] or (np.nan, np.nan)
        held["A"] += low <= 1e-3 <= high
        ends = found.band({"C": [beyond]})
        held["law beyond"] += bool(ends[0][0] <= beyond**0.6 / 1e3 <= ends[1][0])
    if not design.scatter:
        return {"design": design.name, "effect": design.effect, "loss": "squares", "runs": len(drawn), "width": width}
    return _facts(design, {name: count / studies for name, count in held.items()}, "squares", len(drawn), None)


def _facts(
    design: Design | Budgets, covered: Mapping[str, float], loss: str, runs: int, noted: float | None
) -> dict[str, Any]:
    return {
        "design": design.name,
        "effect": design.effect,
        "loss": loss,
        "runs": runs,
        "covered": dict(covered),
        "mean": sum(covered.values()) / len(covered),
        "noted": noted,
    }


def _limits(one: Mapping[str, Any]) -> list[dict[str, str]]:
    """What a design is held to."""
    if "width" in one:
        return [limit(one["design"], "no interval", f"{one['width']:.2g}", one["width"] < 1e-6)]
    if one["effect"] <= LARGE or one["noted"] is None:
        low, high = HOLDS
        holds = low <= one["mean"] <= high
        return [limit(one["design"], f"{100 * low:g} to {100 * high:g} %", f"{100 * one['mean']:.1f} %", holds)]
    noted = one["noted"]
    return [limit(f"{one['design']}, noted", f"at least {100 * NOTED:g} %", f"{100 * noted:.0f} %", noted >= NOTED)]


def _thousand_draws() -> dict[str, float]:
    """Seconds that 1,000 resamples of a law of five parameters take on 100 runs."""
    seconds = {}
    wide = ((1e9, 1e12, 10), (1e8, 3e10, 10))
    for design in (replace(_CHINCHILLA, axes=wide, seeds=1), replace(_ODDS, axes=wide, seeds=1)):
        drawn = design.draw(np.random.default_rng(0))
        options = Options(draws=0, accuracy=design.law == "odds")
        started = time.perf_counter()
        fit(drawn, design.law, x=design.roles, y="y", options=options)
        without = time.perf_counter() - started
        fit(drawn, design.law, x=design.roles, y="y", options=replace(options, draws=1000))
        seconds[design.law] = round(time.perf_counter() - started - 2 * without, 2)
    return seconds


def _as_markdown(facts: Mapping[str, Any]) -> str:
    rows = []
    for one in facts["designs"]:
        if "width" in one:
            continue
        by_share = sorted(one["covered"].items(), key=lambda item: item[1])
        noted = "-" if one["noted"] is None else f"{100 * one['noted']:.0f} %"
        ends = (f"{100 * share:.1f} % ({name})" for name, share in (by_share[0], by_share[-1]))
        rows.append((one["design"], one["runs"], one["loss"], f"{100 * one['mean']:.1f} %", *ends, noted))
    said = ", ".join(f"{law} {seconds} s" for law, seconds in facts["thousand_draws"].items())
    limits = [[one[key] for key in ("what", "limit", "measured", "verdict")] for one in facts["limits"]]
    return (
        f"Nominal 95 % CIs that hold the truth, {facts['studies']} studies of each design, "
        f"{facts['draws']} resamples each\n\n"
        + table(("design", "runs", "loss", "mean", "least", "most", "seeds noted"), rows)
        + "\n"
        + table(("what", "limit", "measured", "verdict"), limits)
        + f"\n1,000 resamples of a law of five parameters on 100 runs: {said}\n"
    )


def _draw(facts: Mapping[str, Any], path: Path) -> None:
    """A row for each design: the coverage of each of its intervals, with its standard error over studies."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    designs, studies = [one for one in facts["designs"] if "covered" in one], facts["studies"]
    with mpl.rc_context({"font.size": 8, "svg.hashsalt": "coverage", "axes.spines.top": False}):
        figure = Figure(figsize=(8.2, 1.1 + 0.27 * len(designs)), layout="constrained")
        FigureCanvasAgg(figure)
        ax = figure.subplots()
        ax.axvspan(100 * HOLDS[0], 100 * HOLDS[1], color="#e4e4e4", zorder=0)
        ax.axvline(95, color="#444444", linewidth=1)
        for row, one in enumerate(designs):
            for i, (name, share) in enumerate(one["covered"].items()):
                y = row + 0.6 * (i / max(len(one["covered"]) - 1, 1) - 0.5)
                spread = 196 * (share * (1 - share) / studies) ** 0.5
                marker = {"law beyond": "s", "run beyond": "^"}.get(name, "o")
                ax.errorbar(100 * share, y, xerr=spread, fmt=marker, color="#0072B2", markersize=3, linewidth=0.6)
            ax.plot(100 * one["mean"], row, "|", color="#D55E00", markersize=12, markeredgewidth=2, zorder=5)
        ax.set_yticks(range(len(designs)), [one["design"] for one in designs])
        ax.set_ylim(len(designs) - 0.5, -0.5)
        ax.set_xlim(84, 101)
        ax.set_xlabel(
            f"intervals that held the truth, % of {studies} studies (nominal 95; bars: 95 % CI)\n"
            "circles: parameters; square: the law beyond\nthe largest run; triangle: a run there; red: mean"
        )
        figure.savefig(path, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
