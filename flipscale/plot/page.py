"""From panels to a figure: a grid, one legend or names beside the lines, and small print on the runs it shows.

A Panel knows how to draw itself on any Axes. `alone` puts one there; `page` puts all of them onto a Figure.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from flipscale.errors import ResultsError
from flipscale.plot.chance import draw_chance
from flipscale.plot.figure_data import FigureData
from flipscale.plot.labels import Labels
from flipscale.plot.references import reference_words
from flipscale.plot.style import QUIET, LineStyle
from flipscale.scores import is_fraction
from flipscale.words import count, percent

MOST_PANELS = 9
"""Panels of one page."""

PANELS_OF_MORE = 4
"""Panels shown if there are more than MOST_PANELS, spread evenly from the first to the last."""

PANELS_IN_A_ROW = 3

MEANS = "points: means over seeds, bars: ± 1 sd, rings: runs"

_WIDTH, _HEIGHT = 3.0, 2.7  # inches per panel
_ALONE = 5.6, 3.5  # inches of a panel alone
_NAME, _SMALL_NAME = 8.5, 7.5  # points of a line's name, in a panel alone and among others


@dataclass(frozen=True)
class DrawnLine:
    """One drawn line, to be named and kept clear of labels. Without points it is named in a legend."""

    words: str
    style: LineStyle
    xs: Sequence[float]
    ys: Sequence[float]
    low: Sequence[float] = ()
    """Lower ends of its bars."""
    high: Sequence[float] = ()
    is_cut: bool = False
    """Whether a bar would reach impossible values, below 0 or above 100 %."""
    dots: list[tuple[float, float]] = field(default_factory=list)
    """Points beside it that words keep off."""


@dataclass(frozen=True)
class Note:
    """Words near one of these points, in one of these ways; the last only if the others do not fit."""

    words: tuple[str, ...]
    points: tuple[tuple[float, float], ...]
    color: str = QUIET
    size: float = 7.5
    last: bool = False
    """Placed after everything else, or not at all."""


@dataclass
class Drawing:
    """The content of a panel."""

    lines: list[DrawnLine] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    avoid: list[tuple[Sequence[float], Sequence[float]]] = field(default_factory=list)
    """Further polylines that words keep off."""
    references: list[DrawnLine] = field(default_factory=list)
    """Others' results, each named if there is room."""

    @property
    def has_points(self) -> bool:
        """Whether each line has points, so that its name can stand beside one."""
        return all(line.xs for line in self.lines)


@dataclass(frozen=True)
class Panel:
    """One Axes of a figure."""

    title: str
    rows: pd.DataFrame
    """The runs it shows."""
    draw: Callable[[Axes], Drawing]
    y_words: str
    marks: str = MEANS
    """The meaning of its marks, for the small print."""
    size: tuple[float, float] | None = None
    """Inches, if it needs a size of its own."""
    name_lines: bool = True
    """Whether lines are named at all."""
    own_names: bool = False
    """Whether its lines may differ from its neighbours', so that they are named in it and not in a common legend."""
    chance: float | None = None
    """Chance level on its y axis; None if unknown, or if the axis is not the score's."""


def alone(ax: Axes, panels: Sequence[Panel], which: str | None = None) -> pd.DataFrame:
    """Draw one panel onto an Axes of any figure. Returns its runs.

    Raises ResultsError where there are several and none is named.
    """
    panel = _named_panel(panels, which)
    drawing = panel.draw(ax)
    ax.set_ylabel(panel.y_words)
    named = panel.name_lines and drawing.has_points
    if named:
        _make_room_for_names(ax, drawing)
    elif panel.name_lines and drawing.lines:
        ax.legend(handles=_handles([drawing]), loc="best")
    _label(ax, drawing, names=named, legend=True)
    return panel.rows


def _named_panel(panels: Sequence[Panel], title: str | None) -> Panel:
    titles = [panel.title for panel in panels]
    if title is None and len(panels) > 1:
        raise ResultsError(
            f"These rows make {len(panels)} panels, and an Axes holds one; name it by panel=, for example "
            f"{titles[0]!r}, or give fewer rows. There are: {'; '.join(titles)}."
        )
    if title is not None and title not in titles:
        raise ResultsError(f"There is no panel {title!r}. There are: {'; '.join(titles)}.")
    return panels[0 if title is None else titles.index(title)]


def page(
    figure: Figure,
    data: FigureData,
    panels: Sequence[Panel],
    *,
    columns: int = PANELS_IN_A_ROW,
    share_x: bool = False,
) -> pd.DataFrame:
    """Draw panels onto an empty Figure, with legend and small print. Returns the runs shown."""
    total = len(panels)
    if total > MOST_PANELS:
        panels = [panels[i] for i in np.linspace(0, total - 1, PANELS_OF_MORE).round().astype(int)]
    axes = _grid(figure, panels, columns, share_x)
    drawings = [panel.draw(ax) for ax, panel in zip(axes, panels, strict=True)]
    _write_titles(axes, panels)
    beyond = _add_chance(axes, panels, drawings, is_fraction(data.score))
    rows = _runs_of(panels)
    text = small_print(rows, data.study, panels[0].marks)
    if any(line.is_cut for drawing in drawings for line in drawing.lines):
        text += "\nbars are cut at 0 and 100 %"
    if beyond:
        text += f"\n{beyond}"
    if len(panels) < total:
        text += f"\n{len(panels)} of {total} panels"
    if any(drawing.references for drawing in drawings):
        text += f"\n{reference_words(data.references)}"
    if len(panels) == 1:
        _finish_one(figure, axes[0], panels[0], drawings[0], text)
    else:
        _finish_several(figure, axes, panels, drawings, text)
    return rows


