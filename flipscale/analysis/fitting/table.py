"""From a table to a Fit: rows chosen, the best of many starts, resamples, and the largest runs held out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flipscale.analysis.fitting.chosen_rows import Rows, column, group_name, in_groups, rows_of
from flipscale.analysis.fitting.fitted_law import Fit, HeldOutRuns, HeldOutSetting, Options
from flipscale.analysis.fitting.fronts import bins_of, on_frontier
from flipscale.analysis.fitting.laws import LAWS, Law, law_named
from flipscale.analysis.fitting.search import Problem, Solution, solve, with_scale
from flipscale.analysis.fitting.uncertainty import (
    COVERAGE,
    new_seeds,
    on_fronts,
    resampled,
    seed_effect,
    slope_of_level,
    whole_seeds,
    without_each,
)
from flipscale.analysis.stats import Array
from flipscale.errors import ResultsError, did_you_mean
from flipscale.scores import lower_is_better
from flipscale.words import by_reason, names_by_reason

RUNG = 2.0
"""The largest rung, which is held out, consists of the runs within this factor of the largest."""

HELD_OUT_REASON = "held out"

FEW = 8
"""With fewer points only a power law is fitted unless another is asked for."""

FEW_SEEDS = 2.0
"""How many times as far Huber's loss is a square where seeds are left out in turn: one of few that lies apart is no
outlier, and at 1.345 standard deviations its loss hides how far seeds scatter (.92 of 95 % CIs then hold, not .95)."""

SUPPORT = 0.25
"""The least share of starts that agree on a law: with fewer the runs do not determine it."""


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

    Without a law it is `default_law`. Rows that lack a value are left out by name. `group` says which rows these are,
    for the record. Raises ResultsError where the table lacks a column, has too few points, or cannot tell the law's
    parameters apart.
    """
    options = options or Options()
    form = law_named(law) if law else default_law(table, x, y, options)
    rows = rows_of(
        table, form, x, y, accuracy=options.accuracy, weights=options.weights, se=options.se, run=options.run
    )
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
        names = {1: "odds-power", 2: "odds-product" if few else "odds"}
    else:
        names = {1: "power" if few else "power+floor", 2: "product" if few else "chinchilla"}
    if len(x) not in names:
        raise ResultsError(f"No law of {y} takes {len(x)} variables; name 1 to {max(names)} columns with --x.")
    return law_named(names[len(x)])


def fit_rows(law: Law, rows: Rows, options: Options, group: Mapping[str, object], *, hold_out: bool = True) -> Fit:
    """The same for rows that are chosen already; without `hold_out` there is no test on the largest."""
    fixed = _held(law, options)
    whole = _in_bins(rows, options) if options.frontier == "binned" else rows
    rows = _reduced(whole, options) if options.frontier else whole
    check_enough(law, rows, options)
    seeds = whole_seeds(whole.trunks, whole.seeds, whole.cells if options.frontier else None)
    shared = None if seeds else seed_effect(whole.z, whole.clusters, whole.seeds)
    problem = Problem(law, rows.x, rows.z, linear=options.linear, fixed=fixed, tied=options.tied, weights=rows.weights)
    if shared and not options.frontier:
        problem = replace(problem, z=rows.z - shared.offsets)
    if options.loss == "huber":
        searched = {"starts": options.starts, "seed": options.seed}
        problem = replace(problem, delta=options.delta) if options.delta else with_scale(problem, **searched)
        if seeds and not options.delta:
            problem = replace(problem, delta=FEW_SEEDS * problem.delta)
    solution = solve(problem, starts=options.starts, seed=options.seed)
    if solution.agree < SUPPORT * solution.starts:
        raise ResultsError(
            f"{solution.agree} of {solution.starts} starts agree on the law {law.name}, so these rows do not determine "
            f"it. Fit a law with fewer parameters."
        )
    return Fit(
        law=law,
        rows=rows,
        options=options,
        solution=solution,
        draws=_draws(problem, solution, whole, options, by_seeds=bool(seeds)),
        groups=whole.groups,
        freedom=seeds - 1 if seeds else whole.groups - len(problem.free_places),
        whole_seeds=seeds,
        held_out=held_out_error(law, rows, options) if hold_out else HeldOutRuns(why="not asked"),
        group=dict(group),
        delta=problem.delta if options.loss == "huber" else None,
        seeds=shared,
        slope_of_level=slope_of_level(problem, solution.theta) if shared and options.draws else None,
    )


