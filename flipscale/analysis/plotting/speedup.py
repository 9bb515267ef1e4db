"""Speed-ups at equal score: over training time, as FLIP's Fig 1 and 3, and over the scores at which they are read."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from flipscale.analysis.comparing import Curve, Estimate, series_of, speed_cell
from flipscale.analysis.plotting.figure_data import FigureData, Undrawable, check_arms, one_value
from flipscale.analysis.plotting.lines import add_references, in_time_units, mean_line, set_x_axis
from flipscale.analysis.plotting.page import MEANS, FigureKind, Panel
from flipscale.analysis.plotting.style import QUIET, arm_style, log_axis, percent_axis
from flipscale.cell import cell_words
from flipscale.words import score_value, short

_FAR_APART = 4
"""Schedule lengths that are further apart than this factor, between which a reading is far from any run."""

_BEYOND = 1.6
"""Bands are drawn up to this factor beyond the speed-ups themselves: where curves end they are open."""

_CHARACTERS = 46
"""Of a line of a legend."""

_LINE = 0.055
"""Height of a label, as a share of the panel's."""


def speedup(data: FigureData) -> list[Panel]:
    """A panel per series in which both the baseline and another arm have two schedule lengths.

    Curves are those that `compare` reads, on the logarithm of time. An arrow goes from where the baseline has a score
    to where each arm first reaches it; the legend has the arm's speed-up.
    """
    if "samples" not in data.axes:
        raise one_value("samples", "a speed-up is read between runs of two or more schedule lengths")
    check_arms(data)
    timed, words = in_time_units(data)
    series = series_of(timed.rows)
    names = [name for name in dict.fromkeys(series) if _has_curves(timed.rows[series == name])]
    if not names:
        raise Undrawable("no series has two schedule lengths of both the baseline and another arm")

    # All series are compared at once, as `flipscale compare` does: intervals are corrected for all of them.
    comparison = data.comparison
    corrected = f" corrected for {comparison.speedups_claimed}" if comparison.speedups_claimed > 1 else ""
    marks = (
        f"{MEANS}\narrows: from the baseline's time to that of an arm at one score, filled where the speed-up is "
        f"significant (95\u00a0% CIs{corrected})"
    )
    if (gap := _largest_gap(timed.rows)) > _FAR_APART:
        marks += f"\nschedule lengths are up to a factor of {gap:.3g} apart; a reading between them is interpolated"

    def panel(name: str) -> Panel:
        rows = timed.rows[series == name]
        curves = {data.arm_numbers[curve.arm]: curve for curve in comparison.first_curves if curve.series == name}

        def draw(ax: Axes) -> None:
            controls = _controls(rows)
            faint = dict.fromkeys(controls, 0.45)
            for arm in sorted(set(rows["arm"]), key=lambda arm: (arm in controls, arm)):
                of_arm = rows[rows["arm"] == arm]
                reading = curves[arm].speedup if arm in curves else None
                named = f"{data.arms[arm]}: {speed_cell(reading)}" if reading else data.arms[arm]
                named = textwrap.fill(named.replace(" %", "\u00a0%"), _CHARACTERS).replace("\u00a0%", " %")
                xy = "time", data.score
                mean_line(ax, timed, of_arm, xy, "samples", named, arm_style(arm), read=True, alpha=faint.get(arm, 1.0))
            references = add_references(ax, timed, rows, "time")
            set_x_axis(ax.xaxis, "time", pd.concat([rows["time"], references["time"].astype(float)]))
            ax.set_xlabel(words)
            bars = {arm: bar for arm, curve in curves.items() if (bar := _bar(curve, rows))}
            for arm, (end, start, score) in bars.items():
                to = f"speed-up to {score_value(score, comparison.fraction)} (95 % CI)"
                ax.plot([end, start], [score] * 2, "--", color=QUIET, linewidth=1, zorder=3.5, label=to)
                factor = curves[arm].factor
                look = arm_style(arm).marks(filled=factor is not None and factor.significant)
                ax.plot([end], [score], "<" if end <= start else ">", ms=7, zorder=5, alpha=faint.get(arm, 1.0), **look)

        return Panel(cell_words(name), rows, draw, data.score_words, marks, own_legend=True, chance=data.chance)

    return [panel(name) for name in names]


