"""Whether the intervals of `flipscale compare` hold the truth as often as they say, on studies whose truth is known.

    python -m bench.comparison --out comparison
    python -m bench.comparison --repeats 200 --seeds 3 5

A synthetic study has two arms at four schedule lengths. Scores follow an odds law of the cost; the arm is as good for
1 / 2.5 of it, and spends half of it for a schedule. Seeds differ by a part that twins share, by noise of each run, and
by 2 % noise of the costs. Asked are the speed-up at the baseline's best, the gain at equal cost, the crossover, and how
often one shift is rejected where it is true and where the speed-up falls along the curve.

The truth is the law's, not what a study without noise would read. Beside flipscale's intervals of the speed-up stand
three others: those of curves straight in the cost alone; Student t over readings of each seed's own curve, and the
percentile bootstrap over seeds, both straight in the cost too. A reading that a method cannot make is no miss; `made`
is the share it can.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.report import RESULTS, leave, machine, table
from flipscale.compare.curves import curve_of
from flipscale.compare.estimates import mean_of, ratio_of
from flipscale.compare.lines import first_reach
from flipscale.compare.parts import Curve
from flipscale.compare.points import Point
from flipscale.stats import Array

SCHEDULES = (8.0, 16.0, 32.0, 64.0)
SHIFT = 2.5
SPENDS = 0.5
CROSSES = 16.0
"""Cost at which the arm of `crossing` falls behind."""

RESAMPLES = 300
NOISES = (0.003, 0.01, 0.03)
"""Standard deviation of a run's score."""

METHODS = ("flipscale", "straight in the cost alone", "each seed's curve", "percentile bootstrap")
ASKED = (*METHODS, "gain at equal cost", "crossover")

Truth = Callable[[float], float]


def law(cost: float) -> float:
    odds = float((cost / 20) ** 0.8)
    return odds / (1 + odds)


def shifted(cost: float) -> float:
    return law(SHIFT * cost)


def bent(cost: float) -> float:
    """A speed-up that falls with the cost, by a third from its shortest schedule to its longest."""
    return law(SHIFT * cost * (cost / 11) ** -0.22)


def crossing(cost: float) -> float:
    """Better than the baseline below a cost of 16, worse above."""
    return law(cost * (cost / CROSSES) ** -0.3)


def study(rng: np.random.Generator, seeds: int, noise: float, arm: Truth) -> list[Point]:
    """One synthetic study: points of both arms, at every schedule and seed."""
    points = []
    for seed in range(seeds):
        common = rng.normal(0, noise / np.sqrt(2))
        for name, truth, spends in (("", law, 1.0), ("arm", arm, SPENDS)):
            for samples in SCHEDULES:
                y = truth(samples * spends) + common + rng.normal(0, noise / np.sqrt(2))
                cost = samples * spends * np.exp(rng.normal(0, 0.02))
                points.append(
                    Point(f"{name}{samples}{seed}", f"{samples}", "", samples, name, seed, "", y, {"hours": cost})
                )
    return points


def read(points: Sequence[Point]) -> Curve:
    return curve_of(points, "", "arm", "hours", lower=False)


def own_curve(lines: Sequence[Array], seeds: Sequence[int]) -> float | None:
    """log speed-up at the best of the baseline's curve over these seeds, which may repeat."""
    base_x, base_y, xs, ys = (line[list(seeds)].mean(axis=0) for line in lines)
    best = int(np.argmax(base_y))
    reached = first_reach(xs.tolist(), ys.tolist(), float(base_y[best]))
    return None if reached is None else float(np.log(base_x[best] / reached))


def intervals(rng: np.random.Generator, points: Sequence[Point], curve: Curve) -> dict[str, tuple[float, float] | None]:
    """The interval of the speed-up by each method; None where it has none."""
    found: dict[str, tuple[float, float] | None] = dict.fromkeys(METHODS)
    if curve.speedup.low is not None and curve.speedup.high is not None:
        found[METHODS[0]] = (curve.speedup.low, curve.speedup.high)
    if curve.speedup.values:
        alone = ratio_of([float(np.log(value)) for value in curve.speedup.values])
        if alone.low is not None and alone.high is not None:
            found[METHODS[1]] = (alone.low, alone.high)
    seeds = len(curve.seeds)
    lines = [
        np.array([value(p) for p in points if p.arm == arm]).reshape(seeds, len(SCHEDULES))
        for arm in ("", "arm")
        for value in (lambda p: p.costs["hours"], lambda p: p.y)
    ]
    own = [own_curve(lines, [seed]) for seed in range(seeds)]
    if None not in own:
        e = mean_of([value for value in own if value is not None])
        if e.low is not None and e.high is not None:
            found[METHODS[2]] = (float(np.exp(e.low)), float(np.exp(e.high)))
    draws = [own_curve(lines, list(rng.integers(0, seeds, seeds))) for _ in range(RESAMPLES)]
    reached = [draw for draw in draws if draw is not None]
    if len(reached) > 0.9 * RESAMPLES:
        low, high = np.exp(np.percentile(reached, [2.5, 97.5]))
        found[METHODS[3]] = (float(low), float(high))
    return found


