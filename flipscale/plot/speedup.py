"""Score against training time with the speed-up at equal score, as FLIP's Fig 1 and 3."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes

from flipscale.compare import (
    Baseline,
    Claim,
    Effect,
    Finding,
    cell_words,
    first_reach,
    leading,
    series_of,
)
from flipscale.plot.figure_data import NO_MASK, FigureData, Undrawable, check_arms, figure_data, one_value
from flipscale.plot.lines import add_references, arm_lines, in_time_units
from flipscale.plot.page import MEANS, Drawing, DrawnLine, Note, Panel, alone
from flipscale.plot.style import start_at
from flipscale.scores import score_label
from flipscale.words import count, ratio_interval, score_value, times


def speedup(
    results: pd.DataFrame,
    ax: Axes,
    *,
    baseline: Baseline = NO_MASK,
    score: str | None = None,
    references: pd.DataFrame | None = None,
    panel: str | None = None,
) -> pd.DataFrame:
    """Draw the score against training time onto an Axes, with arrows for the speed-ups that compare claims.

    Each panel shows its strongest claim (`compare.leading`).

    `results` is results.csv's table, or rows of it. `panel` names one series where these rows are of several. Returns
    the runs drawn; raises Undrawable with the reason where there is nothing to draw.
    """
    return alone(ax, speedup_panels(figure_data(results, baseline=baseline, score=score, references=references)), panel)


def speedup_panels(data: FigureData) -> list[Panel]:
    """A panel per series in which both the baseline and another arm have two schedule lengths."""
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
    claims = comparison.speedups_claimed
    marks = MEANS + (f"; 95 % CIs are corrected for {claims} comparisons" if claims > 1 else "")

    def panel(name: str) -> Panel:
        rows = timed.rows[series == name]

        def draw(ax: Axes) -> Drawing:
            drawing = Drawing(arm_lines(ax, timed, rows, "time", along="samples"))
            add_references(ax, timed, rows, "time", drawing)
            start_at(ax, 0, float(rows["time"].max()) * 1.06)
            ax.set_xlabel(words)
            claim = leading([claim for claim in comparison.claims if claim.series == name])
            if claim and (arrow := _arrow(claim, data, rows, drawing.lines)):
                _draw_arrow(ax, arrow, drawing)
                drawing.notes.append(_note(claim, arrow, data))
            return drawing

        return Panel(cell_words(name), rows, draw, score_label(data.score), marks, chance=data.chance)

    return [panel(name) for name in names]


def _has_curves(rows: pd.DataFrame) -> bool:
    lengths = rows.groupby("arm")["samples"].nunique()
    return bool(lengths.get(0, 0) > 1 and (lengths.drop(0) > 1).any())


@dataclass(frozen=True)
class _Arrow:
    """From where the baseline has a score to where the arm first reaches it."""

    start: float
    end: float
    y: float
    significant: bool


def _arrow(claim: Claim, data: FigureData, rows: pd.DataFrame, lines: Sequence[DrawnLine]) -> _Arrow | None:
    """An arrow for the speed-up of the claim, from the baseline's line and as long as the claim says.

    The drawn lines are straight between points, but the claim is not read off straight lines: its arrow may end off the
    line of the arm.
    """
    of_arm = dict(zip(sorted(set(rows["arm"])), lines, strict=True))
    found, curve = claim.speedup, claim.curve
    if not {0, data.arm_numbers[claim.arm]} <= set(of_arm) or found is None or curve.speedup is None:
        return None
    start = _cost_of(curve.speedup.score, of_arm[0], data.lower_is_better)
    return None if start is None else _Arrow(start, start / found.value, curve.speedup.score, found.significant)


def _cost_of(score: float, line: DrawnLine, lower_is_better: bool) -> float | None:
    """The cost at which a line first reaches a score. The claim's mean equals the line's up to rounding."""
    sign = -1 if lower_is_better else 1
    ys = [sign * y for y in line.ys]
    target = sign * score
    nearest = next((y for y in (ys[0], max(ys)) if math.isclose(y, target, rel_tol=1e-9)), target)
    return first_reach(line.xs, ys, nearest)


def _draw_arrow(ax: Axes, arrow: _Arrow, drawing: Drawing) -> None:
    """The arrow of a claim that is not significant has no head."""
    head = "-|>" if arrow.significant else "-"
    style = {"arrowstyle": head, "linestyle": "--", "color": "#444444", "shrinkA": 1, "shrinkB": 1, "lw": 1}
    ax.annotate("", (arrow.end, arrow.y), (arrow.start, arrow.y), arrowprops=style, zorder=5)
    drawing.avoid.append(([arrow.start, arrow.end], [arrow.y, arrow.y]))


def _note(claim: Claim, arrow: _Arrow, data: FigureData) -> Note:
    """The claim beside its arrow, in fewer and fewer words, with its interval in all of them."""
    found, curve = claim.speedup, claim.curve
    assert found is not None
    assert curve.speedup is not None
    head, values = _words(found, score_value(curve.speedup.score, data.comparison.fraction))
    short = f"{head}\n({values})" if values else head
    full = f"{short.removesuffix(')')}, {count(found.seeds, 'seed')})" if found.interval else short
    arm = data.arms[data.arm_numbers[claim.arm]]
    shares = (0.5, 0.6, 0.4, 0.7, 0.3, 0.8, 0.2)
    points = tuple((arrow.start + share * (arrow.end - arrow.start), arrow.y) for share in shares)
    narrow = short.replace(", 95", ",\n95")
    return Note((f"{arm}: {full}", f"{arm}:\n{full}", f"{arm}:\n{short}", f"{arm}:\n{narrow}"), points, color="#222222")


def _words(found: Finding, score: str) -> tuple[str, str]:
    """The claim, and its numbers."""
    factor = f"{'at least ' if found.at_least else ''}{times(found.value)}×"
    ci = ratio_interval(*found.interval) if found.interval else ""
    if found.effect is Effect.NOT_SIGNIFICANT:
        return str(found.effect), f"{factor} to {score}, {ci}"
    if found.value >= 1:
        return f"{factor} faster to {score}", ci
    return f"{times(1 / found.value)}× slower to {score}", f"{factor}, {ci}" if ci else ""
