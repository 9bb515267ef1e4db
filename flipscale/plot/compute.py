"""What compute buys: error against training FLOPs with laws through the best runs, and the best size of each budget."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from flipscale.errors import ResultsError
from flipscale.fit import Fit, Options, evened, fit, frontier, is_isoflop, isoflop
from flipscale.plot.lines import add_references
from flipscale.plot.page import Drawing, Line, Panel, alone
from flipscale.plot.shown import NO_MASK, Shown, Undrawable, few_arms, shown
from flipscale.plot.style import line_style, log_axis, power, ramp_style
from flipscale.plot.thin import kept
from flipscale.scores import score_label
from flipscale.words import percent

_MOST_ARMS = 3  # of IsoFLOP curves, a panel each
_MOST_BUDGETS = 7
_MOST_BANDS = 4
_SAME = 1.1  # FLOPs within this factor are the same: steps are whole numbers
_STARTS = 4  # straight lines on logarithmic axes: every start ends at one place
_DRAWS = 250  # resamples of an arm: a figure shows no third digit of an interval, and is not to be waited for
_ALONG = 60  # points of a drawn law


def error_vs_compute(
    results: pd.DataFrame,
    ax: Axes,
    *,
    law: str = "power",
    baseline: Mapping[str, Any] = NO_MASK,
    score: str | None = None,
    references: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Draw the error against training FLOPs onto an Axes, with the front of each arm and a law of `flipscale.fit`.

    `results` is results.csv's table, or rows of it. The error is 1 - the score, or a loss itself. Returns the runs
    drawn; raises Undrawable with the reason where there is nothing to draw.
    """
    return alone(ax, compute_panels(shown(results, baseline=baseline, score=score, references=references), law))


def isoflop_curves(
    results: pd.DataFrame,
    ax: Axes,
    *,
    baseline: Mapping[str, Any] = NO_MASK,
    score: str | None = None,
    panel: str | None = None,
) -> pd.DataFrame:
    """Draw the error against model size onto an Axes, a line for each budget of FLOPs, with the best size of each.

    `results` is results.csv's table, or rows of it. `panel` names an arm, or "the best size", the law through the best
    sizes. Returns the runs drawn; raises Undrawable with the reason where there is nothing to draw.
    """
    return alone(ax, isoflop_panels(shown(results, baseline=baseline, score=score)), panel)


def compute_panels(s: Shown, law: str = "power") -> list[Panel]:
    """One panel: the mean of each cell as a point, those on its arm's front filled, and a law through that front."""
    few_arms(s)
    s = with_error(s)
    rows = s.rows[(s.rows["train_flops"] > 0) & (s.rows["error"] > 0)]
    spans = rows.groupby("arm")["train_flops"].agg(lambda flops: flops.max() / flops.min())
    if rows.empty or spans.max() < _SAME:
        raise Undrawable("all runs of an arm took the same training FLOPs")
    spent = rows["train_flops"].to_numpy(dtype=float)
    if is_isoflop(rows["flops_per_sample"].to_numpy(dtype=float), spent):
        # Or a poor run would be on the front for being half a batch cheaper than a good one.
        rows = rows.assign(train_flops=evened(spent))
    of = {arm: rows[rows["arm"] == arm] for arm in sorted(set(rows["arm"]))}

    def draw(ax: Axes) -> Drawing:
        drawing = Drawing()
        for arm, of_arm in of.items():
            drawing.lines.append(_draw_arm(ax, s, of_arm, arm, law, drawing))
        best = frontier(_means(rows), x="train_flops", y="error")
        ax.plot(best["train_flops"], best["error"], color="#cccccc", linewidth=6, alpha=0.7, zorder=1, label="front")
        there = add_references(ax, s, rows, "train_flops", drawing, y="error")
        log_axis(ax.xaxis, ax.dataLim.intervalx, power)
        # A band of few runs is wider than all else: it may leave the frame.
        errors = pd.concat([rows["error"], there["error"]]).astype(float)
        log_axis(ax.yaxis, errors, _error_words(s))
        margin = (errors.max() / errors.min()) ** 0.08 * 1.01
        ax.set_ylim(errors.min() / margin, errors.max() * margin)
        ax.set_xlabel("training FLOPs, C")
        return drawing

    marks = (
        "points: means of cells, filled on the front of their arm; grey: front of all\n"
        "lines: A C⁻ᵃ through the runs on the fronts, bands: 95 % intervals"
    )
    return [Panel("", rows, draw, _words(s), marks)]


def _draw_arm(ax: Axes, s: Shown, rows: pd.DataFrame, arm: int, law: str, drawing: Drawing) -> Line:
    """An arm's points and the law through its front; without a law its points alone."""
    style = line_style(arm)
    means = _means(rows)
    xs, ys = means["train_flops"].to_numpy(), means["error"].to_numpy()
    on_front = means.index.isin(frontier(means, x="train_flops", y="error").index)
    there = kept(xs, ys) | on_front
    dot = {"linestyle": "", "marker": style["marker"], "color": style["color"]}
    ax.plot(xs[there & ~on_front], ys[there & ~on_front], ms=3.5, markerfacecolor="white", alpha=0.6, zorder=2, **dot)
    ax.plot(xs[on_front], ys[on_front], ms=5.5, zorder=4, **dot)
    for x, y in zip(xs[there], ys[there], strict=True):
        drawing.avoid.append(([x], [y]))
    try:
        found = fit(
            rows,
            law,
            x=["train_flops"],
            y="error",
            options=Options(frontier="pareto", accuracy=False, starts=_STARTS, draws=_DRAWS),
        )
    except ResultsError:
        return Line(s.arms[arm], dot, xs[on_front].tolist(), ys[on_front].tolist())
    along = np.geomspace(xs[on_front].min(), xs[on_front].max(), _ALONG)
    line = _steady(found.predict({"train_flops": along}))
    ax.plot(along, line, color=style["color"], linestyle=style["linestyle"], zorder=3)
    ends = found.intervals.get("a")
    # Where not even the sign of the exponent is known, a band says no more than its numbers do, and fills the frame.
    if len(s.arms) <= _MOST_BANDS and ends and ends[0] > 0:
        _band(ax, found, "train_flops", along, style["color"])
    return Line(_named(s.arms[arm], found), style, along.tolist(), line)


