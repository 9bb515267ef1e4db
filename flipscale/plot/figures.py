"""Every figure that a study can ask for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from flipscale.plot.claims import claims, claims_panels
from flipscale.plot.compute import compute_panels, error_vs_compute, isoflop_curves, isoflop_panels
from flipscale.plot.curves import (
    learning_curves,
    learning_panels,
    loss_panels,
    scaling_curve,
    scaling_curve_panels,
    training_loss,
)
from flipscale.plot.figure_data import FigureData, Undrawable
from flipscale.plot.gains import gains, gains_panels
from flipscale.plot.lines import accuracy, accuracy_panels
from flipscale.plot.masks import mask_panels, mask_ratios, repeats, repeats_panels
from flipscale.plot.on_axes import Panels
from flipscale.plot.page import PANELS_IN_A_ROW, page
from flipscale.plot.predicted import cost_panels, predicted_cost
from flipscale.plot.scaling import gain_along_axis, gain_panels, scaling_axis, scaling_panels
from flipscale.plot.speedup import speedup, speedup_panels
from flipscale.plot.strips import ablation, ablation_panels


@dataclass(frozen=True)
class FigureKind:
    """A figure that a study can ask for."""

    panels: Panels
    on_axes: Callable[..., pd.DataFrame]
    """The function that draws one panel of it onto an Axes."""
    about: str
    how_to_read: str
    columns: Callable[[FigureData], int] = lambda _: PANELS_IN_A_ROW
    """How many panels stand in a row."""


def draw_figure(name: str, figure: Figure, data: FigureData) -> pd.DataFrame:
    """Draw a whole figure of FIGURES onto an empty Figure. Returns its runs; raises Undrawable with the reason."""
    kind = FIGURES[name]
    if data.unscored and name not in WITHOUT_SCORES:
        raise Undrawable("no run has a score")
    panels = kind.panels(data)
    return page(figure, data, panels, columns=kind.columns(data), share_x=name.startswith("accuracy_vs"))


def _a_column_an_axis(data: FigureData) -> int:
    return len(data.scales) if len(data.scales) > 1 else PANELS_IN_A_ROW


FIGURES: Mapping[str, FigureKind] = {
    "accuracy_vs_samples": FigureKind(
        partial(accuracy_panels, x="samples"),
        accuracy,
        "score against schedule length, a line per arm",
        "Each point is a whole schedule; how far a masked line runs below the black one is what masking costs at equal "
        "samples.",
    ),
    "accuracy_vs_flops": FigureKind(
        partial(accuracy_panels, x="train_flops"),
        accuracy,
        "score against training FLOPs, a line per arm",
        "Where a masked line runs above the black one, masking pays at equal compute.",
    ),
    "accuracy_vs_hours": FigureKind(
        partial(accuracy_panels, x="gpu_hours"),
        accuracy,
        "score against training time, a line per arm",
        "Where a masked line runs above the black one, masking pays at equal time on these devices.",
    ),
    "speedup": FigureKind(
        speedup_panels,
        speedup,
        "score against training time, speed-up at equal score (FLIP's Fig 1 and 3)",
        "The arrow goes from the time in which the baseline reaches a score to the time in which the masked runs "
        "first reach it.",
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
        "The black curve is the same run in every panel; a longer schedule is also drawn dash-dotted with its x "
        "divided, to be compared at equal progress.",
        _a_column_an_axis,
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
        "A thin bar that excludes zero is a significant difference; the training time that it takes is on the right.",
    ),
    "gains_along_axes": FigureKind(
        gain_panels,
        gain_along_axis,
        "the paired gain over the no-mask twin along each scaling axis, with 95 % CIs",
        "A line that rises to the right says that masking costs less, or gains more, at larger scale.",
    ),
    "ablations": FigureKind(
        ablation_panels,
        ablation,
        "a strip for each part of the recipe, by mask ratio (FLIP's Table 1)",
        "The dotted level is that of the baseline's value: a thin bar that excludes it is a significant difference.",
    ),
    "claims": FigureKind(
        claims_panels,
        claims,
        "every claim that the study states, with its verdict and the published value",
        "A claim is decided where its thin bar, the CI corrected for its family, lies on one side of zero; the shape "
        "says whether it holds.",
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
        "On these axes a power law is straight: the steeper, the more compute buys. A law whose exponent may be 0 has "
        "no band.",
    ),
    "isoflop": FigureKind(
        isoflop_panels,
        isoflop_curves,
        "error against model size at equal training FLOPs, and the best size of each budget",
        "Each valley is one budget; its star is the size that spends it best. The last panel shows how it grows.",
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
        "Look into a run whose curve jumps or flattens early; levels differ between arms, as masked runs see fewer "
        "patches.",
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
