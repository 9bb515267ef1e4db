"""Whether the intervals of `flipscale compare` hold the truth as often as they say, on studies whose truth is known.

    python -m bench.comparison --out comparison
    python -m bench.comparison --studies 200 --curves 20 --seeds 3 --jobs 2
    python -m bench.comparison --check --out comparison

Effects: a study has 20 cells and two arms; half of the effects are 0, the others a loss of 1, 2 or 4 points. Measured
are how often 95 % intervals hold the effect, on average and in the worst cell, how often a study claims any effect that
is 0 (all 40 corrected by Holm), how often it finds one of 4 points, and half the width of an interval.

Curves: a study has four series of four schedules that double, and one arm, which spends half of the cost. In three
series it is as good as the baseline for 1 / 2.5 of the cost, along an odds law, a power law and a logarithm; in the
last it falls behind at a cost of 16. Measured are the speed-up at the baseline's best, the gain at equal cost and the
crossover. The truth is the law's, not what a study without noise would read. The bias of linear interpolation in cost
and score stands beside it, as FLIP's 3.7x was read.

Curves that level off are read without noise (saturation.py).

Claims: families of stated claims that share runs (claim_studies.py).

`bench.scatter` says how runs scatter. With --out each design is kept when it is done, and a run that was cut short goes
on with the next. With --check the exit status is 1 if 95 % intervals hold the truth in fewer than 92 or more than 97 %
of cases, or a family errs in more than 6.5 % of studies, except for designs that OUTSIDE names.
"""

import argparse
import math
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.special import expit, logit

from bench.claim_studies import CLAIM_SCATTERS, FAMILIES, claims_fare
from bench.parts import Part, digest, run_parts
from bench.report import leave, machine, out_path, table
from bench.saturation import speedup_biases
from bench.scatter import MOST_SEEDS, SCATTERS, UNBALANCED, Scatter
from flipscale.compare.curves import DrawCounts, curves_of
from flipscale.compare.parts import Curve
from flipscale.compare.points import Point
from flipscale.stats import Array, Moments, holm, pool_variance
from flipscale.stats.pooling import MANY_CELLS

LOW, HIGH, MOST_ERROR = 0.92, 0.97, 0.065

CODE = ("bench/comparison.py", "bench/claim_studies.py", "bench/scatter.py", "flipscale/compare", "flipscale/stats")
"""What the numbers of a design depend on."""

# Effects

CELLS, ARMS = 20, 2
MOST_EFFECT = -0.04
EFFECTS = np.array([0.0, -0.01, 0.0, -0.02, 0.0, MOST_EFFECT])

# Curves

SCHEDULES = (8.0, 16.0, 32.0, 64.0)
SHIFT, SPENDS, CROSSES = 2.5, 0.5, 16.0
COST_SD = 0.02
READINGS = ("speed-up", "gain at equal cost", "crossover")
DRAWS = DrawCounts(claims=2000, others=1000)
LEAST_READ = 30
"""A share of fewer readings is not judged."""

Truth = Callable[[float], float]


def odds_law(cost: float) -> float:
    odds = float((cost / 20) ** 0.8)
    return odds / (1 + odds)


def power_law(cost: float) -> float:
    return 0.9 - 0.9 * float((cost + 2) ** -0.4)


def logarithm(cost: float) -> float:
    return 0.3 + 0.1 * math.log2(cost / 4)


def crossing(cost: float) -> float:
    """Better than the odds law below a cost of 16, worse above."""
    return odds_law(cost * (cost / CROSSES) ** -0.3)


LAWS: Mapping[str, tuple[Truth, Truth]] = {
    "odds": (odds_law, lambda cost: odds_law(SHIFT * cost)),
    "power": (power_law, lambda cost: power_law(SHIFT * cost)),
    "logarithm": (logarithm, lambda cost: logarithm(SHIFT * cost)),
    "crossing": (odds_law, crossing),
}
"""Series -> baseline and arm."""

