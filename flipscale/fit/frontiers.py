"""Fits of the best for its cost: the front of a table, and the best size at each budget (IsoFLOP)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flipscale.errors import ResultsError
from flipscale.fit.best import Frontier, Method, Optimum, best_sizes, on_frontier, optima
from flipscale.fit.budget_noise import budget_noise
from flipscale.fit.checks import notes
from flipscale.fit.fitted import Fit
from flipscale.fit.fitting import Options, held_out_error
from flipscale.fit.law import Law
from flipscale.fit.laws import law_named
from flipscale.fit.problem import Loss, Problem
from flipscale.fit.rows import Response, Rows, column, row_names, seeds_of_rows
from flipscale.fit.solver import refits, solve
from flipscale.scores import lower_is_better
from flipscale.stats import Array


def frontier(
    table: pd.DataFrame, *, x: str, y: str, kind: Frontier = "pareto", lower_is_better: bool = True
) -> pd.DataFrame:
    """The rows that are best for their cost x, from the cheapest: `pareto` or `binned`."""
    cost, value = column(table, x), column(table, y)
    usable = np.flatnonzero(np.isfinite(cost) & np.isfinite(value) & (cost > 0))
    if not len(usable):
        raise ResultsError(f"No row has both {x} and {y}.")
    return table.iloc[usable[on_frontier(cost[usable], value[usable], kind, lower=lower_is_better)]]


def isoflop(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    budget: str,
    method: Method = "akima",
    group: Mapping[str, object] | None = None,
    options: Options | None = None,
) -> Fit:
    """The best size x at each budget, and the power law `growth` of it: x = A budget^a.

    Each budget's curve is drawn anew in every resample, from runs that scatter about their size's mean as runs of one
    size do (budget_noise.py); what a seed does to the whole curve does not move its lowest point. Raises ResultsError
    with fewer than 2 budgets that have an optimum.
    """
    options = options or Options()
    runs = _budget_runs(table, x, y, budget)
    lower = _lower(y, options)
    found, none = optima(runs.size, runs.y, runs.budget, method, lower=lower)
    _check_optima(budget, found, none)
    law = law_named("growth")
    problem = _growth(law, found, options.loss or "squares")
    solution = solve(problem, starts=4, seed=options.seed)

    noise = budget_noise(runs.size, np.log(runs.y), runs.budget, runs.seeds)
    draws = np.empty((0, 0))
    if options.draws and noise is not None:

        def sizes(logs: Array) -> Array:
            return best_sizes(runs.size, logs, runs.budget, method, lower=lower)

        # Budgets whose measured runs have no optimum stay left out, even if a draw gives them one.
        usable = np.isfinite(sizes(np.log(runs.y)[None])[0])
        rng = np.random.default_rng(options.seed)
        draws = _through(problem, sizes(noise.draw(rng, options.draws))[:, usable], solution.theta)
        if missing := options.draws - len(draws):
            more = _through(problem, sizes(noise.draw(rng, options.draws))[:, usable], solution.theta)
            draws = np.concatenate([draws, more[:missing]])
    rows = Rows(
        columns=(budget,),
        response=Response(x, "log", True, False),
        ids=tuple(f"{budget} {optimum.budget:.4g}" for optimum in found),
        x=problem.x,
        y=np.array([optimum.size for optimum in found]),
        z=problem.z,
        clusters=np.arange(len(found)),
        left_out={**runs.left_out, **{f"{budget} {at:.4g}": why for at, why in none.items()}},
    )
    return Fit(
        law=law,
        rows=rows,
        loss=problem.loss,
        linear=False,
        solution=solution,
        draws=draws,
        groups=len(np.unique(np.column_stack([runs.size, runs.budget]), axis=0)),
        freedom=0 if noise is None else noise.freedom,
        held_out=held_out_error(law, rows, options),
        group=dict(group or {}),
        frontier=f"isoflop ({method})",
        optima=tuple(found),
        among=runs.ids,
        noise=noise,
        notes=notes(law, rows, solution),
    )


def _lower(y: str, options: Options) -> bool:
    """Whether lower y is better: as asked, or by its name."""
    return not options.accuracy if options.accuracy is not None else lower_is_better(y) is not False


def _check_optima(budget: str, found: Sequence[Optimum], none: Mapping[float, str]) -> None:
    """ResultsError with fewer than 2 budgets that have an optimum."""
    if len(found) < 2:
        why = "; ".join(f"{budget} {at:.3g}: {reason}" for at, reason in none.items())
        raise ResultsError(
            f"{len(found)} of {len(found) + len(none)} budgets of {budget} have an optimum, and a law takes 2. {why}"
        )


def _through(problem: Problem, sizes: Array, theta: Array) -> Array:
    """The laws [m, parameters] through rows of best sizes [rows, budgets] in the logarithm, of 2 budgets or more."""
    sizes = sizes[np.isfinite(sizes).sum(axis=1) > 1]
    known = np.isfinite(sizes)
    return refits(replace(problem, z=np.where(known, sizes, problem.z)), theta, known.astype(np.float64))


@dataclass(frozen=True)
class _BudgetRuns:
    """The runs that have a size, a score and a budget."""

    ids: tuple[str, ...]
    size: Array
    y: Array
    budget: Array
    seeds: NDArray[np.intp] | None
    left_out: dict[str, str]
    """The others, and why."""


def _budget_runs(table: pd.DataFrame, x: str, y: str, budget: str) -> _BudgetRuns:
    values = {name: column(table, name) for name in (x, y, budget)}
    ids, left_out, used = [], {}, []
    for i, name in enumerate(row_names(table)):
        missing = [column_name for column_name, numbers in values.items() if not numbers[i] > 0]
        if missing:
            left_out[name] = f"no {missing[0]}"
        else:
            ids.append(name)
            used.append(i)
    size, score, spent = (numbers[np.array(used, dtype=np.intp)] for numbers in values.values())
    return _BudgetRuns(tuple(ids), size, score, spent, seeds_of_rows(table.iloc[used]), left_out)


def _growth(law: Law, best: Sequence[Optimum], loss: Loss) -> Problem:
    """The best sizes against their budgets, as points of a law."""
    budgets = np.array([[optimum.budget] for optimum in best])
    return Problem(law, budgets, np.log([optimum.size for optimum in best]), loss)
