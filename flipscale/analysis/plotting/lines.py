"""Score against what was spent: samples seen, training FLOPs, or time. A line per arm, a panel per series."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis

from flipscale.analysis.comparing import fair_hours, series_of
from flipscale.analysis.comparing.speedups import STEPS, read_line
from flipscale.analysis.plotting.figure_data import FigureData, Undrawable, check_arms, one_value
from flipscale.analysis.plotting.layout import FigureKind, Panel
from flipscale.analysis.plotting.style import (
    REFERENCE,
    LineStyle,
    arm_style,
    count_axis,
    device_time,
    log_axis,
    percent_axis,
    power,
)
from flipscale.cell import cell_words
from flipscale.words import short, time_unit

FloatArray = np.ndarray[Any, Any]

_MOST_RINGS = 400  # runs that a panel shows one by one


def score_against(data: FigureData, x: str) -> list[Panel]:
    """A panel per series with a line per arm; a line runs along the schedule, else the model, else the data.

    A series with a single point per arm gets a panel only if no series has more: `scaling_axes` shows it.
    """
    if x == "samples":
        x = data.x or x
    if x == "samples" and "samples" not in data.axes:
        raise one_value("samples", "it takes runs of two schedule lengths")
    words = {"samples": "samples seen", "train_flops": "training FLOPs"}.get(x, x)
    if x == "gpu_hours":
        data, words = in_time_units(data)
        x = "time"
    along = data.x or next((name for name in ("samples", "model", "data_size") if name in data.axes), "samples")
    rows = _rows_along(data, x, along)
    check_arms(data)
    rows = rows.assign(series=series_of(rows, along))
    lengths = rows.groupby("series", sort=False)[along].nunique(dropna=False)
    names = [str(name) for name, n in lengths.items() if n > 1] or list(map(str, lengths.index))

    def panel(name: str) -> Panel:
        of_series = rows[rows["series"] == name]

        def draw(ax: Axes) -> None:
            arm_lines(ax, data, of_series, x, along=along)
            references = add_references(ax, data, of_series, x)
            set_x_axis(ax.xaxis, x, pd.concat([rows[x].astype(float), references[x].astype(float)]))
            ax.set_xlabel(words)

        return Panel(cell_words(name), of_series, draw, data.score_words, chance=data.chance)

    return [panel(name) for name in names]


ACCURACY_VS_HOURS = FigureKind(
    partial(score_against, x="gpu_hours"),
    "score against training time, a line per arm",
    "Where a masked line runs above the black one, masking pays at equal time on these devices.",
)


ACCURACY_VS_FLOPS = FigureKind(
    partial(score_against, x="train_flops"),
    "score against training FLOPs, a line per arm",
    "Where a masked line runs above the black one, masking pays at equal compute.",
)


ACCURACY_VS_SAMPLES = FigureKind(
    partial(score_against, x="samples"),
    "score against schedule length, a line per arm",
    "Each point is a whole schedule; how far a masked line runs below the black one is what masking costs at equal "
    "samples.",
)


def _rows_along(data: FigureData, x: str, along: str) -> pd.DataFrame:
    """The rows that have an x. Raises Undrawable where x does not vary, or cannot vary within an arm."""
    rows = data.rows[data.rows[x].notna() & (data.rows[x] > 0)]
    if rows.empty:
        raise Undrawable(f"no run has {x}")
    if rows[x].nunique() < 2:
        raise Undrawable(f"{x} has one value")
    if along == "data_size" and x != "samples":
        raise Undrawable("samples and model have one value each, so that all runs of an arm cost the same")
    return rows


def set_x_axis(axis: Axis, x: str, values: "pd.Series[float]") -> None:
    """A log axis of samples at the values themselves, of FLOPs at powers of ten, of time at round numbers."""
    if x == "train_flops":
        log_axis(axis, values, power)
    elif x == "time":
        log_axis(axis, values, lambda value: short(value) if value >= 1e-3 else power(value))
    else:
        count_axis(axis, values)


def arm_lines(ax: Axes, data: FigureData, rows: pd.DataFrame, x: str, along: str) -> None:
    """Each arm's means over seeds with bars of 1 sd, and its runs as rings."""
    rings = len(rows) <= _MOST_RINGS
    for arm in sorted(set(rows["arm"])):
        of_arm = rows[rows["arm"] == arm]
        mean_line(ax, data, of_arm, (x, data.score), along, data.arms[arm], arm_style(arm), rings=rings)


