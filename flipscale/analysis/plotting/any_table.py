"""Figures of anybody's table: its runs in groups, curves along a cost, and a law through its rows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from flipscale.analysis.comparing import Comparison, Groups
from flipscale.analysis.comparing.estimates import Estimate
from flipscale.analysis.comparing.points import Point
from flipscale.analysis.comparing.roles import settings_words
from flipscale.analysis.comparing.speedups import read_line, schedules_of
from flipscale.analysis.fitting import Fit, group_name
from flipscale.analysis.plotting.figures import figure_in
from flipscale.analysis.plotting.layout import PANELS_IN_A_ROW, figure_legend
from flipscale.analysis.plotting.style import QUIET, LineStyle, arm_style, log_axis
from flipscale.analysis.stats import Interval, moments
from flipscale.words import joined

BEYOND = 3.0
"""How far a law is drawn beyond its largest run."""


def plot_groups(groups: Groups, file: Path) -> None:
    """The runs of each cell and arm with their mean and its 95 % CI, and beside them the gains that are judged."""
    rows = _rows_of(groups)
    numbers = {arm: number for number, arm in enumerate(dict.fromkeys(row.arm for row in rows))}
    with figure_in([file], "groups") as figure:
        figure.set_layout_engine("constrained")
        figure.set_size_inches(7, 0.9 + 0.28 * len(rows))
        scores, gains = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        for place, row in enumerate(rows):
            style = arm_style(numbers[row.arm])
            scores.plot(row.runs, [place] * len(row.runs), "o", color=style.color, alpha=0.35, markersize=4)
            if row.runs:
                known = moments(row.runs)
                _mean(scores, place, style, float(np.mean(row.runs)), known.interval() if known else None)
            if row.gain:
                _mean(gains, place, style, row.gain.value, row.gain.decisive)
        scores.set_yticks(range(len(rows)), [row.name for row in rows])
        scores.set_ylim(len(rows) - 0.5, -0.5)
        scores.set_xlabel(_directed(groups.y, groups.lower_is_better))
        scores.set_title("Runs, and their mean with its 95 % CI", color=QUIET)
        gains.axvline(0, color=QUIET, linewidth=0.8)
        methods = joined(dict.fromkeys(gain.method for gain in groups.gains if not gain.is_overall))
        gains.set_xlabel(f"by {methods}; above 0 is better")
        gains.tick_params(axis="y", left=False)
        gains.locator_params(axis="x", nbins=5)
        gains.set_title("Gain, with its 95 % CI", color=QUIET)


def _mean(ax: Axes, place: int, style: LineStyle, mean: float, ends: Interval | None) -> None:
    if ends:
        ax.plot(ends, [place, place], color=style.color)
    ax.plot([mean], [place], style.marker, color=style.color)


@dataclass(frozen=True)
class _Row:
    name: str
    arm: str
    runs: tuple[float, ...]
    gain: Estimate | None = None
    """None of the baseline."""


def _rows_of(groups: Groups) -> list[_Row]:
    """In each cell the baseline, then its arms; the rows over all cells have a gain alone."""
    rows = []
    cells = set()
    for gain in groups.gains:
        if gain.is_overall:
            rows.append(_Row(_joined("over all", gain.cell, gain.arm), gain.arm, (), gain.gain))
            continue
        if gain.cell not in cells:
            cells.add(gain.cell)
            name = _joined(gain.cell, settings_words(groups.baseline))
            rows.append(_Row(name, "", groups.runs[gain.cell, ""]))
        rows.append(_Row(_joined(gain.cell, gain.arm), gain.arm, groups.runs[gain.cell, gain.arm], gain.gain))
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
