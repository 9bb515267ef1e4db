"""Speed-ups at equal score over training time, as FLIP's Fig 1 and 3."""

import textwrap

import pandas as pd
from matplotlib.axes import Axes

from flipscale.analysis.comparing import Curve, series_of, speed_cell
from flipscale.analysis.plotting.figure_data import FigureData, Undrawable, check_arms, one_value
from flipscale.analysis.plotting.layout import MEANS, FigureKind, Panel
from flipscale.analysis.plotting.lines import add_references, in_time_units, mean_line, set_x_axis
from flipscale.analysis.plotting.style import QUIET, arm_style
from flipscale.cell import cell_words
from flipscale.words import score_value

_FAR_APART = 4
"""Schedule lengths that are further apart than this factor, between which a reading is far from any run."""

_CHARACTERS = 46
"""Of a line of a legend."""


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
    factor = curve.factor
    read = curve.speedup
    if factor is None or read is None:
        return None
    of_base = rows[(rows["arm"] == 0) & (rows["samples"] == read.at) & rows["seed"].isin(curve.seeds)]
    start = float(of_base["time"].mean())
    return start / factor.value, start, read.score
