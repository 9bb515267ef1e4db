"""Every figure that a study can ask for: on an Axes, on a page, and in files (SVG, PNG and PDF of each)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from flipscale.errors import ResultsError, did_you_mean
from flipscale.guard import check_folder
from flipscale.plotting.ablations import ablations
from flipscale.plotting.claims import claims
from flipscale.plotting.compute import error_vs_compute, isoflop
from flipscale.plotting.curves import learning_curves, scaling_curves, training_loss
from flipscale.plotting.figure_data import FigureData, Undrawable
from flipscale.plotting.gains import gains
from flipscale.plotting.lines import accuracy
from flipscale.plotting.masks import mask_ratios, repeats
from flipscale.plotting.page import PANELS_IN_A_ROW, Panel, inner_legend, page
from flipscale.plotting.predicted import predicted_cost
from flipscale.plotting.scaling import gains_along_axes, scaling_axes
from flipscale.plotting.speedup import speedup, speedup_over_scores
from flipscale.plotting.style import RC
from flipscale.plotting.tune import tune
from flipscale.run import replacing


@dataclass(frozen=True)
class FigureKind:
    """A figure that a study can ask for."""

    panels: Callable[[FigureData], list[Panel]]
    about: str
    how_to_read: str
    columns: Callable[[FigureData], int] = lambda _: PANELS_IN_A_ROW
    """How many panels stand in a row."""
    needs_score: bool = True


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


def _a_column_an_axis(data: FigureData) -> int:
    return len(data.scales) if len(data.scales) > 1 else PANELS_IN_A_ROW


FIGURES: Mapping[str, FigureKind] = {
    "accuracy_vs_samples": FigureKind(
        partial(accuracy, x="samples"),
        "score against schedule length, a line per arm",
        "Each point is a whole schedule; how far a masked line runs below the black one is what masking costs at equal "
        "samples.",
    ),
    "accuracy_vs_flops": FigureKind(
        partial(accuracy, x="train_flops"),
        "score against training FLOPs, a line per arm",
        "Where a masked line runs above the black one, masking pays at equal compute.",
    ),
    "accuracy_vs_hours": FigureKind(
        partial(accuracy, x="gpu_hours"),
        "score against training time, a line per arm",
        "Where a masked line runs above the black one, masking pays at equal time on these devices.",
    ),
    "speedup": FigureKind(
        speedup,
        "score against training time, speed-up at equal score (FLIP's Fig 1 and 3)",
        "A bar goes from the time in which the baseline reaches a score to the time in which an arm first reaches it.",
    ),
    "speedup_over_scores": FigureKind(
        speedup_over_scores,
        "speed-up in time, and samples, at every score that an arm and the baseline reach",
        "Above 1x the arm is faster; a line that falls to the right says that masking pays less at higher scores.",
        lambda _: 2,
    ),
    "scaling_axes": FigureKind(
        scaling_axes,
        "a panel each for model, data_size and samples (FLIP's Fig 4, at the end of each run)",
        "Each panel scales one axis and holds the others where the title says; the steeper a line, the more this axis "
        "buys.",
    ),
    "scaling_curves": FigureKind(
        scaling_curves,
        "training curves by scaling axis, the starting point in each (FLIP's Fig 4)",
        "The black curve is the same run in every panel; a longer schedule is also drawn dash-dotted with its x "
        "divided, to be compared at equal progress.",
        _a_column_an_axis,
    ),
    "mask_ratios": FigureKind(
        mask_ratios,
        "score against mask ratio, a line per model, data size or schedule length",
        "The flatter a line, the less masking costs at equal samples; darker is smaller.",
    ),
    "gains": FigureKind(
        gains,
        "the gain of every arm over the baseline at equal samples, and its training time",
        "A thin bar that excludes zero is a significant difference; the training time that it takes is on the right.",
    ),
    "gains_along_axes": FigureKind(
        gains_along_axes,
        "the paired gain over the no-mask twin along each scaling axis, with 95 % CIs",
        "A line that rises to the right says that masking costs less, or gains more, at larger scale.",
    ),
    "ablations": FigureKind(
        ablations,
        "a strip for each part of the recipe, by mask ratio (FLIP's Table 1)",
        "The dotted level is that of the baseline's value: a thin bar that excludes it is a significant difference.",
    ),
    "claims": FigureKind(
        claims,
        "every claim that the study states, with its verdict and the published value",
        "A claim is decided where its thin bar, the CI corrected for its family, lies on one side of zero; the shape "
        "says whether it holds.",
    ),
    "repeats": FigureKind(
        repeats,
        "score and gain against how often each pair is seen",
        "To the right each pair is seen more often; where the gain is above zero, masking works against overfitting.",
    ),
    "error_vs_compute": FigureKind(
        error_vs_compute,
        "error against training FLOPs with the front and a law through each arm's best runs",
        "On these axes a power law is straight: the steeper, the more compute buys. A law whose exponent may be 0 has "
        "no band.",
    ),
    "isoflop": FigureKind(
        isoflop,
        "error against model size at equal training FLOPs, and the best size of each budget",
        "Each valley is one budget; its star is the size that spends it best. The last panel shows how it grows.",
    ),
    "tune": FigureKind(
        tune,
        "the sweep that chose a setting for each arm, on seeds of its own",
        "A star well between the tried values is an optimum; the shallower the curve, the less the choice matters.",
        needs_score=False,
    ),
    "learning_curves": FigureKind(
        learning_curves,
        "score inside the longest runs, against samples seen",
        "Progress within one schedule; its middle is not the result of a shorter one.",
    ),
    "training_loss": FigureKind(
        training_loss,
        "training loss inside the longest runs, against samples seen",
        "Look into a run whose curve jumps or flattens early; levels differ between arms, as masked runs see fewer "
        "patches.",
        needs_score=False,
    ),
    "predicted_cost": FigureKind(
        predicted_cost,
        "training time and memory measured, against what the plan said",
        "Points on the diagonal cost what the plan said; above it they cost more.",
        needs_score=False,
    ),
}
"""Every figure by its name, in the order they are drawn."""


# Files


FORMATS = {"svg": ("Date", "Creator"), "png": ("Software",), "pdf": ("CreationDate", "Creator", "Producer")}
"""Each format of a figure, and the metadata on time and software that it leaves out: equal figures would differ."""


@dataclass(frozen=True)
class Plotted:
    """The figures that were drawn, and those that were not."""

    files: tuple[Path, ...]
    """NAME.svg, NAME.png and NAME.pdf of each figure that the results allow."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Figure -> why the results cannot fill it."""


