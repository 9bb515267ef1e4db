"""The effect of the mask ratio on the score, also where data repeats."""

from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator

from flipscale.analysis.comparing import is_baseline, series_of
from flipscale.analysis.plotting.cell_words import AXIS_WORDS, at_words, value_on_axis
from flipscale.analysis.plotting.figure_data import MOST_ARMS, FigureData, Undrawable, best_slice, check_arms, one_value
from flipscale.analysis.plotting.gains import draw_gains, gain_limits, gain_marks
from flipscale.analysis.plotting.layout import MEANS, FigureKind, Panel
from flipscale.analysis.plotting.lines import arm_lines, mean_line
from flipscale.analysis.plotting.style import count_axis, percent_axis, ramp_style, spread
from flipscale.cell import cell_words


def mask_ratios(data: FigureData) -> list[Panel]:
    """A panel per scaling axis with a line per value of it; one panel where none varies. All else is the baseline's."""
    if "mask_ratio" not in data.rows or data.rows["mask_ratio"].nunique() < 2:
        raise one_value("mask_ratio")
    others = {name: value for name, value in data.baseline.items() if name != "mask_ratio"}
    plain = data.with_rows(data.rows[is_baseline(data.rows, others)])
    if plain.rows.groupby("cell")["mask_ratio"].nunique().max() < 2:
        raise Undrawable("no two runs differ in mask_ratio alone")
    ratios = sorted(plain.rows["mask_ratio"].dropna().unique())

    def panel(axis: str | None) -> Panel:
        rows = plain.rows if axis is None else best_slice(plain, axis)

        def draw(ax: Axes) -> None:
            cells = _in_order(rows, axis)
            for i, cell in enumerate(cells):
                words = cell_words(cell) if axis is None else value_on_axis(cell, axis)
                if len(cells) == 1:
                    words = ""
                columns = "mask_ratio", data.score
                of_cell = rows[rows["cell"] == cell]
                mean_line(ax, data, of_cell, columns, "mask_ratio", words, ramp_style(i, len(cells)))
            shown = spread(ratios[::-1], 0.09)
            ax.xaxis.set_major_locator(FixedLocator([ratios[::-1][i] for i in shown]))
            percent_axis(ax.xaxis)
            ax.set_xlabel("image patches left out in training")

        title = "" if axis is None else AXIS_WORDS[axis] + at_words(series_of(rows, axis).iloc[0])
        return Panel(title, rows, draw, data.score_words, own_legend=True, chance=data.chance)

    return [panel(axis) for axis in data.scales] or [panel(None)]


MASK_RATIOS = FigureKind(
    mask_ratios,
    "score against mask ratio, a line per model, data size or schedule length",
    "The flatter a line, the less masking costs at equal samples; darker is smaller.",
)


def _in_order(rows: pd.DataFrame, axis: str | None) -> list[str]:
    """The cells from small to large on the axis; if too many to tell apart, an even selection with both ends."""
    by = "flops_per_sample" if axis == "model" else axis or "train_flops"
    cells = list(rows.groupby("cell")[by].max().sort_values(kind="stable").index)
    picked = np.linspace(0, len(cells) - 1, min(len(cells), MOST_ARMS)).round().astype(int)
    return [str(cells[i]) for i in picked]


def repeats(data: FigureData) -> list[Panel]:
    """The score, and beside it the gain over the baseline, against how often each pair is seen."""
    check_arms(data)
    axis, rows = _most_repeated(data)
    words = "times each pair is seen" + at_words(series_of(rows, axis).iloc[0])

    def repeats_axis(ax: Axes) -> None:
        count_axis(ax.xaxis, rows["repeats"].astype(float).round(2), "×")
        ax.set_xlabel(words)

    def draw_score(ax: Axes) -> None:
        arm_lines(ax, data, rows, "repeats", along=axis)
        repeats_axis(ax)

    score_panel = Panel("score", rows, draw_score, data.score_words, chance=data.chance)
    try:
        of_study = data.comparison.pairs
    except Undrawable:
        return [score_panel]
    x_of_cell = {str(cell): float(n) for cell, n in rows.groupby("cell")["repeats"].mean().items()}
    pairs = [pair for pair in of_study if pair.cell in x_of_cell]
    if not pairs:
        return [score_panel]
    limits = gain_limits(data, pairs)

    def draw_gain_panel(ax: Axes) -> None:
        repeats_axis(ax)
        draw_gains(ax, data, pairs, x_of_cell, limits)

    marks = f"left, {MEANS}\nright, {gain_marks(data, pairs, limits)}"
    return [replace(score_panel, marks=marks), Panel("gain", rows, draw_gain_panel, data.gain_words)]


REPEATS = FigureKind(
    repeats,
    "score and gain against how often each pair is seen",
    "To the right each pair is seen more often; where the gain is above zero, masking works against overfitting.",
)


def _most_repeated(data: FigureData) -> tuple[str, pd.DataFrame]:
    """The axis with the most different numbers of repeats, and its rows. Raises Undrawable without one."""
    if "repeats" not in data.rows or data.rows["repeats"].isna().all():
        raise Undrawable("no run has repeats")
    slices = {axis: best_slice(data, axis) for axis in ("data_size", "samples") if axis in data.axes}
    different = {axis: rows["repeats"].round(2).nunique() for axis, rows in slices.items()}
    axis = max(different, key=lambda name: different[name], default=None)
    if axis is None or different[axis] < 2:
        raise one_value("repeats", "it takes fewer unique pairs, or more samples of them")
    return axis, slices[axis][slices[axis]["repeats"].notna()]