SPEEDUP = FigureKind(
    speedup,
    "score against training time, speed-up at equal score (FLIP's Fig 1 and 3)",
    "An arrow goes from the time in which the baseline reaches a score to the time in which an arm first reaches it.",
)


def _has_curves(rows: pd.DataFrame) -> bool:
    lengths = rows.groupby("arm")["samples"].nunique()
    return bool(lengths.get(0, 0) > 1 and (lengths.drop(0) > 1).any())


def _largest_gap(rows: pd.DataFrame) -> float:
    """The largest factor between two schedule lengths of one arm and series that follow each other."""
    lengths = rows.assign(series=series_of(rows))[["series", "arm", "samples"]].drop_duplicates().sort_values("samples")
    return float((lengths["samples"] / lengths.groupby(["series", "arm"])["samples"].shift()).max())


def _controls(rows: pd.DataFrame) -> set[int]:
    """The arms that mask no more than the baseline, where others do."""
    if "mask_ratio" not in rows or rows["mask_ratio"].nunique() < 2:
        return set()
    base = rows.loc[rows["arm"] == 0, "mask_ratio"].max()
    return {arm for arm in set(rows["arm"]) - {0} if not (rows.loc[rows["arm"] == arm, "mask_ratio"] > base).any()}


def _bar(curve: Curve, rows: pd.DataFrame) -> tuple[float, float, float] | None:
    """The arm's time, the baseline's, and the score at which both are read; None where the arm never reaches it."""
    factor, read = curve.factor, curve.speedup
    if factor is None or read is None:
        return None
    of_base = rows[(rows["arm"] == 0) & (rows["samples"] == read.at) & rows["seed"].isin(curve.seeds)]
    start = float(of_base["time"].mean())
    return start / factor.value, start, read.score


# Over scores


def speedup_over_scores(data: FigureData) -> list[Panel]:
    """For each series the speed-up of its arms at every score that they and the baseline reach; controls are left out.

    With one series a second panel has the samples to the same scores. Numbers are those of comparison.json, whose
    `speedup_curve` has the points.
    """
    check_arms(data)
    timed, _ = in_time_units(data)
    series, number = series_of(timed.rows), data.arm_numbers
    controls = _controls(timed.rows)
    shown: dict[str, dict[int, Curve]] = {}
    for curve in data.comparison.first_curves:
        arm = number[curve.arm]
        if curve.speedup_at and (arm not in controls or controls >= set(number.values()) - {0}):
            shown.setdefault(curve.series, {})[arm] = curve
    if not shown:
        raise Undrawable("no arm and baseline have two schedule lengths and scores in common")

    both = {"speedup": "speed-up in time"} | ({"samples": "samples, over the baseline's"} if len(shown) == 1 else {})
    size = 10.4, 0.7 + 3.2 * math.ceil(len(both) * len(shown) / 2)

    def panel(name: str, what: str) -> Panel:
        curves = shown[name]
        limits = _limits([_points_over_scores(curve, what) for of in shown.values() for curve in of.values()])

        def draw(ax: Axes) -> None:
            _draw_over_scores(ax, data, curves, limits, what)

        rows = timed.rows[(series == name) & timed.rows["arm"].isin([0, *curves])]
        part = {"samples": "samples", "speedup": "time"}[what] if len(both) > 1 else ""
        title = ", ".join(filter(None, [cell_words(name), part]))
        return Panel(title, rows, draw, both[what], _OVER_SCORES, size)

    return [panel(name, what) for name in shown for what in both]


SPEEDUP_OVER_SCORES = FigureKind(
    speedup_over_scores,
    "speed-up in time, and samples, at every score that an arm and the baseline reach",
    "Above 1x the arm is faster; a line that falls to the right says that masking pays less at higher scores.",
    lambda _: 2,
)


