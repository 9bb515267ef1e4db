"""From a table to a Comparison: of a study's results, and of any table."""

from collections.abc import Sequence

import pandas as pd

from flipscale import scores
from flipscale.compare.claims import claims_of, corrected_parts
from flipscale.compare.columns import Baseline, arms_of, labels, need, pick_score, series_of, varying_axes
from flipscale.compare.comparison import Comparison
from flipscale.compare.curves import curves_of
from flipscale.compare.pairs import pairs_of
from flipscale.compare.points import PreparedTable, RunPoints, one_each, points_of
from flipscale.compare.tables import prepared
from flipscale.compare.words import nothing_to_compare


def compare(
    results: pd.DataFrame,
    *,
    baseline: Baseline,
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
    rows = results.reset_index(drop=True)
    if "cell" not in rows:
        keys = varying_axes(rows, baseline) if axes is None else [a for a in axes if a not in (*baseline, "seed")]
        need(rows, keys)
        rows["cell"] = labels(rows, keys)
    at = "samples" if "samples" in rows else None
    table = PreparedTable(
        rows=rows,
        baseline=baseline,
        score=score,
        costs=(time, "train_flops"),
        also=tuple(name for name in ("peak_memory_bytes",) if name in rows),
        at=at,
        lengths=rows[at] if at else None,
        cells=rows["cell"],
        series=series_of(rows),
        arms=arms_of(rows, baseline),
        seeds=rows.get("seed"),
        lower=bool(scores.lower_is_better(score)),
        fraction=scores.is_fraction(score),
    )
    return _compared(table, points_of(table, twins=at is not None))


def compare_table(
    table: pd.DataFrame,
    *,
    baseline: Baseline,
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
    return _compared(found, points_of(found, twins=False))


def _compared(table: PreparedTable, points: RunPoints) -> Comparison:
    paired = table.at or one_each(points)
    pairs, unpaired = pairs_of(points.all, list(points.arms), table.lower) if paired else ([], {})
    cost = table.costs[0]
    read = curves_of(points.all, points.arms, table.costs, fraction=table.fraction, lower=table.lower)
    all_pairs, curves = corrected_parts(pairs, read, cost)
    return Comparison(
        baseline=dict(table.baseline),
        score=table.score,
        lower_is_better=table.lower,
        fraction=table.fraction,
        at=table.at,
        costs=table.costs,
        arms=points.arms,
        pairs=all_pairs,
        curves=curves,
        claims=claims_of(all_pairs, curves, cost),
        left_out=points.left_out,
        unpaired=unpaired,
        notes=table.notes if points.arms else (*table.notes, nothing_to_compare(table.baseline, table.score)),
    )