def _draws(problem: Problem, solution: Solution, whole: Rows, options: Options, *, by_seeds: bool) -> Array:
    """The parameters of resamples of all rows, or by whole seeds; empty if none are asked for."""
    if not options.draws:
        return np.empty((0, 0))
    if not options.frontier:
        if by_seeds and whole.seeds is not None:
            return without_each(problem, solution.theta, whole.seeds, options.draws, options.seed)
        return resampled(problem, solution.theta, whole.units, options.draws, options.seed)
    every = replace(problem, x=whole.x, z=whole.z, weights=whole.weights)
    front = partial(_front, whole, options)
    if by_seeds and whole.seeds is not None:

        def front_of(z: Array) -> NDArray[np.intp]:
            return _front(replace(whole, y=whole.response.from_link(z)), options, np.arange(len(z)))

        drawn = new_seeds(whole.z, whole.cells, whole.seeds, options.draws, options.seed)
        return on_fronts(every, solution.theta, drawn, front_of)
    return resampled(every, solution.theta, whole.units, options.draws, options.seed, front)


def held_out_error(law: Law, rows: Rows, options: Options, *, interval: bool = False) -> HeldOutRuns:
    """Predictions of the law, fitted to all but the largest rung, for each setting of that rung.

    A trunk is not held out in part: if runs of the rung have shorter ones of their trunk, their whole sizes are held
    out, or where that leaves too few, each seed is predicted from smaller runs of the others. `interval` adds the
    intervals of these predictions, which takes as many resamples as the fit itself.
    """
    size = rows.size
    largest = size >= size.max() / RUNG
    names = tuple(name for name, out in zip(rows.ids, largest, strict=True) if out)
    if largest.all():
        return HeldOutRuns(names, why=f"all runs are within a factor of {RUNG:g} of the largest")
    short = replace(options, draws=options.draws if interval else 0, frontier=None)
    parts = [(largest, ~largest)]
    if np.isin(rows.units[~largest], rows.units[largest]).any():
        smaller = ~np.isin(rows.units, rows.units[largest])
        seeds = np.full(len(rows), -1) if rows.seeds is None else rows.seeds
        each = [(largest & (seeds == seed), ~largest & (seeds != seed)) for seed in np.unique(seeds[largest])]
        try:
            check_enough(law, rows.only(smaller, ""), options)
            parts = [(largest, smaller)]
        except ResultsError:
            parts = each
        if not any(fitted.any() for _, fitted in parts):
            return HeldOutRuns(names, why="a test holds out seeds or sizes, and these runs have one of each")
    points = len(np.unique(rows.x[largest], axis=0))
    # In 95 % of cases the intervals cover all settings together (Bonferroni).
    level = 1 - (1 - COVERAGE) / points / len(parts)
    settings: list[HeldOutSetting] = []
    for held, fitted in parts:
        try:
            rest = fit_rows(law, rows.only(fitted, HELD_OUT_REASON), short, {}, hold_out=False)
        except ResultsError as error:
            return HeldOutRuns(names, why=f"without the largest rung: {error}")
        settings += _held_out_settings(rest, rows, held, level if interval and rest.stretch is not None else None)
    factor = float(size.max() / max(size[fitted].max() for _, fitted in parts))
    return HeldOutRuns(names, tuple(settings), factor, _sharpness(rows, settings))


def _held_out_settings(smaller: Fit, rows: Rows, held: NDArray[np.bool_], level: float | None) -> list[HeldOutSetting]:
    """The settings of rows that were held out, as a law fitted to others sees them."""
    points, places = np.unique(rows.x[held], axis=0, return_inverse=True)
    settings = []
    for i, point in enumerate(points):
        here = np.flatnonzero(held)[places.reshape(-1) == i]
        z = smaller.law.evaluate(smaller.solution.theta, point[None])[0]
        ends = None if level is None else smaller.mean_band(rows.x[here], level)
        at = dict(zip(rows.columns, map(float, point), strict=True))
        predicted = float(rows.response.from_link(z)[0])
        measured = float(rows.y[here].mean())
        settings.append(HeldOutSetting(at, len(here), predicted, measured, ends))
    return settings


