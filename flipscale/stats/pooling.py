"""One variance per cell, moderated by the other cells: a capped, cell-moderated t (after Smyth 2004, SAGMB 3:3).

Differences between twins of one cell share their baseline, so a cell has one variance, and each arm has a ratio to it.
The variances of cells are pulled towards a common value by as much as they agree, and never by more than DF_MOST
degrees of freedom: twenty variances of 3 degrees of freedom say little about how well they agree. A cell that is far
noisier than the rest keeps its own variance. Steps, limits and simulated coverage are in docs/compare.md.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, fdtrc, gammaincinv, polygamma

from flipscale.stats.scales import Array
from flipscale.stats.student import Moments, moments

DF_MOST, DF_MOST_OF_FEW = 6.0, 4.0
"""The most degrees of freedom that the other cells may add: from MANY_CELLS cells, and from fewer."""
MANY_CELLS, FEW_CELLS = 8, 5
WILD_P, WILD_DF = 0.02, 20.0
"""A cell is wild if F of its variance against the median cell's has a smaller p than WILD_P / cells."""
SHARED_RUNS = 4
"""The degrees of freedom of claims together count this many times less, as claims share runs."""
SHARED = 1 / 4
"""Squared correlation of two variances whose differences share a baseline."""


class NoiseMethod(Enum):
    """Which variances the answers rest on."""

    MODERATED = auto()
    """The cell's variance, shrunk towards those of the others."""
    OWN = auto()
    """The variance of the cell's own seeds: there are too few cells or seeds for shrinkage."""


@dataclass(frozen=True)
class Noise:
    """How far differences between twins scatter over seeds, by cell and arm."""

    method: NoiseMethod
    cells: int
    """Cells with two seeds or more."""
    seeds: float
    """Mean number of seeds of these cells."""
    moments: Mapping[tuple[str, str], Moments]
    """(cell, arm) -> mean difference, its standard error and degrees of freedom, on the scale of the differences."""
    by_own_seeds: Mapping[tuple[str, str], Moments]
    """The same by the own seeds of each; one with a single seed has no entry."""
    prior_df: float = 0.0
    """Degrees of freedom that the other cells add."""
    prior_sd: float | None = None
    """Standard deviation towards which cells are pulled."""
    capped: bool = False
    """Whether `prior_df` is the most that is allowed."""
    arm_ratios: Mapping[str, float] = field(default_factory=dict)
    """Variance of each arm's differences over the first arm's."""
    wild: tuple[str, ...] = ()
    """Cells that are far noisier than the rest and keep their own variance."""

    def df(self, seeds: int, arms: int) -> float:
        """Degrees of freedom that a cell with this many seeds and arms has."""
        from_seeds = (seeds - 1) * arms / (1 + (arms - 1) * SHARED)
        return self.prior_df + from_seeds if self.method is NoiseMethod.MODERATED else seeds - 1

    @property
    def sd(self) -> float | None:
        """A typical standard deviation of differences; None where no cell has two seeds."""
        if self.prior_sd is not None:
            return self.prior_sd
        variances = [found.error**2 * (found.df + 1) for found in self.by_own_seeds.values()]
        return math.sqrt(sum(variances) / len(variances)) if variances else None


@dataclass(frozen=True)
class _Cells:
    """Variances [cells, arms] with their degrees of freedom; NaN and 0 for an absent one."""

    variances: Array
    df: Array
    names: tuple[str, ...]
    arms: tuple[str, ...]

    @property
    def cell_df(self) -> Array:
        """Degrees of freedom of a cell [cells], of all its arms."""
        most: Array = self.df.max(axis=1, initial=0.0)
        return most


def pool_variance(
    differences: Mapping[tuple[str, str], Sequence[float]], *, claims: bool = False, few: bool = False
) -> Noise:
    """The noise of a study from the differences of twins on a ScoreScale: (cell, arm) -> one value per seed.

    Fewer than 8 cells (with 3 seeds, 5) are too few to learn from: each answer then uses its cell's own seeds, unless
    `few` says that a reading uses several cells. With `claims` the "cells" are contrasts of any kind between the runs
    of one study; they share runs, so fewer degrees of freedom are counted.
    """
    by_own_seeds = {key: found for key, values in differences.items() if (found := moments(values))}
    names = tuple(dict.fromkeys(cell for cell, _ in differences))
    arms = tuple(dict.fromkeys(arm for _, arm in differences))
    variances = np.full((len(names), len(arms)), np.nan)
    df = np.zeros_like(variances)
    places = _places(names, arms)
    for key, found in by_own_seeds.items():
        n = len(differences[key])
        variances[places(key)] = found.error**2 * n
        df[places(key)] = n - 1
    cells = _Cells(variances, df, names, arms)
    several = cells.cell_df > 0
    count, seeds = int(several.sum()), float(1 + cells.cell_df[several].mean()) if several.any() else 1.0
    if not (few and count) and not _enough(count, seeds):
        return Noise(NoiseMethod.OWN, count, seeds, by_own_seeds, by_own_seeds)
    return _moderated(cells, differences, by_own_seeds, claims)


def _places(names: Sequence[str], arms: Sequence[str]) -> Callable[[tuple[str, str]], tuple[int, int]]:
    """The index of the variance of a cell and arm."""
    rows, columns = ({name: i for i, name in enumerate(of)} for of in (names, arms))
    return lambda key: (rows[key[0]], columns[key[1]])


