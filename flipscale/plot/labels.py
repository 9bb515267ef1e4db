"""Labels next to what they name, placed when the figure is drawn: clear of lines, points and other labels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

_Pixels = np.ndarray[Any, Any]  # [n, 2]
_Place = tuple[float, float, str, str]  # offset in points (1/72 inch), horizontal and vertical alignment
_Point = tuple[float, float]  # in data coordinates

# Where a label may stand beside its point, best first.
_BESIDE: tuple[_Place, ...] = tuple((7, dy, "left", "center") for dy in (0, 4, -4, 8, -8, 12, -12, 18, -18, 24, -24))
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
    (scale * dx, scale * dy, ha, va) for scale in (2, 3, 4, 6, 8, 11) for dx, dy, ha, va in _AROUND
)
_MARKER_RADIUS = 3.0  # of a marker, in points
_HINTED = 1.08  # notes are placed at 100 dpi, where hinting makes them up to 8 % narrower than in a PNG of 200 dpi
_CIRCLE = np.array([(np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 8, endpoint=False)])
_SAMPLE_PIXELS = 4.0  # pixels between the samples of a line that labels keep off


@dataclass(frozen=True)
class _Wanted:
    text: Annotation
    words: tuple[str, ...]
    """The words in one or more ways; the last of several is the shortest, for use where the others do not fit."""
    points: tuple[_Point, ...]
    places: tuple[tuple[_Place, ...], ...]
    line: int | None
    """The line that must be nearest to it; None for a label that may stand anywhere."""
    required: bool
    """Whether it names a line that must be named."""


class Labels(Artist):
    """The labels of one axes.

    It draws nothing: it is drawn before everything else, and then gives each label its place in the current layout.
    Labels are therefore right in any figure, after any resizing, and in every format.
    """

    def __init__(self, ax: Axes, *, legend: Sequence[Artist] = ()):
        """`legend`: entries of a legend for an axes whose lines cannot all be named beside them."""
        super().__init__()
        self.set_zorder(-1e6)
        self.set_in_layout(False)
        self._ax = ax
        self._legend = legend
        self._lines: list[tuple[_Pixels, int]] = []  # data coordinates
        self._wanted: list[_Wanted] = []
        self._placed_at: object = None
        self.all_named = True
        """Whether every line has its name beside it, after drawing."""
        ax.add_artist(self)

    def avoid(self, xs: Sequence[float], ys: Sequence[float], line: int) -> None:
        """Keep labels off the polyline through these points, in data coordinates, a part of line number `line`."""
        self._lines.append((np.column_stack([np.asarray(xs, float), np.asarray(ys, float)]), line))

    def name_line(
        self,
        line: int,
        words: str,
        points: Iterable[_Point],
        *,
        required: bool = True,
        color: str | None = None,
        size: float | None = None,
    ) -> None:
        """Put the name of a line beside the first of its points where no other line is nearer."""
        places = ((*_BESIDE, *_AROUND),)
        found = _as_floats(points)
        self._wanted.append(_Wanted(self._text(words, found[0], color, size), (words,), found, places, line, required))

    def explain(
        self, words: Sequence[str], points: Iterable[_Point], *, color: str | None = None, size: float | None = None
    ) -> None:
        """Put words near one of the points, farther away if necessary, in one of several ways to break them.

        The last of several `words` is for use where the others do not fit; if it does not fit either, none is drawn.
        """
        places = (_AROUND, _FARTHER)
        found = _as_floats(points)
        text = self._text(words[0], found[0], color, size)
        self._wanted.append(_Wanted(text, tuple(words), found, places, line=None, required=False))

    def _text(self, words: str, point: _Point, color: str | None, size: float | None) -> Annotation:
        text = self._ax.annotate(
            words,
            point,
            (0, 0),
            textcoords="offset points",
            annotation_clip=False,
            zorder=6,
            color=color,
            fontsize=size,
        )
        text.set_in_layout(False)
        return text

    def drop_names(self) -> None:
        """Remove the names of lines, as a legend has them; the other labels stay."""
        for wanted in self._wanted:
            if wanted.required:
                wanted.text.remove()
        self._wanted = [wanted for wanted in self._wanted if not wanted.required]
        self._placed_at = None

    def draw(self, renderer: RendererBase) -> None:
        """Place the labels, unless they are in place already."""
        ax = self._ax
        if not self._wanted:
            return
        figure = ax.get_figure(root=True)
        assert figure is not None
        inches = tuple(round(float(value) / figure.dpi, 4) for value in ax.bbox.bounds)
        key = (inches, ax.get_xlim(), ax.get_ylim(), ax.get_xscale(), ax.get_yscale())
        if key == self._placed_at:
            return
        self._placed_at = key
        self.all_named = self._place(renderer, figure.dpi / 72)
        if self._legend and not self.all_named:
            for wanted in self._wanted:
                if wanted.required:
                    wanted.text.set_visible(False)
            if ax.get_legend() is None:
                ax.legend(handles=list(self._legend), loc="best", fontsize=7.5).draw(renderer)

    def _place(self, renderer: RendererBase, dots: float) -> bool:
        """Place the labels; `dots` are pixels per point. Returns whether each line has its name.

        Notes come before names, as they explain one place, unless that leaves a line without a name.
        """
        lines = [number for _, number in self._lines]
        drawn = [self._sampled(corners, dots) for corners, _ in self._lines]
        pixels = np.concatenate(drawn) if drawn else np.zeros((0, 2))
        owner = np.repeat(lines, [len(sampled) for sampled in drawn])
        names_first = sorted(self._wanted, key=lambda wanted: not wanted.required)
        for order in (self._wanted, names_first, self._wanted):
            taken: list[Bbox] = []
            named = True
            for wanted in order:
                box = self._put(wanted, pixels, owner, taken, renderer, dots)
                wanted.text.set_visible(box is not None)
                if box is not None:
                    taken.append(box)
                elif wanted.required:
                    named = False
            if named:
                break
        return named

    def _sampled(self, corners: _Pixels, dots: float) -> _Pixels:
        """Pixels on a polyline, so close that no word fits between two of them; of a point, its marker's outline."""
        with np.errstate(divide="ignore", invalid="ignore"):
            at = self._ax.transData.transform(corners)
        at = at[np.isfinite(at).all(axis=1)]
        if len(at) == 1:
            return np.asarray(at + _MARKER_RADIUS * dots * _CIRCLE)
        parts = [at]
        for start, end in pairwise(at):
            count = int(min(np.hypot(*(end - start)) / _SAMPLE_PIXELS, 400))
            parts.append(start + np.linspace(0, 1, count + 2)[1:-1, None] * (end - start))
        return np.concatenate(parts)

    def _put(
        self, wanted: _Wanted, pixels: _Pixels, owner: _Pixels, taken: list[Bbox], renderer: RendererBase, dots: float
    ) -> Bbox | None:
        text = wanted.text
        text.set_visible(True)
        *ways, short = wanted.words
        tries = [(words, places) for places in wanted.places for words in ways or [short]]
        for words, places in [*tries, *((short, places) for places in wanted.places if ways)]:
            text.set_text(words)
            text.xy, text.xyann = wanted.points[0], (0, 0)
            extent = text.get_window_extent(renderer)
            width = extent.width * (_HINTED if wanted.line is None else 1.0)
            for point in wanted.points:
                at = self._ax.transData.transform(point)
                for dx, dy, ha, va in places:
                    box = _box(at[0] + dots * dx, at[1] + dots * dy, width, extent.height, ha, va).padded(2 * dots)
                    if self._is_free(box, pixels, owner, taken, wanted.line):
                        text.xy, text.xyann = point, (dx, dy)
                        text.set_horizontalalignment(ha)  # type: ignore[arg-type]
                        text.set_verticalalignment(va)  # type: ignore[arg-type]
                        return box
        return None

    def _is_free(self, box: Bbox, pixels: _Pixels, owner: _Pixels, taken: list[Bbox], line: int | None) -> bool:
        frame = self._ax.bbox
        inside = box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y0 >= frame.y0 and box.y1 <= frame.y1
        if not inside or any(box.overlaps(other) for other in taken):
            return False
        if not len(pixels):
            return True
        outside = np.maximum(np.maximum([box.x0, box.y0] - pixels, pixels - [box.x1, box.y1]), 0)
        away = np.hypot(*outside.T)
        nearest = float(away.min())
        return nearest > 0 and (line is None or float(away[owner == line].min(initial=np.inf)) <= nearest)


def _as_floats(points: Iterable[_Point]) -> tuple[_Point, ...]:
    return tuple((float(x), float(y)) for x, y in points)


def _box(x: float, y: float, width: float, height: float, ha: str, va: str) -> Bbox:
    left = x - {"left": 0.0, "center": 0.5, "right": 1.0}[ha] * width
    bottom = y - {"bottom": 0.0, "center": 0.5, "top": 1.0}[va] * height
    return Bbox.from_bounds(left, bottom, width, height)
