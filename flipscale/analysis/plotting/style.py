"""The style of every figure: lines that differ in grey and for the colour-blind, ticks at the values themselves."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib import colormaps
from matplotlib.axis import Axis
from matplotlib.colors import to_hex
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from flipscale.words import device_hours, percent, short

RC: Mapping[str, object] = {
    "font.size": 9,
    "font.family": "sans-serif",
    # The first comes with matplotlib, so layouts are the same everywhere; Verdana has the same widths, for readers of
    # an SVG who lack it.
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "axes.labelsize": 9,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    "legend.frameon": False,
    # Text stays text: it can be searched, read aloud and set in a paper's own font, at a third of the size of outlines.
    # A PDF embeds its font, so it is the format that looks the same everywhere.
    "text.parse_math": False,  # A name of somebody's column may hold a $.
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}

QUIET = "#555555"
"""Words and lines that explain a drawing."""

REFERENCE = "#8a8a8a"
"""Published results of others."""

Dashes = str | tuple[float, tuple[float, ...]]
"""matplotlib's line style: '-', '' for none, or lengths of dashes and gaps."""

# Okabe and Ito's palette, black for the baseline; Tol's wine for its yellow, which is too pale for a line.
_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#882255")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES: tuple[Dashes, ...] = (
    *("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5))),
    *((0, (3, 1)), (0, (8, 2)), "-."),
)


@dataclass(frozen=True)
class LineStyle:
    """The style that tells one line from others."""

    color: str
    marker: str = ""
    dashes: Dashes = "-"

    def keywords(self) -> dict[str, Any]:
        """The arguments of `Axes.plot` and of a legend's entry."""
        return {"color": self.color, "marker": self.marker, "linestyle": self.dashes}

    def marks(self, *, filled: bool, edge: float = 1.0) -> dict[str, Any]:
        """The arguments of `Axes.plot` for marks of this colour that are filled or hollow."""
        return {"color": self.color, "markerfacecolor": self.color if filled else "white", "markeredgewidth": edge}

    def without_line(self) -> "LineStyle":
        """The markers alone."""
        return replace(self, dashes="")

    def without_markers(self) -> "LineStyle":
        return replace(self, marker="")


def arm_style(i: int) -> LineStyle:
    """Colour, marker and dashes of the i-th arm; 0 is the baseline."""
    return LineStyle(
        _COLOURS[i % len(_COLOURS)],
        _MARKERS[(i + i // len(_MARKERS)) % len(_MARKERS)],
        _DASHES[(i + 2 * (i // len(_DASHES))) % len(_DASHES)],
    )


def ramp_style(i: int, n: int) -> LineStyle:
    """Colour and marker of the i-th of n values that have an order: dark to light, which grey keeps."""
    return LineStyle(to_hex(colormaps["viridis"](0.7 * i / max(n - 1, 1))), _MARKERS[i % len(_MARKERS)])


# Axes


def percent_axis(axis: Axis) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))


def count_axis(axis: Axis, values: Iterable[float], words: str = "") -> None:
    """A log axis with its ticks at the values themselves, as 16k or 400M, as far as they fit.

    Ticks stand at round numbers where the values are many, far apart or not round.
    """
    ticks = sorted({float(value) for value in values if value > 0})
    round_values = all(math.isclose(tick, float(f"{tick:.3g}")) for tick in ticks)
    if len(ticks) > _MOST_TICKS or not round_values or (ticks and ticks[-1] > 1e6 * ticks[0]):
        log_axis(axis, ticks, lambda value: f"{short(value)}{words}")
    elif ticks:
        _log(axis, {tick: f"{short(tick)}{words}" for tick in ticks})


def log_axis(axis: Axis, values: Iterable[float], words: Callable[[float], str] = short) -> None:
    """A log axis with up to five ticks at round numbers, each in `words`, as many as fit."""
    positive = [float(value) for value in values if value > 0]
    if positive:
        _log(axis, {tick: words(tick) for tick in _round_ticks(min(positive), max(positive))})


_MOST_TICKS = 12


def _log(axis: Axis, words: dict[float, str]) -> None:
    ax = axis.axes
    across = axis is ax.xaxis
    (ax.set_xscale if across else ax.set_yscale)("log")
    # A panel is at least 2 inches wide, and a letter 0.08.
    least = 0.045 * (max(map(len, words.values())) + 1) if across else 0.09
    shown = spread([math.log(tick) for tick in words], least)
    axis.set_major_locator(FixedLocator([list(words)[i] for i in shown]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: words.get(value, "")))


def spread(places: Sequence[float], least: float) -> list[int]:
    """The first of some places in a row, and each that is at least this share of their span from the last one taken."""
    taken: list[int] = []
    for i, place in enumerate(places):
        if not taken or abs(place - places[taken[-1]]) >= least * abs(places[-1] - places[0]):
            taken.append(i)
    return taken


def _round_ticks(low: float, high: float) -> list[float]:
    """Three to five round numbers between two, or these two where nothing round lies between."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7), range(1, 10), [1 + 0.2 * i for i in range(45)]):
        inside = [
            float(f"{step * 10.0**d:.6g}")
            for d in decades
            for step in steps
            if low <= step * 10.0**d * (1 + 1e-9) <= high * 1.0001
        ]
        if len(inside) >= 3:
            return inside[:: math.ceil(len(inside) / 5)]
    return [low, high] if low < high else [low]


def power(value: float) -> str:
    """A number as 10¹² or 3×10¹¹, in letters that any text can hold."""
    if value <= 0:
        return ""
    exponent = math.floor(math.log10(value) + 1e-9)
    mantissa = value / 10**exponent
    raised = f"10{str(exponent).translate(_RAISED)}"
    return raised if round(mantissa, 6) == 1 else f"{mantissa:.3g}×{raised}"


_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def device_time(cpu: bool, unit: str) -> str:
    """The unit of training time on an axis: 'CPU core-minutes', 'GPU-hours'."""
    return f"CPU {device_hours('cpu', unit)}" if cpu else device_hours("cuda", unit)
