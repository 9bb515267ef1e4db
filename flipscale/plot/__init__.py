"""One function per figure; the same results give byte-identical SVG, PNG and PDF.

FIGURES names them; a study's `figures:` list refers to these names. Nothing is dated by the clock, and every figure
says in small print which runs it shows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from flipscale.errors import ResultsError, did_you_mean
from flipscale.plot import figures as draw
from flipscale.plot.figures import Shown, Undrawable, shown
from flipscale.plot.gains import gains
from flipscale.plot.style import RC
from flipscale.run import replacing

__all__ = ["FIGURES", "FORMATS", "FigureKind", "Plotted", "Undrawable", "plot_all", "shown"]


class FigureKind(NamedTuple):
    """A figure that a study can ask for."""

    draw: Callable[[Figure, Shown], pd.DataFrame]
    about: str


FIGURES: dict[str, FigureKind] = {
    "accuracy_vs_samples": FigureKind(draw.accuracy_vs_samples, "score against schedule length, a line per mask ratio"),
    "accuracy_vs_flops": FigureKind(draw.accuracy_vs_flops, "score against training FLOPs, a line per mask ratio"),
    "accuracy_vs_hours": FigureKind(draw.accuracy_vs_hours, "score against training time, a line per mask ratio"),
    "scaling_axes": FigureKind(draw.scaling_axes, "a panel each for model, data_size and samples (FLIP's Fig 4)"),
    "speedup": FigureKind(draw.speedup, "score against training time, speed-up at equal score (FLIP's Fig 1)"),
    "gains": FigureKind(gains, "the gain of every arm over the baseline at equal samples, and its training time"),
    "learning_curves": FigureKind(draw.learning_curves, "score inside the longest runs, against samples seen"),
}
"""Every figure by its name, in the order they are drawn."""

# What says when a file was made, or by which version of what, would make equal figures differ.
FORMATS: dict[str, dict[str, Any]] = {
    "svg": {"metadata": {"Date": None, "Creator": None}},
    "png": {"metadata": {"Software": None}, "dpi": 200},
    "pdf": {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
}


@dataclass(frozen=True)
class Plotted:
    """What was drawn, and what was not."""

    files: tuple[Path, ...]
    """NAME.svg, NAME.png and NAME.pdf of each figure drawn."""
    skipped: dict[str, str]
    """Figure -> why the results cannot fill it."""


def plot_all(
    results: pd.DataFrame,
    curves: pd.DataFrame,
    *,
    study: str,
    baseline: Mapping[str, Any],
    out: Path,
    figures: Sequence[str] | None = None,
    score: str | None = None,
) -> Plotted:
    """Draw the named figures, or all, into `out`. One that cannot be drawn is skipped, and its old files removed.

    Raises ResultsError for a figure that does not exist, and if no run has the score.
    """
    names = list(FIGURES) if figures is None else list(dict.fromkeys(figures))
    for name in names:
        if name not in FIGURES:
            raise ResultsError(f"There is no figure {name!r}: {did_you_mean(name, FIGURES)}.")
    prepared = shown(results, curves, study=study, baseline=baseline, score=score)
    out.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    skipped: dict[str, str] = {}
    for name in names:
        paths = [out / f"{name}.{suffix}" for suffix in FORMATS]
        # The salt makes SVG ids the same every time, and different in each figure: a report holds several.
        with mpl.rc_context({**RC, "svg.hashsalt": name}):  # type: ignore[dict-item]
            figure = Figure()
            FigureCanvasAgg(figure)
            try:
                FIGURES[name].draw(figure, prepared)
            except Undrawable as reason:
                skipped[name] = str(reason)
                for path in paths:
                    path.unlink(missing_ok=True)  # an old figure would pass for one of these results
                continue
            for path in paths:
                suffix = path.suffix[1:]
                with replacing(path) as file:
                    figure.savefig(file, format=suffix, **FORMATS[suffix])
        files += paths
    return Plotted(tuple(files), skipped)
