"""One function per figure: what is shown goes onto a Figure, and the rows that were drawn come back.

A figure draws finished runs only, each at the end of its whole schedule; `learning_curves` alone looks inside runs.
A figure that the results cannot fill raises Undrawable with the reason.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flipscale.compare import (
    LOWER_IS_BETTER,
    Comparison,
    Curve,
    Estimate,
    arms_of,
    compare,
    first_reach,
    is_baseline,
    labels,
    pick_score,
    series_of,
    short,
    times,
    varying_axes,
)
from flipscale.errors import ResultsError
from flipscale.plot.style import Labels, count_axis, line_style, log_axis, panels, percent_axis, settle

SCALES = ("model", "data_size", "samples")
"""The scaling axes, as FLIP's Fig 4."""

MOST_ARMS = 8
"""Lines that colour, marker and dashes still tell apart, the baseline's among them."""

_MARKS = "points: means over seeds, bars: ± 1 sd, dots: runs"

SCORE_WORDS = {
    "zero_shot_top1": "zero-shot accuracy, top 1",
    "zero_shot_top5": "zero-shot accuracy, top 5",
    "image_retrieval_r1": "text to image recall at 1",
    "image_retrieval_r5": "text to image recall at 5",
    "image_retrieval_r10": "text to image recall at 10",
    "text_retrieval_r1": "image to text recall at 1",
    "text_retrieval_r5": "image to text recall at 5",
    "text_retrieval_r10": "image to text recall at 10",
    "linear_probe_top1": "linear probe accuracy, top 1",
    "held_out_loss": "held-out loss, nats (lower is better)",
    "final_loss": "training loss at the end, nats (lower is better)",
}


def score_words(score: str) -> str:
    """A score in words; of a set, with the set's name before it."""
    of_set, dot, name = score.rpartition(".")
    return f"{of_set}{': ' if dot else ''}{SCORE_WORDS.get(name, name)}"


class Undrawable(ResultsError):
    """The results cannot fill this figure; the message is the reason."""


@dataclass(frozen=True)
class Shown:
    """The results as figures read them: runs with a score, each with its arm and its cell."""

    rows: pd.DataFrame
    """Results with `arm` (0 is the baseline), `cell`, and data_size filled in where it was all there is."""
    curves: pd.DataFrame
    study: str
    baseline: dict[str, Any]
    score: str
    arms: tuple[str, ...]
    """Arm number to its name in the legend."""
    axes: tuple[str, ...]
    """Axes of the cells that have more than one value, as the study names them; a scale only if every row has it."""


def shown(
    results: pd.DataFrame, curves: pd.DataFrame, *, study: str, baseline: Mapping[str, Any], score: str | None = None
) -> Shown:
    """Prepare a table of results for all figures. Raises ResultsError if no run has a score."""
    score = pick_score(results, score)
    rows = results[results[score].notna()].reset_index(drop=True)
    if "cell" not in rows:
        rows["cell"] = labels(rows, varying_axes(rows, baseline))
    keys = [name for name in baseline if name in rows]
    rows = rows.assign(_base=~is_baseline(rows, baseline)).sort_values(["_base", *keys], kind="stable")
    names = arms_of(rows, baseline)
    arms = list(dict.fromkeys(names))
    rows["arm"] = [arms.index(name) for name in names]
    words = [_arm_words(row, baseline) for row in rows.drop_duplicates("arm")[keys].to_dict("records")]
    if "unique_pairs" in rows and "data_size" in rows:
        rows["data_size"] = rows["data_size"].fillna(rows["unique_pairs"])
    parts = [dict(part.split("=", 1) for part in cell.split(", ") if "=" in part) for cell in rows["cell"].fillna("")]
    axes = dict.fromkeys(name for part in parts for name in part)
    several = (name for name in axes if len({part.get(name) for part in parts}) > 1)
    varied = tuple(name for name in several if name not in SCALES or rows[name].notna().all())
    return Shown(rows.sort_index(), curves, study, dict(baseline), score, tuple(words), varied)


def _arm_words(settings: Mapping[Any, Any], baseline: Mapping[str, Any]) -> str:
    """An arm in words: in what it differs from the baseline; the baseline by its mask, or by all its settings."""
    other = {name: value for name, value in settings.items() if short(value) != short(baseline[name])}
    if not other and len(settings) > 1:
        other = {name: value for name, value in settings.items() if name == "mask_ratio"} or dict(settings)

    def word(name: str, value: Any) -> str:
        if name != "mask_ratio" or pd.isna(value):
            return f"{name} {short(value)}"
        return "no mask" if value == 0 else f"mask {100 * value:.3g} %"

    return ", ".join(word(str(name), value) for name, value in (other or settings).items()) or "all runs"


