"""The gain of every arm over the baseline at equal samples: a row per arm, with its interval, its seeds and its time.

Curves need a colour per arm and two schedule lengths; this figure needs neither, so it suits a study of many arms.
"""

import textwrap
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from flipscale.compare import Comparison, Pair, arms_of, cell_words, series_of
from flipscale.plot.figure_data import FigureData, Undrawable
from flipscale.plot.intervals import draw_gain, drawn_gain, gain_limits, gain_marks
from flipscale.plot.on_axes import on_axes
from flipscale.plot.page import Drawing, DrawnLine, Panel
from flipscale.plot.style import QUIET, LineStyle, arm_style
from flipscale.scores import score_label
from flipscale.words import times

MOST_GAIN_ROWS = 48
"""Rows, with the headings of their cells, that fit one page."""

_ROW = 0.21  # inches
_ARM_CHARACTERS = 56  # of an arm's words in one line
_SEEDS = arm_style(0).color
_GAIN = LineStyle(arm_style(1).color, "o")


class _GainRow(NamedTuple):
    """One line of the figure: a pair, or the cell that heads the pairs below it."""

    words: str
    pair: Pair | None


def gains_panels(data: FigureData) -> list[Panel]:
    """One panel of all arms, with a group for each cell; if a page cannot hold all, those of the longest schedule."""
    _check_rows(data)
    comparison = data.comparison
    pairs, at = _fitting(comparison)
    rows = _rows(pairs, data)
    lines = max(row.words.count("\n") + 1 for row in rows)
    widest = max(len(line) * (1 if row.pair else 1.15) for row in rows for line in row.words.split("\n"))

    scale = 100 if comparison.fraction else 1
    limits = gain_limits(pairs, scale)

    def draw(ax: Axes) -> Drawing:
        for y, row in enumerate(rows):
            if row.pair:
                draw_gain(ax, drawn_gain(row.pair, scale), y, _GAIN, limits, across=True)
                _draw_seeds(ax, y, row.pair, scale)
        ax.axvline(0, color="#444444", linewidth=1, zorder=2)
        ax.set_xlim(limits)
        ax.set_xlabel(_axis_words(comparison, data, at))
        _write(ax, rows)
        return Drawing()

    rings = "rings: seeds; " if any(pair.gain.n > 1 for pair in pairs) else ""
    marks = f"{gain_marks(comparison, pairs, limits)}\n{rings}time: over the baseline's"
    size = 4.7 + 0.062 * widest, _ROW * lines * len(rows) + 1.35 + 0.13 * marks.count("\n")
    return [Panel("", _runs_of(pairs, data), draw, "", marks, size, name_lines=False)]


def _check_rows(data: FigureData) -> None:
    """Raises Undrawable where even the longest schedules are more than a page holds, before comparing them."""
    arms = data.rows[data.rows["arm"] != 0]
    if "samples" in data.rows:
        arms = arms[arms["samples"] == arms.groupby(series_of(arms))["samples"].transform("max")]
    n = len(arms.drop_duplicates(["cell", "arm"]))
    if n > MOST_GAIN_ROWS:
        raise Undrawable(_too_many(n))


def _too_many(gains: int) -> str:
    return f"{gains} gains do not fit the {MOST_GAIN_ROWS} rows of a page; make studies of fewer"


def _fitting(comparison: Comparison) -> tuple[list[Pair], str]:
    """The pairs that one page holds, and at which schedules they are read, in words."""
    pairs = list(comparison.pairs)
    if not pairs:
        raise Undrawable("no run has a twin (the baseline's run of the same cell and seed)")
    if len(pairs) == 1:
        raise Undrawable("there is only one gain, of one arm in one cell; compare states it")
    if _height(pairs) <= MOST_GAIN_ROWS:
        return pairs, "at equal samples"
    longest: dict[str, float] = {}
    for pair in pairs:
        longest[pair.series] = max(longest.get(pair.series, 0), pair.at or 0)
    pairs = [pair for pair in pairs if (pair.at or 0) == longest[pair.series]]
    if _height(pairs) > MOST_GAIN_ROWS:
        raise Undrawable(_too_many(len(pairs)))
    return pairs, "at the longest schedule of each series"


def _height(pairs: list[Pair]) -> int:
    cells = len({pair.cell for pair in pairs})
    return len(pairs) + (cells if cells > 1 else 0)


