"""What each part of the recipe does, as FLIP's Table 1: a strip a part, in it the values of that part by mask ratio."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from flipscale.compare import is_baseline
from flipscale.plot.figure_data import FigureData, Undrawable
from flipscale.plot.on_axes import on_axes
from flipscale.plot.page import Drawing, DrawnLine, Note, Panel
from flipscale.plot.style import arm_style, percent_axis
from flipscale.plot.thinning import FloatArray
from flipscale.plot.words import setting_words, value_words
from flipscale.scores import score_label

_MOST_MASKS = 6
_MOST_STRIP_VALUES = 8
_VALUE_CHARACTERS = 13  # of a value's words in one line


def ablation_panels(data: FigureData) -> list[Panel]:
    """A strip for each part of the recipe that varies while all others are the baseline's; parts that go together, one.

    Of several cells the one with most arms is shown, of equals the one that trained longest.
    """
    cells = data.rows.groupby("cell").agg(n=("arm", "nunique"), f=("train_flops", "mean")).sort_values(["n", "f"])
    rows = data.rows[data.rows["cell"] == cells.index[-1]]
    changed = _changed_settings(rows, data.baseline)
    strips = _settings_of_strips(changed)
    if not strips:
        raise Undrawable("the baseline names no setting but the mask ratio that varies")
    masks = sorted(rows["mask_ratio"].dropna().unique())
    if len(masks) > _MOST_MASKS:
        raise Undrawable(f"{len(masks)} mask ratios are too many to tell apart in one strip")

    def panel(settings: tuple[str, ...]) -> Panel:
        of_strip = _rows_of(rows, changed, settings)

        def draw(ax: Axes) -> Drawing:
            return _draw_strip(ax, _strip(of_strip, settings, data), data, masks)

        title = ", ".join(dict.fromkeys(name.replace("_", " ") for name in settings))
        marks = "points: means over seeds, bars: ± 1 sd, dotted: the level of the baseline's value"
        return Panel(title, of_strip, draw, score_label(data.score), marks, chance=data.chance)

    return [panel(settings) for settings in strips]


# Which runs stand in which strip


def _changed_settings(rows: pd.DataFrame, baseline: Mapping[str, object]) -> list[tuple[str, ...]]:
    """The settings in which each row differs from the baseline, but for the mask ratio."""
    names = [name for name in baseline if name != "mask_ratio" and name in rows]
    differs = pd.DataFrame({name: ~is_baseline(rows, {name: baseline[name]}) for name in names}, index=rows.index)
    flags = differs.to_numpy().tolist()
    return [tuple(name for name, flag in zip(names, row, strict=True) if flag) for row in flags]


def _settings_of_strips(changed: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The settings of each strip.

    A setting that only changes together with another, as which tokens with how many, makes one strip with it.
    """
    return [
        settings
        for settings in dict.fromkeys(changed)
        if settings and not any(set(settings) < set(more) for more in changed)
    ]


def _rows_of(rows: pd.DataFrame, changed: list[tuple[str, ...]], settings: tuple[str, ...]) -> pd.DataFrame:
    """The rows that change nothing but these settings, at the mask ratios at which some row changes one."""
    inside = [set(names) <= set(settings) for names in changed]
    masks = {ratio for ratio, names, fits in zip(rows["mask_ratio"], changed, inside, strict=True) if names and fits}
    return rows[pd.Series(inside, index=rows.index) & rows["mask_ratio"].isin(masks)]


# One strip


@dataclass(frozen=True)
class _Strip:
    """The values of one part of the recipe."""

    rows: pd.DataFrame
    words: "pd.Series[str]"
    """The value of each row."""
    order: list[str]
    """The values from left to right; the baseline's is the first."""

    def means(self, mask_ratio: float, score: str) -> tuple[list[int], list[float], FloatArray]:
        """Of the values that have runs at this mask ratio: place in `order`, mean of the score, sd over seeds."""
        rows = self.rows[self.rows["mask_ratio"] == mask_ratio]
        scores = rows.groupby(self.words.loc[rows.index])[score]
        means, sds = scores.mean(), scores.std().fillna(0.0)
        known = [value for value in self.order if value in means.index]
        places = [self.order.index(value) for value in known]
        return places, [float(means[value]) for value in known], np.array([float(sds[value]) for value in known])


