"""The parameters of resampled runs: settings are drawn, each with all of its runs.

If settings share seeds (seeds.py), each seed's effect is removed from the runs that a draw is fitted to, and the level
is left to the seeds: the settings' own scatter moves it only by as much as it exceeds that of single runs, as when a
law does not fit. Otherwise noise would be counted twice.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flipscale.fit.problem import Problem
from flipscale.fit.seeds import SharedSeedEffect
from flipscale.fit.solver import refits
from flipscale.fit.uncertainty import resamples
from flipscale.stats import Array

_STEP = 1e-3  # on the link scale: above the tolerance of a search, and small enough for a law to be linear
_REWEIGHTED = 100  # at most this many reweighted means
_INFORMED = 1e-6  # least share of the information of all points that a resample has in every direction


@dataclass(frozen=True)
class Resamples:
    """The units drawn, and the number of draws."""

    n: int
    seed: int
    clusters: NDArray[np.intp]
    """The setting of each row [n], which is drawn as a whole."""
    effect: SharedSeedEffect | None
    """The effect of the seeds that the settings share."""


def resampled(
    problem: Problem,
    theta: Array,
    how: Resamples,
    front: Callable[[NDArray[np.intp]], NDArray[np.intp]] | None = None,
) -> Array:
    """The parameters of resamples [draws, parameters] of a problem with this solution.

    The problem's z has lost the offsets of seeds. With `front` a law goes through a front, which is found anew: it
    gives the places of the best among drawn rows. A resample that does not determine the parameters is drawn anew, up
    to as often as there are draws.
    """
    residuals = problem.z - problem.law.evaluate(theta, problem.x)[0]
    kept = _kept(residuals, how, len(problem.free_places)) if front is None else 1.0
    counts = _counts(how, front).astype(np.float64)
    counts = counts[_determine(problem, theta, counts)][: how.n]
    if kept < 1 and len(counts):
        problem = problem.moved((kept - 1) * _levels(problem, residuals, counts))
    return refits(problem, theta, counts)


def _counts(how: Resamples, front: Callable[[NDArray[np.intp]], NDArray[np.intp]] | None) -> NDArray[np.intp]:
    """How often each resample contains each row; twice as many resamples as are wanted."""
    counts = resamples(how.clusters, 2 * how.n, how.seed)
    if front is None:
        return counts
    drawn = (np.repeat(np.arange(len(row)), row) for row in counts)
    return np.array([np.bincount(rows[front(rows)], minlength=counts.shape[1]) for rows in drawn])


def _determine(problem: Problem, theta: Array, counts: Array) -> NDArray[np.bool_]:
    """Which resamples determine all parameters [m].

    In the direction that it knows least about, a resample has that share of the information of all points which is the
    smallest eigenvalue of Q' diag(counts) Q, with Q from the QR decomposition of the Jacobian. It is 0 where a resample
    has too few different points, or only points on one line.
    """
    basis = np.linalg.qr(problem.residuals(theta[problem.free_places])[1])[0]
    shares = (basis.T * counts[:, None]) @ basis
    return np.asarray(np.linalg.eigvalsh(shares)[:, 0] > _INFORMED)


def slope_of_level(problem: Problem, theta: Array) -> Array:
    """How much each parameter moves for each unit by which all measurements move up [parameters]."""
    found = refits(problem.moved(np.array([0.0, _STEP])), theta, np.ones((2, len(problem.x))))
    slope: Array = (found[1] - found[0]) / _STEP
    return slope


def _levels(problem: Problem, residuals: Array, counts: Array) -> Array:
    """The level of residuals that the loss settles on in each resample [m]: their mean, or Huber's.

    Large residuals balance about Huber's level, which reweighted means approach from the median.
    """
    counts = counts if problem.weights is None else counts * problem.weights
    total = counts.sum(axis=1)
    if problem.loss == "squares":
        return np.asarray(counts @ residuals / total, dtype=np.float64)
    order = np.argsort(residuals)
    at = residuals[order][(np.cumsum(counts[:, order], axis=1) >= total[:, None] / 2).argmax(axis=1)]  # the median
    for _ in range(_REWEIGHTED):
        pull = counts * np.minimum(1.0, problem.delta / np.maximum(np.abs(residuals - at[:, None]), 1e-300))
        step = (pull @ residuals) / pull.sum(axis=1) - at
        at = at + step
        if np.abs(step).max() < 1e-3 * problem.delta:
            break
    return np.asarray(at, dtype=np.float64)


def _kept(residuals: Array, how: Resamples, parameters: int) -> float:
    """The share of the settings' scatter, as a standard deviation, that single runs do not explain."""
    if how.effect is None:
        return 1.0
    n = np.maximum(np.bincount(how.clusters), 1)
    means = np.bincount(how.clusters, residuals) / n
    between = float((n * means**2).sum()) / max(len(n) - parameters, 1)
    return float(np.sqrt(max(1 - how.effect.noise / between, 0.0))) if between > 0 else 0.0
