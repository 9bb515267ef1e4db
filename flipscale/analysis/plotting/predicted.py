"""Measured against predicted costs of runs: device-hours and memory."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from flipscale.analysis.plotting.figure_data import MOST_ARMS, FigureData, Undrawable
from flipscale.analysis.plotting.page import FigureKind, Panel
from flipscale.analysis.plotting.style import QUIET, arm_style, device_time, log_axis
from flipscale.words import memory, short, time_unit

COSTS = {
    "gpu_hours": ("gpu_hours_predicted", "gpu_hours"),
    "memory": ("memory_bytes_predicted", "peak_memory_bytes"),
}
"""Costs that a plan predicts: the columns of prediction and measurement."""


def predicted_cost(data: FigureData) -> list[Panel]:
    """Hours, and memory where it was measured."""
    panels = []
    for cost, (predicted, measured) in COSTS.items():
        if {predicted, measured} <= set(data.rows):
            rows = data.rows[(data.rows[predicted] > 0) & (data.rows[measured] > 0)]
            if len(rows):
                panels.append(_panel(data, rows, cost, predicted, measured))
    if not panels:
        raise Undrawable("no run has both a predicted and a measured cost")
    return panels


PREDICTED_COST = FigureKind(
    predicted_cost,
    "training time and memory measured, against what the plan said",
    "Points on the diagonal cost what the plan said; above it they cost more.",
    needs_score=False,
)


def _panel(data: FigureData, rows: pd.DataFrame, cost: str, predicted: str, measured: str) -> Panel:
    cpu = "device" in rows and set(rows["device"].dropna()) == {"cpu"}
    words: Callable[[float], str]
    if cost == "memory":
        factor, title = 1.0, "peak memory"
        words, unit = memory, ""
    else:
        name, factor = time_unit(float(rows[measured].max()))
        title, words, unit = "training time", short, f", {device_time(cpu, name)}"
    xs, ys = (factor * rows[name].astype(float).to_numpy() for name in (predicted, measured))

    low, middle, high = np.quantile(ys / xs, [0.05, 0.5, 0.95])
    title += f"\nmeasured / predicted:\nmedian {middle:.2f}\n90 %: {low:.2f} to {high:.2f}"

    def draw(ax: Axes) -> None:
        ends = [min(xs.min(), ys.min()), max(xs.max(), ys.max())]
        ends = [ends[0] / (ends[1] / ends[0]) ** 0.04 / 1.02, ends[1] * (ends[1] / ends[0]) ** 0.04 * 1.02]
        ax.plot(ends, ends, color=QUIET, linewidth=1, zorder=2, label="as predicted")
        arms = rows["arm"].to_numpy()
        several = len(data.arms) <= MOST_ARMS
        for arm in sorted(set(arms)) if several else [1]:
            of_arm = arms == arm if several else slice(None)
            style = arm_style(arm).without_line().keywords()
            said = data.arms[arm] if several else ""
            ax.plot(xs[of_arm], ys[of_arm], label=said, ms=4, alpha=0.75, markeredgewidth=0, zorder=3, **style)
        log_axis(ax.xaxis, ends, words)
        log_axis(ax.yaxis, ends, words)
        ax.set_xlim(*ends)
        ax.set_ylim(*ends)
        ax.set_xlabel(f"predicted{unit}")

    marks = "a point is a run" + ("; the plan counts tensors, a CPU's peak memory also holds data" if cpu else "")
    return Panel(title, rows, draw, f"measured{unit}", marks, size=(7.2, 4.8))