# The figures


def accuracy_vs_samples(figure: Figure, s: Shown) -> pd.DataFrame:
    """Score against the length of the schedule, one line per arm, one panel per series."""
    if "samples" not in s.axes:
        raise Undrawable("samples has one value; it takes runs of two schedule lengths")
    return _score_against(figure, s, "samples", "samples seen", count_axis)


def accuracy_vs_flops(figure: Figure, s: Shown) -> pd.DataFrame:
    """Score against training FLOPs, one line per arm, one panel per series."""
    return _score_against(figure, s, "train_flops", "training FLOPs", _flops_axis)


def accuracy_vs_hours(figure: Figure, s: Shown) -> pd.DataFrame:
    """Score against training time on the devices used, one line per arm, one panel per series."""
    s, words = _in_time_units(s)
    return _score_against(figure, s, "time", words, _time_axis)


def scaling_axes(figure: Figure, s: Shown) -> pd.DataFrame:
    """Score along each scaling axis, the others held fixed: model, data_size, samples (as FLIP's Fig 4)."""
    there = [axis for axis in SCALES if axis in s.axes]
    if not there:
        raise Undrawable("model, data_size and samples have one value each")
    _few_arms(s)
    drawn = []
    axes = panels(figure, len(there))
    for ax, axis in zip(axes, there, strict=True):
        fixed = series_of(s.rows, axis)
        rows = s.rows[fixed == _best_slice(s.rows, fixed, axis)]
        if axis == "model":
            rows = rows.assign(model_flops=_model_flops(rows))
        x = "model_flops" if axis == "model" else axis
        lines = _draw_lines(ax, s, rows, x, along=[axis])
        _AXIS[axis](ax, rows)
        at = fixed[rows.index[0]]
        ax.set_title(f"{axis}, at {_title(at)}" if at else axis)
        drawn.append((ax, lines, rows))
    return _finish(figure, s, drawn)


def speedup(figure: Figure, s: Shown) -> pd.DataFrame:
    """Score against training time with the speed-up at the baseline's best (as FLIP's Fig 1), one panel per series."""
    if "samples" not in s.axes:
        raise Undrawable("samples has one value; a speed-up is read between runs of two or more schedule lengths")
    _few_arms(s)
    comparison = compared(s)
    s, words = _in_time_units(s)
    series = series_of(s.rows)
    names = [name for name in dict.fromkeys(series) if _has_curves(s.rows[series == name])]
    if not names:
        raise Undrawable("no series has two schedule lengths of both the baseline and another arm")
    drawn: list[_Drawn] = []
    arrows: list[_Arrow] = []
    for ax, name in zip(panels(figure, len(names)), names, strict=True):
        rows = s.rows[series == name]
        lines = _draw_lines(ax, s, rows, "time", along=["samples"])
        ax.set_xlim(0, rows["time"].max() * (1.22 if len(names) == 1 else 1.08))
        ax.set_xlabel(words)
        ax.set_title(_title(name))
        of_here = [c for c in comparison.curves if c.series == name and c.x == "gpu_hours"]
        told = {curve: estimate.mean for curve in of_here if (estimate := _told(curve)) and estimate.mean}
        # An arm that gets to the baseline's best says more than one that is only compared below it.
        fastest = max(told, key=lambda curve: (_told(curve) is curve.speedup, told[curve]), default=None)
        if fastest and (arrow := _arrow(ax, fastest, s, lines)):
            arrows.append(arrow)
        drawn.append((ax, lines, rows))
    return _finish(figure, s, drawn, arrows)