def _rows(pairs: list[Pair], data: FigureData) -> list[_GainRow]:
    """The pairs in the order of the arms, under their cells if those are several."""
    number = data.arm_numbers
    cells = list(dict.fromkeys(pair.cell for pair in pairs))
    rows: list[_GainRow] = []
    for cell in cells:
        if len(cells) > 1:
            rows.append(_GainRow(cell_words(cell) or "no cell", None))
        of_cell = sorted((pair for pair in pairs if pair.cell == cell), key=lambda pair: number[pair.arm])
        rows += [_GainRow(textwrap.fill(data.arms[number[pair.arm]], _ARM_CHARACTERS), pair) for pair in of_cell]
    return rows


def draw_gains(
    ax: Axes, data: FigureData, pairs: list[Pair], x_of_cell: Mapping[str, float], limits: tuple[float, float]
) -> list[DrawnLine]:
    """A line per arm of its gains with their intervals, shifted a little so that bars do not cover those of others."""
    scale = 100 if data.comparison.fraction else 1
    arms = sorted({data.arm_numbers[pair.arm] for pair in pairs})
    span = np.log(max(x_of_cell.values()) / min(x_of_cell.values()))
    shifts = np.exp(0.012 * span * (np.arange(len(arms)) - (len(arms) - 1) / 2))
    lines = []
    for arm, shift in zip(arms, shifts, strict=True):
        of_arm = [pair for pair in pairs if data.arm_numbers[pair.arm] == arm]
        of_arm.sort(key=lambda pair: x_of_cell[pair.cell])
        xs = [x_of_cell[pair.cell] * shift for pair in of_arm]
        gains = [drawn_gain(pair, scale) for pair in of_arm]
        style = arm_style(arm)
        for x, gain in zip(xs, gains, strict=True):
            draw_gain(ax, gain, x, style, limits, across=False)
        ys = [gain.mean for gain in gains]
        ax.plot(xs, ys, label=data.arms[arm], zorder=2.8, **style.without_markers().keywords())
        low = [min([gain.mean, *gain.ends]) for gain in gains]
        high = [max([gain.mean, *gain.ends]) for gain in gains]
        lines.append(DrawnLine(data.arms[arm], style, xs, ys, low, high))
    ax.set_ylim(limits)
    return lines


def _draw_seeds(ax: Axes, y: int, pair: Pair, scale: float) -> None:
    """The gain of each seed, below the mean."""
    if pair.gain.n > 1:
        seeds = [scale * value for value in pair.gain.values]
        (rings,) = ax.plot(seeds, [y + 0.27] * len(seeds), "o", zorder=5, ms=2.8, color=_SEEDS)
        rings.set_markerfacecolor("white")
        rings.set_markeredgewidth(0.6)


def _write(ax: Axes, rows: list[_GainRow]) -> None:
    """The arms' words left of the rows, their time right of them, and the cells above theirs."""
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_yticks([y for y, row in enumerate(rows) if row.pair], [row.words for row in rows if row.pair], fontsize=8)
    ax.tick_params(axis="y", length=0, pad=9)
    ax.grid(visible=False, axis="y")
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    beside = partial(ax.text, transform=ax.get_yaxis_transform(), fontsize=8)
    if any(row.pair and row.pair.ratios["gpu_hours"].mean for row in rows):
        beside(1.03, -0.8, "training\ntime", color=QUIET, va="bottom", linespacing=1)
    for y, row in enumerate(rows):
        if row.pair is None:
            beside(-0.03, y, row.words, fontweight="bold", ha="right", va="center_baseline")
            ax.axhline(y - 0.5, color="#cccccc", linewidth=0.8)
        elif (ratio := row.pair.ratios["gpu_hours"].mean) is not None:
            beside(1.03, y, f"{times(ratio)}×", va="center_baseline")


def _axis_words(comparison: Comparison, data: FigureData, at: str) -> str:
    gain = "how far below" if comparison.lower_is_better else "points over" if comparison.fraction else "gain over"
    return f"{score_label(data.score)}\n" + textwrap.fill(f"{gain} the baseline ({data.arms[0]}) {at}", 54)


def _runs_of(pairs: list[Pair], data: FigureData) -> pd.DataFrame:
    """The runs of these pairs and their twins."""
    arms = arms_of(data.rows, data.baseline)
    wanted = {(pair.cell, arm, seed) for pair in pairs for arm in ("", pair.arm) for seed in pair.seeds}
    seeds = data.rows["seed"].fillna(0) if "seed" in data.rows else pd.Series(0, index=data.rows.index)
    keys = zip(data.rows["cell"].fillna(""), arms, seeds, strict=True)
    return data.rows[[key in wanted for key in keys]]


gains = on_axes(
    "gains",
    gains_panels,
    """Draw every arm's gain over the baseline at equal samples onto an Axes, a row per arm, with 95 % CIs.

    The time of each arm over the baseline's stands right of the Axes.
    """,
)
