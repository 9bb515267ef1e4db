"""Error against training FLOPs with laws through the best runs, and the best size of each budget."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from flipscale.analysis.fitting import Fit, Options, evened, fit, frontier, is_isoflop
from flipscale.analysis.fitting import isoflop as isoflop_fit
from flipscale.analysis.fitting.fronts import SAME_BUDGET
from flipscale.analysis.plotting.figure_data import FigureData, Undrawable, check_arms
from flipscale.analysis.plotting.layout import FigureKind, Panel
from flipscale.analysis.plotting.lines import add_references
from flipscale.analysis.plotting.style import QUIET, LineStyle, arm_style, log_axis, power, ramp_style
from flipscale.errors import ResultsError
from flipscale.words import fixed, percent

_MOST_ARMS = 3  # of IsoFLOP curves, one panel each
_MOST_BUDGETS = 7
_MOST_BANDS = 4
_STARTS = 4  # straight lines on logarithmic axes: every start ends at one place
_DRAWS = 250  # resamples per arm: a figure shows no third digit of an interval, and should be fast
_ALONG = 60  # points of a drawn law


def error_vs_compute(data: FigureData) -> list[Panel]:
    """One panel: the mean of each cell as a point, those on its arm's front filled, and a law through that front."""
    check_arms(data)
    data = with_error(data)
    rows = data.rows[(data.rows["train_flops"] > 0) & (data.rows["error"] > 0)]
    spans = rows.groupby("arm")["train_flops"].agg(lambda flops: flops.max() / flops.min())
    if rows.empty or spans.max() < SAME_BUDGET:
        raise Undrawable("all runs of an arm took the same training FLOPs")
    spent = rows["train_flops"].to_numpy(dtype=float)
    if is_isoflop(rows["flops_per_sample"].to_numpy(dtype=float), spent):
        # Otherwise a poor run that is half a batch cheaper than a good one would be on the front.
        rows = rows.assign(train_flops=evened(spent))
    by_arm = {arm: rows[rows["arm"] == arm] for arm in sorted(set(rows["arm"]))}

    def draw(ax: Axes) -> None:
        for arm, of_arm in by_arm.items():
            _draw_arm(ax, data, of_arm, arm)
        best = frontier(_means(rows), x="train_flops", y="error")
        # Dark steps, so that nobody takes it for a band.
        ax.step(best["train_flops"], best["error"], where="post", color=QUIET, linewidth=0.9, zorder=1.8, label="front")
        references = add_references(ax, data, rows, "train_flops", y="error")
        log_axis(ax.xaxis, ax.dataLim.intervalx, power)
        # A band of few runs is wider than everything else: it may leave the frame.
        errors = pd.concat([rows["error"], references["error"]]).astype(float)
        log_axis(ax.yaxis, errors, _error_words(data))
        margin = (errors.max() / errors.min()) ** 0.08 * 1.01
        ax.set_ylim(errors.min() / margin, errors.max() * margin)
        ax.set_xlabel("training FLOPs, C")

    marks = (
        "points: means over seeds, filled on the front of their arm; grey steps: the front of all arms\n"
        "lines: A C⁻ᵃ through the runs on the front of an arm; bands and parentheses: 95 % CIs"
    )
    return [Panel("", rows, draw, _words(data), marks, chance=data.chance_of_error)]


ERROR_VS_COMPUTE = FigureKind(
    error_vs_compute,
    "error against training FLOPs with the front and a law through each arm's best runs",
    "On these axes a power law is straight: the steeper, the more compute buys. A law whose exponent may be 0 has "
    "no band.",
)


