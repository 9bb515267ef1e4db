"""The gain of every arm over the baseline at equal samples: a row per arm, with its interval, its seeds and its time.

Curves need a colour per arm and two schedule lengths; this figure needs neither, so it suits a study of many arms.
In every figure of gains a thin bar is the interval that the verdict of `compare` uses, a thick one is uncorrected. A
mark is filled where the effect is significant and open where it is not, so that a figure in grey shows the same.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from flipscale.analysis.comparing import Comparison, Pair
from flipscale.analysis.comparing.estimates import scaled
from flipscale.analysis.plotting.cell_words import cell_order
from flipscale.analysis.plotting.figure_data import FigureData, Undrawable
from flipscale.analysis.plotting.layout import FigureKind, Panel
from flipscale.analysis.plotting.style import QUIET, LineStyle, arm_style
from flipscale.cell import cell_words
from flipscale.words import joined, times

MOST_GAIN_ROWS = 48
"""Rows, with the headings of their cells, that fit one page."""

_ROW = 0.21  # inches
_ARM_CHARACTERS = 56  # of an arm's words in one line
_GAIN = LineStyle(arm_style(1).color, "o")


class _GainRow(NamedTuple):
    """One line of the figure: a pair, or the cell that heads the pairs below it."""

    words: str
    pair: Pair | None


def gains(data: FigureData) -> list[Panel]:
    """One panel of all arms, with a group for each cell; if a page cannot hold all, those of the longest schedule."""
    comparison = data.comparison
    pairs, at = _pairs_of_a_page(comparison)
    rows = _rows(pairs, data)
    lines = max(row.words.count("\n") + 1 for row in rows)
    widest = max(len(line) * (1 if row.pair else 1.15) for row in rows for line in row.words.split("\n"))

    limits = gain_limits(data, pairs)

    def draw(ax: Axes) -> None:
        for y, row in enumerate(rows):
            if row.pair:
                draw_gain(ax, drawn_gain(row.pair, data.scale), y, _GAIN, limits, across=True)
                if row.pair.gain.n > 1:  # each seed, below the mean
                    seeds = [data.scale * value for value in row.pair.gain.values]
                    rings = arm_style(0).marks(filled=False, edge=0.6)
                    ax.plot(seeds, [y + 0.27] * len(seeds), "o", zorder=5, ms=2.8, **rings)
        ax.set_xlim(limits)
        ax.set_xlabel(_axis_words(comparison, data, at))
        ax.set_ylim(len(rows) - 0.4, -0.6)
        named = {y: row.words for y, row in enumerate(rows) if row.pair}
        name_rows(ax, list(named), list(named.values()), 6)
        _write_beside(ax, rows)

    rings = "rings: seeds; " if any(pair.gain.n > 1 for pair in pairs) else ""
    marks = f"{gain_marks(data, pairs, limits)}\n{rings}time: over the baseline's"
    size = 4.7 + 0.062 * widest, _ROW * lines * len(rows) + 1.35 + 0.13 * marks.count("\n")
    runs = {run for pair in pairs for twins in pair.ids for run in twins}
    return [Panel("", data.rows[data.rows["id"].isin(runs)], draw, "", marks, size)]


GAINS = FigureKind(
    gains,
    "the gain of every arm over the baseline at equal samples, and its training time",
    "A thin bar that excludes zero is a significant difference; the training time that it takes is on the right.",
)


def _pairs_of_a_page(comparison: Comparison) -> tuple[list[Pair], str]:
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
        raise Undrawable(f"{len(pairs)} gains do not fit the {MOST_GAIN_ROWS} rows of a page; make studies of fewer")
    return pairs, "at the longest schedule of each series"


def _height(pairs: list[Pair]) -> int:
    cells = len({pair.cell for pair in pairs})
    return len(pairs) + (cells if cells > 1 else 0)


def _rows(pairs: list[Pair], data: FigureData) -> list[_GainRow]:
    """The pairs from the largest gain to the smallest, under their cells if those are several."""
    number = data.arm_numbers
    cells = sorted({pair.cell for pair in pairs}, key=cell_order)
    rows: list[_GainRow] = []
    for cell in cells:
        if len(cells) > 1:
            rows.append(_GainRow(cell_words(cell) or "no cell", None))
        of_cell = sorted((pair for pair in pairs if pair.cell == cell), key=lambda pair: -(pair.gain.mean or 0.0))
        rows += [_GainRow(textwrap.fill(data.arms[number[pair.arm]], _ARM_CHARACTERS), pair) for pair in of_cell]
    return rows


def draw_gains(
    ax: Axes, data: FigureData, pairs: list[Pair], x_of_cell: Mapping[str, float], limits: tuple[float, float]
) -> None:
    """A line per arm of its gains with their intervals, shifted a little so that bars do not cover those of others."""
    arms = sorted({data.arm_numbers[pair.arm] for pair in pairs})
    span = np.log(max(x_of_cell.values()) / min(x_of_cell.values()))
    shifts = np.exp(0.012 * span * (np.arange(len(arms)) - (len(arms) - 1) / 2))
    for arm, shift in zip(arms, shifts, strict=True):
        of_arm = [pair for pair in pairs if data.arm_numbers[pair.arm] == arm]
        of_arm.sort(key=lambda pair: x_of_cell[pair.cell])
        xs = [x_of_cell[pair.cell] * shift for pair in of_arm]
        drawn = [drawn_gain(pair, data.scale) for pair in of_arm]
        style = arm_style(arm)
        for x, gain in zip(xs, drawn, strict=True):
            draw_gain(ax, gain, x, style, limits, across=False)
        means = [gain.mean for gain in drawn]
        ax.plot(xs, means, label=data.arms[arm], zorder=2.8, **style.without_markers().keywords())
    ax.axhline(0, color="#000000", linewidth=1, zorder=2)
    ax.set_ylim(limits)


def name_rows(ax: Axes, places: Sequence[float], names: Sequence[str], ticks: int) -> None:
    """Names left of the rows of a panel whose x axis is a difference, with a line at 0 and few ticks."""
    ax.set_yticks(places, names, fontsize=8)
    ax.tick_params(axis="y", length=0, pad=9)
    ax.grid(visible=False, axis="y")
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(ticks))
    ax.axvline(0, color="#444444", linewidth=1, zorder=2)


def _write_beside(ax: Axes, rows: list[_GainRow]) -> None:
    """The arms' time right of their rows, and the cells above theirs."""
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
    return f"{data.score_words}\n" + textwrap.fill(f"{gain} the baseline ({data.arms[0]}) {at}", 54)


