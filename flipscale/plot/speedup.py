"""Score against training time with the speed-up at the baseline's best, as FLIP's Fig 1 and 3."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes

from flipscale.compare import Curve, Estimate, first_reach, series_of
from flipscale.plot.figure_data import NO_MASK, FigureData, Undrawable, check_arms, figure_data, one_value
from flipscale.plot.lines import add_references, arm_lines, in_time_units
from flipscale.plot.page import Drawing, DrawnLine, Note, Panel, alone
from flipscale.plot.style import start_at
from flipscale.plot.words import cell_words
from flipscale.scores import score_label
from flipscale.words import times


def speedup(
    results: pd.DataFrame,
    ax: Axes,
    *,
    baseline: Mapping[str, object] = NO_MASK,
    score: str | None = None,
    references: pd.DataFrame | None = None,
    panel: str | None = None,
) -> pd.DataFrame:
    """Draw the score against training time onto an Axes, with an arrow for the largest speed-up at equal score.

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

    def panel(name: str) -> Panel:
        rows = timed.rows[series == name]

        def draw(ax: Axes) -> Drawing:
            curves = [curve for curve in data.compared(rows).curves if curve.x == "gpu_hours"]
            drawing = Drawing(arm_lines(ax, timed, rows, "time", along="samples"))
            add_references(ax, timed, rows, "time", drawing)
            start_at(ax, 0, float(rows["time"].max()) * 1.06)
            ax.set_xlabel(words)
            if arrow := _fastest(curves, data, rows, drawing.lines):
                _draw_arrow(ax, arrow, drawing)
            return drawing

        return Panel(cell_words(name), rows, draw, score_label(data.score))

    return [panel(name) for name in names]


def _has_curves(rows: pd.DataFrame) -> bool:
    lengths = rows.groupby("arm")["samples"].nunique()
    return bool(lengths.get(0, 0) > 1 and (lengths.drop(0) > 1).any())


@dataclass(frozen=True)
class _Arrow:
    """From the baseline's score to where the arm first has it, at one height."""

    start: float
    end: float
    y: float
    words: tuple[str, ...]


def _fastest(curves: list[Curve], data: FigureData, rows: pd.DataFrame, lines: list[DrawnLine]) -> _Arrow | None:
    """The arrow of the arm that says most: one that gets to the baseline's best, else the fastest."""
    told = {curve: estimate.mean for curve in curves if (estimate := _told(curve)) and estimate.mean}
    fastest = max(told, key=lambda curve: (_told(curve) is curve.speedup, told[curve]), default=None)
    return None if fastest is None else _arrow(fastest, data, rows, lines)


def _arrow(curve: Curve, data: FigureData, rows: pd.DataFrame, lines: list[DrawnLine]) -> _Arrow | None:
    """The arrow between the mean lines. Its number is compare's, read off these lines; None if they do not meet."""
    sign = -1 if data.lower_is_better else 1
    of_arm = dict(zip(sorted(set(rows["arm"])), lines, strict=True))
    number = data.arm_numbers[curve.arm]
    told = _told(curve)
    if 0 not in of_arm or number not in of_arm or told is None or told.mean is None:
        return None
    base, ours = of_arm[0], of_arm[number]
    at_best = told is curve.speedup
    target = sign * max(sign * y for y in base.ys) if at_best else curve.speedup_at[-1].score
    start, end = (first_reach(line.xs, [sign * y for y in line.ys], sign * target) for line in (base, ours))
    if start is None or end is None:
        return None
    slower = told.mean < 1
    factor, *seeds = (1 / one if slower else one for one in (told.mean, *told.values))
    text = f"{data.arms[number]}: {times(factor)}× {'slower' if slower else 'faster'}"
    if not at_best:
        text += f" to {target:.3g}" if data.lower_is_better else f" to {100 * target:.1f} %"
    if len(seeds) < 2:
        return _Arrow(start, end, target, (text,))
    spread = f"({times(min(seeds))} to {times(max(seeds))}, {len(seeds)} seeds)"
    return _Arrow(start, end, target, (f"{text}\n{spread}", f"{text}\n{spread}".replace(": ", ":\n", 1), text))


def _told(curve: Curve) -> Estimate | None:
    """The speed-up at the baseline's best if the arm gets there, else at the best score that both have."""
    if curve.speedup.n and curve.speedup.n == len(curve.seeds):
        return curve.speedup
    return curve.speedup_at[-1].speedup if curve.speedup_at else None


def _draw_arrow(ax: Axes, arrow: _Arrow, drawing: Drawing) -> None:
    style = {"arrowstyle": "-|>", "linestyle": "--", "color": "#444444", "shrinkA": 1, "shrinkB": 1, "lw": 1}
    ax.annotate("", (arrow.end, arrow.y), (arrow.start, arrow.y), arrowprops=style, zorder=5)
    drawing.avoid.append(([arrow.start, arrow.end], [arrow.y, arrow.y]))
    shares = (0.5, 0.6, 0.4, 0.7, 0.3, 0.8, 0.2)
    points = tuple((arrow.start + share * (arrow.end - arrow.start), arrow.y) for share in shares)
    drawing.notes.append(Note(arrow.words, points, color="#222222"))
