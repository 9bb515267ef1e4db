"""Drawing the figures of a study into files: SVG, PNG and PDF of each."""

import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from flipscale.errors import ResultsError, did_you_mean
from flipscale.plot.figure_data import FigureData, Undrawable
from flipscale.plot.figures import FIGURES, draw_figure
from flipscale.plot.style import RC
from flipscale.run import replacing


@dataclass(frozen=True)
class FileFormat:
    """How a figure is saved."""

    undated: tuple[str, ...]
    """Metadata that say when a file was made, or by which version of what: equal figures would differ by them."""
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
    """NAME.svg, NAME.png and NAME.pdf of each figure drawn."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Figure -> why the results cannot fill it."""


def plot_all(data: FigureData, out: Path, figures: Sequence[str] | None = None) -> Plotted:
    """Draw the named figures, or all, into `out`. One that cannot be drawn is skipped, and its old files removed.

    If no run has a score, only the figures that need none are drawn. Raises ResultsError for an unknown figure.
    """
    names = list(FIGURES) if figures is None else list(dict.fromkeys(figures))
    for name in names:
        if name not in FIGURES:
            raise ResultsError(f"There is no figure {name!r}: {did_you_mean(name, FIGURES)}.")
    out.mkdir(parents=True, exist_ok=True)
    if len(data.rows) < MANY_RUNS or not sys.platform.startswith("linux"):
        skipped = _save(names, data, out)
    else:
        skipped = _save_two_at_a_time(names, data, out)
    files = [path for name in names if name not in skipped for path in _paths(out, name)]
    return Plotted(tuple(files), {name: skipped[name] for name in names if name in skipped})


def _paths(out: Path, name: str) -> list[Path]:
    return [out / f"{name}.{suffix}" for suffix in FORMATS]


def _save_two_at_a_time(names: Sequence[str], data: FigureData, out: Path) -> dict[str, str]:
    # Forked, a worker has everything already; begun anew, or sent the tables, it would take as long as it saves.
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(2, fork, initializer=_in_worker.append, initargs=((data, out),)) as workers:
        return {name: why for skipped in workers.map(_save_in_worker, names) for name, why in skipped.items()}


_in_worker: list[tuple[FigureData, Path]] = []
"""In a worker: what it draws, and where it saves that."""


def _save_in_worker(name: str) -> dict[str, str]:
    return _save([name], *_in_worker[-1])


def _save(names: Sequence[str], data: FigureData, out: Path) -> dict[str, str]:
    """Draw figures and save each in every format; those that cannot be drawn, with the reason."""
    skipped: dict[str, str] = {}
    for name in names:
        # The salt makes SVG ids the same every time, and different in each figure: a report holds several.
        with mpl.rc_context({**RC, "svg.hashsalt": name}):  # type: ignore[dict-item]
            figure = Figure()
            FigureCanvasAgg(figure)
            try:
                draw_figure(name, figure, data)
            except Undrawable as reason:
                skipped[name] = str(reason)
                for path in _paths(out, name):
                    path.unlink(missing_ok=True)  # an old figure would pass for one of these results
                continue
            for path in _paths(out, name):
                _save_as(path, figure)
    return skipped


def _save_as(path: Path, figure: Figure) -> None:
    suffix = path.suffix[1:]
    how = FORMATS[suffix]
    with replacing(path) as file:
        figure.savefig(file, format=suffix, metadata=dict.fromkeys(how.undated), dpi=how.dpi)