def _add_chance(axes: Sequence[Axes], panels: Sequence[Panel], drawings: Sequence[Drawing], fraction: bool) -> str:
    """Draw chance level in each panel of a score, with its name. Returns words for the small print if it was not."""
    shown = [i for i, panel in enumerate(panels) if panel.chance is not None]
    chance = panels[shown[0]].chance if shown else None
    if chance is None:
        return ""
    value = percent(chance) if fraction else f"{chance:.3g}"
    if not draw_chance([axes[i] for i in shown], chance):
        side = "below" if chance < axes[shown[0]].get_ylim()[0] else "above"
        return f"chance: {value}, {side} the axis"
    for i in shown:
        to_data = axes[i].transAxes + axes[i].transData.inverted()
        xs = [float(to_data.transform((share, 0))[0]) for share in np.linspace(0.99, 0.01, 15)]
        drawings[i].avoid.append(([xs[0], xs[-1]], [chance, chance]))
        drawings[i].notes.append(Note((f"chance {value}",), tuple((x, chance) for x in xs), size=7))
    return ""


def _write_titles(axes: Sequence[Axes], panels: Sequence[Panel]) -> None:
    """The title of each panel; the label of its y axis if the panel to the left has another, or if it is the first."""
    for ax, panel, left in zip(axes, panels, [None, *panels], strict=False):
        ax.set_title(panel.title)
        in_first_column = ax.get_subplotspec().is_first_col()  # type: ignore[union-attr]
        if in_first_column or left is None or panel.y_words != left.y_words:
            ax.set_ylabel(panel.y_words)


def _runs_of(panels: Sequence[Panel]) -> pd.DataFrame:
    rows = pd.concat([panel.rows for panel in panels])
    return rows.drop_duplicates("id") if "id" in rows else rows


def _finish_one(figure: Figure, ax: Axes, panel: Panel, drawing: Drawing, text: str) -> None:
    """Name the lines of a single panel beside them, or in a legend if not all names fit."""
    named = panel.name_lines and drawing.has_points
    narrow = ax.get_xlim()
    if named:
        _make_room_for_names(ax, drawing)
    elif panel.name_lines:
        _legend(figure, [drawing])
    labels = _label(ax, drawing, names=named)
    settle(figure, text)
    if named and not labels.all_named:
        labels.drop_names()
        ax.set_xlim(*narrow)
        _legend(figure, [drawing])
        settle(figure, text)


def _finish_several(
    figure: Figure, axes: Sequence[Axes], panels: Sequence[Panel], drawings: Sequence[Drawing], text: str
) -> None:
    """Name the lines in one legend, or in each panel where panels have lines of their own."""
    alike = len({tuple(line.words for line in drawing.lines) for drawing in drawings}) == 1
    at_lines = all(drawing.has_points for drawing in drawings)
    named = panels[0].name_lines and panels[0].own_names and at_lines and not alike
    if named:
        for ax, drawing in zip(axes, drawings, strict=True):
            _make_room_for_names(ax, drawing, _SMALL_NAME)
    elif panels[0].name_lines:
        _legend(figure, drawings)
    for ax, drawing in zip(axes, drawings, strict=True):
        _label(ax, drawing, names=named, legend=True, size=_SMALL_NAME)
    settle(figure, text)


def settle(figure: Figure, text: str) -> None:
    """Lay the figure out above its small print, and keep it so."""
    height = figure.get_size_inches()[1]
    lines = text.count("\n") + 1
    below = (0.06 + 0.13 * lines) / height
    for old in list(figure.texts):
        old.remove()
    figure.text(0.012, 0.04 / height, text, fontsize=7, color=QUIET, va="bottom", linespacing=1.2)
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0, below, 1, 1 - below), w_pad=0.06, h_pad=0.05))
    figure.draw_without_rendering()
    figure.set_layout_engine(None)  # "none" would have every save draw everything twice
    for ax in figure.axes:
        # The last digits that the solver finds depend on addresses in memory, and ids of an SVG depend on those digits.
        ax.set_position(np.round(ax.get_position().bounds, 9).tolist())
        ax.set_in_layout(True)


