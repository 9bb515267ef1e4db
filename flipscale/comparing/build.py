"""From a table to a Comparison: of a study's results, and of any table."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from flipscale import scores
from flipscale.cell import read_cell
from flipscale.collecting import HitsOfRun
from flipscale.comparing.columns import (
    Baseline,
    arms_of,
    fair_hours,
    labels,
    need,
    pick_score,
    series_of,
    settings_words,
    varying_axes,
)
from flipscale.comparing.comparison import Comparison, claims_of, corrected_curves
from flipscale.comparing.curves import curves_of
from flipscale.comparing.estimates import Pair
from flipscale.comparing.gains import images_of_pairs, judged, pairs_of, study_noise, with_failures
from flipscale.comparing.head import AxisValues, head_of
from flipscale.comparing.points import PreparedTable, RunPoints, one_each, points_of
from flipscale.comparing.stated import StudyClaims
from flipscale.comparing.tables import numbers, prepared
from flipscale.study import LOOKS, MARGIN


def compare(
    results: pd.DataFrame,
    *,
    baseline: Baseline,
    axes: Sequence[str] | None = None,
    score: str | None = None,
    time: str = "gpu_hours",
    base_cell: str | None = None,
    margin: float | None = MARGIN / 100,
    stated: StudyClaims | None = None,
    looks: int = LOOKS,
    curves: bool = True,
) -> Comparison:
    """Compare every arm of a table of results with the baseline, as {"mask_ratio": 0}.

    Twins share the column `cell` where there is one, else the values of `axes`, else of `varying_axes`.
    `time` is the column of time: gpu_hours (on a CPU, core-hours; those of a probe if there was one, see fair_hours),
    train_seconds or cpu_seconds. `base_cell` heads the answer; it is the largest of the table if left out. Gains of a
    fraction count as level within `margin`. A contrast that is one of the `stated` claims has its estimate. Without
    `curves` only twins are compared. If every run is the baseline the comparison is empty, and its `notes` say so.
    Raises ResultsError for a missing column, a baseline that no run has, or two runs of one cell, arm and seed.
    """
    table = _table_of_results(results, baseline, axes, score, time, base_cell, margin)
    return _compared(table, points_of(table, twins=table.at is not None), stated, looks, curves=curves)


def _table_of_results(
    results: pd.DataFrame,
    baseline: Baseline,
    axes: Sequence[str] | None,
    score: str | None,
    time: str,
    base_cell: str | None,
    margin: float | None,
) -> PreparedTable:
    score = pick_score(results, score)
    need(results, [*baseline, time, "train_flops"])
    rows = results.reset_index(drop=True)
    if "cell" not in rows:
        keys = varying_axes(rows, baseline) if axes is None else [a for a in axes if a not in (*baseline, "seed")]
        need(rows, keys)
        rows["cell"] = labels(rows, keys)
    at = "samples" if "samples" in rows else None
    arms = arms_of(rows, baseline)
    rows, hours_note = fair_hours(rows, arms, time)
    return PreparedTable(
        rows=rows,
        baseline=baseline,
        score=score,
        costs=(time, "train_flops"),
        also=tuple(name for name in ("peak_memory_bytes",) if name in rows),
        at=at,
        lengths=rows[at] if at else None,
        cells=rows["cell"],
        series=series_of(rows),
        arms=arms,
        seeds=rows.get("seed"),
        lower=bool(scores.lower_is_better(score)),
        fraction=scores.is_fraction(score),
        margin=margin if scores.is_fraction(score) else None,
        base_cell=base_cell,
        hours_note=hours_note,
    )


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

    Lower `y` is better if `lower_is_better`; None goes by its name, and takes higher as better if that says nothing.

    `series` are columns whose values make separate curves, `at` is the column that twins share, such as epochs. A
    column `seed` is used if there is one. Raises ResultsError for what the table does not have or leaves open.
    """
    costs = (x,) if isinstance(x, str) else tuple(x)
    lower = bool(scores.lower_is_better(y) if lower_is_better is None else lower_is_better)
    found = prepared(table, baseline, costs, y, series, at, lower)
    return _compared(found, points_of(found, twins=False), None, LOOKS)


