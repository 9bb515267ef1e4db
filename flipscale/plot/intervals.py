"""Gains with the two intervals of a comparison: a thin bar that its verdict uses, and a thick one without correction.

A mark is filled where the effect is significant and open where it is not, so that a figure in grey shows the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from flipscale.compare import Comparison, Effect, Pair, finding
from flipscale.plot.style import LineStyle

BARS = "95 % CIs"
"""The meaning of a gain's bars, in small print."""

_THICK, _THIN = 2.6, 0.9  # points


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
    gain = pair.gain
    assert gain.mean is not None
    both = gain.corrected
    return DrawnGain(
        scale * gain.mean,
        finding(gain).effect in (Effect.AHEAD, Effect.BEHIND),
        None if gain.low is None or gain.high is None else (scale * gain.low, scale * gain.high),
        None
        if both is None or both.of < 2 or both.low is None or both.high is None
        else (scale * both.low, scale * both.high),
    )


def gain_limits(pairs: Sequence[Pair], scale: float) -> tuple[float, float]:
    """An axis for gains: the seeds and 0, and bars as `limits_of` shows them."""
    seeds = [0.0, *(scale * value for pair in pairs for value in pair.gain.values)]
    return limits_of(seeds, [end for pair in pairs for end in drawn_gain(pair, scale).ends])


def limits_of(points: Sequence[float], ends: Sequence[float]) -> tuple[float, float]:
    """An axis that shows these points, and bars up to half the points' range beyond them.

    Two seeds can give an interval that is ten times as wide as everything else.
    """
    half = (max(points) - min(points) or 1.0) / 2
    low = max(min([*points, *ends]), min(points) - half)
    high = min(max([*points, *ends]), max(points) + half)
    margin = 0.04 * (high - low)
    return low - margin, high + margin


def gain_marks(comparison: Comparison, pairs: Sequence[Pair], limits: tuple[float, float]) -> str:
    """The meaning of points and bars of gains, for the small print."""
    scale = 100 if comparison.fraction else 1
    gains = [drawn_gain(pair, scale) for pair in pairs]
    if not any(gain.uncorrected for gain in gains):
        return "points: gains of one seed, which gives no CI"
    bars = BARS
    if any(gain.corrected for gain in gains):
        bars += f", thick uncorrected, thin corrected for {comparison.gains_claimed} comparisons"
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
    face = style.color if gain.significant else "white"
    at = ([gain.mean], [place]) if across else ([place], [gain.mean])
    (mark,) = ax.plot(*at, style.marker or "o", ms=5.5, clip_on=False, zorder=4, color=style.color)
    mark.set_markerfacecolor(face)
    mark.set_markeredgewidth(1.2)


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
