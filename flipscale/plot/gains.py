"""The gain of every arm over the baseline at equal samples: a row an arm, with its interval, its seeds and its time.

The curves take a colour an arm and two schedule lengths; this figure takes neither, so a study of many arms reads here.
"""

import textwrap
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from flipscale.compare import Comparison, Pair, arms_of, times
from flipscale.plot.figures import Shown, Undrawable, compared, score_words, small_print
from flipscale.plot.style import line_style, settle

MOST_ROWS = 48
"""Rows, with the headings of their cells, that fit one page."""

_ROW = 0.21  # inches
_CHARACTERS = 56  # of an arm's words in one line
_SEEDS, _GAIN = line_style(0)["color"], line_style(1)["color"]


class _Row(NamedTuple):
    """One line of the figure: a pair, or the cell that heads the pairs below it."""

    words: str
    pair: Pair | None


def gains(figure: Figure, s: Shown) -> pd.DataFrame:
    """Every arm's gain over the baseline at equal samples with its 95 % interval, and its time over the baseline's.

    Of several cells each is a group; where they are more than a page holds, the longest schedule of each series is.
    """
    comparison = compared(s)
    pairs, at = _fitting(comparison)
    rows = _rows(pairs, s)
    lines = max(row.words.count("\n") + 1 for row in rows)
    widest = max(len(line) * (1 if row.pair else 1.15) for row in rows for line in row.words.split("\n"))
    figure.set_size_inches(4.7 + 0.062 * widest, _ROW * lines * len(rows) + 1.35)
    ax = figure.subplots()
    scale = 100 if comparison.fraction else 1
    low, high = _limits(pairs, scale)
    for y, row in enumerate(rows):
        if row.pair:
            _draw(ax, y, row.pair, scale, low, high)
    ax.axvline(0, color="#444444", linewidth=1, zorder=2)
    ax.set_xlim(low, high)
    ax.set_xlabel(_axis_words(comparison, s, at))
    _write(ax, rows)
    runs = _runs_of(pairs, s)
    settle(
        figure, small_print(s, runs, "points: mean gains, bars: 95 % intervals, dots: seeds, time: over the baseline's")
    )
    return runs


def _fitting(comparison: Comparison) -> tuple[list[Pair], str]:
    """The pairs that one page holds, and at what they are read, in words."""
    pairs = list(comparison.pairs)
    if not pairs:
        raise Undrawable("no run has a twin, the baseline in its cell at its seed")
    if len(pairs) == 1:
        raise Undrawable("one arm in one cell is one gain; compare says it in words")
    if _height(pairs) <= MOST_ROWS:
        return pairs, "at equal samples"
    longest: dict[str, float] = {}
    for pair in pairs:
        longest[pair.series] = max(longest.get(pair.series, 0), pair.at or 0)
    pairs = [pair for pair in pairs if (pair.at or 0) == longest[pair.series]]
    if _height(pairs) > MOST_ROWS:
        raise Undrawable(f"{len(pairs)} gains do not fit the {MOST_ROWS} rows of a page; make studies of fewer")
    return pairs, "at the longest schedule of each series"


def _height(pairs: list[Pair]) -> int:
    cells = len({pair.cell for pair in pairs})
    return len(pairs) + (cells if cells > 1 else 0)


def _rows(pairs: list[Pair], s: Shown) -> list[_Row]:
    """The pairs in the order of the arms, under their cells if those are several."""
    number = dict(zip(arms_of(s.rows, s.baseline), s.rows["arm"], strict=True))
    cells = list(dict.fromkeys(pair.cell for pair in pairs))
    rows: list[_Row] = []
    for cell in cells:
        if len(cells) > 1:
            rows.append(_Row(cell.replace("data_size=null", "all data") or "no cell", None))
        of_cell = sorted((pair for pair in pairs if pair.cell == cell), key=lambda pair: number[pair.arm])
        rows += [_Row(textwrap.fill(s.arms[number[pair.arm]], _CHARACTERS), pair) for pair in of_cell]
    return rows


def _limits(pairs: list[Pair], scale: float) -> tuple[float, float]:
    """From the seeds and 0 outwards as far as the intervals go, but no farther than half of what the seeds span.

    Two seeds can give an interval that is ten times as wide as everything else.
    """
    seeds = [0.0, *(scale * value for pair in pairs for value in pair.gain.values)]
    ends = [scale * end for pair in pairs for end in (pair.gain.low, pair.gain.high) if end is not None]
    half = (max(seeds) - min(seeds) or 1.0) / 2
    low = max(min(seeds + ends), min(seeds) - half)
    high = min(max(seeds + ends), max(seeds) + half)
    margin = 0.04 * (high - low)
    return low - margin, high + margin


def _draw(ax: Axes, y: int, pair: Pair, scale: float, low: float, high: float) -> None:
    """A pair's interval, mean and seeds; an interval that leaves the frame ends there in an arrow."""
    gain = pair.gain
    assert gain.mean is not None
    if gain.low is not None and gain.high is not None:
        ends = scale * gain.low, scale * gain.high
        ax.plot([max(ends[0], low), min(ends[1], high)], [y, y], color=_GAIN, zorder=3)
        for beyond, edge, marker in ((ends[0] < low, low, "<"), (ends[1] > high, high, ">")):
            if beyond:
                ax.plot([edge], [y], marker, ms=4.5, color=_GAIN, clip_on=False, zorder=3)
    ax.plot([scale * gain.mean], [y], "o", color=_GAIN, zorder=4)
    if gain.n > 1:
        seeds = [scale * value for value in gain.values]
        ax.plot(seeds, [y + 0.25] * gain.n, ".", ms=3.5, color=_SEEDS, alpha=0.6, zorder=5, markeredgewidth=0)


def _write(ax: Axes, rows: list[_Row]) -> None:
    """The arms' words left of the rows, their time right of them, and the cells above theirs."""
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_yticks([y for y, row in enumerate(rows) if row.pair], [row.words for row in rows if row.pair], fontsize=8)
    ax.tick_params(axis="y", length=0, pad=9)
    ax.grid(visible=False, axis="y")
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    beside: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "fontsize": 8}
    if any(row.pair and row.pair.ratios["gpu_hours"].mean for row in rows):
        ax.text(1.03, -0.8, "training\ntime", color="#555555", va="bottom", linespacing=1, **beside)
    for y, row in enumerate(rows):
        if row.pair is None:
            ax.text(-0.03, y, row.words, fontweight="bold", ha="right", va="center_baseline", **beside)
            ax.axhline(y - 0.5, color="#cccccc", linewidth=0.8)
        elif (ratio := row.pair.ratios["gpu_hours"].mean) is not None:
            ax.text(1.03, y, f"{times(ratio)}×", va="center_baseline", **beside)


def _axis_words(comparison: Comparison, s: Shown, at: str) -> str:
    gain = "how far below" if comparison.lower_is_better else "points over" if comparison.fraction else "gain over"
    return f"{score_words(s.score)}\n" + textwrap.fill(f"{gain} the baseline ({s.arms[0]}) {at}", 54)


def _runs_of(pairs: list[Pair], s: Shown) -> pd.DataFrame:
    """The runs of these pairs and their twins."""
    arms = arms_of(s.rows, s.baseline)
    of = {(pair.cell, arm, seed) for pair in pairs for arm in ("", pair.arm) for seed in pair.seeds}
    seeds = s.rows["seed"].fillna(0) if "seed" in s.rows else pd.Series(0, index=s.rows.index)
    keys = zip(s.rows["cell"].fillna(""), arms, seeds, strict=True)
    return s.rows[[key in of for key in keys]]
