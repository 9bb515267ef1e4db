"""Fits of what is best for its cost: the front of a table, and the best size at each budget (IsoFLOP)."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flipscale.errors import ResultsError
from flipscale.fit.best import Frontier, Method, on_frontier, optima
from flipscale.fit.checks import notes
from flipscale.fit.fitted import Fit
from flipscale.fit.fitting import Options, held_out_error
from flipscale.fit.law import Array
from flipscale.fit.laws import law_named
from flipscale.fit.rows import Response, Rows, column, row_names
from flipscale.fit.solver import Problem, refit, solve
from flipscale.fit.uncertainty import draws_of
from flipscale.scores import lower_is_better


def frontier(
    table: pd.DataFrame, *, x: str, y: str, kind: Frontier = "pareto", lower_is_better: bool = True
) -> pd.DataFrame:
    """The rows that are best for their cost x, from the cheapest: `pareto` or `binned`."""
    cost, value = column(table, x), column(table, y)
    there = np.flatnonzero(np.isfinite(cost) & np.isfinite(value) & (cost > 0))
    if not len(there):
        raise ResultsError(f"No row has both {x} and {y}.")
    return table.iloc[there[on_frontier(cost[there], value[there], kind, lower=lower_is_better)]]


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

    The optima are found anew in every resample of runs. Raises ResultsError with fewer than 2 budgets that have one.
    """
    options = options or Options()
    size, value, spent = column(table, x), column(table, y), column(table, budget)
    ids = row_names(table)
    left_out = {
        ids[i]: next(f"no {name}" for name, v in ((x, size[i]), (y, value[i]), (budget, spent[i])) if not v > 0)
        for i in range(len(ids))
        if not (size[i] > 0 and value[i] > 0 and spent[i] > 0)
    }
    there = np.array([i for i, name in enumerate(ids) if name not in left_out], dtype=np.intp)
    size, value, spent = size[there], value[there], spent[there]
    lower = not (options.accuracy if options.accuracy is not None else lower_is_better(y) is False)
    found, none = optima(size, value, spent, method, lower=lower)
    if len(found) < 2:
        why = "; ".join(f"{budget} {at:.3g}: {reason}" for at, reason in none.items())
        raise ResultsError(
            f"{len(found)} of {len(found) + len(none)} budgets of {budget} have an optimum, and a law takes 2. {why}"
        )
    law = law_named("growth")
    points = np.array([[one.budget] for one in found])
    best = np.array([one.size for one in found])
    problem = Problem(law, points, np.log(best), options.loss or "squares")
    solution = solve(problem, starts=4, seed=options.seed)

    def again(drawn: NDArray[np.intp]) -> Array | None:
        of, _ = optima(size[drawn], value[drawn], spent[drawn], method, lower=lower)
        if len(of) < 2:
            return None
        there = Problem(law, np.array([[one.budget] for one in of]), np.log([one.size for one in of]), problem.loss)
        return refit(there, solution.theta)

    clusters = np.unique(np.column_stack([size, spent]), axis=0, return_inverse=True)[1].reshape(-1)
    draws = draws_of(again, clusters, options.draws, options.seed) if options.draws else np.empty((0, 0))
    response = Response(x, "log", True, False)
    names = tuple(f"{budget} {one.budget:.4g}" for one in found)
    rows = Rows(
        (budget,), response, names, points, best, np.log(best), np.arange(len(found)),
        {**left_out, **{f"{budget} {at:.4g}": why for at, why in none.items()}},
    )  # fmt: skip
    return Fit(
        law=law,
        rows=rows,
        loss=problem.loss,
        linear=False,
        solution=solution,
        draws=draws,
        groups=len(np.unique(clusters)),
        held_out=held_out_error(law, rows, options),
        group=dict(group or {}),
        frontier=f"isoflop ({method})",
        optima=tuple(found),
        among=tuple(ids[i] for i in there),
        notes=notes(law, rows, solution),
    )
