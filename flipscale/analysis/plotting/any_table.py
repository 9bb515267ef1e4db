"""Figures of anybody's table: its runs in groups, and a law through its rows."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flipscale.analysis.comparing import Groups
from flipscale.analysis.comparing.columns import settings_words
from flipscale.analysis.fitting import Fit, group_name
from flipscale.analysis.plotting.figures import FORMATS
from flipscale.analysis.plotting.style import QUIET, RC, arm_style, log_axis
from flipscale.analysis.stats import moments
from flipscale.errors import ResultsError
from flipscale.words import listed

BEYOND = 3.0
"""How far a law is drawn beyond its largest run."""


def plot_groups(groups: Groups, file: Path) -> None:
    """The runs of each cell and arm as points, with their mean and its 95 % CI."""
    rows = _rows_of(groups)
    with mpl.rc_context({**RC}):  # type: ignore[dict-item]
        figure = Figure(figsize=(5.5, 0.9 + 0.28 * len(rows)), layout="constrained")
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
        better = "lower" if groups.lower_is_better else "higher"
        ax.set_xlabel(f"{groups.y} ({better} is better)")
        ax.set_title("Runs, and their mean with its 95 % CI", color=QUIET)
        _save(figure, file)


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


def plot_laws(fits: Sequence[Fit], file: Path) -> None:
    """Each law with its rows and its 95 % band, dashed beyond them; of two variables, measured against predicted."""
    with mpl.rc_context({**RC}):  # type: ignore[dict-item]
        figure = Figure(figsize=(5.5, 3.6), layout="constrained")
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
        _save(figure, file)


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


def _save(figure: Figure, file: Path) -> None:
    """Write a figure in the format of its ending."""
    suffix = file.suffix.removeprefix(".").lower()
    if suffix not in FORMATS:
        raise ResultsError(f"{file}: a figure's file ends in .{listed(list(FORMATS), 9, ', .')}.")
    figure.savefig(file, format=suffix, metadata=dict.fromkeys(FORMATS[suffix]), dpi=200)
