"""From a table to a Fit: rows chosen, the best of many starts, resamples, and the largest runs held out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flipscale.errors import ResultsError, did_you_mean
from flipscale.fit.best import BINS, Frontier, on_frontier
from flipscale.fit.checks import FEW, HELD_OUT_REASON, check_enough, notes
from flipscale.fit.fitted import Fit, FrontBias
from flipscale.fit.held_out import HeldOutRuns, HeldOutSetting
from flipscale.fit.law import Law
from flipscale.fit.laws import law_named
from flipscale.fit.problem import DELTA, Loss, Problem
from flipscale.fit.resampling import Resamples, resampled, slope_of_level
from flipscale.fit.rows import Rows, column, group_name, in_groups, rows_of
from flipscale.fit.seeds import SharedSeedEffect, seed_effect
from flipscale.fit.solver import solve
from flipscale.fit.uncertainty import COVERAGE, DRAWS
from flipscale.fit.words import by_reason
from flipscale.scores import lower_is_better
from flipscale.stats import Array

STARTS = 24
"""Searches per fit. From starts drawn from the data nearly all end at one place; the checklist says how many did."""

RUNG = 2.0
"""The largest rung, which is held out, consists of the runs within this factor of the largest."""


@dataclass(frozen=True)
class Options:
    """How a law is fitted, where the defaults are not wanted."""

    loss: Loss | None = None
    """`huber` or `squares`. None: squares for a straight line, and on scales other than the logarithm, for which
    huber's 0.001 was made."""
    linear: bool = False
    """Residuals in y itself instead of its logarithm."""
    frontier: Frontier | None = None
    """Fit the front only, and find it anew in every resample."""
    fixed: Mapping[str, float] | None = None
    tied: Mapping[str, str] | None = None
    accuracy: bool | None = None
    """Whether higher y is better; None: as its name says, or else whether it rises with size."""
    bins: int = BINS
    """Bins of cost of a binned front."""
    weights: str | None = None
    """Column of inverse variances: how much each row counts."""
    delta: float = DELTA
    """Where Huber's loss turns from a square to a line, in units of the residual."""
    cluster: str | None = None
    """Column whose equal values are resampled together; None: rows that have equal variables, and the column `seed`
    says which runs share a seed (seeds.py)."""
    draws: int = DRAWS
    starts: int = STARTS
    seed: int = 0


def fit(
    table: pd.DataFrame,
    law: str | None = None,
    *,
    x: Sequence[str],
    y: str,
    group: Mapping[str, object] | None = None,
    options: Options | None = None,
) -> Fit:
    """Fit a law to the rows of a table: y against the columns x, which are in the order of the law's roles.

    A column is a name, or arithmetic over columns such as "6*N*D". Without a law it is `default_law`. Rows that lack a
    value are left out by name. `group` says which rows these are, for the record. Raises ResultsError where the
    table lacks a column, has too few points, or cannot tell the law's parameters apart.
    """
    options = options or Options()
    form = law_named(law) if law else default_law(table, x, y, options)
    rows = rows_of(table, form, x, y, accuracy=options.accuracy, cluster=options.cluster, weights=options.weights)
    return fit_rows(form, rows, options, group or {})


def fit_groups(
    table: pd.DataFrame,
    law: str | None = None,
    *,
    x: Sequence[str],
    y: str,
    group: Sequence[str],
    options: Options | None = None,
) -> tuple[list[Fit], dict[str, str]]:
    """A fit for every value of the columns `group`, and the groups that have none, with the reason."""
    fits: list[Fit] = []
    none: dict[str, str] = {}
    for values, part in in_groups(table, group):
        try:
            fits.append(fit(part, law, x=x, y=y, group=values, options=options))
        except ResultsError as error:
            if not values:
                raise
            none[group_name(values)] = str(error)
    if not fits:
        raise ResultsError("\n".join(by_reason(none)))
    return fits, none