def measure(seeds: int, noise: float, repeats: int) -> dict[str, Any]:
    """Share of studies whose intervals hold the truth, and of those that have an interval, by what is asked."""
    rng = np.random.default_rng([seeds, round(1000 * noise)])
    held, made = dict.fromkeys(ASKED, 0), dict.fromkeys(ASKED, 0)
    rejected = {"one shift is true": 0, "the speed-up falls": 0}
    for _ in range(repeats):
        points = study(rng, seeds, noise, shifted)
        curve = read(points)
        for method, ends in intervals(rng, points, curve).items():
            made[method] += ends is not None
            held[method] += ends is not None and ends[0] <= SHIFT <= ends[1]
        # The cost at which it is read differs a little from study to study, and so does the truth.
        assert curve.equal_at is not None
        assert curve.gain.low is not None
        assert curve.gain.high is not None
        right = shifted(curve.equal_at) - law(curve.equal_at)
        made["gain at equal cost"] += 1
        held["gain at equal cost"] += curve.gain.low <= right <= curve.gain.high
        other = read(study(rng, seeds, noise, crossing)).crossover
        if other is not None and other.interval is not None:
            made["crossover"] += 1
            low, high = other.interval
            inside = (other.open[0] or low <= CROSSES) and (other.open[1] or high >= CROSSES)
            held["crossover"] += inside
        rejected["one shift is true"] += bool(curve.one_shift and curve.one_shift.rejected)
        falls = read(study(rng, seeds, noise, bent)).one_shift
        rejected["the speed-up falls"] += bool(falls and falls.rejected)
    return {
        "seeds": seeds,
        "noise": noise,
        "studies": repeats,
        "held": {name: held[name] / made[name] if made[name] else None for name in ASKED},
        "made": {name: made[name] / repeats for name in ASKED},
        "rejected": {name: n / repeats for name, n in rejected.items()},
    }


def draw(cells: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Coverage against seeds, a line a method, a panel a noise."""
    figure = Figure(figsize=(7.2, 3.1), layout="constrained")
    FigureCanvasAgg(figure)
    noises = sorted({cell["noise"] for cell in cells})
    for ax, noise in zip(np.atleast_1d(figure.subplots(1, len(noises), sharey=True)), noises, strict=True):
        of = sorted((cell for cell in cells if cell["noise"] == noise), key=lambda cell: cell["seeds"])
        ax.axhspan(93, 97, color="#dddddd")
        for method, style in zip(METHODS, ("o-", "v-.", "s--", "^:"), strict=True):
            ys = [100 * share if (share := cell["held"][method]) is not None else np.nan for cell in of]
            ax.plot([str(cell["seeds"]) for cell in of], ys, style, label=method, markersize=4)
        ax.set_title(f"runs differ by {100 * noise:g} points", fontsize=9)
        ax.set_xlabel("seeds")
    ax.legend(fontsize=7, loc="lower right")
    figure.supylabel("intervals that hold the true speed-up, %\n(nominal 95; grey: 93 to 97)", fontsize=8)
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and print; the facts that --out writes are returned."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5, 10])
    parser.add_argument("--noise", type=float, nargs="+", default=list(NOISES))
    parser.add_argument("--repeats", type=int, default=600, help="studies a cell (600)")
    parser.add_argument("--out", help="write bench/results/OUT.json and OUT.svg")
    asked = parser.parse_args(arguments)
    cells = [measure(seeds, noise, asked.repeats) for noise in asked.noise for seeds in asked.seeds]
    rows = [
        [
            f"{100 * cell['noise']:g} points, {cell['seeds']} seeds",
            *(_share(cell["held"][name], cell["made"][name]) for name in ASKED),
            *(f"{100 * share:.1f}" for share in cell["rejected"].values()),
        ]
        for cell in cells
    ]
    head = ["a run's noise", *ASKED, *(f"rejected: {name}" for name in cells[0]["rejected"])]
    said = table(head, rows) + "\nPercent of intervals that hold the truth (percent of studies that have one).\n"
    facts = {"benchmark": "comparison", "machine": machine(), "cells": cells}
    leave(asked.out, facts, said)
    if asked.out:
        path = Path(asked.out) if asked.out.endswith(".json") else RESULTS / f"{asked.out}.json"
        draw(cells, path.with_suffix(".svg"))
        print(f"wrote {path.with_suffix('.svg')}")
    return facts


def _share(held: float | None, made: float) -> str:
    return "-" if held is None else f"{100 * held:.1f} ({100 * made:.0f})"


if __name__ == "__main__":
    main(sys.argv[1:])