def plot_all(
    data: FigureData,
    out: Path,
    figures: Sequence[str] | None = None,
    progress: Callable[[int, int, str], None] = lambda *_: None,
) -> Plotted:
    """Draw the named figures, or all, into `out`. One that cannot be drawn is skipped, and its old files removed.

    If no run has a score, only the figures that need none are drawn. Raises ResultsError for an unknown figure.

    progress: called with the number of figures done, their total, and the next one.
    """
    names = list(FIGURES) if figures is None else [_known(name) for name in dict.fromkeys(figures)]
    check_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    skipped = {}
    for done, name in enumerate(names):
        progress(done, len(names), name)
        paths = [out / f"{name}.{suffix}" for suffix in FORMATS]
        try:
            _save(name, data, paths)
            files += paths
        except Undrawable as reason:
            skipped[name] = str(reason)
            for path in paths:
                path.unlink(missing_ok=True)  # an old figure would pass for one of these results
    progress(len(names), len(names), "")
    return Plotted(tuple(files), skipped)


def _save(name: str, data: FigureData, paths: Sequence[Path]) -> None:
    # The salt makes SVG ids the same every time, and different in each figure: a report holds several.
    with mpl.rc_context({**RC, "svg.hashsalt": name}):  # type: ignore[dict-item]
        figure = Figure()
        FigureCanvasAgg(figure)
        draw_figure(name, figure, data)
        for path in paths:
            suffix = path.suffix[1:]
            with replacing(path) as file:
                figure.savefig(file, format=suffix, metadata=dict.fromkeys(FORMATS[suffix]), dpi=200)
