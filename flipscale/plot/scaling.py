"""Along each scaling axis (model, data_size, samples), the others held fixed: scores, and what masking gains."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from flipscale.compare import series_of
from flipscale.plot.gains import gain_limits, gain_line
from flipscale.plot.lines import add_references, arm_lines
from flipscale.plot.page import Drawing, Panel, alone
from flipscale.plot.shown import (
    AXIS_WORDS,
    NO_MASK,
    SCALES,
    Shown,
    Undrawable,
    best_slice,
    cell_words,
    few_arms,
    model_flops,
    shown,
)
from flipscale.plot.style import count_axis
from flipscale.scores import score_label
from flipscale.words import short

_MOST_NAMES = 5  # model names that stand beside each other under a panel


def scaling_axis(
    results: pd.DataFrame,
    ax: Axes,
    *,
    baseline: Mapping[str, Any] = NO_MASK,
    score: str | None = None,
    references: pd.DataFrame | None = None,
    panel: str | None = None,
) -> pd.DataFrame:
    """Draw the score along one scaling axis onto an Axes, the other axes held where this one is varied most.

    `results` is results.csv's table, or rows of it. `panel` names the axis by its title where several vary. Returns
    the runs drawn; raises Undrawable with the reason where there is nothing to draw.
    """
    return alone(ax, scaling_panels(shown(results, baseline=baseline, score=score, references=references)), panel)


def gain_along_axis(
    results: pd.DataFrame,
    ax: Axes,
    *,
    baseline: Mapping[str, Any] = NO_MASK,
    score: str | None = None,
    panel: str | None = None,
) -> pd.DataFrame:
    """Draw the gain over the baseline along one scaling axis onto an Axes, paired by seed, with 95 % intervals.

    `results` is results.csv's table, or rows of it. `panel` names the axis by its title where several vary. Returns
    the runs drawn; raises Undrawable with the reason where there is nothing to draw.
    """
    return alone(ax, gain_panels(shown(results, baseline=baseline, score=score)), panel)


def scaling_panels(s: Shown) -> list[Panel]:
    """A panel per scaling axis with a line per arm, as FLIP's Fig 4 at the end of each run."""
    few_arms(s)

    def panel(axis: str) -> Panel:
        rows = _along(s, axis)

        def draw(ax: Axes) -> Drawing:
            drawing = Drawing(arm_lines(ax, s, rows, _x_of(axis), along=axis))
            there = None if axis == "model" else add_references(ax, s, rows, axis, drawing)[axis].astype(float)
            set_scale(ax, axis, rows, there)
            return drawing

        return Panel(_title(s, axis, rows), rows, draw, score_label(s.score))

    return [panel(axis) for axis in _axes(s)]


def gain_panels(s: Shown) -> list[Panel]:
    """A panel per scaling axis with the paired gain of each arm over the baseline, and its interval."""
    few_arms(s)
    axes = _axes(s)
    cells = {cell for axis in axes for cell in _along(s, axis)["cell"]}
    comparison = s.compared(s.rows[s.rows["cell"].isin(cells)])
    pairs = comparison.pairs
    if not pairs:
        raise Undrawable("no run has a twin, the baseline in its cell at its seed")
    scale = 100 if comparison.fraction else 1
    low, high = gain_limits(list(pairs), scale)
    words = "gain over the baseline" + (", points" if scale == 100 else "")

    def panel(axis: str) -> Panel:
        rows = _along(s, axis)
        x_of_cell = dict(zip(rows["cell"], rows[_x_of(axis)].astype(float), strict=True))
        here = [pair for pair in pairs if pair.cell in x_of_cell]

        def draw(ax: Axes) -> Drawing:
            set_scale(ax, axis, rows, None)
            ax.axhline(0, color="#000000", linewidth=1, zorder=2)
            arms = sorted({s.arm_numbers[pair.arm] for pair in here})
            span = np.log(max(x_of_cell.values()) / min(x_of_cell.values()))
            shifts = np.exp(0.012 * span * (np.arange(len(arms)) - (len(arms) - 1) / 2))
            lines = [
                gain_line(ax, s, [pair for pair in here if s.arm_numbers[pair.arm] == arm], x_of_cell, scale, shift)
                for arm, shift in zip(arms, shifts, strict=True)
            ]
            ax.set_ylim(low, high)
            return Drawing(lines, avoid=[(list(ax.get_xlim()), [0, 0])])

        marks = "points: mean gains over the twin at the same seed, bars: 95 % intervals, some beyond the frame"
        return Panel(_title(s, axis, rows), rows, draw, f"{score_label(s.score)}\n{words}", marks)

    return [panel(axis) for axis in axes]