def _draw_arm(ax: Axes, data: FigureData, rows: pd.DataFrame, arm: int) -> None:
    """An arm's points and the power law through its front; its points alone where that cannot be fitted."""
    style = arm_style(arm)
    words = data.arms[arm]
    means = _means(rows)
    xs = means["train_flops"].to_numpy()
    ys = means["error"].to_numpy()
    on_front = means.index.isin(frontier(means, x="train_flops", y="error").index)
    dots = style.without_line().keywords()
    ax.plot(xs[~on_front], ys[~on_front], ms=3.5, markerfacecolor="white", alpha=0.6, zorder=2, **dots)
    (front,) = ax.plot(xs[on_front], ys[on_front], ms=5.5, zorder=4, **dots)
    options = Options(frontier="pareto", accuracy=False, starts=_STARTS, draws=_DRAWS)
    try:
        fitted = fit(rows, "power", x=["train_flops"], y="error", options=options)
    except ResultsError:
        front.set_label(words)
        return
    # Where the sign of the exponent is unknown, a band adds nothing to its numbers and fills the frame.
    ends = fitted.intervals.get("a")
    has_band = len(data.arms) <= _MOST_BANDS and ends is not None and ends[0] > 0
    _draw_law(ax, fitted, xs[on_front].tolist(), words, style, band=has_band)


def _growths(rows: pd.DataFrame, arms: Sequence[int]) -> tuple[dict[int, Fit], dict[int, pd.DataFrame]]:
    """The law of the best size of each of the first arms that has one, and the rows of each arm."""
    fits: dict[int, Fit] = {}
    by_arm: dict[int, pd.DataFrame] = {}
    why = ""
    for arm in arms:
        by_arm[arm] = rows[(rows["arm"] == arm) & (rows["error"] > 0) & (rows["train_flops"] > 0)]
        try:
            # With the options of `flipscale fit`, so that exponents and their intervals are those of fits.json.
            fits[arm] = isoflop_fit(by_arm[arm], x="flops_per_sample", y="error", budget="train_flops")
        except ResultsError as reason:
            why = why or str(reason).split(". ")[0].rstrip(".")
        if len(fits) == _MOST_ARMS:
            break
    if not fits:
        raise Undrawable(f"{why}; it takes models of several sizes trained with equal FLOPs")
    return fits, by_arm