def learning_curves(figure: Figure, s: Shown) -> pd.DataFrame:
    """Score inside the longest runs against samples seen; its middle is not the result of a shorter schedule."""
    points = s.curves[s.curves["metric"] == s.score]
    longest = s.rows[s.rows["samples"] == s.rows.groupby(series_of(s.rows))["samples"].transform("max")]
    points = points.merge(longest[["id", "arm", "seed", "cell", "finished"]].astype({"id": "str"}), on="id")
    if points.empty or points.groupby("id", observed=True)["samples"].nunique().max() < 2:
        raise Undrawable(f"no run has {s.score} at two points; evaluation.at gives more")
    _few_arms(s)
    points = points.rename(columns={"value": s.score}).assign(point=points.groupby("id", observed=True).cumcount())
    drawn = []
    cells = list(dict.fromkeys(points["cell"]))
    for ax, cell in zip(panels(figure, len(cells)), cells, strict=True):
        of_cell = points[points["cell"] == cell]
        lines = _draw_lines(ax, s, of_cell, "samples", along=["point"])
        ax.set_xlim(0, of_cell["samples"].max() * (1.25 if len(cells) == 1 else 1.05))
        ax.xaxis.set_major_formatter(lambda value, _: short(value))
        ax.set_xlabel("samples seen within one run")
        ax.set_title(_title(cell))
        drawn.append((ax, lines, of_cell))
    _finish(figure, s, drawn)
    return longest[longest["id"].isin(points["id"])]


# Their parts


def compared(s: Shown) -> Comparison:
    """What `flipscale compare` says of these rows."""
    try:
        return compare(s.rows.drop(columns="arm"), baseline=s.baseline, score=s.score)
    except ResultsError as reason:
        raise Undrawable(str(reason).rstrip(".")) from reason


def _few_arms(s: Shown) -> None:
    if len(s.arms) > MOST_ARMS:
        raise Undrawable(
            f"{len(s.arms)} arms are too many to tell apart in one figure; gains shows them, or make studies of fewer"
        )


@dataclass(frozen=True)
class _Line:
    """One drawn line: means over seeds, in the order of x."""

    arm: int
    xs: list[float]
    ys: list[float]
    spread: list[float]


_SetAxis = Callable[[Axes, "pd.Series[float]"], None]
_Drawn = tuple[Axes, list[_Line], pd.DataFrame]


def _score_against(figure: Figure, s: Shown, x: str, words: str, set_axis: _SetAxis) -> pd.DataFrame:
    """A panel per series with a line per arm; a line runs along the schedule, else the model, else the data.

    A series with a single point an arm gets a panel only where no series has more: `scaling_axes` shows it.
    """
    along = next((name for name in ("samples", "model", "data_size") if name in s.axes), "samples")
    rows = s.rows[s.rows[x].notna()]
    if rows.empty:
        raise Undrawable(f"no run has {x}")
    if rows[x].nunique() < 2:
        raise Undrawable(f"{x} has one value")
    _few_arms(s)
    rows = rows.assign(series=series_of(rows, along))
    lengths = rows.groupby("series", sort=False)[along].nunique(dropna=False)
    names = [name for name, n in lengths.items() if n > 1] or list(lengths.index)
    rows = rows[rows["series"].isin(names)]
    drawn = []
    for ax, name in zip(panels(figure, len(names), share_x=True), names, strict=True):
        of_series = rows[rows["series"] == name]
        lines = _draw_lines(ax, s, of_series, x, along=[along])
        set_axis(ax, rows[x])
        ax.set_xlabel(words)
        ax.set_title(_title(str(name)))
        drawn.append((ax, lines, of_series))
    return _finish(figure, s, drawn)


def _draw_lines(ax: Axes, s: Shown, rows: pd.DataFrame, x: str, along: list[str]) -> list[_Line]:
    """Each arm's means over seeds with bars of 1 sd, and its runs as dots."""
    lines = []
    for arm in sorted(set(rows["arm"])):
        of_arm = rows[rows["arm"] == arm]
        means = of_arm.groupby(along).agg(x=(x, "mean"), y=(s.score, "mean"), sd=(s.score, "std"), n=(s.score, "size"))
        means = means.sort_values("x")
        style = line_style(arm)
        spread = means["sd"].fillna(0.0).astype(float)
        ax.errorbar(
            means["x"].astype(float),
            means["y"].astype(float),
            spread if (means["n"] > 1).any() else None,
            capsize=2,
            elinewidth=0.8,
            label=s.arms[arm],
            zorder=3,
            **style,
        )
        if (means["n"] > 1).any():
            ax.plot(
                of_arm[x].astype(float), of_arm[s.score].astype(float), ".", ms=2.5, alpha=0.55, color=style["color"]
            )
        columns = ([float(v) for v in column] for column in (means["x"], means["y"], spread))
        lines.append(_Line(arm, *columns))
    return lines