# Gains with both intervals

BARS = "95 % CIs"
"""The meaning of a gain's bars, in small print."""

# The width of bars, in points.
_THICK = 2.6
_THIN = 0.9


@dataclass(frozen=True)
class DrawnGain:
    """A gain in the unit of its axis: points, or that of the score."""

    mean: float
    significant: bool
    uncorrected: tuple[float, float] | None
    """95 % CI of this gain alone; None with one seed."""
    corrected: tuple[float, float] | None
    """95 % CI that decides whether it is significant; None where there is one comparison, or one seed."""

    @property
    def ends(self) -> tuple[float, ...]:
        """The ends of its bars."""
        return (*(self.uncorrected or ()), *(self.corrected or ()))

    def beside(self, level: float, *, lower_is_better: bool) -> "DrawnGain":
        """The same on an axis of scores, with the mean at this score."""
        sign = -1 if lower_is_better else 1

        def moved(ends: tuple[float, float] | None) -> tuple[float, float] | None:
            if ends is None:
                return None
            low, high = sorted(level + sign * (end - self.mean) for end in ends)
            return low, high

        return DrawnGain(level, self.significant, moved(self.uncorrected), moved(self.corrected))


def drawn_gain(pair: Pair, scale: float) -> DrawnGain:
    """The gain of a pair, in points where `scale` is 100."""
    gain = scaled(pair.gain, scale)
    return DrawnGain(gain.value, gain.significant, gain.interval, gain.among_several)


