"""How runs scatter over seeds in simulated studies: evenly, unevenly, with heavy tails, or with an effect of the seed.

Noise is on the scale of the score: on the logit, where 0.06 is 1.1 points at 75 %.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from flipscale.analysis.stats import Array

RUN_SD = 0.06
"""Standard deviation of a run's logit."""

MOST_SEEDS = 5
"""The most seeds of a cell if cells have different numbers of them; the least is 1."""

Spread = Callable[[np.random.Generator, Array], Array]
"""Maps the sizes of cells, from 0 to 1, to their standard deviations over RUN_SD."""


def even(rng: np.random.Generator, sizes: Array) -> Array:
    return np.ones(len(sizes))


def falling(rng: np.random.Generator, sizes: Array) -> Array:
    """From twice to half."""
    falls: Array = 2.0 * 4.0**-sizes
    return falls


def wild(rng: np.random.Generator, sizes: Array) -> Array:
    """One cell scatters four times as far."""
    spread = np.ones(len(sizes))
    spread[len(sizes) // 3] = 4.0
    return spread


def gamma(rng: np.random.Generator, sizes: Array) -> Array:
    """Variances of a gamma distribution of shape 2."""
    spread: Array = np.sqrt(rng.gamma(2, 1 / 2, len(sizes)))
    return spread


@dataclass(frozen=True)
class Scatter:
    """One way for runs to scatter."""

    name: str
    spread: Spread = even
    seed_effect: float = 0.0
    """Standard deviation of what a seed does to all runs of an arm."""
    of_twins: bool = False
    """Whether the seed does the same to all arms."""
    tails: float = np.inf
    """Degrees of freedom of the runs' Student t."""
    unbalanced: bool = False
    """Whether cells have 1 to MOST_SEEDS seeds each."""

    def noise(self, rng: np.random.Generator, arms: int, sizes: Sequence[float], seeds: int) -> Array:
        """Steps on the logit [arms, cells, seeds]."""
        shape = (arms, len(sizes), seeds)
        spread = self.spread(rng, np.asarray(sizes, dtype=np.float64))[:, None]
        if np.isinf(self.tails):
            steps = rng.standard_normal(shape)
        else:
            steps = rng.standard_t(self.tails, shape) * np.sqrt((self.tails - 2) / self.tails)
        effects = rng.standard_normal((1 if self.of_twins else arms, 1, seeds))
        found: Array = RUN_SD * spread * steps + self.seed_effect * effects
        return found

    def counts(self, rng: np.random.Generator, cells: int, seeds: int) -> list[int]:
        """How many of the seeds each cell has."""
        return rng.integers(1, seeds + 1, cells).tolist() if self.unbalanced else [seeds] * cells


SCATTERS = (
    Scatter("equal noise"),
    Scatter("falls with size", falling),
    Scatter("one wild cell", wild),
    Scatter("gamma variances", gamma),
    Scatter("seed effect .03 of twins", seed_effect=0.03, of_twins=True),
    Scatter("seed effect .08 of twins", seed_effect=0.08, of_twins=True),
    Scatter("seed effect .03", seed_effect=0.03),
    Scatter("seed effect .08", seed_effect=0.08),
    Scatter("t, 5 df", tails=5.0),
    Scatter("t, 3 df", tails=3.0),
)
UNBALANCED = (
    Scatter("1 to 5 seeds", unbalanced=True),
    Scatter("1 to 5 seeds, gamma variances", gamma, unbalanced=True),
)
"""Each is one design, because it draws its own numbers of seeds."""
