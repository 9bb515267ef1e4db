"""How runs scatter about the curve of their budget (IsoFLOP): measured between seeds, or else from the curve's kinks.

The best size is read off a curve through the means of its sizes, so only scatter of single runs moves it. To resample
sizes would give runs without any noise an interval. Runs are drawn about a smooth curve, as residuals of any fit are:
drawn about the means, which have noise of their own, their noise would count twice.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flipscale.fit.best import budgets_of
from flipscale.fit.seeds import seed_effect
from flipscale.stats import Array

_NEIGHBOURS = 2  # sizes on either side of one, whose cubic says where it would lie without noise


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
        """log y of every run, drawn anew as often as that [draws, n]."""
        return np.asarray(self.level + rng.choice(self.pool, (draws, len(self.level))), dtype=np.float64)


def budget_noise(size: Array, logs: Array, budget: Array, seeds: NDArray[np.intp] | None) -> BudgetNoise | None:
    """The scatter of runs of these sizes, log y and budgets [n]; None where nothing tells it from the curve.

    Runs of equal size and budget measure it, without what their seeds have in common. One run each leaves the distance
    of a size from the cubic through its four neighbours, which is 0 on a smooth curve without noise (a difference-based
    estimate of variance: Gasser, Sroka and Jennen-Steinmetz 1986, Biometrika 73:625).
    """
    places = np.empty(len(size), dtype=np.intp)
    for number, rows in enumerate(budgets_of(budget)):
        places[rows] = number
    cells = np.unique(np.column_stack([places, size]), axis=0, return_inverse=True)[1].reshape(-1)
    n = np.bincount(cells)
    level = np.empty(len(size))
    for rows in budgets_of(budget):
        level[rows] = _smooth(size[rows], logs[rows])
    repeated = n[cells] > 1
    effect = seed_effect(logs, cells, seeds, "squares")
    freedom = int(repeated.sum() - (n > 1).sum()) - (effect.freedom if effect else 0)
    if freedom > 1:
        rest = logs - effect.offsets if effect else logs
        rest = rest - (np.bincount(cells, rest) / n)[cells]
        pool = rest[repeated] * np.sqrt(repeated.sum() / freedom)
        return BudgetNoise(level, pool, freedom, by_seeds=True)
    kinks = [_kinks(size[rows], logs[rows]) for rows in budgets_of(budget)]
    pool = np.concatenate([found for found, _ in kinks])
    if len(pool) <= 3:
        return None
    # Kinks of neighbours share points: their mean square has the degrees of freedom of F. E. Satterthwaite 1946.
    shared = sum(float((correlation**2).sum()) for _, correlation in kinks)
    return BudgetNoise(level, pool, int(len(pool) ** 2 / shared), by_seeds=False)


def _kinks(size: Array, logs: Array) -> tuple[Array, Array]:
    """How far each size is from the cubic of its neighbours, as deviations of single runs, and their correlations."""
    sizes, places = np.unique(size, return_inverse=True)
    weights = _against_neighbours(np.log(sizes))
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    means = np.bincount(places.reshape(-1), logs) / np.bincount(places.reshape(-1))
    return weights @ means, weights @ weights.T


def _smooth(size: Array, logs: Array) -> Array:
    """The curve of one budget at each run [n]: a size and the cubic of its neighbours, by their inverse variances."""
    sizes, places = np.unique(size, return_inverse=True)
    n = np.bincount(places.reshape(-1))
    means = np.bincount(places.reshape(-1), logs) / n
    weights = _against_neighbours(np.log(sizes))
    inner = slice(_NEIGHBOURS, len(sizes) - _NEIGHBOURS)
    # The variance of what the neighbours say over that of the size itself; of the kink it is one more.
    over = (weights**2 / n).sum(axis=1) * n[inner]
    means[inner] -= weights @ means / over
    return means[places.reshape(-1)]


def _against_neighbours(x: Array) -> Array:
    """Weights [sizes but the outer ones, sizes] of a size against the cubic through its neighbours, at x = log size."""
    inner = range(_NEIGHBOURS, len(x) - _NEIGHBOURS)
    weights = np.zeros((len(inner), len(x)))
    for row, i in zip(weights, inner, strict=True):
        near = [j for j in range(i - _NEIGHBOURS, i + _NEIGHBOURS + 1) if j != i]
        row[near] = [-np.prod([(x[i] - x[k]) / (x[j] - x[k]) for k in near if k != j]) for j in near]
        row[i] = 1
    return weights