def _finish(figure: Figure, s: Shown, drawn: Sequence[_Drawn], arrows: Sequence["_Arrow"] = ()) -> pd.DataFrame:
    """Axis words, small print, and a name for every line: beside it in a single panel with room, else a legend."""
    for ax, _, _ in drawn:
        if s.score not in LOWER_IS_BETTER:
            percent_axis(ax)
        if ax.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            ax.set_ylabel(score_words(s.score))
    rows = pd.concat([of_panel for _, _, of_panel in drawn]).drop_duplicates("id")
    print_small = small_print(s, rows)
    alone = len(drawn) == 1
    if not alone:
        _legend(figure, drawn)
    elif drawn[0][0].get_xscale() == "log":
        left, right = drawn[0][0].get_xlim()
        drawn[0][0].set_xlim(left, right * (right / left) ** 0.22)
    settle(figure, print_small)
    labels_of = {id(ax): Labels(ax) for ax, _, _ in drawn}
    for ax, lines, _ in drawn:
        for line in lines:
            labels_of[id(ax)].avoid(line.xs, line.ys, line.arm)
            for x, y, sd in zip(line.xs, line.ys, line.spread, strict=True):
                labels_of[id(ax)].avoid([x, x], [y - sd, y + sd], line.arm)
    for arrow in arrows:
        labels_of[id(arrow.ax)].avoid([arrow.start, arrow.end], [arrow.y, arrow.y], len(s.arms))
        _label_arrow(labels_of[id(arrow.ax)], arrow)
    if alone and not _label_lines(labels_of[id(drawn[0][0])], s, drawn[0][1]):
        _legend(figure, drawn)
        settle(figure, print_small)
    return rows


def _label_lines(labels_here: Labels, s: Shown, lines: list[_Line]) -> bool:
    placed: list[bool] = []
    for line in lines:
        anchors = list(zip(line.xs, line.ys, strict=True))[::-1]
        placed.append(
            labels_here.name_line(
                line.arm, s.arms[line.arm], anchors, color=line_style(line.arm)["color"], fontsize=8.5
            )
        )
    return all(placed)


def _title(cell: str) -> str:
    """A cell over a panel, an axis a line. A data_size of null is all the data there is."""
    return cell.replace(", ", ",\n").replace("data_size=null", "all data")


def _legend(figure: Figure, drawn: Sequence[_Drawn]) -> None:
    handles: dict[str, Any] = {}
    for ax, _, _ in drawn:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        list(handles.values()), list(handles), loc="outside upper left", ncols=min(len(handles), 5), handlelength=3.2
    )


def small_print(s: Shown, rows: pd.DataFrame, marks: str = _MARKS) -> str:
    """Where the figure comes from. The date is the newest run's, so that an old figure does not look new."""
    seeds = rows["seed"].nunique() if "seed" in rows else 1
    text = f"study {s.study} · {_count(len(rows), 'run')} · {_count(seeds, 'seed')}"
    if "finished" in rows and rows["finished"].notna().any():
        text += f" · newest run finished {pd.to_datetime(rows['finished'].max(), unit='s'):%Y-%m-%d}"
    return text + (f"\n{marks}" if seeds > 1 else "")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


# Axes


def _flops_axis(ax: Axes, values: "pd.Series[float]") -> None:
    log_axis(ax, values, power=True)


def _time_axis(ax: Axes, values: "pd.Series[float]") -> None:
    log_axis(ax, values, power=False)


def _model_flops(rows: pd.DataFrame) -> "pd.Series[float]":
    """The size of each row's model: training FLOPs per sample where nothing is masked, or the least is.

    Not its parameters: in a small model most of them are the vocabulary's, and B/32 and B/16 have the same.
    """
    return rows.groupby("model")["flops_per_sample"].transform("max").astype(float)


def _model_ticks(ax: Axes, rows: pd.DataFrame) -> None:
    size = rows.groupby("model")["model_flops"].first().sort_values()
    ax.set_xscale("log")
    # Names are long, so with many models every second one stands lower.
    drop = "\n\n" if len(size) > 3 else ""
    names = [f"{drop * (i % 2)}{model}\n{short(float(f'{n:.2g}'))}" for i, (model, n) in enumerate(size.items())]
    ax.set_xticks([float(n) for n in size], names, fontsize=7)
    ax.set_xticks([], minor=True)
    ax.margins(x=0.2)
    ax.set_xlabel("FLOPs per sample, unmasked")


def _count_ticks(words: str, name: str) -> Any:
    def ticks(ax: Axes, rows: pd.DataFrame) -> None:
        count_axis(ax, rows[name])
        ax.set_xlabel(words)

    return ticks