def mean_line(
    ax: Axes,
    data: FigureData,
    rows: pd.DataFrame,
    xy: tuple[str, str],
    along: str,
    words: str,
    style: LineStyle,
    *,
    rings: bool = True,
    read: bool = False,
    alpha: float = 1.0,
) -> tuple[FloatArray, FloatArray]:
    """One line through the means over seeds with bars of 1 sd, cut where no value can lie, and its runs as rings.

    xy: the columns that are drawn.
    along: rows with the same value in it make one point.
    read: join them by the curve from which `compare` reads speed-ups.
    Returns the points.
    """
    if not data.lower_is_better:
        percent_axis(ax.yaxis)
    run_xs, run_ys = (rows[name] for name in xy)
    xs, ys, spread, most = _means(rows[along], run_xs, run_ys)
    lowest, highest = data.ends
    low = np.minimum(ys, np.maximum(ys - spread, lowest))
    high = np.maximum(ys, np.minimum(ys + spread, highest))
    every = max(1, len(xs) // 14)
    bars = [ys - low, high - ys] if most > 1 and style.marker else None
    look: dict[str, Any] = {"capsize": 2, "elinewidth": 0.8, "errorevery": every, "zorder": 3, "alpha": alpha}
    if read and len(xs) > 1:
        curve = read_line(np.log(xs), ys[None])
        ax.plot(np.exp(curve.xs), curve.ys[0], markevery=STEPS, label=words, zorder=3, alpha=alpha, **style.keywords())
        ax.errorbar(xs, ys, bars, linestyle="", color=style.color, **look)
    else:
        ax.errorbar(xs, ys, bars, label=words, markevery=every, **look, **style.keywords())
    if most > 1 and not style.marker:
        ax.fill_between(xs, low, high, color=style.color, alpha=0.18, linewidth=0)
    if most > 1 and rings:
        # Behind the mean, so that they never hide it; hollow, so that they stand out from its line.
        ring = style.marks(filled=False, edge=0.6)
        ax.plot(run_xs.astype(float), run_ys.astype(float), "o", ms=2.4, zorder=2.5, **ring)
    return xs, ys


def _means(
    keys: "pd.Series[Any]", xs: "pd.Series[float]", ys: "pd.Series[float]"
) -> tuple[FloatArray, FloatArray, FloatArray, int]:
    """Mean x, mean y and its sd over rows (0 for one) of each key's rows, by x; and the most rows of one key."""
    points = pd.DataFrame({"x": xs, "y": ys}).astype("float64").assign(key=keys)
    groups = points[np.isfinite(points[["x", "y"]]).all(axis=1)].groupby("key", sort=False, dropna=False)
    means = groups[["x", "y"]].mean().assign(sd=groups["y"].std().fillna(0.0)).sort_values("x", kind="stable")
    x, y, spread = means.to_numpy().T
    return x, y, spread, int(max(groups.size(), default=0))


def in_time_units(data: FigureData) -> tuple[FigureData, str]:
    """The rows with `time`: the hours that claims go by, in the unit that suits them, and its words."""
    rows = fair_hours(data.rows, data.rows["arm"].astype("str")).rows
    rows = rows[rows["gpu_hours"].notna()]
    if rows.empty:
        raise Undrawable("no run has gpu_hours")
    devices = sorted({str(device) for device in rows["device"].dropna()}) if "device" in rows else []
    if len(devices) > 1:
        raise Undrawable(f"the runs were timed on different devices ({', '.join(devices)})")
    unit, factor = time_unit(float(rows["gpu_hours"].max()))
    references = data.references
    if references is not None and {"gpu_hours", "device"} <= set(references):
        # Hours of another device cannot be compared with these.
        references = references[references["device"].isin(devices)]
        references = references.assign(time=references["gpu_hours"] * factor)
    rows = rows.assign(time=rows["gpu_hours"].astype(float) * factor)
    return replace(data, rows=rows, references=references), f"training time ({device_time(devices == ['cpu'], unit)})"


def add_references(ax: Axes, data: FigureData, rows: pd.DataFrame, x: str, y: str | None = None) -> pd.DataFrame:
    """Others' results where they have this x and this score: hollow, grey, named. Returns them, for the ticks.

    A panel of one model shows only those of this model, and those that name none.
    """
    y = y or data.score
    if data.references is None or x not in data.references or y not in data.references:
        return pd.DataFrame({x: [], y: []}, dtype="float64")
    published = data.references[data.references[x].notna() & data.references[y].notna()]
    if "model" in published and "model" in rows and rows["model"].nunique() == 1:
        published = published[published["model"].isna() | (published["model"] == rows["model"].iloc[0])]
    style = LineStyle(REFERENCE, "o")
    for name, of_name in published.groupby("name", sort=False):
        of_name = of_name.sort_values(x)
        xs = of_name[x].astype(float).tolist()
        ys = of_name[y].astype(float).tolist()
        ax.plot(xs, ys, label=str(name), linewidth=0.8, ms=5, zorder=2, **style.keywords() | style.marks(filled=False))
    return published
