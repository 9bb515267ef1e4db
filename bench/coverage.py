"""How often a nominal 95 % interval of a law holds the truth, over synthetic studies whose laws are known.

    python -m bench.coverage --jobs 2
    python -m bench.coverage --check --out coverage
    python -m bench.coverage --studies 20 --draws 100 --only chinchilla

Each study draws its runs from a law with noise on the link scale (log y of a loss, logit of an error) and an effect of
each seed on the whole curve. It is fitted as by `flipscale fit`. Counted is how often each parameter's interval, the
law's band at three times the largest run, and the band of one run of a new seed there hold the truth. IsoFLOP studies
draw a curve for each budget. With --out each design is kept when it is done, and a run that was cut short goes on with
the next. --check exits with 1 if the mean over the intervals of a design leaves 92 to 97 % although the seeds' effect
is at most 0.03, if fewer than half of the studies with a larger one are noted, or if runs without noise get an
interval; except for designs that OUTSIDE names.
"""

import argparse
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.law_studies import BUDGETS, CHINCHILLA, DESIGNS, ODDS, Design, covered, covered_isoflop
from bench.parts import Part, digest, run_parts
from bench.report import leave, limit, machine, out_path, table
from flipscale.fit import Options, fit
from flipscale.fit.uncertainty import LARGE

HOLDS = (0.92, 0.97)
"""The limits of the mean coverage of a design's intervals."""

NOTED = 0.5
"""The least share of studies whose fit notes the seeds' effect, if the effect is larger than LARGE."""

CODE = ("bench/law_studies.py", "bench/scatter.py", "flipscale/fit")
"""What a design's coverage depends on."""

_TRADE_OFF = (
    "too wide: a floor, its coefficient and its exponent trade off, and resamples without one end of the sizes spread "
    "them far"
)
OUTSIDE: Mapping[str, str] = {
    "power+floor, 12 settings, 5 seeds, effect 0.03": _TRADE_OFF,
    "power+floor, 12 settings, 3 seeds, effect 0.03, gamma variances": _TRADE_OFF,
    "isoflop, 5 budgets x 7 sizes, 1 seed, effect 0.03": (
        "too wide: with one run of each size, the kinks of few curves measure the noise"
    ),
}
"""Design -> why its intervals are known to hold the truth too rarely, or too often."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and print; the facts that --out writes are returned. --check exits with 1 if a limit does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=300, help="of each design (300)")
    parser.add_argument("--draws", type=int, default=200, help="resamples of each study (200)")
    parser.add_argument("--only", default="", metavar="TEXT", help="designs whose name contains this, say 'isoflop'")
    parser.add_argument("--jobs", type=int, default=1, help="designs at once (1)")
    parser.add_argument("--check", action="store_true", help="exit with 1 if coverage is outside its limits")
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


def _limits(one: Mapping[str, Any]) -> list[dict[str, str]]:
    """The limits of a design."""
    if "width" in one:
        return [limit(one["design"], "no interval", f"{one['width']:.2g}", one["width"] < 1e-6)]
    if one["effect"] <= LARGE or one["noted"] is None:
        low, high = HOLDS
        holds = low <= round(one["mean"], 9) <= high  # rounded, so that 97 % is not above itself by a last bit
        found = limit(
            one["design"],
            f"{100 * low:g} to {100 * high:g} %",
            f"{100 * one['mean']:.1f} %",
            holds,
        )
        if not holds and one["design"] in OUTSIDE:
            found["verdict"] = f"outside, as stated: {OUTSIDE[one['design']]}"
        return [found]
    noted = one["noted"]
    return [limit(f"{one['design']}, noted", f"at least {100 * NOTED:g} %", f"{100 * noted:.0f} %", noted >= NOTED)]


def _thousand_draws() -> dict[str, float]:
    """CPU seconds that 1,000 resamples of a law of five parameters take on 100 runs."""
    seconds = {}
    wide = ((1e9, 1e12, 10), (1e8, 3e10, 10))
    for design in (replace(CHINCHILLA, axes=wide, seeds=1), replace(ODDS, axes=wide, seeds=1)):
        drawn = design.draw(np.random.default_rng(0))
        options = Options(draws=0, accuracy=design.law == "odds")
        started = time.process_time()
        fit(drawn, design.law, x=design.roles, y="y", options=options)
        without = time.process_time() - started
        fit(drawn, design.law, x=design.roles, y="y", options=replace(options, draws=1000))
        seconds[design.law] = round(time.process_time() - started - 2 * without, 2)
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
        + f"\nCPU time of 1,000 resamples of a law of five parameters on 100 runs: {said}\n"
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
