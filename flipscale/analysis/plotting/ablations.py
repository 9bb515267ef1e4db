"""The effect of each part of the recipe, as FLIP's Table 1: a strip per part with its values by mask ratio."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from flipscale.analysis.comparing import Comparison, arms_of, is_baseline
from flipscale.analysis.plotting.figure_data import FigureData, Undrawable
from flipscale.analysis.plotting.gains import BARS, DrawnGain, beyond_words, draw_gain, drawn_gain, limits_of
from flipscale.analysis.plotting.layout import FigureKind, Panel
from flipscale.analysis.plotting.style import arm_style, percent_axis
from flipscale.cell import setting_words, value_words
from flipscale.words import joined

_MOST_MASKS = 6
_MOST_STRIP_VALUES = 8
_MANY_VALUES = 5  # with more values, letters are smaller
_VALUE_CHARACTERS = {3: 13, _MOST_STRIP_VALUES: 9}  # letters of a value in one line, by the most values of a strip


def ablations(data: FigureData) -> list[Panel]:
    """A strip for each part of the recipe that varies while the others are the baseline's; joint parts share one.

    If there are several cells, the one with most arms is shown, and among equals the one that trained longest.
    """
    cells = data.rows.groupby("cell").agg(n=("arm", "nunique"), f=("train_flops", "mean")).sort_values(["n", "f"])
    rows = data.rows[data.rows["cell"] == cells.index[-1]]
    changed = _changed_settings(rows, data.baseline)
    strips = [
        settings
        for settings in dict.fromkeys(changed)
        # Settings that only change together share one strip.
        if settings and not any(set(settings) < set(more) for more in changed)
    ]
    if not strips:
        raise Undrawable("the baseline names no setting but the mask ratio that varies")
    masks = [float(ratio) for ratio in sorted(rows["mask_ratio"].dropna().unique())]
    if len(masks) > _MOST_MASKS:
        raise Undrawable(f"{len(masks)} mask ratios are too many to tell apart in one strip")

    contrasts = {ratio: _contrasts(data, rows, ratio) for ratio in masks}
    drawn = {settings: _strip(_rows_of(rows, changed, settings), settings, contrasts, data) for settings in strips}
    gains = [gain for strip in drawn.values() for values in strip.values.values() for gain in values.values()]
    scores = [float(score) for strip in drawn.values() for score in strip.rows[data.score]]
    limits = limits_of(scores, [end for gain in gains for end in gain.ends])
    marks = _marks(gains, limits, [contrast.gains_claimed for contrast in contrasts.values() if contrast])

    def panel(settings: tuple[str, ...], strip: _Strip) -> Panel:
        def draw(ax: Axes) -> None:
            if not data.lower_is_better:
                percent_axis(ax.yaxis)
            for i, (ratio, values) in enumerate(strip.values.items()):
                style = arm_style(masks.index(ratio)).without_line()
                shift = 0.2 * (i - (len(strip.values) - 1) / 2)
                for place, gain in values.items():
                    draw_gain(ax, gain, place + shift, style, limits, across=False)
                if 0 in values:
                    level = values[0].mean
                    ends = [shift, len(strip.order) - 0.55]
                    ax.plot(ends, [level, level], ":", color=style.color, linewidth=0.8, zorder=2)
                ax.plot([], [], label=setting_words("mask_ratio", ratio), **style.keywords())
            _name_values(ax, strip.order)
            ax.set_ylim(limits)
            ax.grid(visible=False, axis="x")

        title = ", ".join(dict.fromkeys(name.replace("_", " ") for name in settings))
        return Panel(title, strip.rows, draw, data.score_words, marks, chance=data.chance)

    return [panel(settings, strip) for settings, strip in drawn.items()]


ABLATIONS = FigureKind(
    ablations,
    "a strip for each part of the recipe, by mask ratio (FLIP's Table 1)",
    "The dotted level is that of the baseline's value: a thin bar that excludes it is a significant difference.",
)


def _contrasts(data: FigureData, rows: pd.DataFrame, mask_ratio: float) -> Comparison | None:
    """Every arm of a mask ratio against the baseline's values at the same ratio; None where those were not run."""
    of_mask = rows[rows["mask_ratio"] == mask_ratio]
    try:
        return replace(data, rows=of_mask, baseline=_at_mask(data.baseline, mask_ratio)).comparison
    except Undrawable:
        return None


def _at_mask(baseline: Mapping[str, object], mask_ratio: float) -> dict[str, object]:
    return {**baseline, "mask_ratio": mask_ratio}


