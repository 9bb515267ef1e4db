"""Score against training time with the speed-up at equal score, as FLIP's Fig 1 and 3."""

from dataclasses import replace

import pandas as pd
from matplotlib.axes import Axes

from flipscale.cell import cell_words
from flipscale.compare import Claim, Effect, series_of
from flipscale.plot.figure_data import FigureData, Undrawable, check_arms, one_value
from flipscale.plot.lines import add_references, in_time_units, mean_line, set_x_axis
from flipscale.plot.page import MEANS, Panel
from flipscale.plot.style import QUIET, arm_style, percent_axis
from flipscale.scores import score_label
from flipscale.words import count, ratio_interval, score_value, times

_FAR_APART = 4
"""Schedule lengths that are further apart than this factor, between which a reading is far from any run."""


def speedup(data: FigureData) -> list[Panel]:
    """A panel per series in which both the baseline and another arm have two schedule lengths.

    Curves are those that `compare` reads, on the logarithm of time. A bar goes from where the baseline has a score to
    where each arm first reaches it, and the legend has the number.
    """
    if "samples" not in data.axes:
        raise one_value("samples", "a speed-up is read between runs of two or more schedule lengths")
    check_arms(data)
    timed, words = in_time_units(data)
    series = series_of(timed.rows)
    names = [name for name in dict.fromkeys(series) if _has_curves(timed.rows[series == name])]
    if not names:
        raise Undrawable("no series has two schedule lengths of both the baseline and another arm")

    # All series are compared at once, as `flipscale compare` does: intervals are corrected for all claims.
    comparison = data.comparison
    claimed = comparison.speedups_claimed
    marks = MEANS + (f"; 95 % CIs are corrected for {claimed} comparisons" if claimed > 1 else "")
    marks += "\ndashed: the score at which speed-ups are read, from the baseline to each arm; filled where significant"
    if (gap := _largest_gap(timed.rows)) > _FAR_APART:
        marks += f"\nschedule lengths are up to a factor of {gap:.3g} apart; a reading between them is interpolated"

    def panel(name: str) -> Panel:
        rows = timed.rows[series == name]
        claims = {data.arm_numbers[claim.arm]: claim for claim in comparison.claims if claim.series == name}

        def draw(ax: Axes) -> None:
            if not data.lower_is_better:
                percent_axis(ax.yaxis)
            controls = _controls(rows)
            for arm in sorted(set(rows["arm"]), key=lambda arm: (arm in controls, arm)):
                claim, style = claims.get(arm), arm_style(arm)
                said = f"{data.arms[arm]}: {words_of(claim, data)}" if claim and claim.curve.speedup else data.arms[arm]
                of_arm = rows[rows["arm"] == arm]
                alpha = 0.45 if arm in controls else 1.0
                mean_line(ax, timed, of_arm, ("time", data.score), "samples", said, style, read=True, alpha=alpha)
            for arm, claim in claims.items():
                _draw_bar(ax, claim, rows, arm)
            references = add_references(ax, timed, rows, "time")
            set_x_axis(ax.xaxis, "time", pd.concat([rows["time"], references["time"].astype(float)]))
            ax.set_xlabel(words)

        return Panel(cell_words(name), rows, draw, score_label(data.score), marks, own_legend=True, chance=data.chance)

    return [panel(name) for name in names]


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


def _draw_bar(ax: Axes, claim: Claim, rows: pd.DataFrame, arm: int) -> None:
    """From the time in which the baseline has the score to the arm's, by its speed-up."""
    found, read = claim.speedup, claim.curve.speedup
    if found is None or read is None:
        return
    of_base = rows[(rows["arm"] == 0) & (rows["samples"] == read.at) & rows["seed"].isin(claim.curve.seeds)]
    start = float(of_base["time"].mean())
    end = start / found.value
    ax.plot([end, start], [read.score] * 2, "--", color=QUIET, linewidth=1, zorder=3.5)
    style = replace(arm_style(arm), marker="d", dashes="")
    (mark,) = ax.plot([end], [read.score], ms=8, zorder=5, **style.keywords())
    mark.set_markerfacecolor(style.color if found.significant else "white")


def words_of(claim: Claim, data: FigureData) -> str:
    """The speed-up of an arm with its interval, or why there is none."""
    found, read = claim.speedup, claim.curve.speedup
    assert read is not None
    score = score_value(read.score, data.comparison.fraction)
    if found is None:
        return f"never reaches {score}"
    factor = f"{'at least ' if found.at_least else ''}{times(found.value)}×"
    ci = f"\n({ratio_interval(*found.interval)}, {count(found.seeds, 'seed')})" if found.interval else ""
    if found.effect is Effect.NOT_SIGNIFICANT:
        return f"{factor}, {found.effect}{ci}"
    if found.value >= 1:
        return f"{factor} faster to {score}{ci}"
    return f"{times(1 / found.value)}× slower to {score}{ci}"