def isoflop_panels(s: Shown) -> list[Panel]:
    """A panel per arm with a curve per budget, and one with the law of the best size."""
    s = with_error(s)
    size = "flops_per_sample"
    fits: dict[int, Fit] = {}
    of: dict[int, pd.DataFrame] = {}
    why = ""
    for arm in sorted(set(s.rows["arm"])):
        of[arm] = s.rows[(s.rows["arm"] == arm) & (s.rows["error"] > 0) & (s.rows["train_flops"] > 0)]
        try:
            fits[arm] = isoflop(
                of[arm], x=size, y="error", budget="train_flops", options=Options(accuracy=False, draws=_DRAWS)
            )
        except ResultsError as reason:
            why = why or str(reason).split(". ")[0].rstrip(".")
        if len(fits) == _MOST_ARMS:
            break
    if not fits:
        raise Undrawable(f"{why}; it takes models of several sizes trained with equal FLOPs")

    def curves(arm: int, found: Fit) -> Panel:
        rows = of[arm]
        spent = evened(rows["train_flops"].to_numpy(dtype=float))

        def draw(ax: Axes) -> Drawing:
            drawing = Drawing()
            optima = found.optima[:: max(1, -(-len(found.optima) // _MOST_BUDGETS))]
            for i, best in enumerate(optima):
                means = _means(rows[np.isclose(spent, best.budget, rtol=1e-9)]).sort_values(size)
                style = ramp_style(i, len(optima))
                ax.plot(means[size], means["error"], **style, zorder=3)
                ax.plot([best.size], [best.y], "*", color=style["color"], ms=12, markeredgecolor="white", zorder=5)
                words = f"{power(float(f'{best.budget:.2g}'))} FLOPs"
                drawing.lines.append(Line(words, style, means[size].tolist(), means["error"].tolist()))
            log_axis(ax.xaxis, ax.dataLim.intervalx, power)
            log_axis(ax.yaxis, ax.dataLim.intervaly, _error_words(s))
            ax.set_xlabel("model size, FLOPs a sample")
            return drawing

        return Panel(s.arms[arm], rows, draw, _words(s), "stars: the best size of each budget", own_names=True)

    def law(ax: Axes) -> Drawing:
        drawing = Drawing()
        for arm, found in fits.items():
            style = line_style(arm)
            budgets, sizes = ([getattr(one, name) for one in found.optima] for name in ("budget", "size"))
            along = np.geomspace(min(budgets), max(budgets), _ALONG)
            line = _steady(found.predict({"train_flops": along}))
            ax.plot(budgets, sizes, "*", color=style["color"], ms=10, markeredgecolor="white", zorder=4)
            drawing.avoid += [([budget], [size]) for budget, size in zip(budgets, sizes, strict=True)]
            ax.plot(along, line, color=style["color"], linestyle=style["linestyle"], zorder=3)
            _band(ax, found, "train_flops", along, style["color"])
            drawing.lines.append(Line(_named(s.arms[arm], found), style, along.tolist(), line))
        log_axis(ax.xaxis, ax.dataLim.intervalx, power)
        log_axis(ax.yaxis, ax.dataLim.intervaly, power)
        ax.set_xlabel("training FLOPs, C")
        return drawing

    panels = [curves(arm, found) for arm, found in fits.items()]
    return [*panels, Panel("the best size", s.rows, law, "best FLOPs a sample, A Cᵃ", own_names=True)]


def with_error(s: Shown) -> Shown:
    """The same with a column `error`, of runs and of references: 1 - the score, or a loss itself."""

    def error(table: pd.DataFrame) -> pd.DataFrame:
        if s.score not in table:
            return table
        value = table[s.score].astype(float)
        return table.assign(error=value if s.lower_is_better else 1 - value)

    references = None if s.references is None else error(s.references)
    return s.of(error(s.rows), references)


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    """The mean over seeds of each cell of each arm."""
    names = ["train_flops", "error", "flops_per_sample"]
    return rows.groupby(["cell", "arm"], sort=False)[names].mean().reset_index()


def _band(ax: Axes, found: Fit, x: str, along: Any, color: str) -> None:
    """The law's 95 % band, where there are runs enough for one."""
    if found.stretch is not None:
        low, high = map(_steady, found.band({x: along}))
        ax.fill_between(along, low, high, color=color, alpha=0.13, linewidth=0, zorder=1.5)


def _steady(values: Any) -> list[float]:
    """The same to six digits: further ones of a fit differ between processors, and the bytes of a figure would too."""
    return [float(f"{value:.6g}") for value in values]


def _named(arm: str, found: Fit) -> str:
    """An arm with its exponent and the interval of that."""
    ends = found.intervals.get("a")
    return f"{arm}\na = {found.parameters['a']:.2f}" + (f" [{ends[0]:.2f}, {ends[1]:.2f}]" if ends else "")


def _words(s: Shown) -> str:
    return score_label(s.score) if s.lower_is_better else f"1 − {score_label(s.score)}"


def _error_words(s: Shown) -> Any:
    return (lambda value: f"{value:.3g}") if s.lower_is_better else percent