TOO_WIDE = "too wide, as two seeds say little of what the runs of a seed share"
OUTSIDE: Mapping[tuple[str, str, int], str] = {
    ("effects", "seed effect .08", 2): "seeds move arms apart by more than runs scatter, which two seeds do not show",
    ("gain at equal cost", "seed effect .03 of twins", 2): TOO_WIDE,
    ("gain at equal cost", "seed effect .08 of twins", 2): TOO_WIDE,
    ("gain at equal cost", "seed effect .03", 2): TOO_WIDE,
}
"""(asked, scatter, seeds) -> why its intervals are known to hold the truth too rarely, or too often."""


class Tally:
    """How often the intervals of one method hold the truth over studies of effects."""

    def __init__(self) -> None:
        self.held, self.made = np.zeros((CELLS, ARMS)), np.zeros((CELLS, ARMS))
        self.errors = self.found = 0
        self.halves: list[float] = []

    def add(self, claims: Mapping[tuple[str, str], Moments], truth: Array, effects: Array, levels: Array) -> None:
        """Count one study: truth [cells, arms] on the logit, effects there in the score, levels of the baseline."""
        at = [(int(cell), int(arm)) for cell, arm in claims]
        for (c, a), moments in zip(at, claims.values(), strict=True):
            interval = moments.interval()
            self.made[c, a] += 1
            self.held[c, a] += interval.holds(truth[c, a])
            self.halves.append(100 * interval.half_width * levels[c] * (1 - levels[c]))
        judged = holm([moments.p for moments in claims.values()])
        significant = [key for key, of_key in zip(at, judged, strict=True) if of_key is not None and of_key.significant]
        self.errors += any(bool(effects[key] == 0) for key in significant)
        self.found += sum(bool(effects[key] == MOST_EFFECT) for key in significant)

    def facts(self, studies: int, asked: int) -> dict[str, float]:
        """Shares, of studies and of the `asked` effects of 4 points in each."""
        by_cell = self.held.sum(axis=1) / np.maximum(self.made.sum(axis=1), 1)
        return {
            "cover": float(self.held.sum() / self.made.sum()),
            "worst": float(by_cell.min()),
            "family_error": self.errors / studies,
            "power_4_points": self.found / (asked * studies),
            "half_width_points": float(np.median(self.halves)),
        }


def effects_of(scatter: Scatter, seeds: int, studies: int) -> dict[str, Any]:
    """How often intervals of effects hold the truth, by each cell's own seeds and by the noise of the study."""
    rng = np.random.default_rng([1, seeds, len(scatter.name)])
    levels, sizes = np.linspace(0.6, 0.85, CELLS), np.linspace(0, 1, CELLS)
    effects = EFFECTS[(np.arange(CELLS)[:, None] + 3 * np.arange(ARMS)) % len(EFFECTS)]
    truth = logit(levels[:, None] + effects) - logit(levels)[:, None]
    own, moderated = Tally(), Tally()
    for _ in range(studies):
        steps = scatter.noise(rng, ARMS + 1, sizes.tolist(), seeds)
        counts = scatter.counts(rng, CELLS, seeds)
        differences = {
            (f"{c}", f"{a}"): (truth[c, a] + steps[a + 1, c, : counts[c]] - steps[0, c, : counts[c]]).tolist()
            for c in range(CELLS)
            for a in range(ARMS)
        }
        noise = pool_variance(differences)
        own.add(noise.by_own_seeds, truth, effects, levels)
        moderated.add(noise.moments, truth, effects, levels)
    asked = int((effects == MOST_EFFECT).sum())
    return {
        "scatter": scatter.name,
        "seeds": 0 if scatter.unbalanced else seeds,
        "studies": studies,
        "methods": {"own": own.facts(studies, asked), "moderated": moderated.facts(studies, asked)},
    }


