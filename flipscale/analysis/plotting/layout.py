"""From panels to a figure: matplotlib's constrained layout, its legends, and small print on the runs it shows.

A Panel draws itself on any Axes. `page` puts several onto a Figure.
"""

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.container import Container
from matplotlib.figure import Figure

from flipscale.analysis.plotting.cell_words import reference_words
from flipscale.analysis.plotting.figure_data import FigureData
from flipscale.analysis.plotting.style import QUIET
from flipscale.scores import is_fraction
from flipscale.words import count, percent

MOST_PANELS = 9
"""Panels of one page."""

PANELS_OF_MORE = 4
"""Panels shown if there are more than MOST_PANELS, spread evenly from the first to the last."""

PANELS_IN_A_ROW = 3

MEANS = "points: means over seeds, bars: ± 1 sd within what the score can be, rings: runs"

MOST_EMPTY = 0.25
"""The y axis is extended to chance if at most this share of it is then empty."""

BEHIND = 2
"""The highest zorder of what lies behind the data: chance, fronts, others' results."""

# Inches of a panel.
_WIDTH = 3.0
_HEIGHT = 2.7
_ALONE = 5.6, 3.7  # inches of a panel alone
_LETTERS = 17  # of small print in an inch
_ENTRY = 10.5  # points of a line of a panel's own legend


@dataclass(frozen=True)
class Panel:
    """One Axes of a figure."""

    title: str
    rows: pd.DataFrame
    """The runs it shows."""
    draw: Callable[[Axes], None]
    """Draws it. What a legend names has a label."""
    y_words: str
    marks: str = MEANS
    """The meaning of its marks, for the small print."""
    size: tuple[float, float] | None = None
    """Inches, if it needs a size of its own."""
    own_legend: bool = False
    """Whether its lines differ from its neighbours', or have long names, so that its legend stands under its title."""
    chance: float | None = None
    """Chance level on its y axis; None if unknown, or if the axis is not the score's."""


@dataclass(frozen=True)
class FigureKind:
    """A figure that a study can ask for."""

    panels: Callable[[FigureData], list[Panel]]
    about: str
    how_to_read: str
    columns: Callable[[FigureData], int] = lambda _: PANELS_IN_A_ROW
    """How many panels stand in a row."""
    needs_score: bool = True


def page(
    figure: Figure,
    data: FigureData,
    panels: Sequence[Panel],
    *,
    columns: int = PANELS_IN_A_ROW,
    share_x: bool = False,
) -> pd.DataFrame:
    """Draw panels onto an empty Figure, with legends and small print. Returns the runs shown."""
    total = len(panels)
    if total > MOST_PANELS:
        panels = [panels[i] for i in np.linspace(0, total - 1, PANELS_OF_MORE).round().astype(int)]
    axes = _grid(figure, panels, columns, share_x)
    for ax, panel in zip(axes, panels, strict=True):
        panel.draw(ax)
    beyond = _add_chance(axes, panels, is_fraction(data.score))
    lines = 0
    if panels[0].own_legend:
        lines = max(map(_own_legend, axes))
        width, height = figure.get_size_inches()
        rows_of_panels = axes[0].get_gridspec().nrows  # type: ignore[union-attr]
        figure.set_size_inches(width, height + rows_of_panels * max(0, lines - 3) * _ENTRY / 72)
    else:
        figure_legend(figure, axes)
    for ax, panel in zip(axes, panels, strict=True):
        ax.set_title(panel.title, pad=6 + _ENTRY * lines)
    rows = pd.concat([panel.rows for panel in panels])
    rows = rows.drop_duplicates("id") if "id" in rows else rows
    text = [small_print(rows, data.study, panels[0].marks), beyond]
    text += [f"{len(panels)} of {total} panels"] if len(panels) < total else []
    if data.references is not None and set(data.references["name"]) & set(entries_of(axes)):
        text.append(reference_words(data.references))
    _settle(figure, "\n".join(filter(None, text)))
    return rows


def _grid(figure: Figure, panels: Sequence[Panel], columns: int, share_x: bool) -> list[Axes]:
    """An axes for each panel; those whose y axis means the same share it."""
    n = len(panels)
    columns = 2 if n == 4 and columns == PANELS_IN_A_ROW else min(n, columns)
    rows = math.ceil(n / columns)
    size = (_WIDTH * max(columns, 2) + 0.4 * (columns == 1), _HEIGHT * rows + 0.6) if n > 1 else _ALONE
    figure.set_size_inches(*(panels[0].size or size))
    axes: list[Axes] = figure.subplots(rows, columns, sharex=share_x, squeeze=False).ravel().tolist()
    for ax in axes[n:]:
        ax.remove()
    first: dict[str, Axes] = {}
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=False)):
        if first.setdefault(panel.y_words, ax) is not ax:
            ax.sharey(first[panel.y_words])
        as_left = i % columns > 0 and panel.y_words == panels[i - 1].y_words
        ax.tick_params(labelbottom=True, labelleft=not as_left)
        ax.set_ylabel("" if as_left else panel.y_words)
    return axes[:n]


