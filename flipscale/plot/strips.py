"""What each part of the recipe does, as FLIP's Table 1: a strip a part, in it the values of that part by mask ratio."""

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from flipscale.compare import is_baseline
from flipscale.plot.page import Drawing, Line, Note, Panel, alone
from flipscale.plot.shown import NO_MASK, Shown, Undrawable, setting_words, shown, value_words
from flipscale.plot.style import line_style, percent_axis
from flipscale.scores import score_label

_MOST_MASKS = 6
_MOST_VALUES = 8
_CHARACTERS = 13  # of a value's words in one line


def ablation(
    results: pd.DataFrame,
    ax: Axes,
    *,
    baseline: Mapping[str, Any] = NO_MASK,
    score: str | None = None,
    panel: str | None = None,
) -> pd.DataFrame:
    """Draw the score for each value of one part of the recipe onto an Axes, by mask ratio: a strip of FLIP's Table 1.

    `results` is results.csv's table, or rows of it; the parts are the settings of `baseline`. `panel` names one by its
    title where several vary. Returns the runs drawn; raises Undrawable with the reason where there is nothing to draw.
    """
    return alone(ax, ablation_panels(shown(results, baseline=baseline, score=score)), panel)


def ablation_panels(s: Shown) -> list[Panel]:
    """A strip for each part of the recipe that varies while all others are the baseline's; parts that go together, one.

    Of several cells the one with most arms is shown, of equals the one that trained longest.
    """
    parts = [name for name in s.baseline if name != "mask_ratio" and name in s.rows]
    cells = s.rows.groupby("cell").agg(n=("arm", "nunique"), f=("train_flops", "mean")).sort_values(["n", "f"])
    rows = s.rows[s.rows["cell"] == cells.index[-1]]
    changed = pd.DataFrame({name: ~is_baseline(rows, {name: s.baseline[name]}) for name in parts}, index=rows.index)
    sets = [tuple(name for name, there in zip(parts, row, strict=True) if there) for row in changed.to_numpy().tolist()]
    # A part that is only changed together with another, as which tokens with how many, makes one strip with it.
    strips = [one for one in dict.fromkeys(sets) if one and not any(set(one) < set(other) for other in sets)]
    if not strips:
        raise Undrawable("the baseline names no setting but the mask ratio that varies")
    masks = sorted(rows["mask_ratio"].dropna().unique())
    if len(masks) > _MOST_MASKS:
        raise Undrawable(f"{len(masks)} mask ratios are too many to tell apart in one strip")

    def panel(strip: tuple[str, ...]) -> Panel:
        inside = [set(one) <= set(strip) for one in sets]
        there = {ratio for ratio, one in zip(rows["mask_ratio"], sets, strict=True) if one and set(one) <= set(strip)}
        of_strip = rows[pd.Series(inside, index=rows.index) & rows["mask_ratio"].isin(there)]

        def draw(ax: Axes) -> Drawing:
            return _draw_strip(ax, s, of_strip, strip, masks)

        title = ", ".join(dict.fromkeys(name.replace("_", " ") for name in strip))
        marks = "points: means over seeds, bars: ± 1 sd, dotted: the level of the baseline's value"
        return Panel(title, of_strip, draw, score_label(s.score), marks)

    return [panel(strip) for strip in strips]


def _draw_strip(ax: Axes, s: Shown, rows: pd.DataFrame, strip: tuple[str, ...], masks: list[float]) -> Drawing:
    """The means of each value, a marker a mask ratio; a dotted level goes on from the baseline's value."""
    if not s.lower_is_better:
        percent_axis(ax.yaxis)
    words = _values(rows, strip, s.baseline)
    order = list(dict.fromkeys(words.loc[_sorted(rows, strip, s.baseline).index]))[:_MOST_VALUES]
    drawing = Drawing()
    here = [ratio for ratio in masks if (rows["mask_ratio"] == ratio).any()]
    for i, ratio in enumerate(here):
        of_mask = rows[rows["mask_ratio"] == ratio]
        style = {**line_style(masks.index(ratio)), "linestyle": ""}
        shift = 0.2 * (i - (len(here) - 1) / 2)
        values = of_mask.groupby(words.loc[of_mask.index])[s.score]
        means, sds = values.mean(), values.std().fillna(0.0)
        at = [k for k, one in enumerate(order) if one in means.index]
        xs = [k + shift for k in at]
        ys = [float(means[order[k]]) for k in at]
        spread = np.array([float(sds[order[k]]) for k in at])
        ax.errorbar(xs, ys, spread if spread.any() else None, capsize=2, elinewidth=0.9, zorder=3, **style)
        if 0 in at:
            ax.plot([xs[0], len(order) - 0.55], [ys[0], ys[0]], ":", color=style["color"], linewidth=0.8, zorder=2)
            drawing.avoid.append(([xs[0], len(order) - 0.55], [ys[0], ys[0]]))
        name = setting_words("mask_ratio", float(ratio))
        drawing.lines.append(Line(name, style, xs, ys, (ys - spread).tolist(), (ys + spread).tolist()))
        number = "{:.3g}" if s.lower_is_better else "{:.1f}"
        scale = 1 if s.lower_is_better else 100
        drawing.notes += [
            Note((number.format(scale * y),), ((x, y),), style["color"], 7, last=True)
            for x, y in zip(xs, ys, strict=True)
        ]
    ax.set_xticks(
        range(len(order)), [textwrap.fill(one.replace(" %", "\u00a0%"), _CHARACTERS) for one in order], fontsize=8
    )
    ax.set_xlim(-0.5, len(order) - 0.5)
    ax.grid(visible=False, axis="x")
    return drawing


def _sorted(rows: pd.DataFrame, strip: tuple[str, ...], baseline: Mapping[str, Any]) -> pd.DataFrame:
    """The baseline's value first, then numbers by size and words as they come."""
    base = ~is_baseline(rows, {name: baseline[name] for name in strip})
    keys = [name for name in strip if pd.api.types.is_numeric_dtype(rows[name])]
    return rows.assign(_base=base).sort_values(["_base", *keys], kind="stable")


def _values(rows: pd.DataFrame, strip: tuple[str, ...], baseline: Mapping[str, Any]) -> "pd.Series[str]":
    """The value of a strip in each row: of one part the value alone; of several what differs from the baseline."""

    def words(row: Mapping[Any, Any]) -> str:
        if len(strip) == 1:
            return value_words(row[strip[0]])
        other = [name for name in strip if value_words(row[name]) != value_words(baseline[name])]
        plain = [
            setting_words(name, row[name]) if isinstance(row[name], int | float) else value_words(row[name])
            for name in other
        ]
        return ", ".join(plain) or "none"

    return pd.Series([words(row) for row in rows[[*strip]].to_dict("records")], index=rows.index)