def default_law(table: pd.DataFrame, x: Sequence[str], y: str, options: Options | None = None) -> Law:
    """The law for a y of this kind: through odds for an accuracy, with a floor for a loss or an error.

    Below FEW points it is the one of that kind with the fewest parameters.
    """
    said = options.accuracy if options else None
    values = np.column_stack([column(table, name) for name in x]) if x else np.empty((len(table), 0))
    whole = np.isfinite(values).all(axis=1) & np.isfinite(column(table, y))
    few = len(np.unique(values[whole], axis=0)) < FEW
    if lower_is_better(y) is False if said is None else said:
        names = {1: "odds-power", 2: "odds-product" if few else "odds", 3: "mask"}
    else:
        names = {1: "power" if few else "power+floor", 2: "product" if few else "chinchilla", 3: "data-limited"}
    if len(x) not in names:
        raise ResultsError(f"No law takes {len(x)} variables; name one to three columns with --x.")
    return law_named(names[len(x)])


def fit_rows(law: Law, rows: Rows, options: Options, group: Mapping[str, object], *, hold_out: bool = True) -> Fit:
    """The same for rows that are chosen already; without `hold_out` there is no test on the largest."""
    loss = options.loss or ("huber" if law.link == "log" and not law.is_line else "squares")
    fixed, tied = _held(law, options)
    whole = rows
    if options.frontier:
        rows = _reduced(whole, options)
    check_enough(law, rows, len(fixed) + len(tied))
    shared = seed_effect(whole.z, whole.clusters, whole.seeds, loss)
    freedom = whole.groups - (len(law.parameters) - len(fixed) - len(tied))
    problem = Problem(law, rows.x, rows.z, loss, options.linear, fixed, tied, rows.weights, options.delta)
    if shared and not options.frontier:
        problem = replace(problem, z=rows.z - shared.offsets)
    solution = solve(problem, starts=options.starts, seed=options.seed)
    draws = _draws(problem, solution.theta, whole, shared, options)
    held_out = held_out_error(law, rows, options) if hold_out else HeldOutRuns(why="not asked")
    return Fit(
        law=law,
        rows=rows,
        loss=loss,
        linear=options.linear,
        solution=solution,
        draws=draws,
        groups=whole.groups,
        freedom=freedom,
        held_out=held_out,
        group=dict(group),
        frontier=options.frontier,
        fixed={name: law.values(solution.theta)[name] for name in fixed},
        tied=dict(tied),
        delta=options.delta,
        weights=options.weights,
        seeds=shared,
        slope_of_level=slope_of_level(problem, solution.theta) if shared and options.draws else None,
        front_bias=_front_bias(law, whole, rows, solution.theta, draws) if options.frontier else None,
        notes=notes(law, rows, solution, shared),
    )


def _draws(problem: Problem, theta: Array, whole: Rows, shared: SharedSeedEffect | None, options: Options) -> Array:
    """The parameters of resamples of all rows; empty if none are asked for."""
    if not options.draws:
        return np.empty((0, 0))
    how = Resamples(options.draws, options.seed, whole.clusters, shared)
    if not options.frontier:
        return resampled(problem, theta, how)
    every = replace(problem, x=whole.x, z=whole.z, weights=whole.weights)
    return resampled(every, theta, how, lambda drawn: _front(whole, drawn, options))


