"""Drawing the figures of a study into files: SVG, PNG and PDF of each."""

import multiprocessing
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from flipscale.errors import ResultsError, did_you_mean
from flipscale.guard import check_folder
from flipscale.plot.figure_data import FigureData, Undrawable
from flipscale.plot.figures import FIGURES, draw_figure
from flipscale.plot.style import RC
from flipscale.plot.unchanged import DrawnBefore
from flipscale.run import replacing


@dataclass(frozen=True)
class FileFormat:
    """How a figure is saved."""

    undated: tuple[str, ...]
    """Metadata on the time and the software that made a file: equal figures would differ in them."""
    dpi: float | Literal["figure"] = "figure"


FORMATS: Mapping[str, FileFormat] = {
    "svg": FileFormat(("Date", "Creator")),
    "png": FileFormat(("Software",), dpi=200),
    "pdf": FileFormat(("CreationDate", "Creator", "Producer")),
}

MANY_RUNS = 2000
"""Figures of this many runs or more are drawn two at a time."""


@dataclass(frozen=True)
class Plotted:
    """The figures that were drawn, and those that were not."""

    files: tuple[Path, ...]
    """NAME.svg, NAME.png and NAME.pdf of each figure that the results allow."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Figure -> why the results cannot fill it."""
    unchanged: tuple[str, ...] = ()
    """Figures that were not drawn again, as they would be the same."""


DrawProgress = Callable[[int, int, str], None]
"""Called with the number of figures done, their total, and the next one."""


def plot_all(
    data: FigureData,
    out: Path,
    figures: Sequence[str] | None = None,
    *,
    note: Path | None = None,
    keep: bool = False,
    progress: DrawProgress = lambda *_: None,
) -> Plotted:
    """Draw the named figures, or all, into `out`. One that cannot be drawn is skipped, and its old files removed.

    If no run has a score, only the figures that need none are drawn. Raises ResultsError for an unknown figure.

    note: the file that records what each figure was drawn from. A figure that would be the same is not drawn again.
    keep: draw only figures whose files are not there.
    """
    names = _known(figures)
    check_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    before = DrawnBefore.read(note, data) if note else None
    unchanged = [name for name in names if keep and all(path.exists() for path in _paths(out, name))]
    unchanged += [name for name in names if name not in unchanged and before and before.has(name, _paths(out, name))]
    to_draw = [name for name in names if name not in unchanged]
    skipped = _draw(to_draw, data, out, progress)
    if before:
        before.write({name: _paths(out, name) for name in to_draw if name not in skipped}, gone=skipped)
    drawn = filter(lambda name: name not in skipped, names)
    return Plotted(tuple(chain.from_iterable(_paths(out, name) for name in drawn)), skipped, tuple(unchanged))


def _known(figures: Sequence[str] | None) -> list[str]:
    """The figures asked for, each once. ResultsError for one that does not exist."""
    names = list(FIGURES) if figures is None else list(dict.fromkeys(figures))
    for name in names:
        if name not in FIGURES:
            raise ResultsError(f"There is no figure {name!r}: {did_you_mean(name, FIGURES)}.")
    return names


def _draw(names: Sequence[str], data: FigureData, out: Path, progress: DrawProgress) -> dict[str, str]:
    """Draw these figures; those that the results cannot fill, with the reason."""
    if len(data.rows) < MANY_RUNS or not sys.platform.startswith("linux"):
        each_skipped: Iterable[dict[str, str]] = (_save(name, data, out) for name in names)
    else:
        each_skipped = _save_two_at_a_time(names, data, out)
    skipped: dict[str, str] = {}
    following = [*names[1:], ""]
    progress(0, len(names), "".join(names[:1]))
    for done, (found, name) in enumerate(zip(each_skipped, following, strict=False), 1):
        skipped |= found
        progress(done, len(names), name)
    return skipped


def _paths(out: Path, name: str) -> list[Path]:
    return [out / f"{name}.{suffix}" for suffix in FORMATS]


def _save_two_at_a_time(names: Sequence[str], data: FigureData, out: Path) -> Iterable[dict[str, str]]:
    # A forked worker has everything already; spawning it, or sending it the tables, would take as long as it saves.
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(2, fork, initializer=_in_worker.append, initargs=((data, out),)) as workers:
        yield from workers.map(_save_in_worker, names)


_in_worker: list[tuple[FigureData, Path]] = []
"""In a worker: what it draws, and where it saves that."""


def _save_in_worker(name: str) -> dict[str, str]:
    return _save(name, *_in_worker[-1])


def _save(name: str, data: FigureData, out: Path) -> dict[str, str]:
    """Draw a figure and save it in every format; its name with the reason where it cannot be drawn."""
    # The salt makes SVG ids the same every time, and different in each figure: a report holds several.
    with mpl.rc_context({**RC, "svg.hashsalt": name}):  # type: ignore[dict-item]
        figure = Figure()
        FigureCanvasAgg(figure)
        try:
            draw_figure(name, figure, data)
        except Undrawable as reason:
            for path in _paths(out, name):
                path.unlink(missing_ok=True)  # an old figure would pass for one of these results
            return {name: str(reason)}
        for path in _paths(out, name):
            _save_as(path, figure)
    return {}


def _save_as(path: Path, figure: Figure) -> None:
    suffix = path.suffix[1:]
    how = FORMATS[suffix]
    with replacing(path) as file:
        figure.savefig(file, format=suffix, metadata=dict.fromkeys(how.undated), dpi=how.dpi)
