"""From a table to a Comparison: of a study's results, and of any table."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields

import pandas as pd

from flipscale import scores
from flipscale.analysis.comparing.any_table import check_baseline, numbers, prepared
from flipscale.analysis.comparing.comparison import Comparison, corrected_curves, with_pairs
from flipscale.analysis.comparing.estimates import Estimate, Pair, mean_of
from flipscale.analysis.comparing.head import AxisValues, head_of
from flipscale.analysis.comparing.points import PreparedTable, Terms, points_of
from flipscale.analysis.comparing.roles import (
    Baseline,
    arms_of,
    fair_hours,
    labels,
    measured_scores,
    pick_score,
    series_of,
    settings_words,
    varying_axes,
)
from flipscale.analysis.comparing.speedups import curves_of
from flipscale.analysis.comparing.stated import TIME, StudyClaims
from flipscale.analysis.comparing.twins import judged, pairs_of
from flipscale.analysis.fitting.chosen_rows import need, row_names
from flipscale.analysis.rows import chance_level, items_of
from flipscale.cell import read_cell
from flipscale.door.statements import LOOKS, MARGIN

_LOOKS = "Results are looked at {} times; p values and corrected CIs are corrected for that as well."

_LOSSES = ("final_loss", "held_out_loss")


def compare(
    results: pd.DataFrame,
    *,
    baseline: Baseline,
    score: str | None = None,
    base_cell: str | None = None,
    margin: float | None = MARGIN / 100,
    effect: float | None = None,
    stated: StudyClaims | None = None,
    looks: int = LOOKS,
    curves: bool = True,
) -> Comparison:
    """Compare every arm of a table of results with the baseline, as {"mask_ratio": 0}.

    Twins share the column `cell` where there is one, else the values of `varying_axes`. Time is gpu_hours (on a CPU,
    core-hours; those of a probe if there was one, see fair_hours). `base_cell` heads the answer; it is the largest of
    the table if left out. Gains of a fraction count as level within `margin`; how many seeds find the difference
    `effect` is said. A contrast that is one of the `stated` claims has its estimate. Without `curves` only twins are
    compared. If every run is the baseline the comparison is empty, and its `notes` say so.
    Raises ResultsError for a missing column, a baseline that no run has, or two runs of one cell, arm and seed.
    """
    score = pick_score(results, score)
    need(results, [*baseline, TIME, "train_flops"])
    rows = results.reset_index(drop=True)
    rows["id"] = rows.get("id", row_names(rows))
    if baseline:
        check_baseline(rows, baseline)
    if "cell" not in rows:
        rows["cell"] = labels(rows, varying_axes(rows, baseline))
    at = "samples" if "samples" in rows and rows["samples"].notna().any() else None
    arms = arms_of(rows, baseline)
    rows, hours_note = fair_hours(rows, arms)
    keys = {"cell": rows["cell"], "series": series_of(rows), "arm": arms, "seed": rows.get("seed"), "at": rows.get(at)}
    table = PreparedTable(
        rows=rows,
        keys=pd.DataFrame(keys, index=rows.index),
        baseline=baseline,
        score=score,
        costs=(TIME, "train_flops"),
        also=tuple(name for name in ("peak_memory_bytes",) if name in rows),
        at=at,
        lower_is_better=bool(scores.lower_is_better(score)),
        fraction=scores.is_fraction(score),
        margin=margin if scores.is_fraction(score) or scores.is_declared(score) else None,
        effect=effect if scores.is_fraction(score) or scores.is_declared(score) else None,
        base_cell=base_cell,
        hours_note=hours_note,
    )
    return _compared(table, stated, looks, curves=curves)


def compare_table(
    table: pd.DataFrame,
    *,
    baseline: Baseline,
    x: str | Sequence[str],
    y: str,
    series: Sequence[str] = (),
    at: str | None = None,
    ignore: Sequence[str] = (),
    lower_is_better: bool | None = None,
) -> Comparison:
    """The same for any table: score `y` against cost `x`, or against several costs.

    Lower `y` is better if `lower_is_better`; None goes by its name, and takes higher as better if that says nothing.

    `series` are columns whose values make separate curves, `at` is the column that twins share, such as epochs. Rows
    of a curve may differ in the columns of `ignore`. A column `seed` is used if there is one. Raises ResultsError for
    what the table does not have or leaves open.
    """
    costs = (x,) if isinstance(x, str) else tuple(x)
    lower = bool(scores.lower_is_better(y) if lower_is_better is None else lower_is_better)
    return _compared(prepared(table, baseline, costs, y, series, at, lower, ignore), None, LOOKS)


def _compared(table: PreparedTable, stated: StudyClaims | None, looks: int, *, curves: bool = True) -> Comparison:
    points = points_of(table)
    pairs: list[Pair] = []
    unpaired: dict[str, str] = {}
    # Without a schedule the twin of a run is known where its arm has one run per series and seed.
    if table.at or len({(point.series, point.arm, point.seed) for point in points.all}) == len(points.all):
        pairs, unpaired = pairs_of(points.all, points.arms, table.kind, points.failed)
    read = curves_of(points.all, points.arms, table.costs, table.kind, looks) if curves else []
    all_pairs, noise = judged(pairs, stated, table.margin, looks)
    runs = {(point.series, point.cell, point.arm, point.seed) for point in points.all}
    seeds = Counter(run[:3] for run in runs)  # A table without cells has each seed at several lengths.
    corrected = corrected_curves(read, table.costs[0], stated, looks)
    return Comparison(
        **{field.name: getattr(table, field.name) for field in fields(Terms) if field.name != "notes"},
        arms=points.arms,
        pairs=all_pairs,
        curves=with_pairs(corrected, all_pairs, table.costs[0]),
        points=points.all,
        cells=len({point.cell for point in points.all}),
        seeds=(min(seeds.values(), default=0), max(seeds.values(), default=0)),
        on_cpu={point.device for point in points.all} == {"cpu"},
        left_out=points.left_out,
        unpaired=unpaired,
        stated=stated,
        noise=noise if pairs else None,
        head=head_of(all_pairs, _axis_values(table), table.base_cell, table.effect),
        notes=table.notes if points.arms else (*table.notes, _nothing(table)),
        scores={} if points.arms else _scores(table),
        items=items_of(table.rows, table.score),
        chance=chance_level(table.rows, table.score),
        caveats=(*_of_losses(table), *([_LOOKS.format(looks)] if looks > 1 else [])),
    )


def _of_losses(table: PreparedTable) -> list[str]:
    """What to know of a loss that runs of several loss functions share."""
    functions = table.rows.get("loss_function")
    if not table.score.endswith(_LOSSES) or functions is None or functions.nunique() < 2:
        return []
    return [f"{table.score} does not compare a softmax with a sigmoid (loss_function); an accuracy does."]


def _nothing(table: PreparedTable) -> str:
    """The sentence of a comparison without arms."""
    if not table.baseline:
        return "The study names no baseline, so these are its scores."
    base = settings_words(table.baseline)
    return f"Every run with {table.score} is the baseline {base}, so these are its scores."


def _scores(table: PreparedTable) -> dict[str, dict[str, Estimate]]:
    """The scores of each cell, the compared one first."""
    names = dict.fromkeys([table.score, *measured_scores(table.rows)])
    scored: dict[str, dict[str, Estimate]] = {}
    for cell, rows in table.rows.groupby(table.keys["cell"].fillna("").astype("str"), sort=False):
        values = {name: rows[name].dropna().astype(float).tolist() for name in names}
        scored[str(cell)] = {name: mean_of(of_score) for name, of_score in values.items() if of_score}
    return scored


def _axis_values(table: PreparedTable) -> AxisValues:
    """The numeric axes of each cell, as its baseline has them; a model's value is its FLOPs per sample."""
    base = table.keys[table.keys["arm"] == ""].assign(cell=table.keys["cell"].fillna("").astype("str"))
    first = base.drop_duplicates("cell")["cell"]
    rows = dict(zip(first.tolist(), first.index.tolist(), strict=True))
    values: dict[str, dict[str, float]] = {cell: {} for cell in rows}
    for axis in dict.fromkeys(axis for cell in rows for axis, _ in read_cell(cell)):
        name = "flops_per_sample" if axis == "model" else axis
        if name in table.rows and pd.api.types.is_numeric_dtype(table.rows[name]):
            sizes = numbers(table.rows, name)
            for cell, row in rows.items():
                if axis in dict(read_cell(cell)) and sizes[row] > 0:
                    values[cell][axis] = float(sizes[row])
    return values
