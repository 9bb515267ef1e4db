"""What the mask ratio does to the score, and what it does where data repeats."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter

from flipscale.compare import is_baseline, series_of
from flipscale.plot.gains import gain_limits, gain_line
from flipscale.plot.lines import arm_lines, mean_line
from flipscale.plot.page import Drawing, Panel, alone
from flipscale.plot.shown import (
    AXIS_WORDS,
    MOST_ARMS,
    NO_MASK,
    SCALES,
    Shown,
    Undrawable,
    best_slice,
    cell_parts,
    cell_words,
    few_arms,
    one_value,
    part_words,
    shown,
)
from flipscale.plot.style import count_axis, percent_axis, ramp_style
from flipscale.scores import score_label
from flipscale.words import percent


def mask_ratios(
    results: pd.DataFrame,
    ax: Axes,
    *,
    baseline: Mapping[str, Any] = NO_MASK,
    score: str | None = None,
    panel: str | None = None,
) -> pd.DataFrame:
    """Draw the score against the mask ratio onto an Axes, a line for each value of a scaling axis.

    `results` is results.csv's table, or rows of it. `panel` names the axis by its title where several vary. Returns
    the runs drawn; raises Undrawable with the reason where there is nothing to draw.
    """
    return alone(ax, mask_panels(shown(results, baseline=baseline, score=score)), panel)


def repeats(
    results: pd.DataFrame,
    ax: Axes,
    *,
    gain: bool = False,
    baseline: Mapping[str, Any] = NO_MASK,
    score: str | None = None,
) -> pd.DataFrame:
    """Draw the score, or with `gain` the gain over the baseline, against how often each pair is seen, onto an Axes.

    `results` is results.csv's table, or rows of it. Returns the runs drawn; raises Undrawable with the reason where
    there is nothing to draw.
    """
    panels = repeats_panels(shown(results, baseline=baseline, score=score))
    if gain and len(panels) < 2:
        raise Undrawable("no run has a twin, the baseline in its cell at its seed")
    return alone(ax, [panels[int(gain)]])


def mask_panels(s: Shown) -> list[Panel]:
    """A panel per scaling axis with a line per value of it; one panel where none varies. All else is the baseline's."""
    if "mask_ratio" not in s.rows or s.rows["mask_ratio"].nunique() < 2:
        raise one_value(s, "mask_ratio")
    others = {name: value for name, value in s.baseline.items() if name != "mask_ratio"}
    plain = s.of(s.rows[is_baseline(s.rows, others)])
    if plain.rows.groupby("cell")["mask_ratio"].nunique().max() < 2:
        raise Undrawable("no two runs differ in mask_ratio alone")
    ratios = sorted(plain.rows["mask_ratio"].dropna().unique())

    def panel(axis: str | None) -> Panel:
        rows = plain.rows if axis is None else best_slice(plain, axis)

        def draw(ax: Axes) -> Drawing:
            if not s.lower_is_better:
                percent_axis(ax.yaxis)
            cells = _in_order(rows, axis)
            drawing = Drawing()
            for i, cell in enumerate(cells):
                of_cell = rows[rows["cell"] == cell]
                words = cell_words(cell) if axis is None else part_words(axis, cell_parts(cell).get(axis, "null"))
                style = ramp_style(i, len(cells))
                drawing.lines.append(mean_line(ax, of_cell, "mask_ratio", s.score, "mask_ratio", words, style))
            ticks = [ratios[-1]]
            for ratio in ratios[-2::-1]:
                if ticks[-1] - ratio > 0.09 * (ratios[-1] - ratios[0]):
                    ticks.append(ratio)
            ax.xaxis.set_major_locator(FixedLocator(ticks))
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
            ax.set_xlabel("image patches left out in training")
            return drawing

        at = "" if axis is None else cell_words(series_of(rows, axis).iloc[0])
        title = "" if axis is None else AXIS_WORDS[axis] + (f"\nat {at}" if at else "")
        only = axis is None and rows["cell"].nunique() == 1
        return Panel(title, rows, draw, score_label(s.score), own_names=True, name_lines=not only)

    axes = [axis for axis in SCALES if axis in s.axes]
    return [panel(axis) for axis in axes] or [panel(None)]


def _in_order(rows: pd.DataFrame, axis: str | None) -> list[str]:
    """The cells from small to large on the axis; of more than can be told apart that many, the ends among them."""
    by = "flops_per_sample" if axis == "model" else axis or "train_flops"
    cells = list(rows.groupby("cell")[by].max().sort_values(kind="stable").index)
    picked = np.linspace(0, len(cells) - 1, min(len(cells), MOST_ARMS)).round().astype(int)
    return [str(cells[i]) for i in picked]


def repeats_panels(s: Shown) -> list[Panel]:
    """The score, and beside it the gain over the baseline, against how often each pair is seen."""
    few_arms(s)
    if "repeats" not in s.rows or s.rows["repeats"].isna().all():
        raise Undrawable("no run has repeats")
    slices = {axis: best_slice(s, axis) for axis in ("data_size", "samples") if axis in s.axes}
    axis = max(slices, key=lambda name: slices[name]["repeats"].round(2).nunique(), default=None)
    if axis is None or slices[axis]["repeats"].round(2).nunique() < 2:
        raise one_value(s, "repeats", "it takes fewer unique pairs, or more samples of them")
    rows = slices[axis][slices[axis]["repeats"].notna()]
    at = cell_words(series_of(rows, axis).iloc[0])
    words = "times each pair is seen" + (f"\nat {at}" if at else "")

    def draw_score(ax: Axes) -> Drawing:
        drawing = Drawing(arm_lines(ax, s, rows, "repeats", along=axis))
        _repeats_axis(ax, rows, words)
        return drawing

    panels = [Panel("score", rows, draw_score, score_label(s.score))]
    try:
        comparison = s.compared(rows)
        pairs = list(comparison.pairs)
    except Undrawable:
        return panels
    scale = 100 if comparison.fraction else 1
    x_of_cell = {str(cell): float(n) for cell, n in rows.groupby("cell")["repeats"].mean().items()}

    def draw_gain(ax: Axes) -> Drawing:
        ax.axhline(0, color="#000000", linewidth=1, zorder=2)
        _repeats_axis(ax, rows, words)
        arms = sorted({s.arm_numbers[pair.arm] for pair in pairs})
        span = np.log(max(x_of_cell.values()) / min(x_of_cell.values()))
        shifts = np.exp(0.012 * span * (np.arange(len(arms)) - (len(arms) - 1) / 2))
        lines = [
            gain_line(ax, s, [pair for pair in pairs if s.arm_numbers[pair.arm] == arm], x_of_cell, scale, shift)
            for arm, shift in zip(arms, shifts, strict=True)
        ]
        ax.set_ylim(gain_limits(pairs, scale))
        return Drawing(lines, avoid=[(list(ax.get_xlim()), [0, 0])])

    if pairs:
        gained = "gain over the baseline" + (", points" if comparison.fraction else "")
        panels.append(Panel("gain, with its 95 % interval", rows, draw_gain, gained))
    return panels


def _repeats_axis(ax: Axes, rows: pd.DataFrame, words: str) -> None:
    count_axis(ax.xaxis, rows["repeats"].astype(float).round(2), "×")
    ax.set_xlabel(words)
