"""Chance level on the y axis of a score: a thin dashed line, if it does not waste the axis."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from flipscale.plot.style import QUIET

MOST_EMPTY = 0.25
"""The y axis is extended to chance if at most this share of it is then empty."""

_MARGIN = 0.04  # of the axis, beyond the line


def draw_chance(axes: Sequence[Axes], chance: float) -> bool:
    """Draw the line in all of these panels, or in none if their data is too far from it. Returns whether it did."""
    to_scale = math.log if axes[0].get_yscale() == "log" else float
    from_scale = math.exp if axes[0].get_yscale() == "log" else float
    limits = [sorted(to_scale(end) for end in ax.get_ylim()) for ax in axes]
    level, low, high = to_scale(chance), min(low for low, _ in limits), max(high for _, high in limits)
    bottom, top = min(low, level), max(high, level)
    if high - low < (1 - MOST_EMPTY) * (top - bottom):
        return False
    margin = _MARGIN * (top - bottom)
    for ax in axes:
        bottom, top = sorted(to_scale(end) for end in ax.get_ylim())
        if level - margin < bottom:
            ax.set_ylim(bottom=from_scale(level - margin))
        if level + margin > top:
            ax.set_ylim(top=from_scale(level + margin))
        ax.axhline(chance, color=QUIET, linestyle=(0, (5, 3)), linewidth=0.8, zorder=1.8)
    return True
