"""The sweep that chose a setting: each arm's score against its values, the parabola, and the value that was chosen."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from flipscale.analysis.plotting.figure_data import FigureData, Undrawable
from flipscale.analysis.plotting.layout import FigureKind, Panel
from flipscale.analysis.plotting.style import arm_style, count_axis, percent_axis
from flipscale.door.sweep import TunedArm
from flipscale.scores import is_fraction, score_label

MARKS = "points: means over the sweep's seeds, rings: runs, line: parabola through the best three, star: chosen"


def tune(data: FigureData) -> list[Panel]:
    """A panel for each arm."""
    outcome = data.sweep
    if outcome is None:
        raise Undrawable("the study tunes no setting")
    fraction = is_fraction(outcome.sweep.by)
    label = score_label(outcome.sweep.by)
    values = sorted({each.value for arm in outcome.arms for each in arm.tried})

    def panel(number: int, arm: TunedArm) -> Panel:
        def draw(ax: Axes) -> None:
            if fraction:
                percent_axis(ax.yaxis)
            _draw(ax, number, arm)
            count_axis(ax.xaxis, values, "" if outcome.sweep.rule is None else "×")
            ax.set_xlabel(outcome.sweep.over.replace("_", " "))

        runs = [(run, seed) for each in arm.tried for run, (seed, _) in each.runs.items()]
        return Panel(arm.words, pd.DataFrame(runs, columns=["id", "seed"]), draw, label, MARKS)

    return [panel(number, arm) for number, arm in enumerate(outcome.arms)]


TUNE = FigureKind(
    tune,
    "the sweep that chose a setting for each arm, on seeds of its own",
    "A star well between the tried values is an optimum; the shallower the curve, the less the choice matters.",
    needs_score=False,
)


def _draw(ax: Axes, number: int, arm: TunedArm) -> None:
    style = arm_style(number).without_line().keywords()
    runs = [(each.value, score) for each in arm.tried for score in each.scores]
    means = [(each.value, mean) for each in arm.tried if (mean := each.mean) is not None]
    ax.plot(*zip(*runs, strict=True), **{**style, "markerfacecolor": "none"}, ms=4, alpha=0.5)
    ax.plot(*zip(*means, strict=True), **style)
    chosen = arm.chosen
    if chosen is None:
        return
    near = arm.tried[arm.best - 1 : arm.best + 2]
    scores = [each.mean for each in near if each.mean is not None]
    at = dict(means).get(chosen, math.nan)
    if len(scores) == 3:
        curve = np.polynomial.Polynomial.fit(np.log2([each.value for each in near]), scores, 2)
        x = np.linspace(np.log2(near[0].value), np.log2(near[-1].value), 50)
        ax.plot(2**x, curve(x), color=style["color"], linewidth=1)
        at = float(curve(np.log2(chosen))) if arm.rule.pick == "parabola" else at
    ax.plot([chosen], [at], "*", color=style["color"], ms=11, markeredgecolor="white", markeredgewidth=0.5, zorder=5)
