"""Along each scaling axis (model, data_size, samples), the others held fixed: scores."""

import itertools

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from flipscale.analysis.comparing import series_of
from flipscale.analysis.plotting.cell_words import AXIS_WORDS, at_words
from flipscale.analysis.plotting.figure_data import SCALES, FigureData, Undrawable, best_slice, check_arms, model_flops
from flipscale.analysis.plotting.layout import FigureKind, Panel
from flipscale.analysis.plotting.lines import add_references, arm_lines
from flipscale.analysis.plotting.style import count_axis, spread
from flipscale.words import short

_MOST_NAMES = 5  # model names that stand beside each other under a panel


def scaling_axes(data: FigureData) -> list[Panel]:
    """A panel per scaling axis with a line per arm, as FLIP's Fig 4 at the end of each run."""
    check_arms(data)

    def panel(axis: str, rows: pd.DataFrame) -> Panel:
        def draw(ax: Axes) -> None:
            arm_lines(ax, data, rows, _x_of(axis), along=axis)
            references = None
            if axis != "model":
                references = add_references(ax, data, rows, axis)[axis].astype(float)
            set_scale(ax, axis, rows, references)

        return Panel(_title(axis, rows), rows, draw, data.score_words, chance=data.chance)

    return [panel(axis, rows) for axis, rows in _slices(data)]


SCALING_AXES = FigureKind(
    scaling_axes,
    "a panel each for model, data_size and samples (FLIP's Fig 4, at the end of each run)",
    "Each panel scales one axis and holds the others where the title says; the steeper a line, the more this axis "
    "buys.",
)


def _slices(data: FigureData) -> list[tuple[str, pd.DataFrame]]:
    """For each scaling axis, runs that differ in it alone, apart from their arms and seeds.

    If an axis never varies alone, as the model at equal FLOPs, each of its values has a slice of the other axes: the
    curves of all models stand beside each other.
    """
    if not data.scales:
        raise Undrawable("model, data_size and samples have one value each")
    best = {axis: best_slice(data, axis) for axis in data.scales}
    slices = [(axis, rows) for axis, rows in best.items() if rows[axis].nunique() > 1]
    if not slices:
        raise Undrawable(f"no two runs differ in {' or '.join(SCALES)} alone")
    if len(slices) < len(best):
        groups = [
            (axis, rows) for axis, _ in slices for _, rows in data.rows.groupby(series_of(data.rows, axis), sort=False)
        ]
        slices = [(axis, rows) for axis, rows in groups if rows[axis].nunique() > 1]
    return [(axis, rows.assign(model_flops=model_flops(rows)) if axis == "model" else rows) for axis, rows in slices]


def _x_of(axis: str) -> str:
    return "model_flops" if axis == "model" else axis


def _title(axis: str, rows: pd.DataFrame) -> str:
    return AXIS_WORDS[axis] + at_words(series_of(rows, axis).iloc[0])


def set_scale(ax: Axes, axis: str, rows: pd.DataFrame, references: "pd.Series[float] | None") -> None:
    """The x axis of a scaling axis: models by name, counts at their values."""
    if axis == "model":
        _model_ticks(ax, rows)
        return
    values = rows[axis].astype(float)
    count_axis(ax.xaxis, values if references is None else pd.concat([values, references]))
    ax.set_xlabel(AXIS_WORDS[axis])


def _model_ticks(ax: Axes, rows: pd.DataFrame) -> None:
    """A log axis of FLOPs with the names of models under their ticks, as far as there is room."""
    size = rows.groupby("model")["model_flops"].first().sort_values()
    ax.set_xscale("log")
    ticks = [float(n) for n in size]
    before, names, after = common_ends([str(model) for model in size.index])
    named = spread([np.log(tick) for tick in ticks], 0.13)
    # Names are long, so under a crowded panel every second one is lower.
    crowded = len(named) > _MOST_NAMES or (max(map(len, names)) > 8 and len(named) > 3)
    drop = "\n\n" if crowded else ""
    words = [f"{drop * (n % 2)}{names[i]}\n{short(float(f'{ticks[i]:.2g}'))}" for n, i in enumerate(named)]
    ax.set_xticks([ticks[i] for i in named], words, fontsize=8)
    ax.set_xticks([], minor=True)
    ax.margins(x=0.1)
    ax.set_xlabel(f"model{f' {before}…{after}' if before or after else ''}, FLOPs a sample unmasked")


def common_ends(names: list[str]) -> tuple[str, list[str], str]:
    """The common beginning and end of all names, in whole parts between hyphens, and the rest of each."""
    parts = [name.split("-") for name in names]
    if len(names) < 2:
        return "", names, ""
    most = min(map(len, parts)) - 1  # Each has a part left.
    first = min(_alike(parts), most)
    last = min(_alike([part[::-1] for part in parts]), most - first)
    left = ["-".join(part[first : len(part) - last]) for part in parts]
    before = parts[0][:first]
    after = parts[0][len(parts[0]) - last :]
    return "".join(f"{part}-" for part in before), left, "".join(f"-{part}" for part in after)


def _alike(names: list[list[str]]) -> int:
    """How many parts all names begin with."""
    columns = zip(*names, strict=False)
    return len(list(itertools.takewhile(lambda column: len(set(column)) == 1, columns)))