def with_images(comparison: Comparison, hits: Mapping[str, HitsOfRun]) -> Comparison:
    """The comparison with the sampling error of its test images, by which runs got which right."""
    return replace(comparison, images=images_of_pairs(comparison.pairs, hits))


def _compared(
    table: PreparedTable, points: RunPoints, stated: StudyClaims | None, looks: int, *, curves: bool = True
) -> Comparison:
    pairs, unpaired = _pairs(table, points)
    cost, along = table.costs[0], table.costs if curves else ()
    read = curves_of(points.all, points.arms, along, fraction=table.fraction, lower=table.lower, looks=looks)
    found = study_noise(pairs, fraction=table.fraction, lower=table.lower, stated=stated) if pairs else None
    runs = {(point.series, point.cell, point.arm, point.seed) for point in points.all}
    seeds = Counter(run[:3] for run in runs)  # A table without cells has each seed at several lengths.
    all_pairs = judged(pairs, found, table.margin, looks) if found else ()
    corrected = corrected_curves(read, cost, stated, looks)
    return Comparison(
        baseline=dict(table.baseline),
        score=table.score,
        lower_is_better=table.lower,
        fraction=table.fraction,
        at=table.at,
        costs=table.costs,
        arms=points.arms,
        pairs=all_pairs,
        curves=corrected,
        claims=claims_of(all_pairs, corrected, cost),
        runs=len(points.all),
        cells=len({point.cell for point in points.all}),
        seeds=(min(seeds.values(), default=0), max(seeds.values(), default=0)),
        on_cpu={point.device for point in points.all} == {"cpu"},
        left_out=points.left_out,
        unpaired=unpaired,
        stated=stated,
        gain_noise=found,
        margin=table.margin,
        head=None if found is None else head_of(all_pairs, found, _axis_values(table), table.base_cell, table.margin),
        hours_note=table.hours_note,
        notes=table.notes if points.arms else (*table.notes, _nothing(table)),
    )


def _is_paired(table: PreparedTable, points: RunPoints) -> bool:
    return bool(table.at) or one_each(points)


def _pairs(table: PreparedTable, points: RunPoints) -> tuple[list[Pair], dict[str, str]]:
    """The pairs of a table, and the runs that have no twin, with the reason."""
    if not _is_paired(table, points):
        return [], {}
    pairs, unpaired = pairs_of(points.all, list(points.arms), table.lower)
    return [with_failures(pair, fraction=table.fraction) for pair in pairs], unpaired


def _nothing(table: PreparedTable) -> str:
    """The sentence of a comparison without arms."""
    if not table.baseline:
        return "The study names no baseline, so there is nothing to compare."
    base = settings_words(table.baseline)
    return f"Every run with {table.score} is the baseline {base}, so there is nothing to compare it with."


def _axis_values(table: PreparedTable) -> AxisValues:
    """The numeric axes of each cell, as its baseline has them; a model's value is its FLOPs per sample."""
    base = table.rows.index[table.arms == ""]
    first = {str(cell or ""): row for row, cell in zip(base[::-1], table.cells[base[::-1]], strict=True)}
    columns: dict[str, pd.Series[float] | None] = {}
    values: dict[str, dict[str, float]] = {}
    for cell, row in first.items():
        values[cell] = {}
        for axis, _ in read_cell(cell):
            if axis not in columns:
                columns[axis] = _numbers_of(table.rows, axis)
            column = columns[axis]
            if column is not None and column[row] > 0:
                values[cell][axis] = float(column[row])
    return values


def _numbers_of(rows: pd.DataFrame, axis: str) -> "pd.Series[float] | None":
    """The column that holds the size of an axis; None if no column of numbers does."""
    name = "flops_per_sample" if axis == "model" else axis
    return numbers(rows, name) if name in rows and pd.api.types.is_numeric_dtype(rows[name]) else None
