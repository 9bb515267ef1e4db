"""How every figure looks: lines told apart in grey and by the colour-blind, ticks that count."""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from flipscale.compare import short

RC: dict[str, Any] = {
    "font.size": 9,
    "font.family": "sans-serif",
    # The first is matplotlib's own, so layouts are the same everywhere; Verdana has its widths where an SVG's reader
    # lacks it.
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
    # Text stays text: it can be searched, read out, and set in a paper's own type; a third of the size of outlines.
    # A PDF holds its letters, so that is the format whose every letter is the same everywhere.
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}

QUIET = "#555555"
"""Words and lines that explain what is drawn."""

REFERENCE = "#8a8a8a"
"""What others published."""

# Okabe and Ito's palette, black for the baseline; without its yellow, which is too pale for a line.
_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 1)), (0, (8, 2)), "-.")


def line_style(i: int) -> dict[str, Any]:
    """Colour, marker and dashes of the i-th arm; 0 is the baseline."""
    return {
        "color": _COLOURS[i % len(_COLOURS)],
        "marker": _MARKERS[(i + i // len(_COLOURS)) % len(_MARKERS)],
        "linestyle": _DASHES[(i + 2 * (i // len(_COLOURS))) % len(_DASHES)],
    }


def ramp_style(i: int, n: int) -> dict[str, Any]:
    """Colour and marker of the i-th of n values that have an order: dark to light, which grey keeps."""
    return {
        "color": to_hex(colormaps["viridis"](0.7 * i / max(n - 1, 1))),
        "marker": _MARKERS[i % len(_MARKERS)],
        "linestyle": "-",
    }


# Axes


def percent_axis(axis: Axis) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))


def count_axis(axis: Axis, values: Iterable[float], words: str = "") -> None:
    """A log axis with its ticks at the values themselves, as 16k or 400M, as far as they fit; decades where not."""
    ticks = sorted({float(value) for value in values if value > 0})
    if len(ticks) > _MOST_VALUES or (ticks and ticks[-1] > 1e6 * ticks[0]):
        log_axis(axis, ticks, lambda value: f"{short(value)}{words}")
    elif ticks:
        said = [f"{short(tick)}{words}" for tick in ticks]
        room = _places(axis, ticks)
        kept = [0]
        for i in range(1, len(ticks)):
            if room[i] - room[kept[-1]] > (_size(axis, said[i]) + _size(axis, said[kept[-1]])) / 2:
                kept.append(i)
        _log(axis, [ticks[i] for i in kept], [said[i] for i in kept])


def log_axis(axis: Axis, values: Iterable[float], words: Callable[[float], str] = short) -> None:
    """A log axis with up to five ticks at round numbers, each in `words`, as many as stand beside each other."""
    there = [float(value) for value in values if value > 0]
    if not there:
        return
    ticks = _round_ticks(min(there), max(there))
    room = _places(axis, ticks)
    step = 1
    while step < len(ticks) - 1:
        at, said = room[::step], [words(tick) for tick in ticks[::step]]
        if all(
            b - a > (_size(axis, one) + _size(axis, other)) / 2
            for (a, b), (one, other) in zip(pairwise(at), pairwise(said), strict=True)
        ):
            break
        step += 1
    _log(axis, ticks[::step], [words(tick) for tick in ticks[::step]])


_MOST_VALUES = 12

_LETTER, _LINE = 0.078, 0.22  # inches of a letter of a tick's words, and of a line of them


def _size(axis: Axis, words: str) -> float:
    """Inches along the axis that a tick's words take, with the gap to the next."""
    return _LETTER * (len(words) + 1.5) if axis is axis.axes.xaxis else _LINE


def _places(axis: Axis, ticks: list[float]) -> list[float]:
    """Where the ticks of a log axis stand, in inches, as far as can be known before the figure is laid out."""
    ax = axis.axes
    figure = ax.get_figure(root=True)
    assert figure is not None
    across = axis is ax.xaxis
    box, inches = ax.get_position(), figure.get_size_inches()
    length = 0.85 * float(box.width * inches[0] if across else box.height * inches[1])
    span = math.log(ticks[-1] / ticks[0]) or 1.0
    return [length * math.log(tick / ticks[0]) / span for tick in ticks]


def _log(axis: Axis, ticks: list[float], words: list[str]) -> None:
    ax = axis.axes
    (ax.set_xscale if axis is ax.xaxis else ax.set_yscale)("log")
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    at = dict(zip(ticks, words, strict=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: at.get(value, "")))


def _round_ticks(low: float, high: float) -> list[float]:
    """Three to five round numbers between two, or these two where nothing round lies between."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7), [1 + 0.2 * i for i in range(45)]):
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


def bytes_words(value: float) -> str:
    """A size of memory: 512 MB, 24 GB."""
    for unit, words in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= unit:
            return f"{value / unit:.3g} {words}"
    return f"{value:.3g} B"


def start_at(ax: Axes, low: float, high: float) -> None:
    """A linear x axis from `low` to `high` whose numbers are short."""
    ax.set_xlim(low, high)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(round(value, 9))))
