"""How every figure looks: lines told apart in grey and by the colour-blind, ticks that count, labels that fit."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import Bbox

from flipscale.compare import short

RC: dict[str, Any] = {
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    "legend.frameon": False,
    "svg.fonttype": "path",  # the same letters on every machine
    "pdf.fonttype": 42,
}

PANEL_WIDTH, PANEL_HEIGHT = 3.0, 2.7  # inches; one panel alone is wider
MAX_COLUMNS = 3

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


def panels(figure: Figure, n: int, *, share_x: bool = False) -> list[Axes]:
    """n axes with one y axis, at most three in a row."""
    columns = min(n, MAX_COLUMNS)
    rows = math.ceil(n / columns)
    # A title and the legend take a part of the height that the panels do not share.
    figure.set_size_inches(5.6 if n == 1 else PANEL_WIDTH * columns, 3.5 if n == 1 else PANEL_HEIGHT * rows + 0.6)
    grid = figure.subplots(rows, columns, sharex=share_x, sharey=True, squeeze=False)
    axes = [ax for row in grid for ax in row]
    for ax in axes[n:]:
        ax.remove()
    for i, ax in enumerate(axes[:n]):
        ax.tick_params(labelbottom=True, labelleft=i % columns == 0)
    return axes[:n]


def settle(figure: Figure, small_print: str) -> None:
    """Lay the figure out with its small print, then keep it as it is: labels are placed against what stands there."""
    height = figure.get_size_inches()[1]
    lines = small_print.count("\n") + 1
    below = (0.06 + 0.12 * lines) / height
    figure.text(0.012, 0.04 / height, small_print, fontsize=6.5, color="#555555", va="bottom", linespacing=1.2)
    engine = ConstrainedLayoutEngine(rect=(0, below, 1, 1 - below), w_pad=0.06, h_pad=0.05)
    figure.set_layout_engine(engine)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def percent_axis(ax: Axes) -> None:
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))


def count_axis(ax: Axes, values: Iterable[float]) -> None:
    """A log axis with its ticks at the values themselves, as 16k or 400M, as far as they fit."""
    ticks = sorted({float(value) for value in values})
    ax.set_xscale("log")
    shown = [ticks[0]]
    for tick in ticks[1:]:
        if math.log(tick / shown[-1]) > 0.07 * math.log(ticks[-1] / ticks[0]):
            shown.append(tick)
    ax.xaxis.set_major_locator(FixedLocator(shown))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(round(value, 12))))


def log_axis(ax: Axes, values: Iterable[float], *, power: bool) -> None:
    """A log axis with three to five ticks at round numbers, as powers of ten or plain."""
    values = [float(value) for value in values]
    low, high = min(values), max(values)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [low, high]  # where nothing round lies between
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7), [1 + 0.2 * i for i in range(45)]):
        inside = [
            step * 10.0**d for d in decades for step in steps if low <= step * 10.0**d * (1 + 1e-9) <= high * 1.0001
        ]
        if len(inside) >= 3:
            ticks = inside[:: math.ceil(len(inside) / 5)]
            break
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _power(value) if power else short(value)))


def _power(value: float) -> str:
    if value <= 0:
        return ""
    exponent = math.floor(math.log10(value) + 1e-9)
    mantissa = value / 10**exponent
    return rf"$10^{{{exponent}}}$" if round(mantissa, 6) == 1 else rf"${mantissa:.3g}\!\times\!10^{{{exponent}}}$"


_Pixels = np.ndarray[Any, Any]  # [n, 2]
_Place = tuple[float, float, Any, Any]  # offset in points (1/72 inch), horizontal and vertical alignment

# Where a label may stand beside its point, best first.
_BESIDE: tuple[_Place, ...] = tuple((7, dy, "left", "center") for dy in (0, 6, -6, 12, -12, 18, -18))
_AROUND: tuple[_Place, ...] = (
    (0, 7, "center", "bottom"),
    (0, -7, "center", "top"),
    (6, 5, "left", "bottom"),
    (6, -5, "left", "top"),
    (-6, 5, "right", "bottom"),
    (-6, -5, "right", "top"),
    (-7, 0, "right", "center"),
)
_FARTHER: tuple[_Place, ...] = tuple(
    (scale * dx, scale * dy, ha, va) for scale in (2, 3, 4) for dx, dy, ha, va in _AROUND
)


class Labels:
    """Labels of one axes, each put where it covers no line, no point and no other label."""

    def __init__(self, ax: Axes):
        self.ax = ax
        figure = ax.get_figure(root=True)
        assert figure is not None
        assert isinstance(figure.canvas, FigureCanvasAgg)
        self._renderer = figure.canvas.get_renderer()  # type: ignore[no-untyped-call]
        self._drawn: dict[int, list[_Pixels]] = {}
        self._boxes: list[Bbox] = []

    def avoid(self, xs: Sequence[float], ys: Sequence[float], line: int) -> None:
        """Keep labels off the polyline through these points, in data coordinates, a part of line number `line`."""
        corners = self.ax.transData.transform(np.column_stack([xs, ys]))
        drawn = self._drawn.setdefault(line, [])
        drawn.append(corners)
        drawn += [start + np.linspace(0, 1, 80)[:, None] * (end - start) for start, end in pairwise(corners)]

    def name_line(self, line: int, text: str, points: Iterable[tuple[float, float]], **style: Any) -> bool:
        """Put the name of a line beside one of its points, where no other line is nearer; False if that is nowhere."""
        places = (*_BESIDE, *_AROUND)
        return any(self._put(text, point, places, style, line) for point in points)

    def explain(self, text: str, points: Iterable[tuple[float, float]], **style: Any) -> bool:
        """Put a text near one of the points, farther off if it must be; False if there is no room."""
        points = list(points)
        return any(self._put(text, point, places, style, None) for places in (_AROUND, _FARTHER) for point in points)

    def _put(
        self, text: str, point: tuple[float, float], places: Iterable[_Place], style: dict[str, Any], line: int | None
    ) -> bool:
        for dx, dy, ha, va in places:
            label = self.ax.annotate(
                text, point, (dx, dy), textcoords="offset points", ha=ha, va=va, annotation_clip=False, **style
            )
            box = label.get_window_extent(self._renderer)
            if self._is_free(box.padded(2), line):
                self._boxes.append(box.padded(2))
                return True
            label.remove()
        return False

    def _is_free(self, box: Bbox, line: int | None) -> bool:
        frame = self.ax.bbox
        inside = box.x0 >= frame.x0 and box.x1 <= frame.x1 + 4 and box.y0 >= frame.y0 and box.y1 <= frame.y1 + 4
        if not inside or any(box.overlaps(other) for other in self._boxes):
            return False
        away = {key: min(_distance(box, pixels) for pixels in drawn) for key, drawn in self._drawn.items()}
        return min(away.values()) > 0 and (line is None or away[line] == min(away.values()))


def _distance(box: Bbox, pixels: _Pixels) -> float:
    """From the box to the nearest of the points; 0 for a point inside."""
    outside = np.maximum(np.maximum([box.x0, box.y0] - pixels, pixels - [box.x1, box.y1]), 0)
    return float(np.hypot(*outside.T).min())