def _marks(gains: Sequence[DrawnGain], limits: tuple[float, float], families: Sequence[int]) -> str:
    """The meaning of points and bars, for the small print; `families` are the comparisons at each mask ratio."""
    level = "dotted: the level of the baseline's value"
    if not any(gain.uncorrected for gain in gains):
        return f"points: means over seeds; {level}"
    corrected = ""
    if max(families, default=0) > 1:
        several = joined([str(n) for n in families]) if len(set(families)) > 1 else str(families[0])
        corrected = f": thick uncorrected, thin corrected for the {several} comparisons at a mask ratio"
    return (
        f"points: means over seeds, open where not significantly different from the baseline's value; {level}\n"
        f"bars: {BARS} of the difference from that level, paired by seed{corrected}{beyond_words(gains, limits)}"
    )


# Which runs stand in which strip


def _changed_settings(rows: pd.DataFrame, baseline: Mapping[str, object]) -> list[tuple[str, ...]]:
    """The settings in which each row differs from the baseline, except for the mask ratio."""
    names = [name for name in baseline if name != "mask_ratio" and name in rows]
    differs = pd.DataFrame({name: ~is_baseline(rows, {name: baseline[name]}) for name in names}, index=rows.index)
    flags = differs.to_numpy().tolist()
    return [tuple(name for name, flag in zip(names, row, strict=True) if flag) for row in flags]


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
    order: list[str]
    """The values from left to right; the baseline's is the first."""
    values: Mapping[float, dict[int, DrawnGain]]
    """By mask ratio and place in this order: the mean score over seeds, with its difference from the baseline's value
    where that has a twin."""


def _strip(
    rows: pd.DataFrame, settings: tuple[str, ...], contrasts: Mapping[float, Comparison | None], data: FigureData
) -> _Strip:
    words = _words_of_values(rows, settings, data.baseline)
    in_order = words.loc[_sorted(rows, settings, data.baseline).index]
    order = list(dict.fromkeys(in_order))[:_MOST_STRIP_VALUES]
    by_mask: dict[float, dict[int, DrawnGain]] = {}
    for ratio, comparison in contrasts.items():
        of_mask = rows[rows["mask_ratio"] == ratio]
        arms = arms_of(of_mask, _at_mask(data.baseline, ratio))
        pairs = {pair.arm: pair for pair in comparison.pairs} if comparison else {}
        for place, value in enumerate(order):
            of_value = of_mask[words.loc[of_mask.index] == value]
            if len(of_value):
                mark = DrawnGain(float(of_value[data.score].mean()), True, None, None)
                if pair := pairs.get(arms[of_value.index[0]]):
                    mark = drawn_gain(pair, 1).beside(mark.mean, lower_is_better=data.lower_is_better)
                by_mask.setdefault(ratio, {})[place] = mark
    return _Strip(rows, order, by_mask)


def _name_values(ax: Axes, values: Sequence[str]) -> None:
    """The values below the strip, wrapped to the width that each has."""
    width = next(width for most, width in _VALUE_CHARACTERS.items() if len(values) <= most)
    labels = [textwrap.fill(value.replace(" %", "\u00a0%"), width, break_long_words=False) for value in values]
    ax.set_xticks(range(len(labels)), labels, fontsize=8 if len(labels) <= _MANY_VALUES else 7)
    ax.set_xlim(-0.5, len(labels) - 0.5)


def _sorted(rows: pd.DataFrame, settings: tuple[str, ...], baseline: Mapping[str, object]) -> pd.DataFrame:
    """The baseline's value first, then numbers by size and words as they come."""
    base = ~is_baseline(rows, {name: baseline[name] for name in settings})
    keys = [name for name in settings if pd.api.types.is_numeric_dtype(rows[name])]
    return rows.assign(_base=base).sort_values(["_base", *keys], kind="stable")


def _words_of_values(rows: pd.DataFrame, settings: tuple[str, ...], baseline: Mapping[str, object]) -> "pd.Series[str]":
    """The value in each row: for one setting, the value alone; for several, those that differ from the baseline."""

    def words(row: Mapping[Any, object]) -> str:
        if len(settings) == 1:
            return value_words(row[settings[0]])
        different = [name for name in settings if value_words(row[name]) != value_words(baseline[name])]
        plain = [
            setting_words(name, row[name]) if isinstance(row[name], int | float) else value_words(row[name])
            for name in different
        ]
        return ", ".join(plain) or "none"

    return pd.Series(map(words, rows[[*settings]].to_dict("records")), index=rows.index)
