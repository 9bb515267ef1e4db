"""Score against training time with the speed-up at equal score, as FLIP's Fig 1 and 3."""

import pandas as pd
from matplotlib.axes import Axes

from flipscale.compare import Claim, cell_words, series_of, speed_cell
from flipscale.plot.figure_data import FigureData, Undrawable, check_arms, one_value
from flipscale.plot.lines import add_references, in_time_units, mean_line, set_x_axis
from flipscale.plot.page import MEANS, Panel
from flipscale.plot.style import QUIET, arm_style, percent_axis
from flipscale.scores import score_label
from flipscale.words import score_value

_FAR_APART = 4
"""Schedule lengths that are further apart than this factor, between which a reading is far from any run."""


def speedup(data: FigureData) -> list[Panel]:
    """A panel per series in which both the baseline and another arm have two schedule lengths.

    Curves are those that `compare` reads, on the logarithm of time. A bar goes from where the baseline has a score to
    where each arm first reaches it, and carries the arm's number; the legend has its interval, as `compare` writes it.
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
    corrected = f" corrected for {comparison.speedups_claimed}" if comparison.speedups_claimed > 1 else ""
    marks = (
        f"{MEANS}\narrows: from the baseline's time to that of an arm at one score, filled where the speed-up is "
        f"significant (95\u00a0% CIs{corrected})"
    )
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
                of_arm, alpha = rows[rows["arm"] == arm], 0.45 if arm in controls else 1.0
                read = claims[arm].curve.speedup if arm in claims else None
                named = f"{data.arms[arm]}: {speed_cell(read)}" if read else data.arms[arm]
                xy = "time", data.score
                mean_line(ax, timed, of_arm, xy, "samples", named, arm_style(arm), read=True, alpha=alpha)
            references = add_references(ax, timed, rows, "time")
            set_x_axis(ax.xaxis, "time", pd.concat([rows["time"], references["time"].astype(float)]))
            ax.set_xlabel(words)
            bars = {arm: bar for arm, claim in claims.items() if (bar := _bar(claim, rows))}
            # Numbers of neighbours stand in two rows, so that they do not touch.
            for place, arm in enumerate(sorted(bars, key=lambda arm: bars[arm][0])):
                to = f"speed-up to {score_value(bars[arm][2], comparison.fraction)} (95 % CI)"
                ax.plot(bars[arm][:2], [bars[arm][2]] * 2, "--", color=QUIET, linewidth=1, zorder=3.5, label=to)
                _draw_arrow(
                    ax, bars[arm], claims[arm], arm, below=10 * (place % 2), alpha=0.45 if arm in controls else 1
                )

        return Panel(cell_words(name), rows, draw, score_label(data.score), marks, inside=True, chance=data.chance)

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


def _bar(claim: Claim, rows: pd.DataFrame) -> tuple[float, float, float] | None:
    """The arm's time, the baseline's, and the score at which both are read; None where the arm never reaches it."""
    found, read = claim.speedup, claim.curve.speedup
    if found is None or read is None:
        return None
    of_base = rows[(rows["arm"] == 0) & (rows["samples"] == read.at) & rows["seed"].isin(claim.curve.seeds)]
    start = float(of_base["time"].mean())
    return start / found.value, start, read.score


def _draw_arrow(
    ax: Axes, bar: tuple[float, float, float], claim: Claim, arm: int, *, below: float, alpha: float
) -> None:
    """An arrow at the arm's time, and its number some points below."""
    end, start, score = bar
    color, significant = arm_style(arm).color, claim.speedup and claim.speedup.significant
    (mark,) = ax.plot([end], [score], "<" if end <= start else ">", ms=7, zorder=5, color=color, alpha=alpha)
    mark.set_markerfacecolor(color if significant else "white")
    ax.annotate(
        speed_cell(claim.curve.speedup).partition(" ")[0],
        (end, score),
        (0, -6 - below),
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize=8,
        fontweight="bold",
        color=color,
        alpha=alpha,
        zorder=6,
        bbox={"boxstyle": "square,pad=0.05", "facecolor": "white", "alpha": 0.7, "linewidth": 0},
    )
