"""One function per figure; the same results give byte-identical SVG, PNG and PDF.

FIGURES names the figures of a study; a study's `figures:` list refers to these names, and `plot_all` draws them. Each
is also a function of a table and an Axes, for a figure of one's own:

    from flipscale import read_results
    from flipscale.plot import accuracy
    accuracy(read_results("results/fashion/results.csv"), ax, x="train_flops", panel="ViT-w48d3-4, 60k pairs")

Nothing is dated by the clock, and every figure of a study says in small print which runs it shows.
"""

import multiprocessing
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from flipscale.errors import ResultsError, did_you_mean
from flipscale.plot.compute import compute_panels, error_vs_compute, isoflop_curves, isoflop_panels
from flipscale.plot.curves import (
    learning_curves,
    learning_panels,
    loss_panels,
    scaling_curve,
    scaling_curve_panels,
    training_loss,
)
from flipscale.plot.gains import gains, gains_panels
from flipscale.plot.lines import accuracy, accuracy_panels
from flipscale.plot.masks import mask_panels, mask_ratios, repeats, repeats_panels
from flipscale.plot.page import Panel, page, small_print
from flipscale.plot.predicted import cost_panels, predicted_cost
from flipscale.plot.references import REFERENCE_COLUMNS, read_references
from flipscale.plot.scaling import gain_along_axis, gain_panels, scaling_axis, scaling_panels
from flipscale.plot.shown import NO_CURVES, SCALES, Shown, Undrawable, shown
from flipscale.plot.speedup import speedup, speedup_panels
from flipscale.plot.strips import ablation, ablation_panels
from flipscale.plot.style import RC
from flipscale.run import replacing

__all__ = [
    "FIGURES",
    "FORMATS",
    "NO_CURVES",
    "RC",
    "REFERENCE_COLUMNS",
    "FigureKind",
    "Plotted",
    "Undrawable",
    "ablation",
    "accuracy",
    "draw_figure",
    "error_vs_compute",
    "gain_along_axis",
    "gains",
    "isoflop_curves",
    "learning_curves",
    "mask_ratios",
    "plot_all",
    "predicted_cost",
    "read_references",
    "repeats",
    "scaling_axis",
    "scaling_curve",
    "shown",
    "small_print",
    "speedup",
    "training_loss",
]


class FigureKind(NamedTuple):
    """A figure that a study can ask for."""

    panels: Callable[[Shown], list[Panel]]
    on_axes: Callable[..., pd.DataFrame]
    """The function that draws one panel of it onto an Axes."""
    about: str
    how_to_read: str
    layout: Callable[[Shown], dict[str, Any]] = lambda _: {}
    """How panels stand on the page, where not three in a row."""


def _an_axis_a_column(s: Shown) -> dict[str, Any]:
    n = sum(axis in s.axes for axis in SCALES)
    return {"columns": n} if n > 1 else {}


FIGURES: dict[str, FigureKind] = {
    "accuracy_vs_samples": FigureKind(
        partial(accuracy_panels, x="samples"),
        accuracy,
        "score against schedule length, a line per mask ratio",
        "Each point is a whole schedule; how far a masked line runs below the black one is what masking costs at equal "
        "samples.",
    ),
    "accuracy_vs_flops": FigureKind(
        partial(accuracy_panels, x="train_flops"),
        accuracy,
        "score against training FLOPs, a line per mask ratio",
        "Where a masked line runs above the black one, masking pays at equal compute.",
    ),
    "accuracy_vs_hours": FigureKind(
        partial(accuracy_panels, x="gpu_hours"),
        accuracy,
        "score against training time, a line per mask ratio",
        "Where a masked line runs above the black one, masking pays at equal time on these devices.",
    ),
    "speedup": FigureKind(
        speedup_panels,
        speedup,
        "score against training time, speed-up at equal score (FLIP's Fig 1 and 3)",
        "The arrow goes from the time in which the baseline has a score to the time in which the masked runs first "
        "have it.",
    ),
    "scaling_axes": FigureKind(
        scaling_panels,
        scaling_axis,
        "a panel each for model, data_size and samples (FLIP's Fig 4, at the end of each run)",
        "Each panel scales one axis and holds the others where the title says; the steeper a line, the more this axis "
        "buys.",
    ),
    "scaling_curves": FigureKind(
        scaling_curve_panels,
        scaling_curve,
        "training curves by scaling axis, the starting point in each (FLIP's Fig 4)",
        "The black curve is the same run in every panel; a longer schedule also stands dash-dotted with its x divided, "
        "to be compared at equal progress.",
        _an_axis_a_column,
    ),
    "mask_ratios": FigureKind(
        mask_panels,
        mask_ratios,
        "score against mask ratio, a line per model, data size or schedule length",
        "The flatter a line, the less masking costs at equal samples; darker is smaller.",
    ),
    "gains": FigureKind(
        gains_panels,
        gains,
        "the gain of every arm over the baseline at equal samples, and its training time",
        "A bar that does not touch zero is a difference shown, at the training time on the right.",
    ),
    "gains_along_axes": FigureKind(
        gain_panels,
        gain_along_axis,
        "the paired gain over the no-mask twin along each scaling axis, with 95 % intervals",
        "A line that rises to the right says that masking costs less, or gains more, at larger scale.",
    ),
    "ablations": FigureKind(
        ablation_panels,
        ablation,
        "a strip for each part of the recipe, by mask ratio (FLIP's Table 1)",
        "The dotted level goes on from the baseline's value of that part: what lies above it helps.",
    ),
    "repeats": FigureKind(
        repeats_panels,
        repeats,
        "score and gain against how often each pair is seen",
        "To the right each pair is seen more often; where the gain is above zero, masking works against overfitting.",
    ),
    "error_vs_compute": FigureKind(
        compute_panels,
        error_vs_compute,
        "error against training FLOPs with the front and a law through each arm's best runs",
        "On these axes a power law is straight: the steeper, the more compute buys; where bands overlap, exponents are "
        "not told apart.",
    ),
    "isoflop": FigureKind(
        isoflop_panels,
        isoflop_curves,
        "error against model size at equal training FLOPs, and the best size of each budget",
        "Each valley is one budget; its star is the size that spends it best, and the last panel how that size grows.",
    ),
    "learning_curves": FigureKind(
        learning_panels,
        learning_curves,
        "score inside the longest runs, against samples seen",
        "Progress within one schedule; its middle is not the result of a shorter one.",
    ),
    "training_loss": FigureKind(
        loss_panels,
        training_loss,
        "training loss inside the longest runs, against samples seen",
        "A curve that jumps or flattens early is a run to look at; the level of masked runs is of fewer patches.",
    ),
    "predicted_cost": FigureKind(
        cost_panels,
        predicted_cost,
        "training time and memory measured, against what the plan said",
        "Points on the diagonal cost what the plan said; above it they cost more.",
    ),
}
"""Every figure by its name, in the order they are drawn."""

