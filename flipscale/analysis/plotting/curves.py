"""Inside runs, against samples seen: scores, and FLIP's Fig 4.

The middle of a run is not the result of a shorter schedule. Only these figures look inside runs.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from flipscale.analysis.comparing import series_of
from flipscale.analysis.plotting.cell_words import AXIS_WORDS, at_words, value_on_axis
from flipscale.analysis.plotting.figure_data import FigureData, Undrawable, check_arms
from flipscale.analysis.plotting.layout import PANELS_IN_A_ROW, FigureKind, Panel
from flipscale.analysis.plotting.lines import arm_lines, mean_line
from flipscale.analysis.plotting.style import arm_style, ramp_style
from flipscale.cell import cell_words
from flipscale.words import short

_MOST_PANEL_ARMS = 3
_MOST_TIMES = 16  # between schedules that one linear axis shows
_MOST_MARKERS = 6  # of one curve; with more it is a line

_SCALING_MARKS = "means over seeds; black: the starting point"


def learning_curves(data: FigureData) -> list[Panel]:
    """A panel per cell of the longest schedules, with the scores measured inside runs."""
    check_arms(data)
    points, runs = _inside(data, _longest(data))
    points["point"] = points.groupby("id", observed=True).cumcount()

    def panel(cell: str) -> Panel:
        of_cell = points[points["cell"] == cell]

        def draw(ax: Axes) -> None:
            arm_lines(ax, data, of_cell, "samples", along="point")
            _samples_axis(ax, of_cell)

        return Panel(cell_words(cell), runs[runs["cell"] == cell], draw, data.score_words, chance=data.chance)

    return [panel(cell) for cell in dict.fromkeys(runs["cell"])]


LEARNING_CURVES = FigureKind(
    learning_curves,
    "score inside the longest runs, against samples seen",
    "Progress within one schedule; its middle is not the result of a shorter one.",
)


def scaling_curves(data: FigureData) -> list[Panel]:
    """A panel per scaling axis: the starting cell in black, and the cells scaled from it.

    Each arm has a row of panels; with more than three arms, only the baseline and the middle arm do.
    """
    axes = data.scales
    if not axes:
        raise Undrawable("model, data_size and samples have one value each")
    start = starting_cell(data.rows, axes)
    points, runs = _inside(data, data.rows)
    if start not in set(runs["cell"]):
        raise Undrawable(f"no run of {cell_words(start)} has {data.score} at two points")
    arms = sorted(set(runs["arm"]))
    arms = arms if len(arms) <= _MOST_PANEL_ARMS else [arms[0], arms[len(arms) // 2]]
    length = float(runs.loc[runs["cell"] == start, "samples"].iloc[0])
    near = (runs["samples"].astype(float) / length).between(1 / _MOST_TIMES, _MOST_TIMES)

    def panel(arm: int, axis: str) -> Panel | None:
        rest = series_of(runs, axis)
        at = rest[runs["cell"] == start].iloc[0]
        of_panel = runs[(runs["arm"] == arm) & (rest == at) & near]
        if of_panel["cell"].nunique() < 2 or start not in set(of_panel["cell"]):
            return None

        def draw(ax: Axes) -> None:
            _draw_scaling(ax, data, points[points["id"].isin(of_panel["id"])], of_panel, axis, start)

        title = AXIS_WORDS[axis] + (f", {data.arms[arm]}" if len(data.arms) > 1 else "")
        title += at_words(at)
        marks = _SCALING_MARKS + ("; dash-dotted: a longer schedule, its x divided" if "samples" in axes else "")
        return Panel(title, of_panel, draw, data.score_words, marks, own_legend=True, chance=data.chance)

    panels = [drawn for arm in arms for axis in axes if (drawn := panel(arm, axis))]
    if not panels:
        raise Undrawable(f"no run differs in one axis alone from {cell_words(start)}")
    return panels


SCALING_CURVES = FigureKind(
    scaling_curves,
    "training curves by scaling axis, the starting point in each (FLIP's Fig 4)",
    "The black curve is the same run in every panel; a longer schedule is also drawn dash-dotted with its x "
    "divided, to be compared at equal progress.",
    lambda data: len(data.scales) if len(data.scales) > 1 else PANELS_IN_A_ROW,  # a column an axis
)


def _draw_scaling(ax: Axes, data: FigureData, points: pd.DataFrame, runs: pd.DataFrame, axis: str, start: str) -> None:
    """The curves of one panel, each named by its value on the axis."""
    order = runs.groupby("cell")[["flops_per_sample" if axis == "model" else axis]].mean().iloc[:, 0].sort_values()
    others = [cell for cell in order.index if cell != start]
    length = float(runs.loc[runs["cell"] == start, "samples"].iloc[0])
    for cell in order.index:
        of_cell = points[points["cell"] == cell].assign(point=lambda rows: rows.groupby("id").cumcount())
        style = arm_style(0) if cell == start else ramp_style(others.index(cell) + 1, len(others) + 1)
        if of_cell["point"].max() > _MOST_MARKERS:
            style = style.without_markers()
        ratio = float(of_cell["samples"].max()) / length
        again = axis == "samples" and ratio > 1.01
        words = value_on_axis(cell, axis) + (f" (dash-dotted: x / {ratio:.3g})" if again else "")
        xs, ys = mean_line(ax, data, of_cell, ("samples", "value"), "point", words, style, rings=False)
        if again:
            ax.plot(xs / ratio, ys, linestyle="-.", color=style.color, linewidth=1.2, zorder=2)
    _samples_axis(ax, points)


def starting_cell(runs: pd.DataFrame, axes: list[str]) -> str:
    """The cell from which axes scale: most others differ from it in one axis only; among equals, the smallest."""
    sizes = {"flops": ("train_flops", "mean"), **({"pairs": ("data_size", "mean")} if "data_size" in axes else {})}
    cells = runs.groupby("cell").agg(**sizes).reset_index()
    near = sum(cells.groupby(series_of(cells, axis))["cell"].transform("size") - 1 for axis in axes)
    return str(cells.assign(near=-near).sort_values(["near", *sizes, "cell"], kind="stable")["cell"].iloc[0])


def _longest(data: FigureData) -> pd.DataFrame:
    return data.rows[data.rows["samples"] == data.rows.groupby(series_of(data.rows))["samples"].transform("max")]


def _points_of(data: FigureData, metric: str, runs: pd.DataFrame) -> pd.DataFrame:
    """The points of one metric in these runs, with their arm, seed and cell; `last` is the run's last sample."""
    points = data.curves[(data.curves["metric"] == metric).to_numpy() & data.curves["id"].isin(runs["id"]).to_numpy()]
    points = points.astype({"id": "str"}).merge(runs[["id", "arm", "seed", "cell"]].astype({"id": "str"}), on="id")
    points = points.sort_values(["id", "samples"], kind="stable")
    return points.assign(last=points.groupby("id")["samples"].transform("max"))


def _inside(data: FigureData, runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The points of the score inside these runs, and the runs that have them. Raises Undrawable if none has two."""
    points = _points_of(data, data.score, runs)
    if points.empty or points.groupby("id")["samples"].nunique().max() < 2:
        raise Undrawable(f"no run has {data.score} at two points; evaluation.at gives more")
    return points.assign(**{data.score: points["value"]}), runs[runs["id"].isin(points["id"])]


def _samples_axis(ax: Axes, points: pd.DataFrame) -> None:
    ax.set_xlim(0, float(points["samples"].max()) * 1.04)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(round(value, 9))))
    ax.set_xlabel("samples seen within one run")
