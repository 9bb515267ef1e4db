"""How runs scatter about the curve of their budget (IsoFLOP): measured between seeds, or else from the curve's kinks.

The best size is read off a curve through the means of its sizes, so only scatter of single runs moves it. To resample
sizes would give runs without any noise an interval.
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
    """The mean of log y of each run's size and budget [n]."""
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
    level = (np.bincount(cells, logs) / n)[cells]
    repeated = n[cells] > 1
    effect = seed_effect(logs, cells, seeds, "squares")
    freedom = int(repeated.sum() - (n > 1).sum()) - (effect.freedom if effect else 0)
    if freedom > 1:
        rest = logs - effect.offsets if effect else logs
        rest = rest - (np.bincount(cells, rest) / n)[cells]
        pool = rest[repeated] * np.sqrt(repeated.sum() / freedom)
        return BudgetNoise(level, pool, freedom, by_seeds=True)
    kinks = np.concatenate([_kinks(size[rows], logs[rows]) for rows in budgets_of(budget)])
    # Kinks of neighbours share points, so they tell about half as much as they are many.
    return BudgetNoise(level, kinks, len(kinks) // 2, by_seeds=False) if len(kinks) > 3 else None


def _kinks(size: Array, logs: Array) -> Array:
    """How far each size is from the cubic of its neighbours, as a deviation of a single run."""
    sizes, places = np.unique(size, return_inverse=True)
    x, y = np.log(sizes), np.bincount(places.reshape(-1), logs) / np.bincount(places.reshape(-1))
    found = []
    for i in range(_NEIGHBOURS, len(x) - _NEIGHBOURS):
        near = [j for j in range(i - _NEIGHBOURS, i + _NEIGHBOURS + 1) if j != i]
        share = np.array([np.prod([(x[i] - x[k]) / (x[j] - x[k]) for k in near if k != j]) for j in near])
        found.append((y[i] - share @ y[near]) / np.sqrt(1 + share @ share))
    return np.array(found)