WITHOUT_SCORES = ("training_loss", "predicted_cost")
"""Figures of runs that have no score."""

# What says when a file was made, or by which version of what, would make equal figures differ.
FORMATS: dict[str, dict[str, Any]] = {
    "svg": {"metadata": {"Date": None, "Creator": None}},
    "png": {"metadata": {"Software": None}, "dpi": 200},
    "pdf": {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
}


MANY_RUNS = 2000
"""From so many runs on figures are drawn two at a time."""


@dataclass(frozen=True)
class Plotted:
    """What was drawn, and what was not."""

    files: tuple[Path, ...]
    """NAME.svg, NAME.png and NAME.pdf of each figure drawn."""
    skipped: dict[str, str] = field(default_factory=dict)
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
    references: pd.DataFrame | None = None,
) -> Plotted:
    """Draw the named figures, or all, into `out`. One that cannot be drawn is skipped, and its old files removed.

    `references` are rows of `read_references`: drawn apart where they have the x and the score of a figure. Where no
    run has a score, the figures that need none are drawn. Raises ResultsError for a figure that does not exist, and if
    no run has the score that is named.
    """
    names = list(FIGURES) if figures is None else list(dict.fromkeys(figures))
    for name in names:
        if name not in FIGURES:
            raise ResultsError(f"There is no figure {name!r}: {did_you_mean(name, FIGURES)}.")
    prepared = shown(results, curves, study=study, baseline=baseline, score=score, references=references, or_loss=True)
    out.mkdir(parents=True, exist_ok=True)
    if len(results) < MANY_RUNS or not sys.platform.startswith("linux"):
        skipped = _save(names, prepared, out)
    else:
        # Forked, a worker has everything already; begun anew, or sent the tables, it would take as long as it saves.
        fork = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(2, fork, initializer=_prepared.append, initargs=((prepared, out),)) as workers:
            skipped = {name: why for found in workers.map(_save_here, names) for name, why in found.items()}
    files = [path for name in names if name not in skipped for path in _paths(out, name)]
    return Plotted(tuple(files), {name: skipped[name] for name in names if name in skipped})


def _paths(out: Path, name: str) -> list[Path]:
    return [out / f"{name}.{suffix}" for suffix in FORMATS]


_prepared: list[tuple[Shown, Path]] = []
"""In a worker: what it draws, and where it saves that."""


def _save_here(name: str) -> dict[str, str]:
    return _save([name], *_prepared[-1])


def _save(names: Sequence[str], s: Shown, out: Path) -> dict[str, str]:
    """Draw figures and save each in every format; those that cannot be drawn, with the reason."""
    skipped: dict[str, str] = {}
    for name in names:
        # The salt makes SVG ids the same every time, and different in each figure: a report holds several.
        with mpl.rc_context({**RC, "svg.hashsalt": name}):  # type: ignore[dict-item]
            figure = Figure()
            FigureCanvasAgg(figure)
            try:
                draw_figure(name, figure, s)
            except Undrawable as reason:
                skipped[name] = str(reason)
                for path in _paths(out, name):
                    path.unlink(missing_ok=True)  # an old figure would pass for one of these results
                continue
            for path in _paths(out, name):
                suffix = path.suffix[1:]
                with replacing(path) as file:
                    figure.savefig(file, format=suffix, **FORMATS[suffix])
    return skipped


def draw_figure(name: str, figure: Figure, s: Shown) -> pd.DataFrame:
    """Draw a whole figure of FIGURES onto an empty Figure. Returns its runs; raises Undrawable with the reason."""
    kind = FIGURES[name]
    if s.unscored and name not in WITHOUT_SCORES:
        raise Undrawable("no run has a score")
    panels = kind.panels(s)
    return page(figure, s, panels, share_x=name.startswith("accuracy_vs"), **kind.layout(s))
