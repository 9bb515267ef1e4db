"""The parameters of resampled runs: settings are drawn, each with all of its runs.

Where settings share seeds (seeds.py) the runs that a draw is fitted to have lost what each seed adds, and the level is
left to the seeds: the settings' own scatter moves it only by as much as it exceeds that of single runs, as where a law
does not fit. Else noise would be counted twice.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flipscale.fit.seeds import SharedSeedEffect
from flipscale.fit.solver import Problem, refit
from flipscale.fit.uncertainty import draws_of
from flipscale.stats import Array

_STEP = 1e-3  # on the link scale: above what a search leaves open, below what bends a law


@dataclass(frozen=True)
class Resamples:
    """What is drawn, and how often."""

    n: int
    seed: int
    clusters: NDArray[np.intp]
    """The setting of each row [n], which is drawn as a whole."""
    effect: SharedSeedEffect | None
    """That of the seeds which the settings share."""


def resampled(
    problem: Problem,
    theta: Array,
    how: Resamples,
    front: Callable[[NDArray[np.intp]], NDArray[np.intp]] | None = None,
) -> Array:
    """The parameters of resamples [draws, parameters] of a problem with this solution.

    The problem's z has lost the offsets of seeds. With `front` a law goes through a front, which is found anew: it
    gives the places of the best among drawn rows.
    """
    least = len(problem.free)
    residuals = problem.z - problem.law.evaluate(theta, problem.x)[0]
    kept = _kept(residuals, how, least) if front is None else 1.0

    def again(drawn: NDArray[np.intp]) -> Array | None:
        drawn = drawn if front is None else drawn[front(drawn)]
        resample = problem.with_points(drawn)
        if len(np.unique(resample.x, axis=0)) < least:
            return None
        if kept < 1:
            resample = resample.moved((kept - 1) * resample.location(residuals[drawn]))
        return refit(resample, theta)

    return draws_of(again, how.clusters, how.n, how.seed)


def slope_of_level(problem: Problem, theta: Array) -> Array:
    """How much each parameter moves for each unit by which all that was measured moves up [parameters]."""
    return (refit(problem.moved(_STEP), theta) - refit(problem, theta)) / _STEP


def _kept(residuals: Array, how: Resamples, parameters: int) -> float:
    """The share of the settings' scatter, as a standard deviation, that single runs do not explain."""
    if how.effect is None:
        return 1.0
    n = np.maximum(np.bincount(how.clusters), 1)
    means = np.bincount(how.clusters, residuals) / n
    between = float((n * means**2).sum()) / max(len(n) - parameters, 1)
    return float(np.sqrt(max(1 - how.effect.noise / between, 0.0))) if between > 0 else 0.0
