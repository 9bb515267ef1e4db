"""One variance per cell; that of few seeds is shrunk towards the median cell's (after Smyth 2004, SAGMB 3:3).

The runs of a study scatter about equally on the logit of a fraction and on the logarithm of a loss. Raw differences of
a cell are therefore divided by its unit, p (1 - p) or the loss, before variances of cells are compared, and the shrunk
variance is multiplied by it again: differences and intervals stay in points.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from scipy.special import fdtri, gammaincinv

from flipscale.analysis.stats.student import Moments

CellKey = TypeVar("CellKey", bound=Hashable)

PRIOR_DF = 4.0
"""Degrees of freedom of the median cell's variance in that of a cell of few seeds."""

OWN_SEEDS = 8
"""From this many seeds on a cell has its own variance: shrinking would widen the intervals of a quiet one."""

NOISY_P = 0.02
"""The chance that any cell of a study keeps its own variance though it is no noisier than the rest."""


@dataclass(frozen=True)
class Differences:
    """The paired differences of one cell, one per seed."""

    values: Sequence[float]
    unit: float
    """How much of the score one unit of noise is; 0 where no difference can be measured."""


@dataclass(frozen=True)
class Noise(Generic[CellKey]):
    """How far differences between twins scatter over seeds."""

    moments: Mapping[CellKey, Moments]
    """Cell -> its mean difference with standard error and degrees of freedom; none where its scatter is unknown."""
    prior_sd: float | None
    """Standard deviation of the median cell, in units; None where fewer than two cells have one."""
    cells: int
    """Cells with two seeds or more."""
    noisy: tuple[CellKey, ...]
    """Cells that are far noisier than the median and keep their own variance."""


@dataclass(frozen=True)
class ScoreKind:
    """What matters of a score to its statistics."""

    fraction: bool
    lower: bool
    """Whether less of it is better."""
    own_unit: bool = False
    """Whether its study declares it, so that differences are in its own unit; those of other losses are in percent."""

    @property
    def in_percent(self) -> bool:
        """Whether differences are in percent of it."""
        return self.lower and not self.own_unit

    @property
    def sign(self) -> int:
        """A gain is this times the difference of two scores."""
        return -1 if self.lower else 1

    def noise_unit(self, level: float) -> float:
        """The unit of noise at a mean score: p (1 - p) of a fraction, a loss itself, 1 for anything else."""
        if self.fraction:
            return level * (1 - level)
        return level if self.lower and level > 0 else 1.0


def shrink_variances(
    cells: Mapping[CellKey, Differences], units: Mapping[CellKey, int] | None = None
) -> Noise[CellKey]:
    """The mean difference of each cell of several seeds. Below OWN_SEEDS its standard error is by a variance that is
    shrunk towards the median cell's.

    Cells of one unit share a trunk, whose luck makes their variances alike: their mean counts once. With a single unit
    of several seeds there is no median to shrink towards: its cells have their own variances.
    """
    usable = {key: cell for key, cell in cells.items() if cell.unit > 0}
    variances = {
        key: float(np.var(cell.values, ddof=1)) / cell.unit**2 for key, cell in usable.items() if len(cell.values) > 1
    }
    scattered = {key: len(usable[key].values) - 1 for key, variance in variances.items() if variance > 0}
    prior = None
    of_unit: dict[Hashable, list[float]] = {}
    for key, freedom in scattered.items():
        # The median of a variance of few degrees of freedom lies below its mean.
        above = variances[key] * freedom / (2 * gammaincinv(freedom / 2, 0.5))
        of_unit.setdefault(units[key] if units else key, []).append(above)
    if len(of_unit) > 1:
        prior = float(np.median([np.mean(alike) for alike in of_unit.values()]))
    moments: dict[CellKey, Moments] = {}
    noisy = []
    for key, variance in variances.items():
        cell = usable[key]
        n = len(cell.values)
        df = n - 1.0
        if prior is not None and n < OWN_SEEDS:
            if variance > prior * fdtri(n - 1, PRIOR_DF, 1 - NOISY_P / len(scattered)):
                noisy.append(key)
            else:
                df = PRIOR_DF + n - 1
                variance = (PRIOR_DF * prior + (n - 1) * variance) / df
        moments[key] = Moments(float(np.mean(cell.values)), cell.unit * math.sqrt(variance / n), df)
    return Noise(moments, None if prior is None else math.sqrt(prior), len(scattered), tuple(noisy))