def _enough(cells: int, seeds: float) -> bool:
    return cells >= MANY_CELLS or (cells >= FEW_CELLS and seeds >= 3)


def _moderated(
    cells: _Cells,
    differences: Mapping[tuple[str, str], Sequence[float]],
    by_own_seeds: Mapping[tuple[str, str], Moments],
    claims: bool,
) -> Noise:
    ratios = np.ones(len(cells.arms)) if claims else _arm_ratios(cells)
    with np.errstate(invalid="ignore"):
        measured = cells.df > 0
        arms_of = measured.sum(axis=1)
        u = np.nansum(np.where(measured, cells.variances / ratios, 0.0), axis=1) / np.maximum(arms_of, 1)
    several = arms_of > 0
    own_df = cells.cell_df * arms_of / (1 + np.maximum(arms_of - 1, 0) * SHARED)
    wild = _wild(u, own_df, several, float(cells.cell_df[several].mean()))
    pooled = several & ~wild
    most = DF_MOST if claims or several.sum() >= MANY_CELLS else DF_MOST_OF_FEW
    prior_df, prior, capped = _prior(u[pooled], own_df[pooled], most)
    total = own_df[pooled].sum() / (SHARED_RUNS if claims else 1)
    variance = np.where(wild, u, (prior_df * prior + own_df * u) / (prior_df + own_df))
    df = np.where(wild, own_df, np.minimum(prior_df + own_df, max(total, 1.0)))
    found = {}
    places = _places(cells.names, cells.arms)
    for key, values in differences.items():
        c, a = places(key)
        error = math.sqrt(variance[c] * ratios[a] / len(values))
        found[key] = Moments(float(np.mean(values)), error, float(df[c]))
    return Noise(
        method=NoiseMethod.MODERATED,
        cells=int(several.sum()),
        seeds=float(1 + cells.cell_df[several].mean()),
        moments=found,
        by_own_seeds=by_own_seeds,
        prior_df=prior_df,
        prior_sd=math.sqrt(prior),
        capped=capped,
        arm_ratios=dict(zip(cells.arms, ratios.tolist(), strict=True)),
        wild=tuple(name for name, is_wild in zip(cells.names, wild, strict=True) if is_wild),
    )


def _arm_ratios(cells: _Cells) -> Array:
    """Variance of each arm over the first arm's [arms], shrunk to 1 by as much as chance explains it."""
    ratios = np.ones(len(cells.arms))
    z = _log_variances(cells.variances, cells.df)
    for arm in range(1, len(cells.arms)):
        # Seeds that agree to the last digit say nothing about a ratio.
        both = (cells.df[:, [0, arm]] > 0).all(axis=1) & (cells.variances[:, [0, arm]] > 0).all(axis=1)
        if not both.any():
            continue
        found = float(np.mean(z[both, arm]) - np.mean(z[both, 0]))
        chance = 2 * float(polygamma(1, cells.df[both][:, [0, arm]].mean() / 2)) / int(both.sum())
        if found:
            ratios[arm] = math.exp(found * max(0.0, 1 - chance / found**2))
    return ratios


def _log_variances(variances: Array, df: Array) -> Array:
    """Logarithms of variances without the bias that few degrees of freedom have."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z: Array = np.log(variances) - digamma(df / 2) + np.log(df / 2)
    return z


def _wild(u: Array, df: Array, several: NDArray[np.bool_], mean_df: float) -> NDArray[np.bool_]:
    """Cells [cells] whose variance is far above the median's, by an F test at WILD_P over all of them."""
    wild: NDArray[np.bool_] = np.zeros(len(u), dtype=bool)
    if mean_df < 2:
        return wild
    z = _log_variances(_floored(u[several]), df[several])
    scaled = np.exp(z - np.median(z)) * _chi2_median(df[several]) / df[several]
    wild[several] = fdtrc(df[several], WILD_DF, scaled) < WILD_P / several.sum()
    return wild


def _chi2_median(df: Array) -> Array:
    median: Array = 2 * gammaincinv(df / 2, 0.5)
    return median


def _floored(u: Array) -> Array:
    """Variances without zeros, for their logarithm."""
    return np.maximum(u, max(1e-5 * float(np.median(u)), 1e-300))


def _prior(u: Array, df: Array, most: float) -> tuple[float, float, bool]:
    """Degrees of freedom and variance of the common value, and whether the first is capped (Smyth 2004)."""
    z = _log_variances(_floored(u), df)
    spread = float(z.var(ddof=1)) if len(z) > 1 else 0.0
    spread -= float(np.mean(polygamma(1, df / 2)))
    prior_df = 2 * inverse_trigamma(spread) if spread > 0 else math.inf
    capped = prior_df > most
    prior_df = min(prior_df, most)
    return prior_df, math.exp(float(z.mean()) + float(digamma(prior_df / 2)) - math.log(prior_df / 2)), capped


def inverse_trigamma(x: float) -> float:
    """The y whose trigamma is x, by Newton's method (Smyth 2004, appendix)."""
    y = 0.5 + 1 / x
    for _ in range(50):
        trigamma = float(polygamma(1, y))
        step = trigamma * (1 - trigamma / x) / float(polygamma(2, y))
        y += step
        if -step / y < 1e-10:
            break
    return y
