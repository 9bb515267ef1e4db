"""What masking buys, against its baseline: paired at equal samples, and read off curves at equal accuracy and cost.

    at equal samples        a run against its twin: same cell, same seed, the baseline's settings           pairs.py
    at equal accuracy       the cost at which the baseline is best over that at which the arm gets there    curves.py
    at equal cost           the difference where both have spent the same hours or FLOPs                    curves.py
    between settings        a cell against a reference cell: deltas, and their interaction                  effects.py

A curve is the finished runs of one series: cells that differ only in schedule length. Each point is a whole schedule,
never the middle of a longer one. Between points it is straight in hours (or FLOPs), as FLIP's 3.7x was read
(arXiv 2212.00794, Fig 1); outside the points nothing is read, and the reason is given in words.

Gains are positive where masking is better, also for a loss. Ratios are masked over baseline, speed-ups baseline over
masked. Data in, data out: nothing here touches a disk.

    columns.py     which score, baseline, arm, cell and series          points.py     from rows to runs
    tables.py      any table: what it leaves unsaid is found or asked    apart.py      which columns tell curves apart
    lines.py       readings off a mean curve, one value a seed           parts.py      pairs and curves as data
    estimates.py   seeds to intervals; many comparisons at once
    comparison.py  all of it as data; entries.py for programs, layout.py and words.py for people
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from flipscale import scores
from flipscale.compare.columns import (
    arms_of,
    is_baseline,
    labels,
    measured_scores,
    need,
    pick_score,
    series_of,
    varying_axes,
)
from flipscale.compare.comparison import Comparison, judged
from flipscale.compare.curves import curve_of
from flipscale.compare.effects import Deltas, deltas
from flipscale.compare.estimates import Estimate
from flipscale.compare.lines import first_reach
from flipscale.compare.pairs import pairs_of
from flipscale.compare.parts import Curve, Level, Pair
from flipscale.compare.points import Points, one_each, points_of
from flipscale.compare.tables import baseline_from, columns_from, prepared
from flipscale.compare.words import nothing_to_compare

__all__ = [
    "Comparison",
    "Curve",
    "Deltas",
    "Estimate",
    "Level",
    "Pair",
    "arms_of",
    "baseline_from",
    "columns_from",
    "compare",
    "compare_table",
    "deltas",
    "first_reach",
    "is_baseline",
    "labels",
    "measured_scores",
    "pick_score",
    "series_of",
    "varying_axes",
]


def compare(
    results: pd.DataFrame,
    *,
    baseline: Mapping[str, Any],
    axes: Sequence[str] | None = None,
    score: str | None = None,
    time: str = "gpu_hours",
) -> Comparison:
    """Compare every arm of a table of results with the baseline, as {"mask_ratio": 0}.

    Twins share the column `cell` where there is one, else the values of `axes`, else of `varying_axes`.
    `time` is the column of time: gpu_hours (on a CPU, core-hours), train_seconds or cpu_seconds.
    Where every run is the baseline the comparison is empty, and its `notes` say so. Raises ResultsError for a column
    that is not there, a baseline that no run has, or two runs that are twins of one.
    """
    score = pick_score(results, score)
    need(results, [*baseline, time, "train_flops"])
    table = results.reset_index(drop=True)
    if "cell" not in table:
        keys = varying_axes(table, baseline) if axes is None else [a for a in axes if a not in (*baseline, "seed")]
        need(table, keys)
        table["cell"] = labels(table, keys)
    table = table.assign(_cell=table["cell"], _series=series_of(table))
    at = "samples" if "samples" in table else None
    costs = (time, "train_flops")
    also = [name for name in ("peak_memory_bytes",) if name in table]
    lower = bool(scores.lower_is_better(score))
    points = points_of(table, baseline, score, [*costs, *also], at, twins=at is not None)
    notes = () if points.arms else (nothing_to_compare(baseline, score),)
    return _compared(points, baseline, score, costs, at, lower=lower, fraction=scores.is_fraction(score), notes=notes)


def compare_table(
    table: pd.DataFrame,
    *,
    baseline: Mapping[str, Any],
    x: str | Sequence[str],
    y: str,
    series: Sequence[str] = (),
    at: str | None = None,
    lower_is_better: bool | None = None,
) -> Comparison:
    """The same for any table: score `y` against cost `x`, or against several costs.

    Less of `y` is better if `lower_is_better`; None goes by its name, and takes more as better where that does not say.

    `series` are columns whose values make separate curves, `at` is the column that twins share, such as epochs. What
    is left out is found if the table leaves no doubt, and `notes` of the answer say so: `tables.prepared` has the
    rules. A column `seed` is used if there is one. Raises ResultsError for what the table does not have or leaves open.
    """
    costs = (x,) if isinstance(x, str) else tuple(x)
    lower = bool(scores.lower_is_better(y) if lower_is_better is None else lower_is_better)
    found = prepared(table, baseline, costs, y, series, at, lower)
    points = points_of(found.table, baseline, y, costs, found.at_number, twins=False)
    return _compared(points, baseline, y, costs, found.at, lower=lower, fraction=found.fraction, notes=found.notes)


def _compared(
    points: Points,
    baseline: Mapping[str, Any],
    score: str,
    costs: tuple[str, ...],
    at: str | None,
    *,
    lower: bool,
    fraction: bool,
    notes: tuple[str, ...] = (),
) -> Comparison:
    pairs, unpaired = pairs_of(points.all, list(points.arms), lower) if at or one_each(points) else ([], {})
    curves = [
        curve_of([p for p in points.all if p.series == series], series, arm, x, lower)
        for series in dict.fromkeys(point.series for point in points.all)
        for arm in points.arms
        if any(point.series == series and point.arm == arm for point in points.all)
        for x in costs
    ]
    return judged(
        Comparison(
            baseline=dict(baseline),
            score=score,
            lower_is_better=lower,
            fraction=fraction,
            at=at,
            costs=costs,
            arms=points.arms,
            pairs=tuple(pairs),
            curves=tuple(curves),
            left_out=points.left_out,
            unpaired=unpaired,
            notes=notes,
        )
    )