def isoflop(data: FigureData) -> list[Panel]:
    """A panel per arm with a curve per budget, and one with the law of the best size."""
    data = with_error(data)
    size = "flops_per_sample"
    arms = sorted(set(data.rows["arm"]))
    fits, by_arm = _growths(data.rows, arms)

    everything = pd.concat([_means(by_arm[arm]) for arm in fits])
    errors = [*(everything["error"] - everything["sd"]), *(everything["error"] + everything["sd"])]
    lowest = min(error for error in errors if error > 0)
    highest = max(errors)
    shown = {arm: growth.optima[:: max(1, -(-len(growth.optima) // _MOST_BUDGETS))] for arm, growth in fits.items()}
    budgets = sorted({_budget(best.budget) for optima in shown.values() for best in optima})

    def curves(arm: int) -> Panel:
        rows = by_arm[arm]
        spent = evened(rows["train_flops"].to_numpy(dtype=float))

        def draw(ax: Axes) -> None:
            for best in shown[arm]:
                means = _means(rows[np.isclose(spent, best.budget, rtol=1e-9)]).sort_values(size)
                style = ramp_style(budgets.index(_budget(best.budget)), len(budgets))
                bars = means["sd"] if means["sd"].any() else None
                look = {"capsize": 2, "elinewidth": 0.8, "zorder": 3, **style.keywords()}
                words = f"{power(_budget(best.budget))} FLOPs"
                ax.errorbar(means[size], means["error"], bars, label=words, **look)
                ax.plot([best.size], [best.y], "*", color=style.color, ms=12, markeredgecolor="white", zorder=5)
            log_axis(ax.xaxis, ax.dataLim.intervalx, power)
            log_axis(ax.yaxis, [lowest, highest], _error_words(data))
            ax.set_ylim(lowest / 1.05, highest * 1.05)
            ax.set_xlabel("model size, FLOPs a sample")

        marks = (
            "points: means over seeds, bars: ± 1 sd, stars: the best size of each budget\n"
            "right: A Cᵃ through the stars; bands and parentheses: 95 % CIs"
        )
        if any(len(_spent(by_arm[arm])) > len(growth.optima) for arm, growth in fits.items()):
            marks += "\nbudgets without a best size between others are left out"
        if len(fits) < len(arms):
            marks += f"\n{len(fits)} of {len(arms)} arms"
        return Panel(data.arms[arm], rows, draw, _words(data), marks, own_legend=True, chance=data.chance_of_error)

    def law(ax: Axes) -> None:
        for arm, growth in fits.items():
            style = replace(arm_style(arm), marker="*")
            budgets, sizes = ([getattr(best, name) for best in growth.optima] for name in ("budget", "size"))
            ax.plot(budgets, sizes, "*", color=style.color, ms=10, markeredgecolor="white", zorder=4)
            _draw_law(ax, growth, budgets, data.arms[arm], style)
        log_axis(ax.xaxis, ax.dataLim.intervalx, power)
        log_axis(ax.yaxis, ax.dataLim.intervaly, power)
        ax.set_xlabel("training FLOPs, C")

    panels = [curves(arm) for arm in fits]
    drawn = data.rows[data.rows["arm"].isin(list(fits))]
    return [*panels, Panel("the best size", drawn, law, "best FLOPs a sample, A Cᵃ", own_legend=True)]


ISOFLOP = FigureKind(
    isoflop,
    "error against model size at equal training FLOPs, and the best size of each budget",
    "Each valley is one budget; its star is the size that spends it best. The last panel shows how it grows.",
)


def _spent(rows: pd.DataFrame) -> set[float]:
    return set(evened(rows["train_flops"].to_numpy(dtype=float)))


def _budget(flops: float) -> float:
    """The budget as a legend has it; those of two arms that differ by rounding have one colour."""
    return float(f"{flops:.2g}")


def with_error(data: FigureData) -> FigureData:
    """The same with a column `error`, of runs and of references: 1 - the score, or a loss itself."""

    def error(table: pd.DataFrame) -> pd.DataFrame:
        if data.score not in table:
            return table
        value = table[data.score].astype(float)
        return table.assign(error=value if data.lower_is_better else 1 - value)

    references = None if data.references is None else error(data.references)
    return data.with_rows(error(data.rows), references)


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    """The mean over seeds of each cell of each arm, and the `sd` of its error, 0 for one seed."""
    cells = rows.groupby(["cell", "arm"], sort=False)
    means = cells[["train_flops", "error", "flops_per_sample"]].mean()
    return means.assign(sd=cells["error"].std().fillna(0.0)).reset_index()


def _draw_law(ax: Axes, law: Fit, flops: Sequence[float], words: str, style: LineStyle, *, band: bool = True) -> None:
    """A law over these training FLOPs, its entry in the legend, and its 95 % band if there are enough runs for one."""
    along = np.geomspace(min(flops), max(flops), _ALONG)
    line = _steady(law.predict({"train_flops": along}))
    ax.plot(along, line, color=style.color, linestyle=style.dashes, zorder=3)
    ax.plot([], [], label=_named(words, law), **style.keywords())
    if band and law.stretch is not None:
        low, high = map(_steady, law.band({"train_flops": along}))
        ax.fill_between(along, low, high, color=style.color, alpha=0.13, linewidth=0, zorder=1.5)


def _steady(values: Iterable[float]) -> list[float]:
    """The values to six digits: the next ones differ between processors, and the bytes of a figure would too."""
    return [float(f"{value:.6g}") for value in values]


def _named(arm: str, law: Fit) -> str:
    """An arm with its exponent and, in parentheses, its 95 % CI."""
    ends = law.intervals.get("a")
    ci = f" ({fixed(ends[0], 2)}, {fixed(ends[1], 2)})" if ends else ""
    return f"{arm}: a = {fixed(law.parameters['a'], 2)}{ci}"


def _words(data: FigureData) -> str:
    return data.score_words if data.lower_is_better else f"1 − {data.score_words}"


def _error_words(data: FigureData) -> Callable[[float], str]:
    return (lambda value: f"{value:.3g}") if data.lower_is_better else percent