_AXIS = {
    "model": _model_ticks,
    "data_size": _count_ticks("unique pairs", "data_size"),
    "samples": _count_ticks("samples seen", "samples"),
}


def _in_time_units(s: Shown) -> tuple[Shown, str]:
    """The rows with `time`: gpu_hours in the unit that suits them, and its words."""
    rows = s.rows[s.rows["gpu_hours"].notna()]
    if rows.empty:
        raise Undrawable("no run has gpu_hours")
    devices = sorted({str(device) for device in rows["device"].dropna()}) if "device" in rows else []
    if len(devices) > 1:
        raise Undrawable(f"the runs were timed on different devices ({', '.join(devices)})")
    longest = float(rows["gpu_hours"].max())
    unit, factor = ("seconds", 3600) if longest < 1 / 60 else ("minutes", 60) if longest < 2 else ("hours", 1)
    who = "CPU core" if devices == ["cpu"] else "GPU"
    rows = rows.assign(time=rows["gpu_hours"].astype(float) * factor)
    return Shown(**{**s.__dict__, "rows": rows}), f"training time ({who}-{unit})"


def _best_slice(rows: pd.DataFrame, fixed: "pd.Series[str]", axis: str) -> str:
    """The values of the other axes at which this one is varied most; of equals the one that trained longest."""
    groups = rows.groupby(fixed)
    return str(
        pd.DataFrame({"n": groups[axis].nunique(), "f": groups["train_flops"].mean()}).sort_values(["n", "f"]).index[-1]
    )


def _has_curves(rows: pd.DataFrame) -> bool:
    lengths = rows.groupby("arm")["samples"].nunique()
    return bool(lengths.get(0, 0) > 1 and (lengths.drop(0) > 1).any())


# The speed-up


@dataclass(frozen=True)
class _Arrow:
    """From the baseline's best to where the arm first has it, at one height."""

    ax: Axes
    start: float
    end: float
    y: float
    text: str


def _arrow(ax: Axes, curve: Curve, s: Shown, lines: list[_Line]) -> _Arrow | None:
    """The arrow between the mean lines. Its number is compare's, read off these lines; None if they do not meet."""
    sign = -1 if s.score in LOWER_IS_BETTER else 1
    names = dict(zip(s.rows["arm"], arms_of(s.rows, s.baseline), strict=True))
    base = next((line for line in lines if line.arm == 0), None)
    ours = next((line for line in lines if line.arm and names[line.arm] == curve.arm), None)
    told = _told(curve)
    if base is None or ours is None or told is None:
        return None
    at_best = told is curve.speedup
    target = sign * max(sign * y for y in base.ys) if at_best else curve.speedup_at[-1].score
    start, end = (first_reach(line.xs, [sign * y for y in line.ys], sign * target) for line in (base, ours))
    if start is None or end is None:
        return None
    arrow = {"arrowstyle": "-|>", "linestyle": "--", "color": "#444444", "shrinkA": 1, "shrinkB": 1, "lw": 1}
    ax.annotate("", (end, target), (start, target), arrowprops=arrow, zorder=5)
    assert told.mean is not None
    slower = told.mean < 1
    factor, *seeds = (1 / one if slower else one for one in (told.mean, *told.values))
    text = f"{s.arms[ours.arm]}: {times(factor)}× {'slower' if slower else 'faster'}"
    if not at_best:
        text += f" to {100 * target:.1f} %" if s.score not in LOWER_IS_BETTER else f" to {target:.3g}"
    if len(seeds) > 1:
        text += f"\n({times(min(seeds))} to {times(max(seeds))}, {len(seeds)} seeds)"
    return _Arrow(ax, start, end, target, text)


def _told(curve: Curve) -> Estimate | None:
    """The speed-up at the baseline's best if the arm gets there, else at the best score that both have."""
    if curve.speedup.n and curve.speedup.n == len(curve.seeds):
        return curve.speedup
    return curve.speedup_at[-1].speedup if curve.speedup_at else None


def _label_arrow(labels_here: Labels, arrow: _Arrow) -> None:
    shares = (0.5, 0.6, 0.4, 0.7, 0.3, 0.8, 0.2)
    anchors = [(arrow.start + share * (arrow.end - arrow.start), arrow.y) for share in shares]
    style = {"color": "#222222", "fontsize": 7.5}
    if not labels_here.explain(arrow.text, anchors, **style):
        labels_here.explain(arrow.text.partition("\n")[0], anchors, **style)