def _add_chance(axes: Sequence[Axes], panels: Sequence[Panel], fraction: bool) -> str:
    """Draw chance level in each panel of a score. Returns words for the small print if it would waste the axis."""
    of_score = [ax for ax, panel in zip(axes, panels, strict=True) if panel.chance is not None]
    chance = next((panel.chance for panel in panels if panel.chance is not None), None)
    if chance is None:
        return ""
    value = percent(chance) if fraction else f"{chance:.3g}"
    if not draw_chance(of_score, chance, f"chance {value}"):
        return f"chance: {value}, {'below' if chance < of_score[0].get_ylim()[0] else 'above'} the axis"
    return ""


def draw_chance(axes: Sequence[Axes], chance: float, words: str = "") -> bool:
    """Draw the line in all of these panels, or in none if their data is too far from it. Returns whether it did."""
    is_log = axes[0].get_yscale() == "log"
    to_scale, from_scale = (math.log, math.exp) if is_log else (float, float)
    limits = [sorted(to_scale(end) for end in ax.get_ylim()) for ax in axes]
    level = to_scale(chance)
    low = min(low for low, _ in limits)
    high = max(high for _, high in limits)
    bottom = min(low, level)
    top = max(high, level)
    if high - low < (1 - MOST_EMPTY) * (top - bottom):
        return False
    margin = 0.04 * (top - bottom)
    for ax, (low, high) in zip(axes, limits, strict=True):
        ax.set_ylim(from_scale(min(low, level - margin)), from_scale(max(high, level + margin)))
        ax.axhline(chance, color=QUIET, linestyle=(0, (5, 3)), linewidth=0.8, zorder=1.8, label=words)
    return True


def entries_of(axes: Sequence[Axes]) -> dict[str, Any]:
    """What a legend of these panels names: each label once, with its mark. What lies behind the data comes last."""
    entries = {label: mark for ax in axes for mark, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    return dict(sorted(entries.items(), key=lambda entry: not _is_data(entry[1])))


def _is_data(mark: Any) -> bool:
    artist = mark[0] if isinstance(mark, Container) else mark
    return bool(artist.get_zorder() > BEHIND)


def inner_legend(ax: Axes) -> None:
    """A legend in the panel, where it covers least."""
    if entries := entries_of([ax]):
        look = {"fontsize": 7, "labelspacing": 0.2, "frameon": True, "framealpha": 0.7, "edgecolor": "none"}
        ax.legend(list(entries.values()), list(entries), loc="best", **look)


def _own_legend(ax: Axes) -> int:
    """A legend above the panel. Returns how many lines it has."""
    entries = entries_of([ax])
    if entries:
        legend = ax.legend(list(entries.values()), list(entries), fontsize=7.5, labelspacing=0.15, borderpad=0.1)
        legend.set_loc("lower left")
        legend.set_bbox_to_anchor((0, 1), ax.transAxes)
    return sum(label.count("\n") + 1 for label in entries)


def figure_legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend of all panels' lines, above them."""
    entries = entries_of(axes)
    if not entries:
        return
    width, height = figure.get_size_inches()
    longest = max(len(line) for label in entries for line in label.split("\n"))
    columns = max(1, min(len(entries), int(width / (0.7 + 0.075 * longest))))
    lines = max(label.count("\n") for label in entries) + 1
    figure.set_size_inches(width, height + 0.17 * (lines * math.ceil(len(entries) / columns) - 1))
    figure.legend(list(entries.values()), list(entries), loc="outside upper left", ncols=columns, handlelength=3.2)


def _settle(figure: Figure, text: str) -> None:
    """Lay the figure out above its small print, and keep it so."""
    width = int(_LETTERS * figure.get_size_inches()[0])
    text = "\n".join(textwrap.fill(line, width) for line in text.split("\n"))
    figure.supxlabel(text, x=0.012, ha="left", fontsize=7, color=QUIET, linespacing=1.2)
    figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.05)
    figure.draw_without_rendering()
    figure.set_layout_engine(None)  # "none" would have every save draw everything twice
    for ax in figure.axes:
        # The last digits that the solver finds depend on addresses in memory, and ids of an SVG depend on those digits.
        ax.set_position(np.round(ax.get_position().bounds, 9).tolist())
        ax.set_in_layout(True)


def newest_run(rows: pd.DataFrame) -> str:
    """The day on which the last of these runs finished; '' if unknown."""
    if "finished" not in rows or not rows["finished"].notna().any():
        return ""
    return f"{pd.to_datetime(float(rows['finished'].max()), unit='s'):%Y-%m-%d}"


def small_print(rows: pd.DataFrame, study: str = "", marks: str = "") -> str:
    """The source line of a figure of these runs. The date is the newest run's: an old figure must not look new."""
    seeds = rows["seed"].nunique() if "seed" in rows else 1
    text = f"study {study} · " if study else ""
    text += f"{count(len(rows), 'run')} · {count(seeds, 'seed')}"
    if newest := newest_run(rows):
        text += f" · newest run finished {newest}"
    several = seeds > 1 or marks != MEANS
    return text + (f"\n{marks}" if marks and several else "")
