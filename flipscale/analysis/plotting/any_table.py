"""Figures of anybody's table: its runs in groups, curves along a cost, and a law through its rows."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from flipscale.analysis.comparing import Comparison, Groups
from flipscale.analysis.comparing.points import Point
from flipscale.analysis.comparing.roles import settings_words
from flipscale.analysis.comparing.speedups import read_line, schedules_of
from flipscale.analysis.fitting import Fit, group_name
from flipscale.analysis.plotting.figures import figure_in
from flipscale.analysis.plotting.layout import PANELS_IN_A_ROW, figure_legend
from flipscale.analysis.plotting.style import QUIET, arm_style, log_axis
from flipscale.analysis.stats import moments

BEYOND = 3.0
"""How far a law is drawn beyond its largest run."""


def plot_groups(groups: Groups, file: Path) -> None:
    """The runs of each cell and arm as points, with their mean and its 95 % CI."""
    rows = _rows_of(groups)
    with figure_in([file], "groups") as figure:
        figure.set_layout_engine("constrained")
        figure.set_size_inches(5.5, 0.9 + 0.28 * len(rows))
        ax = figure.subplots()
        for place, (_, arm, values) in enumerate(rows):
            style = arm_style(arm)
            ax.plot(values, [place] * len(values), "o", color=style.color, alpha=0.35, markersize=4, linestyle="")
            known = moments(values)
            mean = float(np.mean(values))
            if known:
                ax.plot(known.interval(), [place, place], color=style.color)
            ax.plot([mean], [place], style.marker, color=style.color)
        ax.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_xlabel(_directed(groups.y, groups.lower_is_better))
        ax.set_title("Runs, and their mean with its 95 % CI", color=QUIET)


def _rows_of(groups: Groups) -> list[tuple[str, int, list[float]]]:
    """Name, number of the arm and values of each row: in each cell the baseline, then its arms."""
    sign = -1 if groups.lower_is_better else 1
    base = settings_words(groups.baseline)
    arms = list(dict.fromkeys(gain.arm for gain in groups.gains))
    rows = []
    cells = set()
    for gain in groups.gains:
        if gain.is_overall:
            continue
        if gain.cell not in cells:
            cells.add(gain.cell)
            rows.append((_joined(gain.cell, base), 0, [sign * value for value in gain.groups.baseline]))
        name = _joined(gain.cell, gain.arm)
        rows.append((name, 1 + arms.index(gain.arm), [sign * value for value in gain.groups.arm]))
    return rows


def _joined(*names: str) -> str:
    return ", ".join(filter(None, names))


def _directed(y: str, lower_is_better: bool) -> str:
    return f"{y} ({'lower' if lower_is_better else 'higher'} is better)"


def plot_curves(comparison: Comparison, file: Path) -> None:
    """A panel a series of the baseline: its runs, and a curve through the means of each arm with its 95 % band."""
    x = comparison.costs[0]
    points = [point for point in comparison.points if point.costs[x] > 0]
    series = list(dict.fromkeys(point.series for point in points if not point.arm))
    arms = ["", *comparison.arms]
    columns = min(len(series), PANELS_IN_A_ROW)
    rows = math.ceil(len(series) / columns)
    with figure_in([file], "curves") as figure:
        figure.set_layout_engine("constrained")
        figure.set_size_inches(1 + 3.2 * columns, 0.8 + 2.6 * rows)
        axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        for ax, name in zip(axes, series, strict=False):
            of_series = [point for point in points if point.series == name]
            for number, arm in enumerate(arms):
                if runs := [point for point in of_series if point.arm == arm]:
                    _curve(ax, runs, x, number, arm or settings_words(comparison.baseline))
            log_axis(ax.xaxis, ax.dataLim.intervalx)
            ax.set_title(name)
            ax.set_xlabel(x)
        for ax in axes[len(series) :]:
            ax.set_axis_off()
        for ax in axes[::columns]:
            ax.set_ylabel(_directed(comparison.score, comparison.lower_is_better))
        figure_legend(figure, list(axes))


def _curve(ax: Axes, runs: Sequence[Point], x: str, number: int, name: str) -> None:
    style = arm_style(number)
    grid = schedules_of(runs)
    schedules = [[point for point in row if isinstance(point, Point)] for row in grid.to_numpy()]
    schedules.sort(key=lambda row: np.mean([point.costs[x] for point in row]))
    costs = np.log([np.mean([point.costs[x] for point in row]) for row in schedules])
    scores = [[point.y for point in row] for row in schedules]
    ax.plot([run.costs[x] for run in runs], [run.y for run in runs], style.marker, color=style.color, alpha=0.35)
    means = np.array([np.mean(values) for values in scores])
    if len(costs) < 2:
        ax.plot(np.exp(costs), means, style.marker, color=style.color, label=name)
        return
    curve = read_line(costs, means[None])
    ax.plot(np.exp(curve.xs), curve.ys[0], color=style.color, linestyle=style.dashes, label=name)
    ends = [known.interval() for values in scores if (known := moments(values))]
    if len(ends) == len(scores):
        low, high = (read_line(costs, np.array(side)[None]).ys[0] for side in zip(*ends, strict=True))
        ax.fill_between(np.exp(curve.xs), low, high, color=style.color, alpha=0.15, linewidth=0)


def plot_laws(fits: Sequence[Fit], file: Path) -> None:
    """Each law with its rows and its 95 % band, dashed beyond them; of two variables, measured against predicted."""
    with figure_in([file], "laws") as figure:
        figure.set_layout_engine("constrained")
        figure.set_size_inches(5.5, 3.6)
        ax = figure.subplots()
        for number, fit in enumerate(fits):
            name = group_name(fit.group) if fit.group else fit.law.formula
            draw = _law if len(fit.x) == 1 else _measured
            draw(ax, fit, number, name)
        if all(len(fit.x) == 1 for fit in fits):
            log_axis(ax.xaxis, ax.dataLim.intervalx)
            if all(fit.law.link == "log" for fit in fits):
                log_axis(ax.yaxis, ax.dataLim.intervaly)
        ax.legend()


def _law(ax: Axes, fit: Fit, number: int, name: str) -> None:
    style = arm_style(number)
    x = fit.rows.x[:, 0]
    ax.plot(x, fit.rows.y, style.marker, color=style.color, markersize=4)
    inside = np.geomspace(x.min(), x.max(), 100)
    beyond = np.geomspace(x.max(), BEYOND * x.max(), 30)
    for places, dashes, label in ((inside, "-", name), (beyond, "--", "")):
        at = {fit.x[0]: places}
        ax.plot(places, fit.predict(at), dashes, color=style.color, label=label or None)
        if fit.stretch is not None:
            ax.fill_between(places, *fit.band(at), color=style.color, alpha=0.15, linewidth=0)
    ax.set_xlabel(fit.x[0])
    ax.set_ylabel(fit.y)


def _measured(ax: Axes, fit: Fit, number: int, name: str) -> None:
    style = arm_style(number)
    predicted = fit.predict({column: fit.rows.x[:, i] for i, column in enumerate(fit.x)})
    ends = [min(predicted.min(), fit.rows.y.min()), max(predicted.max(), fit.rows.y.max())]
    ax.plot(ends, ends, color=QUIET, linewidth=0.8)
    ax.plot(predicted, fit.rows.y, style.marker, color=style.color, markersize=4, label=name)
    ax.set_xlabel(f"{fit.y} predicted from {' and '.join(fit.x)}")
    ax.set_ylabel(f"{fit.y} measured")