def _axes(s: Shown) -> list[str]:
    there = [axis for axis in SCALES if axis in s.axes]
    if there and not (there := [axis for axis in there if best_slice(s, axis)[axis].nunique() > 1]):
        raise Undrawable(f"no two runs differ in {' or '.join(SCALES)} alone")
    if not there:
        raise Undrawable("model, data_size and samples have one value each")
    return there


def _along(s: Shown, axis: str) -> pd.DataFrame:
    rows = best_slice(s, axis)
    return rows.assign(model_flops=model_flops(rows)) if axis == "model" else rows


def _x_of(axis: str) -> str:
    return "model_flops" if axis == "model" else axis


def _title(s: Shown, axis: str, rows: pd.DataFrame) -> str:
    at = cell_words(series_of(rows, axis).iloc[0])
    return f"{AXIS_WORDS[axis]}" + (f"\nat {at}" if at else "")


def set_scale(ax: Axes, axis: str, rows: pd.DataFrame, references: "pd.Series[float] | None") -> None:
    """The x axis of a scaling axis: models by name, counts at their values."""
    if axis == "model":
        _model_ticks(ax, rows)
        return
    values = rows[axis].astype(float)
    count_axis(ax.xaxis, values if references is None else pd.concat([values, references]))
    ax.set_xlabel(AXIS_WORDS[axis])


def _model_ticks(ax: Axes, rows: pd.DataFrame) -> None:
    size = rows.groupby("model")["model_flops"].first().sort_values()
    ax.set_xscale("log")
    ticks = [float(n) for n in size]
    before, names, after = common_ends([str(model) for model in size.index])
    apart = 0.13 * (np.log(ticks[-1] / ticks[0]) or 1)
    shown: list[int] = []
    for i, tick in enumerate(ticks):
        if not shown or np.log(tick / ticks[shown[-1]]) > apart:
            shown.append(i)
    # Names are long, so where many stand under a panel every second one stands lower.
    drop = "\n\n" if len(shown) > _MOST_NAMES or (max(map(len, names)) > 8 and len(shown) > 3) else ""
    words = [f"{drop * (n % 2)}{names[i]}\n{short(float(f'{ticks[i]:.2g}'))}" for n, i in enumerate(shown)]
    ax.set_xticks([ticks[i] for i in shown], words, fontsize=8)
    ax.set_xticks([], minor=True)
    ax.margins(x=0.1)
    ax.set_xlabel(f"model{f' {before}…{after}' if before or after else ''}, FLOPs a sample unmasked")


def common_ends(names: list[str]) -> tuple[str, list[str], str]:
    """What all names begin and end with, in whole parts between hyphens, and what is left of each."""
    parts = [name.split("-") for name in names]
    if len(names) < 2:
        return "", names, ""
    first = 0
    while all(len(part) > first + 1 and part[first] == parts[0][first] for part in parts):
        first += 1
    last = 0
    while all(len(part) > first + last + 1 and part[-1 - last] == parts[0][-1 - last] for part in parts):
        last += 1
    left = ["-".join(part[first : len(part) - last]) for part in parts]
    before, after = parts[0][:first], parts[0][len(parts[0]) - last :]
    return "".join(f"{part}-" for part in before), left, "".join(f"-{part}" for part in after)