def gain_limits(data: FigureData, pairs: Sequence[Pair]) -> tuple[float, float]:
    """An axis for gains: the seeds and 0, and bars as `limits_of` shows them."""
    seeds = [0.0, *(data.scale * value for pair in pairs for value in pair.gain.values)]
    return limits_of(seeds, [end for pair in pairs for end in drawn_gain(pair, data.scale).ends])


def limits_of(
    points: Sequence[float], ends: Sequence[float], beyond: float = 0.5, margin: float = 0.04
) -> tuple[float, float]:
    """An axis that shows these points, and bars up to a share of the points' range beyond them.

    Two seeds can give an interval that is ten times as wide as everything else.
    """
    more = (max(points) - min(points) or 1.0) * beyond
    low = max(min([*points, *ends]), min(points) - more)
    high = min(max([*points, *ends]), max(points) + more)
    margin = margin * (high - low) or 1.0
    return low - margin, high + margin


def gain_marks(data: FigureData, pairs: Sequence[Pair], limits: tuple[float, float]) -> str:
    """The meaning of points and bars of gains, for the small print."""
    comparison = data.comparison
    gains = [drawn_gain(pair, data.scale) for pair in pairs]
    if not any(gain.uncorrected for gain in gains):
        failing = any(pair.gain.failures for pair in pairs)
        why = "a cell where only some runs learn has no CI" if failing else "one seed gives no CI"
        return f"points: mean gains, filled where significant; {why}"
    bars = BARS
    if any(gain.corrected for gain in gains):
        n = comparison.gains_claimed
        families = [f"{n} gains"] * bool(n) + ["the claims of a family"] * comparison.repeats_claims
        bars += f", thick uncorrected, thin corrected for {joined(families)}"
    return f"points: mean gains, filled where significant\nbars: {bars}{beyond_words(gains, limits)}"


def beyond_words(gains: Sequence[DrawnGain], limits: tuple[float, float]) -> str:
    """The meaning of arrows at the frame; '' if no bar reaches beyond it."""
    beyond = any(not limits[0] <= end <= limits[1] for gain in gains for end in gain.ends)
    return "\narrows: the CI goes on beyond the frame" if beyond else ""


def draw_gain(
    ax: Axes, gain: DrawnGain, place: float, style: LineStyle, limits: tuple[float, float], *, across: bool
) -> None:
    """Draw a gain and its bars at a place of the other axis; `across` lays the bars along x."""
    draw_bars(ax, gain.corrected, gain.uncorrected, place, style.color, limits, across=across)
    at = ([gain.mean], [place]) if across else ([place], [gain.mean])
    look = style.marks(filled=gain.significant, edge=1.2)
    ax.plot(*at, style.marker or "o", ms=5.5, clip_on=False, zorder=4, **look)


def draw_bars(
    ax: Axes,
    thin: Sequence[float] | None,
    thick: Sequence[float] | None,
    place: float,
    color: str,
    limits: tuple[float, float],
    *,
    across: bool,
) -> None:
    """Draw two intervals [low, high] as bars at a place of the other axis. An arrow marks an end past the limits."""
    low, high = limits

    def plot(values: Sequence[float], *form: str, **look: Any) -> None:
        places = [place] * len(values)
        ax.plot(
            *((values, places) if across else (places, values)), *form, color=color, clip_on=False, zorder=3, **look
        )

    for ends, width in ((thin, _THIN), (thick, _THICK)):
        if ends is not None and ends[0] < high and ends[1] > low:
            plot([max(ends[0], low), min(ends[1], high)], linewidth=width, solid_capstyle="butt")
    every = [*(thin or ()), *(thick or ())]
    before, after = "<>" if across else "v^"
    if any(end < low for end in every):
        plot([low], before, ms=4.5)
    if any(end > high for end in every):
        plot([high], after, ms=4.5)
