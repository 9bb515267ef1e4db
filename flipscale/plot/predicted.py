"""Measured against predicted costs of runs: device-hours and memory."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from flipscale.plot.figure_data import MOST_ARMS, FigureData, Undrawable, figure_data
from flipscale.plot.page import Drawing, DrawnLine, Note, Panel, alone
from flipscale.plot.style import QUIET, arm_style, device_time, log_axis
from flipscale.plot.thinning import drawn_points
from flipscale.words import memory, short, time_unit

COSTS = {
    "gpu_hours": ("gpu_hours_predicted", "gpu_hours"),
    "memory": ("memory_bytes_predicted", "peak_memory_bytes"),
}
"""Costs that a plan predicts: the columns of prediction and measurement."""


def predicted_cost(results: pd.DataFrame, ax: Axes, *, cost: str = "gpu_hours") -> pd.DataFrame:
    """Draw what runs cost against what the plan said onto an Axes; `cost` is gpu_hours or memory.

    `results` is results.csv's table, or rows of it. Returns the runs drawn; raises Undrawable with the reason where
    there is nothing to draw.
    """
    panels = dict(_panels(figure_data(results)))
    if cost not in panels:
        raise Undrawable(f"no run has {' and '.join(COSTS[cost])}")
    return alone(ax, [panels[cost]])


def cost_panels(data: FigureData) -> list[Panel]:
    """Hours, and memory where it was measured."""
    panels = [panel for _, panel in _panels(data)]
    if not panels:
        raise Undrawable("no run has both a predicted and a measured cost")
    return panels


def _panels(data: FigureData) -> list[tuple[str, Panel]]:
    panels = []
    for cost, (predicted, measured) in COSTS.items():
        if {predicted, measured} <= set(data.rows):
            rows = data.rows[(data.rows[predicted] > 0) & (data.rows[measured] > 0)]
            if len(rows):
                panels.append((cost, _panel(data, rows, cost, predicted, measured)))
    return panels


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

    def draw(ax: Axes) -> Drawing:
        ends = [min(xs.min(), ys.min()), max(xs.max(), ys.max())]
        ends = [ends[0] / (ends[1] / ends[0]) ** 0.04 / 1.02, ends[1] * (ends[1] / ends[0]) ** 0.04 * 1.02]
        ax.plot(ends, ends, color=QUIET, linewidth=1, zorder=2)
        drawing = Drawing(avoid=[(ends, ends)])
        arms = rows["arm"].to_numpy()
        drawn = drawn_points(xs, ys)
        several = len(data.arms) <= MOST_ARMS
        for arm in sorted(set(arms)) if several else [0]:
            of_arm = drawn & ((arms == arm) if several else True)
            style = arm_style(arm if several else 1).without_line()
            ax.plot(xs[of_arm], ys[of_arm], ms=4, alpha=0.75, markeredgewidth=0, zorder=3, **style.keywords())
            for x, y in zip(xs[of_arm], ys[of_arm], strict=True):
                drawing.avoid.append(([x], [y]))
            if several:
                drawing.lines.append(DrawnLine(data.arms[arm], style, [], []))
        log_axis(ax.xaxis, ends, words)
        log_axis(ax.yaxis, ends, words)
        ax.set_xlim(*ends)
        ax.set_ylim(*ends)
        ax.set_aspect("equal")
        ax.set_xlabel(f"predicted{unit}")
        low, middle, high = np.quantile(ys / xs, [0.05, 0.5, 0.95])
        ratios = f"measured / predicted:\nmedian {middle:.2f}\n90 %: {low:.2f} to {high:.2f}"

        def at(a: float, b: float) -> tuple[float, float]:
            return ends[0] ** (1 - a) * ends[1] ** a, ends[0] ** (1 - b) * ends[1] ** b

        drawing.notes.append(Note((ratios,), tuple(at(*corner) for corner in _CORNERS), color="#222222"))
        drawing.notes.append(
            Note(("as predicted",), tuple(at(share, share) for share in (0.5, 0.6, 0.4, 0.8, 0.2)), last=True)
        )
        return drawing

    marks = "a point is a run" + ("; the plan counts tensors, a CPU's peak memory also holds data" if cpu else "")
    return Panel(title, rows, draw, f"measured{unit}", marks)


_CORNERS = [(0.0, 1.0), (1.0, 0.0), (0.0, 0.8), (1.0, 0.2), (0.0, 0.6), (1.0, 0.4)]