def small_print(rows: pd.DataFrame, study: str = "", marks: str = "") -> str:
    """The source line of a figure of these runs. The date is the newest run's: an old figure must not look new."""
    seeds = rows["seed"].nunique() if "seed" in rows else 1
    text = f"study {study} · " if study else ""
    text += f"{count(len(rows), 'run')} · {count(seeds, 'seed')}"
    if "finished" in rows and rows["finished"].notna().any():
        text += f" · newest run finished {pd.to_datetime(rows['finished'].max(), unit='s'):%Y-%m-%d}"
    several = seeds > 1 or marks != MEANS
    return text + (f"\n{marks}" if marks and several else "")


def _grid(figure: Figure, panels: Sequence[Panel], columns: int, share_x: bool) -> list[Axes]:
    """An axes for each panel; they share a y axis where it means the same."""
    n = len(panels)
    columns = 2 if n == 4 and columns == PANELS_IN_A_ROW else min(n, columns)
    rows = math.ceil(n / columns)
    size = panels[0].size
    if size is None:
        # A title and the legend take a part of the height that the panels do not share.
        size = _ALONE if n == 1 else (_WIDTH * max(columns, 2) + 0.4 * (columns == 1), _HEIGHT * rows + 0.6)
    figure.set_size_inches(*size)
    share_y = len({panel.y_words for panel in panels}) == 1
    grid = figure.subplots(rows, columns, sharex=share_x, sharey=share_y, squeeze=False)
    axes = [ax for row in grid for ax in row]
    for ax in axes[n:]:
        ax.remove()
    _share_with_left(axes[:n], panels, columns, shared=share_y)
    return axes[:n]


def _share_with_left(axes: Sequence[Axes], panels: Sequence[Panel], columns: int, *, shared: bool) -> None:
    """Have each panel share the y axis of the one to its left where both mean the same, and its ticks' words."""
    for i, ax in enumerate(axes):
        as_left = i % columns > 0 and panels[i].y_words == panels[i - 1].y_words
        if as_left and not shared:
            ax.sharey(axes[i - 1])
        ax.tick_params(labelbottom=True, labelleft=not as_left)


def _make_room_for_names(ax: Axes, drawing: Drawing, size: float = _NAME) -> None:
    """Widen a panel on the right, where its lines end and their names begin."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    longest = max((len(part) for line in drawing.lines for part in line.words.split("\n")), default=0)
    # The width of a panel before it is laid out, in letters of a name.
    letters = 72 * figure.get_size_inches()[0] * ax.get_position().width / (0.63 * size)
    share = min(0.4, (longest + 1) / letters)
    left, right = ax.get_xlim()
    more = share / (1 - share)
    ax.set_xlim(left, right * (right / left) ** more if ax.get_xscale() == "log" else right + more * (right - left))


def _label(ax: Axes, drawing: Drawing, *, names: bool, legend: bool = False, size: float = _NAME) -> Labels:
    """Have labels placed: notes, names of lines beside their ends, and then those that may be left out."""
    labels = Labels(ax, legend=_handles([drawing]) if legend and names else ())
    _keep_off(labels, drawing)
    _explain(labels, [note for note in drawing.notes if not note.last])
    if names:
        for number, line in enumerate(drawing.lines):
            # A reader does not look for a name at the beginning of a line.
            ends = _some(list(zip(line.xs, line.ys, strict=True))[: -1 - max(2, len(line.xs) // 2) : -1])
            labels.name_line(number, line.words, ends, color=line.style.color, size=size)
    for number, line in enumerate(drawing.references, len(drawing.lines)):
        ends = list(zip(line.xs, line.ys, strict=True))[::-1]
        labels.name_line(number, line.words, ends, required=False, color=line.style.color, size=7)
    _explain(labels, [note for note in drawing.notes if note.last])
    return labels


def _keep_off(labels: Labels, drawing: Drawing) -> None:
    """Keep labels off lines, their bars and dots, and everything else that was drawn."""
    for number, line in enumerate([*drawing.lines, *drawing.references]):
        labels.avoid(line.xs, line.ys, number)
        for x, low, high in zip(line.xs, line.low, line.high, strict=False):
            labels.avoid([x, x], [low, high], number)
        for x, y in line.dots:
            labels.avoid([x], [y], number)
    for xs, ys in drawing.avoid:
        labels.avoid(xs, ys, -1)


def _explain(labels: Labels, notes: Sequence[Note]) -> None:
    for note in notes:
        labels.explain(note.words, note.points, color=note.color, size=note.size)


def _some(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Some of the points: to look beside each of sixty takes longer than to draw the figure."""
    return points[:: max(1, len(points) // 6)]


def _legend(figure: Figure, drawings: Sequence[Drawing]) -> None:
    """One legend of all panels' lines, above them."""
    handles = _handles(drawings)
    if not handles:
        return
    width, height = figure.get_size_inches()
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(len(handles), int(width / (0.7 + 0.075 * longest))))
    figure.set_size_inches(width, height + 0.2 * (math.ceil(len(handles) / columns) - 1))
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, handlelength=3.2)


def _handles(drawings: Sequence[Drawing]) -> list[Line2D]:
    """The entries of a legend: each line once."""
    styles = {line.words.replace("\n", ", "): line.style for drawing in drawings for line in drawing.lines}
    return [Line2D([], [], label=words, **style.keywords()) for words, style in styles.items()]