_OVER_SCORES = (
    "lines: read off curves through means of seeds, bands: uncorrected 95 % CIs, open where a curve begins or ends\n"
    "diamonds: at the score where the speed-up is stated, filled where it is significant after correction"
)


def _limits(lines: Sequence[Sequence[tuple[float, Estimate]]]) -> tuple[float, float]:
    """An axis that shows 1x, these lines, and the ends of their bands that are not far from them."""
    values = [1.0, *(estimate.mean or 1.0 for points in lines for _, estimate in points)]
    low, high = min(values) / _BEYOND, max(values) * _BEYOND
    ends = [end for points in lines for _, at in points for end in at.interval or () if low < end < high]
    return 0.95 * min([*values, *ends]), 1.05 * max([*values, *ends])


def _draw_over_scores(
    ax: Axes, data: FigureData, curves: Mapping[int, Curve], limits: tuple[float, float], what: str
) -> None:
    """A line an arm with its band, its diamond and its label, around the line of 1x."""
    lines = {arm: points for arm, curve in curves.items() if (points := _points_over_scores(curve, what))}
    for arm, points in lines.items():
        style, scores = arm_style(arm).without_markers(), [score for score, _ in points]
        bands = [at.interval or (math.nan, math.nan) for _, at in points]
        ax.fill_between(scores, *np.clip(bands, *limits).T, color=style.color, alpha=0.13, linewidth=0)
        ax.plot(scores, [at.mean or math.nan for _, at in points], zorder=3, **style.keywords())
    stated = {curve.speedup.score for curve in curves.values() if curve.speedup}
    for score in stated:
        ax.axvline(score, color=QUIET, linestyle=(0, (1, 2)), linewidth=0.9, zorder=1.5)
        words = score_value(score, data.comparison.fraction)
        ax.annotate(
            words, (score, 1), (3, -2), ("data", "axes fraction"), "offset points", va="top", color=QUIET, fontsize=7
        )
    ax.axhline(1, color=QUIET, linewidth=1, zorder=1.5)
    log_axis(ax.yaxis, limits, lambda value: f"{short(value)}×")
    ax.set_ylim(limits)
    for arm, curve in curves.items():
        read = curve.speedup
        if read is None or curve.factor is None or curve.factor.at_least:
            continue
        # A diamond at the score at which the speed-up is stated, where it is a number.
        estimate: Estimate = getattr(read, what)
        if estimate.mean is not None:
            style = replace(arm_style(arm), marker="d", dashes="")
            look = style.keywords() | style.marks(filled=estimate.significant)
            ax.plot([read.score], [estimate.mean], ms=8, zorder=5, **look)
    if data.lower_is_better:
        ax.invert_xaxis()
    else:
        percent_axis(ax.xaxis)
    ax.set_xlabel(data.score_words)
    _label(ax, data, lines)


def _points_over_scores(curve: Curve, what: str) -> list[tuple[float, Estimate]]:
    """The scores, and the `speedup` or the `samples` at each."""
    return [(at.score, estimate) for at in curve.speedup_at if (estimate := getattr(at, what))]


def _label(ax: Axes, data: FigureData, lines: Mapping[int, Sequence[tuple[float, Estimate]]]) -> None:
    """The name of each arm at the right of the panel, joined to the end of its line."""
    low, high = np.log(ax.get_ylim())
    places = {arm: (math.log(points[-1][1].mean or 1.0) - low) / (high - low) for arm, points in lines.items()}
    lowest = -1.0
    for arm in sorted(places, key=lambda arm: places[arm]):
        place = lowest = max(places[arm], lowest + _LINE)
        (score, end), color = lines[arm][-1], arm_style(arm).color
        ax.annotate(
            data.arms[arm],
            (score, end.mean or 1.0),
            (1.05, place),
            textcoords="axes fraction",
            va="center",
            color=color,
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.6},
            annotation_clip=False,
        )