def _strip(rows: pd.DataFrame, settings: tuple[str, ...], data: FigureData) -> _Strip:
    words = _values(rows, settings, data.baseline)
    in_order = words.loc[_sorted(rows, settings, data.baseline).index]
    return _Strip(rows, words, list(dict.fromkeys(in_order))[:_MOST_STRIP_VALUES])


def _draw_strip(ax: Axes, strip: _Strip, data: FigureData, masks: list[float]) -> Drawing:
    """The means of each value, a marker a mask ratio; a dotted level goes on from the baseline's value."""
    if not data.lower_is_better:
        percent_axis(ax.yaxis)
    drawing = Drawing()
    drawn = [ratio for ratio in masks if (strip.rows["mask_ratio"] == ratio).any()]
    for i, ratio in enumerate(drawn):
        style = arm_style(masks.index(ratio)).without_line()
        places, ys, spread = strip.means(ratio, data.score)
        xs = [place + 0.2 * (i - (len(drawn) - 1) / 2) for place in places]
        bars = spread if spread.any() else None
        ax.errorbar(xs, ys, bars, capsize=2, elinewidth=0.9, zorder=3, **style.keywords())
        if 0 in places:
            level = [xs[0], len(strip.order) - 0.55], [ys[0], ys[0]]
            ax.plot(*level, ":", color=style.color, linewidth=0.8, zorder=2)
            drawing.avoid.append(level)
        name = setting_words("mask_ratio", float(ratio))
        line = DrawnLine(name, style, xs, ys, (ys - spread).tolist(), (ys + spread).tolist())
        drawing.lines.append(line)
        drawing.notes += _numbers(line, data.lower_is_better)
    labels = [textwrap.fill(value.replace(" %", "\u00a0%"), _VALUE_CHARACTERS) for value in strip.order]
    ax.set_xticks(range(len(labels)), labels, fontsize=8)
    ax.set_xlim(-0.5, len(labels) - 0.5)
    ax.grid(visible=False, axis="x")
    return drawing


def _numbers(line: DrawnLine, lower_is_better: bool) -> list[Note]:
    """The number of each point, where there is room."""
    words = [f"{y:.3g}" if lower_is_better else f"{100 * y:.1f}" for y in line.ys]
    points = zip(line.xs, line.ys, strict=True)
    return [Note((text,), (point,), line.style.color, 7, last=True) for text, point in zip(words, points, strict=True)]


def _sorted(rows: pd.DataFrame, settings: tuple[str, ...], baseline: Mapping[str, object]) -> pd.DataFrame:
    """The baseline's value first, then numbers by size and words as they come."""
    base = ~is_baseline(rows, {name: baseline[name] for name in settings})
    keys = [name for name in settings if pd.api.types.is_numeric_dtype(rows[name])]
    return rows.assign(_base=base).sort_values(["_base", *keys], kind="stable")


def _values(rows: pd.DataFrame, settings: tuple[str, ...], baseline: Mapping[str, object]) -> "pd.Series[str]":
    """The value in each row: of one setting the value alone; of several what differs from the baseline."""

    def several(row: Mapping[str, object]) -> str:
        different = [name for name in settings if value_words(row[name]) != value_words(baseline[name])]
        plain = [
            setting_words(name, row[name]) if isinstance(row[name], int | float) else value_words(row[name])
            for name in different
        ]
        return ", ".join(plain) or "none"

    if len(settings) == 1:
        words = [value_words(value) for value in rows[settings[0]].tolist()]
    else:
        words = [several({name: row[name] for name in settings}) for row in rows[[*settings]].to_dict("records")]
    return pd.Series(words, index=rows.index)


ablation = on_axes(
    "ablation",
    ablation_panels,
    """Draw the score for each value of one part of the recipe onto an Axes, by mask ratio: a strip of FLIP's Table 1.

    The parts are the settings of `baseline`.
    """,
)