def study(rng: np.random.Generator, scatter: Scatter, seeds: int) -> list[Point]:
    """The runs of a study of curves."""
    sizes = [i / (len(LAWS) - 1) for i in range(len(LAWS)) for _ in SCHEDULES]
    steps = scatter.noise(rng, 2, sizes, seeds)
    counts = scatter.counts(rng, len(LAWS), seeds)
    points = []
    for i, (series, laws) in enumerate(LAWS.items()):
        for a, (arm, spends) in enumerate((("", 1.0), ("arm", SPENDS))):
            for k, samples in enumerate(SCHEDULES):
                for seed in range(counts[i]):
                    y = float(expit(logit(laws[a](samples * spends)) + steps[a, i * len(SCHEDULES) + k, seed]))
                    cost = samples * spends * math.exp(rng.normal(0, COST_SD))
                    name = f"{series}{arm}{samples}{seed}"
                    points.append(Point(name, f"{samples}", series, samples, arm, seed, "", y, {"hours": cost}))
    return points


def curves_fare(scatter: Scatter, seeds: int, studies: int) -> dict[str, Any]:
    """How often intervals of readings from curves hold the truth."""
    rng = np.random.default_rng([2, seeds, len(scatter.name)])
    curves = [
        curve
        for _ in range(studies)
        for curve in curves_of(study(rng, scatter, seeds), ["arm"], ["hours"], fraction=True, lower=False, draws=DRAWS)
    ]
    inside = [_inside(curve) for curve in curves]
    of = {reading: [held[reading] for held in inside if reading in held] for reading in READINGS}
    shifted = [curve for curve in curves if curve.series != "crossing"]
    tests = [curve.one_shift.rejected for curve in shifted if curve.one_shift and curve.one_shift.p is not None]
    return {
        "scatter": scatter.name,
        "seeds": 0 if scatter.unbalanced else seeds,
        "studies": studies,
        "held": {reading: sum(held) / len(held) if held else None for reading, held in of.items()},
        "read": {reading: len(held) for reading, held in of.items()},
        # An arm that misses the baseline's best is infinitely slow: a median of those that reach it would flatter.
        "bias": float(np.median([curve.speedup.mean or 0.0 for curve in shifted])) / SHIFT - 1,
        "bias_straight_in_the_cost": float(np.median([curve.speedup_straight or 0.0 for curve in shifted])) / SHIFT - 1,
        "half_width_doublings": _finite(float(np.median([_half_width(curve) for curve in shifted]))),
        "one_shift_rejected": float(np.mean(tests)) if tests else None,
    }


def _half_width(curve: Curve) -> float:
    """Half the width of a speed-up's interval, in doublings; infinite if it is open or missing."""
    low, high = curve.speedup.interval or (0.0, math.inf)
    return math.log2(high / low) / 2 if low > 0 and math.isfinite(high) else math.inf


def _inside(curve: Curve) -> dict[str, bool]:
    """Whether each interval that a curve has holds the truth."""
    found = {}
    baseline, arm = LAWS[curve.series]
    if curve.series != "crossing" and curve.speedup.interval and not curve.speedup.at_least:
        low, high = curve.speedup.interval
        found["speed-up"] = low <= SHIFT <= high
    if curve.gain.interval and curve.equal_at is not None:
        # The cost at which it is read differs a little from study to study, and so does the truth.
        low, high = curve.gain.interval
        found["gain at equal cost"] = low <= arm(curve.equal_at) - baseline(curve.equal_at) <= high
    cross = curve.crossover
    if curve.series == "crossing" and cross is not None and cross.interval is not None:
        low, high = cross.interval
        found["crossover"] = (cross.open[0] or low <= CROSSES) and (cross.open[1] or high >= CROSSES)
    return found


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


# Words


