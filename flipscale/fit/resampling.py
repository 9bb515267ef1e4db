"""The parameters of resampled runs: settings are drawn with all of their runs, and seeds by their own law.

Where settings share seeds (seeds.py) the runs that a draw is fitted to have lost what each seed adds, and the level of
the draw is moved by what the mean of so few seeds may be off. The settings' own scatter then moves the level only by
as much as it exceeds that of single runs, as where a law does not fit: else noise would be counted twice.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flipscale.fit.law import Array
from flipscale.fit.seeds import SeedEffect
from flipscale.fit.solver import Problem, refit
from flipscale.fit.uncertainty import draws_of


@dataclass(frozen=True)
class SeedDraws:
    """What the seeds add to each draw."""

    shifts: Array
    """How far the level of each draw was moved [draws]."""
    widths: Array
    """The standard deviation of the effect of a new seed in each draw [draws]."""


@dataclass(frozen=True)
class Resamples:
    """What is drawn, and how often."""

    n: int
    seed: int
    clusters: NDArray[np.intp]
    """The setting of each row [n], which is drawn as a whole."""
    effect: SeedEffect | None
    """That of the seeds which the settings share."""
    stretch: float
    """By how much the ends of intervals will be moved out for the number of settings: seeds have their own Student t,
    so what they add is divided by it."""


def resampled(
    problem: Problem,
    theta: Array,
    how: Resamples,
    front: Callable[[NDArray[np.intp]], NDArray[np.intp]] | None = None,
) -> tuple[Array, SeedDraws | None]:
    """The parameters of resamples [draws, parameters] of a problem with this solution, and what the seeds added.

    The problem's z has lost the offsets of seeds. With `front` a law goes through a front, which is found anew: it
    gives the places of the best among drawn rows.
    """
    least = len(problem.free)
    rng = np.random.default_rng([how.seed, 1])
    residuals = problem.z - problem.law.evaluate(theta, problem.x)[0]
    kept = _kept(residuals, how, least) if front is None else 1.0

    def again(drawn: NDArray[np.intp]) -> Array | None:
        drawn = drawn if front is None else drawn[front(drawn)]
        resample = problem.with_points(drawn)
        if len(np.unique(resample.x, axis=0)) < least:
            return None
        if how.effect is None:
            return refit(resample, theta)
        shift, width = (value / how.stretch for value in how.effect.draw(rng))
        level = resample.location(residuals[drawn]) if kept < 1 else 0.0
        return np.append(refit(resample.moved(shift - (1 - kept) * level), theta), [shift, width])

    draws = draws_of(again, how.clusters, how.n, how.seed)
    if how.effect is None or not len(draws):
        return draws, None
    return draws[:, :-2], SeedDraws(draws[:, -2], draws[:, -1])


def _kept(residuals: Array, how: Resamples, parameters: int) -> float:
    """The share of the settings' scatter, as a standard deviation, that single runs do not explain."""
    if how.effect is None:
        return 1.0
    n = np.maximum(np.bincount(how.clusters), 1)
    means = np.bincount(how.clusters, residuals) / n
    between = float((n * means**2).sum()) / max(len(n) - parameters, 1)
    return float(np.sqrt(max(1 - how.effect.noise / between, 0.0))) if between > 0 else 0.0