def _sharpness(rows: Rows, settings: Sequence[HeldOutSetting]) -> float | None:
    """The widest interval as a share of the range of all that was measured, on the link scale."""
    span = float(np.ptp(rows.z))
    ends = [setting.interval for setting in settings if setting.interval]
    if not ends or not span:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        widths = [float(np.ptp(rows.response.to_link(np.array(pair)))) for pair in ends]
    return max(float("inf") if np.isnan(width) else width for width in widths) / span


def check_enough(law: Law, rows: Rows, options: Options) -> None:
    """ResultsError where the points cannot determine the parameters: too few, or all along one line."""
    free = len(law.parameters) - len(options.fixed) - len(options.tied)
    if rows.points <= free:
        raise _too_few(law, rows, free)
    unique = np.unique(rows.x, axis=0)
    for i, name in enumerate(rows.columns):
        if len(np.unique(unique[:, i])) < 2:
            raise ResultsError(
                f"{name} is {unique[0, i]:.6g} in all {len(rows)} rows, so its effect cannot be seen: vary it, or fit "
                f"a law without it."
            )
    if len(law.roles) > 1 and free > 2:
        _check_apart(rows, unique)


def _too_few(law: Law, rows: Rows, free: int) -> ResultsError:
    points = rows.points
    out = {name: why for name, why in rows.left_out.items() if why != HELD_OUT_REASON}
    some = ", ".join(f"{len(names)} with {why}" for why, names in list(names_by_reason(out).items())[:3])
    left = f"; {len(out)} left out: {some}" if out else ""
    enough = [
        name
        for name, other in LAWS.items()
        if (other.link, len(other.roles)) == (law.link, len(law.roles)) and len(other.parameters) < points
    ]
    instead = f" Fit {enough[0]}." if enough else ""
    return ResultsError(
        f"Cannot fit {law.name!r} ({free} parameters) to {points} different points: it takes {free + 1} or more"
        f"{left}.{instead}"
    )


def _check_apart(rows: Rows, unique: Array) -> None:
    """ResultsError where the variables move together, so that their exponents cannot be told apart."""
    logs = np.log(unique)
    logs = logs - logs.mean(axis=0)
    singular = np.linalg.svd(logs / np.linalg.norm(logs, axis=0), compute_uv=False)
    if singular[-1] < 1e-3 * singular[0]:
        raise ResultsError(
            f"{' and '.join(rows.columns)} move together in all rows (their ratio, or a power of it, is constant), "
            f"so their exponents cannot be told apart. Vary one while the other stays, or fit a law of one of them."
        )


def _held(law: Law, options: Options) -> dict[str, float]:
    """The parameters held fixed, as theta. Raises ResultsError for a name that the law lacks, and wrong ties."""
    fixed = options.fixed
    tied = options.tied
    for name in (*fixed, *tied, *tied.values()):
        if name not in law.parameters:
            raise ResultsError(f"The law {law.name} has no parameter {name!r}: {did_you_mean(name, law.parameters)}.")
    for name, other in tied.items():
        if other in tied or name in fixed or name == other:
            raise ResultsError(f"{name} cannot be tied to {other}: tie it to one that is fitted.")
    return {name: law.theta(name, value) for name, value in fixed.items()}


def _in_bins(rows: Rows, options: Options) -> Rows:
    """The rows inside the bins; each stands at the middle of its bin, not at its own x."""
    if len(rows.columns) > 1:
        raise ResultsError(f"Bins are along one variable, such as --x '{'*'.join(rows.columns)}'.")
    bins, middles = bins_of(rows.x[:, 0], options.bins)
    inside = rows.only(bins >= 0, "outside the bins")
    return replace(inside, x=middles[bins >= 0][:, None])


def _front(rows: Rows, options: Options, drawn: NDArray[np.intp]) -> NDArray[np.intp]:
    """The places, among the drawn rows, of those that are best for their size, or of their bin."""
    bins = None
    if options.frontier == "binned":
        bins = np.unique(rows.x[:, 0], return_inverse=True)[1].reshape(-1)[drawn]
    return on_frontier(rows.size[drawn], rows.y[drawn], lower=not rows.response.accuracy, bins=bins)


def _reduced(rows: Rows, options: Options) -> Rows:
    keep = np.zeros(len(rows), dtype=bool)
    keep[_front(rows, options, np.arange(len(rows)))] = True
    why = "another is as cheap and better" if options.frontier == "pareto" else "not the best of its bin of cost"
    return rows.only(keep, why)