def failures(
    effects: Sequence[Mapping[str, Any]], curves: Sequence[Mapping[str, Any]], claims: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Designs beyond the limits. A share of readings from curves has to exceed them by over two standard errors."""
    found: list[dict[str, Any]] = []

    def look(asked: str, design: Mapping[str, Any], value: float, low: float, high: float) -> None:
        if not low <= value <= high:
            key = (asked, design["scatter"], design["seeds"])
            why = OUTSIDE.get(key)
            found.append(dict(zip(("asked", "scatter", "seeds"), key, strict=True)) | {"value": value, "stated": why})

    for design in effects:
        moderated = design["methods"]["moderated"]
        look("effects", design, moderated["cover"], LOW, HIGH)
        look("family error", design, moderated["family_error"], 0.0, MOST_ERROR)
    for design in claims:
        look(f"{design['claims']} claims", design, design["cover"], LOW, HIGH)
        look(f"family error of {design['claims']} claims", design, design["family_error"], 0.0, MOST_ERROR)
    for design in curves:
        for reading in READINGS:
            share, read = design["held"][reading], design["read"][reading]
            if share is not None and read >= LEAST_READ:
                error = 2 * math.sqrt(0.05 * 0.95 / read)
                look(reading, design, share, LOW - error, HIGH + error)
    return found


def as_text(facts: Mapping[str, Any]) -> str:
    """The tables, and the readings outside the limits."""
    effect_rows = [
        [
            _design_words(design),
            *(
                f"{design['methods']['own'][key]:{form}} / {design['methods']['moderated'][key]:{form}}"
                for key, form in (
                    ("cover", ".3f"),
                    ("worst", ".3f"),
                    ("family_error", ".3f"),
                    ("power_4_points", ".2f"),
                    ("half_width_points", ".1f"),
                )
            ),
        ]
        for design in facts["effects"]
    ]
    head = [
        "effects, own / moderated t",
        "cover",
        "worst cell",
        "family error",
        "power, 4 points",
        "half-width, points",
    ]
    curve_rows = [
        [
            _design_words(design),
            *("-" if design["held"][reading] is None else f"{design['held'][reading]:.3f}" for reading in READINGS),
            f"{100 * design['bias']:+.1f}",
            f"{100 * design['bias_straight_in_the_cost']:+.1f}",
            "open" if design["half_width_doublings"] is None else f"{design['half_width_doublings']:.2f}",
            "-" if design["one_shift_rejected"] is None else f"{design['one_shift_rejected']:.3f}",
        ]
        for design in facts["curves"]
    ]
    bias = ["median bias, %", "straight in cost, %", "half-width, doublings", "one shift rejected"]
    claim_rows = [
        [f"{design['claims']} claims, {_design_words(design)}"]
        + [f"{design[key]:.3f}" for key in ("cover", "worst", "family_error")]
        for design in facts["claims"]
    ]
    beyond = [
        f"{failure['asked']}, {_design_words(failure)}: {failure['value']:.3f}"
        + (f" (stated: {failure['stated']})" if failure["stated"] else "")
        for failure in facts["beyond_limits"]
    ]
    biases = [100 * one["bias"] for one in facts["saturating"]]
    saturating = f"Speed-ups of curves that level off, without noise: {min(biases):+.0f} to {max(biases):+.0f} %."
    limits = f"Beyond {LOW:.0%} to {HIGH:.0%}, or a family error of {MOST_ERROR:.1%}: "
    return (
        f"{table(head, effect_rows)}\n{table(['curves', *READINGS, *bias], curve_rows)}\n"
        f"{table(['claims that share runs', 'cover', 'worst claim', 'family error'], claim_rows)}\n"
        f"{saturating}\n\n{limits}{'; '.join(beyond) or 'none'}.\n"
    )


def _design_words(design: Mapping[str, Any]) -> str:
    return f"{design['scatter']}, {design['seeds']} seeds" if design["seeds"] else str(design["scatter"])


def draw(facts: Mapping[str, Any], path: Path) -> None:
    """Coverage of every design: on average over cells, in the worst cell, and of readings from curves."""
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    effects, curves = figure.subplots(1, 2, sharey=True)
    names = [_design_words(design) for design in facts["effects"]]
    ys = np.arange(len(names))[::-1]
    for ax in (effects, curves):
        ax.axvspan(100 * LOW, 100 * HIGH, color="#dddddd")
        ax.set_yticks(ys, names, fontsize=7)
    for key, style, label in (("cover", "o", "average"), ("worst", "x", "worst cell")):
        values = [100 * design["methods"]["moderated"][key] for design in facts["effects"]]
        effects.plot(values, ys, style, color="C0", label=f"moderated t, {label}", markersize=4)
    own = [100 * design["methods"]["own"]["cover"] for design in facts["effects"]]
    effects.plot(own, ys, "+", color="C1", label="own seeds, average", markersize=5)
    effects.set_xlabel("intervals that hold the effect, %")
    for reading, style in zip(READINGS, ("o", "s", "^"), strict=True):
        found = {_design_words(design): design["held"][reading] for design in facts["curves"]}
        values = [100 * share if (share := found.get(name)) is not None else np.nan for name in names]
        curves.plot(values, ys, style, label=reading, markersize=4)
    curves.set_xlabel("intervals that hold what is read off curves, %")
    for ax in (effects, curves):
        ax.legend(fontsize=7, loc="lower left")
    figure.suptitle("Nominal 95 %; grey: 92 to 97 %", fontsize=9)
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and print; the facts that --out writes are returned."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5])
    parser.add_argument("--studies", type=int, default=1000, help="studies per design of effects (1000)")
    parser.add_argument("--curves", type=int, default=100, help="studies per design of curves (100)")
    parser.add_argument("--jobs", type=int, default=1, help="designs at once (1)")
    parser.add_argument("--check", action="store_true", help="exit 1 if intervals fail that are not known to fail")
    parser.add_argument("--out", help="write bench/results/OUT.json and OUT.svg")
    asked = parser.parse_args(arguments)
    designs = [(scatter, seeds) for scatter in SCATTERS for seeds in asked.seeds]
    designs += [(scatter, MOST_SEEDS) for scatter in UNBALANCED]
    parts = [
        Part(f"effects, {scatter.name}, {n} seeds", effects_of, (scatter, n, asked.studies)) for scatter, n in designs
    ]
    parts += [
        Part(f"curves, {scatter.name}, {n} seeds", curves_fare, (scatter, n, asked.curves)) for scatter, n in designs
    ]
    families = [
        (scatter, claims, n)
        for claims in FAMILIES
        for n in asked.seeds
        for scatter in CLAIM_SCATTERS
        if claims >= MANY_CELLS or n > 2
    ]
    parts += [
        Part(f"{claims} claims, {scatter.name}, {n} seeds", claims_fare, (scatter, claims, n, asked.studies))
        for scatter, claims, n in families
    ]
    path = out_path(asked.out) if asked.out else None
    folder = path.with_suffix(".parts") if path else None
    found = run_parts(parts, folder=folder, code=digest(*CODE), jobs=asked.jobs)
    n = len(designs)
    effects, curves, claims = found[:n], found[n : 2 * n], found[2 * n :]
    beyond = failures(effects, curves, claims)
    facts = {
        "benchmark": "comparison",
        "machine": machine(),
        "effects": effects,
        "curves": curves,
        "claims": claims,
        "saturating": speedup_biases(SCHEDULES),
        "beyond_limits": beyond,
    }
    leave(asked.out, facts, as_text(facts))
    if path and folder:
        draw(facts, path.with_suffix(".svg"))
        print(f"wrote {path.with_suffix('.svg')}")
        shutil.rmtree(folder)
    if asked.check and any(not failure["stated"] for failure in beyond):
        sys.exit(1)
    return facts


if __name__ == "__main__":
    main(sys.argv[1:])
