"""The best size of each budget of compute (IsoFLOP), and the power law through the best sizes."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flipscale.analysis.fitting.chosen_rows import Response, Rows, column, is_lower_better, row_names, seeds_of_rows
from flipscale.analysis.fitting.fitted_law import Fit, Options
from flipscale.analysis.fitting.fronts import best_sizes, budgets_of, optima
from flipscale.analysis.fitting.laws import law_named
from flipscale.analysis.fitting.search import Problem, refits, solve
from flipscale.analysis.fitting.table import held_out_error
from flipscale.analysis.fitting.uncertainty import new_seeds, seed_effect, whole_seeds
from flipscale.analysis.rows import trunks_of
from flipscale.analysis.stats import Array
from flipscale.errors import ResultsError
from flipscale.scores import lower_is_better


def isoflop(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    budget: str,
    group: Mapping[str, object] | None = None,
    options: Options | None = None,
) -> Fit:
    """The best size x at each budget, and the power law `growth` of it: x = A budget^a, by squares.

    Raises ResultsError with fewer than 2 budgets that have an optimum. Where sizes were run with several seeds, the
    interval comes from curves whose runs scatter about the mean of their size as they do; what a seed does to the whole
    curve does not move its lowest point. With one run a size it comes from the best sizes' distance from the law.
    Where rows share trunks, curves are those of new seeds.
    """
    asked = options or Options()
    options = Options("squares", accuracy=asked.accuracy, draws=asked.draws, seed=asked.seed)
    values = {name: column(table, name) for name in (x, y, budget)}
    missing = [next((name for name in values if not values[name][i] > 0), "") for i in range(len(table))]
    keep = np.array([not name for name in missing], dtype=bool)
    size, score, spent = (numbers[keep] for numbers in values.values())
    ids = row_names(table)
    left_out = {name: f"no {column}" for name, column in zip(ids, missing, strict=True) if column}
    lower = is_lower_better(y, options.accuracy)
    bests, none = optima(size, score, spent, lower=lower)
    if len(bests) < 2:
        why = "; ".join(f"{budget} {at:.3g}: {reason}" for at, reason in none.items())
        raise ResultsError(
            f"{len(bests)} of {len(bests) + len(none)} budgets of {budget} have an optimum, and a law takes 2. {why}"
        )
    law = law_named("growth")
    budgets = np.array([[optimum.budget] for optimum in bests])
    problem = Problem(law, budgets, np.log([optimum.size for optimum in bests]))
    solution = solve(problem, starts=4, seed=options.seed)
    rng = np.random.default_rng(options.seed)
    seeds = seeds_of_rows(table[keep])
    trunks = trunks_of(table[keep])
    cells = _cells(size, spent)
    noise, freedom = _scatter(np.log(score), cells, seeds)
    if whole := whole_seeds(trunks, seeds, cells):
        freedom = whole - 1
    if trunks is not None and not whole:
        freedom = 0
        draws = np.empty((0, 0))
    elif freedom > 1 and options.draws:
        if whole and seeds is not None:
            logs = new_seeds(np.log(score), cells, seeds, options.draws, options.seed)
        else:
            logs = _means(np.log(score), cells) + rng.choice(noise, (options.draws, len(size)))
        sizes = best_sizes(size, logs, spent, lower=lower)
        # Budgets whose measured runs have no optimum stay left out, even if a draw gives them one.
        usable = np.isfinite(best_sizes(size, np.log(score)[None], spent, lower=lower)[0])
        draws = _laws(problem, sizes[:, usable], solution.theta)
    else:
        freedom = len(bests) - 2
        draws = _about_line(problem, solution.theta, freedom, rng, options.draws)
    rows = Rows(
        columns=(budget,),
        response=Response(x, "log", True),
        ids=tuple(f"{budget} {optimum.budget:.4g}" for optimum in bests),
        x=problem.x,
        y=np.array([optimum.size for optimum in bests]),
        z=problem.z,
        clusters=np.arange(len(bests)),
        trunks=None if trunks is None else np.zeros(len(bests), dtype=np.intp),
        left_out={**left_out, **{f"{budget} {at:.4g}": why for at, why in none.items()}},
    )
    return Fit(
        law=law,
        rows=rows,
        options=options,
        solution=solution,
        draws=draws,
        groups=len(np.unique(np.column_stack([size, spent]), axis=0)),
        freedom=freedom,
        whole_seeds=whole,
        held_out=held_out_error(law, rows, replace(options, draws=0)),
        group=dict(group or {}),
        optima=tuple(bests),
        among=tuple(name for name, kept in zip(ids, keep, strict=True) if kept),
    )


def with_error(table: pd.DataFrame, y: str, options: Options) -> tuple[pd.DataFrame, str, Options]:
    """The table with the error of an accuracy, of which less is better, the name of that column, and its options."""
    if lower_is_better(y) is not False:
        return table, y, options
    name = f"1 - {y}"
    return table.assign(**{name: 1 - column(table, y)}), name, replace(options, accuracy=None)


def _cells(size: Array, budget: Array) -> NDArray[np.intp]:
    """The cell of each run: its size at its budget, whose values differ by parts of a batch."""
    places = np.empty(len(size), dtype=np.intp)
    for number, rows in enumerate(budgets_of(budget)):
        places[rows] = number
    return np.unique(np.column_stack([places, size]), axis=0, return_inverse=True)[1].reshape(-1)


def _means(logs: Array, cells: NDArray[np.intp]) -> Array:
    """The mean log y of each run's cell [n]."""
    return np.asarray((np.bincount(cells, logs) / np.bincount(cells))[cells])


def _scatter(logs: Array, cells: NDArray[np.intp], seeds: NDArray[np.intp] | None) -> tuple[Array, int]:
    """Deviations of single runs from the mean of their cell, without the effect of seeds; their degrees of freedom."""
    repeated = np.bincount(cells)[cells] > 1
    effect = seed_effect(logs, cells, seeds)
    freedom = int(repeated.sum()) - len(np.unique(cells[repeated])) - (effect.freedom if effect else 0)
    logs = logs - effect.offsets if effect else logs
    rest = (logs - _means(logs, cells))[repeated]
    return rest * np.sqrt(len(rest) / max(freedom, 1)), freedom


def _laws(problem: Problem, sizes: Array, theta: Array) -> Array:
    """The laws [m, parameters] through rows of best sizes [rows, budgets] in the logarithm, of 2 budgets or more."""
    sizes = sizes[np.isfinite(sizes).sum(axis=1) > 1]
    known = np.isfinite(sizes)
    return refits(replace(problem, z=np.where(known, sizes, problem.z)), theta, known.astype(np.float64))


def _about_line(problem: Problem, theta: Array, freedom: int, rng: np.random.Generator, draws: int) -> Array:
    """Normal draws of a line by the scatter of its points: with t / z their interval is Student's."""
    if freedom < 2 or not draws:
        return np.empty((0, 0))
    values, jacobian = problem.residuals(theta)
    root = np.linalg.cholesky(np.linalg.inv(jacobian.T @ jacobian))
    return theta + float(np.sqrt((values**2).sum() / freedom)) * rng.standard_normal((draws, len(theta))) @ root.T
