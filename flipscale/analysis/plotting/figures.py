"""Every figure that a study can ask for: on an Axes, on a page, and in files (SVG, and PNG and PDF on request)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from flipscale.analysis.plotting.figure_data import FigureData, Undrawable
from flipscale.analysis.plotting.layout import FigureKind, Panel, inner_legend, page
from flipscale.analysis.plotting.style import RC
from flipscale.door.statements import FIGURE_NAMES
from flipscale.errors import ResultsError, did_you_mean
from flipscale.guard import make_folder
from flipscale.plain_files import replacing
from flipscale.words import listed


def draw(name: str, data: FigureData, ax: Axes, panel: str | None = None) -> pd.DataFrame:
    """Draw one panel of a figure of FIGURES onto an Axes of yours. Returns its runs.

    panel: its title, where the figure has several.
    Raises Undrawable with the reason where there is nothing to draw, and ResultsError with the titles of several
    panels.
    """
    panels = _panels(name, data)
    titles = [each.title for each in panels]
    if panel is None and len(panels) > 1:
        raise ResultsError(
            f"These rows make {len(panels)} panels, and an Axes holds one; name it by panel=, for example "
            f"{titles[0]!r}, or give fewer rows. There are: {'; '.join(titles)}."
        )
    if panel is not None and panel not in titles:
        raise ResultsError(f"There is no panel {panel!r}. There are: {'; '.join(titles)}.")
    drawn = panels[0 if panel is None else titles.index(panel)]
    drawn.draw(ax)
    ax.set_ylabel(drawn.y_words)
    inner_legend(ax)
    return drawn.rows


def draw_figure(name: str, figure: Figure, data: FigureData) -> pd.DataFrame:
    """Draw a whole figure of FIGURES onto an empty Figure. Returns its runs; raises Undrawable with the reason."""
    panels = _panels(name, data)
    return page(figure, data, panels, columns=FIGURES[name].columns(data), share_x=name.startswith("accuracy_vs"))


def _panels(name: str, data: FigureData) -> list[Panel]:
    kind = FIGURES[_known(name)]
    if data.unscored and kind.needs_score:
        raise Undrawable("no run has a score")
    return kind.panels(data)


def _known(name: str) -> str:
    if name not in FIGURES:
        raise ResultsError(f"There is no figure {name!r}: {did_you_mean(name, FIGURES)}.")
    return name


FIGURES: Mapping[str, FigureKind] = {
    name: getattr(import_module(f"flipscale.analysis.plotting.{module}"), name.upper())
    for name, module in FIGURE_NAMES.items()
}
"""Every figure by its name, in the order they are drawn."""


# Files


FORMATS = {"svg": ("Date", "Creator"), "png": ("Software",), "pdf": ("CreationDate", "Creator", "Producer")}
"""Each format of a figure, and the metadata on time and software that it leaves out: equal figures would differ."""


FEW_LENGTHS = 2

MOST_OF_FEW = 6
"""A study of few lengths draws the first figures that apply, and no more: the others would show the same points."""


@dataclass(frozen=True)
class Plotted:
    """The figures that were drawn, and those that were not."""

    files: tuple[Path, ...]
    """NAME.svg of each figure that the results allow, and NAME.png and NAME.pdf where they are wanted."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Figure -> why the results cannot fill it."""


def plot_all(
    data: FigureData,
    out: Path,
    figures: Sequence[str] | None = None,
    formats: Sequence[str] = (),
    progress: Callable[[int, int, str], None] = lambda *_: None,
) -> Plotted:
    """Draw the named figures, or all, into `out`. One that cannot be drawn is skipped, and its old files removed.

    If no run has a score, only the figures that need none are drawn. Raises ResultsError for an unknown figure.

    formats: "png" and "pdf", to draw beside SVG. A file of another format that is there already is drawn anew as well.
    progress: called with the number of figures done, their total, and the next one.
    """
    names = list(FIGURES) if figures is None else [_known(name) for name in dict.fromkeys(figures)]
    few = figures is None and not data.rows.empty and data.rows["samples"].nunique() <= FEW_LENGTHS
    make_folder(out)
    files: list[Path] = []
    skipped: dict[str, str] = {}
    for done, name in enumerate(names):
        progress(done, len(names), name)
        paths = [out / f"{name}.{suffix}" for suffix in FORMATS]
        # An old figure would pass for one of these results.
        wanted = [path for path in paths if path.suffix[1:] in ("svg", *formats) or path.exists()]
        try:
            if few and done - len(skipped) >= MOST_OF_FEW:
                raise Undrawable(
                    f"a study of at most {FEW_LENGTHS} lengths draws {MOST_OF_FEW} figures; name it in `figures:`"
                )
            with figure_in(wanted, name) as figure:
                draw_figure(name, figure, data)
            files += wanted
        except Undrawable as reason:
            skipped[name] = str(reason)
            for path in wanted:
                path.unlink(missing_ok=True)
    progress(len(names), len(names), "")
    return Plotted(tuple(files), skipped)


@contextmanager
def figure_in(paths: Sequence[Path], name: str) -> Iterator[Figure]:
    """An empty figure in our style, written to each file in the format of its ending. ResultsError for another ending.

    The name makes SVG ids the same every time, and different in each figure: a report holds several.
    """
    formats = [path.suffix[1:].lower() for path in paths]
    for path, suffix in zip(paths, formats, strict=True):
        if suffix not in FORMATS:
            raise ResultsError(f"{path}: a figure's file ends in .{listed(list(FORMATS), 9, ', .')}.")
    with mpl.rc_context({**RC, "svg.hashsalt": name}):  # type: ignore[dict-item]
        figure = Figure()
        FigureCanvasAgg(figure)
        yield figure
        for path, suffix in zip(paths, formats, strict=True):
            with replacing(path) as file:
                figure.savefig(file, format=suffix, metadata=dict.fromkeys(FORMATS[suffix]), dpi=200)
