"""How runs scatter about the curve of their budget (IsoFLOP): measured between seeds, or else from the curve's kinks.

The best size is read off a curve through the means of its sizes, so only scatter of single runs moves it. Resampling
sizes would give an interval even to runs without any noise. Runs are drawn about a smooth curve, as residuals of any
fit are: drawn about the means, which have noise of their own, their noise would count twice.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flipscale.fit.best import budgets_of
from flipscale.fit.seeds import seed_effect
from flipscale.stats import Array

_NEIGHBOURS = 2  # sizes on either side of one, whose cubic estimates where it would lie without noise


@dataclass(frozen=True)
class BudgetNoise:
    """The scatter of runs about the mean of their size at their budget."""

    level: Array
    """log y of the curve of each run's budget at its size [n], which runs are drawn about."""
    pool: Array
    """Deviations of single runs from it."""
    freedom: int
    """Degrees of freedom of these deviations."""
    by_seeds: bool
    """Whether they are between runs of equal size and budget; else they are from the cubic of their neighbours."""

    @property
    def sd(self) -> float:
        """Standard deviation of a run, in log y."""
        return float(np.sqrt((self.pool**2).mean()))

    def draw(self, rng: np.random.Generator, draws: int) -> Array:
        """This many draws of log y of every run [draws, n]."""
        return np.asarray(self.level + rng.choice(self.pool, (draws, len(self.level))), dtype=np.float64)


def budget_noise(size: Array, logs: Array, budget: Array, seeds: NDArray[np.intp] | None) -> BudgetNoise | None:
    """The scatter of runs of these sizes, log y and budgets [n]; None where it cannot be told from the curve.

    Runs of equal size and budget measure it, without what their seeds have in common. With one run each, it is the
    distance of a size from the cubic through its four neighbours, 0 on a smooth curve without noise (a difference-based
    estimate of variance: Gasser, Sroka and Jennen-Steinmetz 1986, Biometrika 73:625).
    """
    places = np.empty(len(size), dtype=np.intp)
    for number, rows in enumerate(budgets_of(budget)):
        places[rows] = number
    cells = np.unique(np.column_stack([places, size]), axis=0, return_inverse=True)[1].reshape(-1)
    n = np.bincount(cells)
    level = (np.bincount(cells, logs) / n)[cells]
    repeated = n[cells] > 1
    effect = seed_effect(logs, cells, seeds, "squares")
    freedom = int(repeated.sum() - (n > 1).sum()) - (effect.freedom if effect else 0)
    if freedom > 1:
        rest = logs - effect.offsets if effect else logs
        rest = rest - (np.bincount(cells, rest) / n)[cells]
        pool = rest[repeated] * np.sqrt(repeated.sum() / freedom)
        return BudgetNoise(_smooth(size, level, budget, float((pool**2).mean())), pool, freedom, by_seeds=True)
    kinks = [_kinks(size[rows], logs[rows]) for rows in budgets_of(budget)]
    pool = np.concatenate([found for found, _ in kinks])
    if len(pool) <= 3:
        return None
    # Kinks of neighbours share points: their mean square has the degrees of freedom of F. E. Satterthwaite 1946.
    shared = sum(float((correlation**2).sum()) for _, correlation in kinks)
    smooth = _smooth(size, level, budget, float((pool**2).mean()))
    return BudgetNoise(smooth, pool, int(len(pool) ** 2 / shared), by_seeds=False)


def _kinks(size: Array, logs: Array) -> tuple[Array, Array]:
    """How far each size is from the cubic of its neighbours, as deviations of single runs, and their correlations."""
    sizes, places = np.unique(size, return_inverse=True)
    weights = _against_neighbours(np.log(sizes))
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    means = np.bincount(places.reshape(-1), logs) / np.bincount(places.reshape(-1))
    return weights @ means, weights @ weights.T


def _smooth(size: Array, level: Array, budget: Array, noise: float) -> Array:
    """The means of sizes [n] without the kinks that noise of this variance makes.

    Each is weighted with the cubic of its neighbours by their inverse variances, as far as noise explains the kinks of
    all budgets: larger kinks belong to the curve itself and are kept.
    """
    smooth, squares, moved = level.copy(), [], []
    for rows in budgets_of(budget):
        sizes, places, n = np.unique(size[rows], return_inverse=True, return_counts=True)
        first = np.unique(places.reshape(-1), return_index=True)[1]
        weights = _against_neighbours(np.log(sizes))
        inner = slice(_NEIGHBOURS, len(sizes) - _NEIGHBOURS)
        kinks, variance = weights @ level[rows][first], (weights**2 / n).sum(axis=1)
        squares.append(kinks**2 / variance)
        step = np.zeros(len(sizes))
        step[inner] = kinks / (variance * n[inner])
        moved.append((rows, step[places.reshape(-1)]))
    explained = (
        noise / max(float(np.mean(np.concatenate(squares))), noise, 1e-300) if np.concatenate(squares).size else 0
    )
    for rows, step in moved:
        smooth[rows] -= explained * step
    return smooth


def _against_neighbours(x: Array) -> Array:
    """Weights [sizes but the outer ones, sizes] of a size against the cubic through its neighbours, at x = log size."""
    inner = range(_NEIGHBOURS, len(x) - _NEIGHBOURS)
    weights = np.zeros((len(inner), len(x)))
    for row, i in zip(weights, inner, strict=True):
        near = [j for j in range(i - _NEIGHBOURS, i + _NEIGHBOURS + 1) if j != i]
        row[near] = [-np.prod([(x[i] - x[k]) / (x[j] - x[k]) for k in near if k != j]) for j in near]
        row[i] = 1
    return weights