def held_out_error(law: Law, rows: Rows, options: Options, *, interval: bool = False) -> HeldOutRuns:
    """Predictions of the law, fitted to all but the largest rung, for each setting of that rung.

    `interval` adds the intervals of these predictions, which takes as many resamples as the fit itself.
    """
    size = rows.size
    largest = size >= size.max() / RUNG
    names = tuple(name for name, out in zip(rows.ids, largest, strict=True) if out)
    if largest.all():
        return HeldOutRuns(names, why=f"all runs are within a factor of {RUNG:g} of the largest")
    rest = rows.only(~largest, HELD_OUT_REASON)
    try:
        short = replace(options, draws=options.draws if interval else 0, frontier=None)
        smaller = fit_rows(law, _with_clusters_closed(rest), short, {}, hold_out=False)
    except ResultsError as error:
        return HeldOutRuns(names, why=f"without the largest rung: {error}")
    points, places = np.unique(rows.x[largest], axis=0, return_inverse=True)
    asked = interval and smaller.stretch is not None
    # In 95 % of cases the intervals cover all settings together (Bonferroni).
    level = 1 - (1 - COVERAGE) / len(points)
    settings = []
    for i, point in enumerate(points):
        here = np.flatnonzero(largest)[places.reshape(-1) == i]
        z = law.evaluate(smaller.solution.theta, point[None])[0]
        low, high = smaller.mean_band(rows.x[here], level) if asked else (None, None)
        at = dict(zip(rows.columns, map(float, point), strict=True))
        predicted, measured = float(rows.response.from_link(z)[0]), float(rows.y[here].mean())
        settings.append(HeldOutSetting(at, len(here), predicted, measured, low, high))
    factor = float(size.max() / rest.size.max())
    return HeldOutRuns(names, tuple(settings), factor, _sharpness(rows, settings))


def _sharpness(rows: Rows, settings: Sequence[HeldOutSetting]) -> float | None:
    """The widest interval as a share of the range of all that was measured, on the link scale."""
    span = float(np.ptp(rows.z))
    ends = [(setting.low, setting.high) for setting in settings if setting.low is not None]
    if not ends or not span:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        widths = [float(np.ptp(rows.response.to_link(np.array(pair, dtype=np.float64)))) for pair in ends]
    return max(float("inf") if np.isnan(width) else width for width in widths) / span


def _held(law: Law, options: Options) -> tuple[dict[str, float], dict[str, str]]:
    """The parameters held fixed, as theta; names are checked."""
    fixed, tied = dict(options.fixed or {}), dict(options.tied or {})
    for name in (*fixed, *tied, *tied.values()):
        if name not in law.parameters:
            raise ResultsError(f"The law {law.name} has no parameter {name!r}: {did_you_mean(name, law.parameters)}.")
    for name, other in tied.items():
        if other in tied or name in fixed or name == other:
            raise ResultsError(f"{name} cannot be tied to {other}: tie it to one that is fitted.")
    return {name: law.theta(name, value) for name, value in fixed.items()}, tied


def _front(rows: Rows, drawn: NDArray[np.intp], options: Options) -> NDArray[np.intp]:
    """The places, among the drawn rows, of those that are best for their size."""
    assert options.frontier
    lower = not rows.response.accuracy
    return on_frontier(rows.size[drawn], rows.y[drawn], options.frontier, lower=lower, bins=options.bins)


def _reduced(rows: Rows, options: Options) -> Rows:
    keep = np.zeros(len(rows), dtype=bool)
    keep[_front(rows, np.arange(len(rows)), options)] = True
    why = "another is as cheap and better" if options.frontier == "pareto" else "not the best of its bin of cost"
    return _with_clusters_closed(rows.only(keep, why))


def _front_bias(law: Law, whole: Rows, front: Rows, theta: Array, draws: Array) -> FrontBias:
    """How far resampled fronts, and the other seeds of this one, lie from it."""
    worse = -1 if whole.response.accuracy and law.link != "logit" else 1
    middle = np.exp(np.log(front.x).mean(axis=0))[None]
    resampled = None
    if len(draws):
        resampled = worse * float(law.evaluate(draws, middle)[0].mean() - law.evaluate(theta, middle)[0][0])
    on = np.isin(whole.ids, front.ids)
    gaps = [
        whole.z[~on & (whole.clusters == cluster)].mean() - z
        for cluster, z in zip(whole.clusters[on], whole.z[on], strict=True)
        if (~on & (whole.clusters == cluster)).any()
    ]
    return FrontBias(resampled, worse * float(np.mean(gaps)) if gaps else None)


def _with_clusters_closed(rows: Rows) -> Rows:
    """The same with its groups numbered from 0 without gaps."""
    return replace(rows, clusters=np.unique(rows.clusters, return_inverse=True)[1].reshape(-1))
