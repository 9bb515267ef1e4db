"""Posterior draws of mean curves: how they could have come out with other seeds.

A reading off a curve is not a smooth function of its points: the slope jumps at each of them, and a target can be
missed. Intervals therefore come from draws. In each draw every point of a curve is its mean plus a Student t's step, of
the moderated variance of single runs (pooling.py), with one chi-squared for all points. Steps of one seed are
correlated: along a curve, between twins, and over both curves at once, as they are in the residuals of all cells.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import gammaincinv

from flipscale.stats.pooling import NoiseMethod, pool_variance
from flipscale.stats.scales import Array
from flipscale.stats.student import ALPHA, Interval

MOST_SHARED = 0.95
"""The largest correlation that residuals of a few seeds can show."""

RunKey = tuple[str, str, str]
"""Series, cell and arm of the runs that differ only in their seed."""


@dataclass(frozen=True)
class Shared:
    """The parts of a run's variance that it shares with other runs of its seed; with `rest` they add up to 1."""

    seed: float = 0.0
    """With all runs of its series."""
    curve: float = 0.0
    """With those of its arm."""
    twins: float = 0.0
    """With those of its cell."""

    @property
    def rest(self) -> float:
        """With none."""
        return max(0.0, 1.0 - self.seed - self.curve - self.twins)


@dataclass(frozen=True)
class RunNoise:
    """How far the runs of a study scatter over seeds, on the scale of their values."""

    variances: Mapping[RunKey, float]
    df: Mapping[RunKey, float]
    """Degrees of freedom of each variance."""
    shared: Shared

    def knows(self, keys: Sequence[RunKey]) -> bool:
        """Whether these runs have a variance."""
        return all(key in self.variances for key in keys)

    def steps(self, curves: Sequence[Sequence[RunKey]], seeds: int, draws: int, stream: int) -> tuple[Array, ...]:
        """By how much the points of each curve, means of `seeds` runs, miss the truth: arrays [draws, points].

        The same arguments give the same draws, another stream gives others. The second half of them are the first with
        the opposite sign.
        """
        cells = list(dict.fromkeys(key[:2] for keys in curves for key in keys))
        points = sum(map(len, curves))
        normal = iter(_normals(1 + len(curves) + len(cells) + points, draws // 2, stream))
        of_seed, parts = next(normal), self.shared
        of_curve = [next(normal) for _ in curves]
        of_cell = {cell: next(normal) for cell in cells}
        found = []
        for keys, along in zip(curves, of_curve, strict=True):
            columns = []
            for key in keys:
                z = math.sqrt(parts.seed) * of_seed + math.sqrt(parts.curve) * along
                z = z + math.sqrt(parts.twins) * of_cell[key[:2]] + math.sqrt(parts.rest) * next(normal)
                z = z * _widening(self.df[key], draws // 2, stream) * math.sqrt(self.variances[key] / seeds)
                columns.append(np.concatenate([z, -z]))
            found.append(np.array(columns).T)
        return tuple(found)


def run_noise(runs: Mapping[RunKey, Mapping[int, float]]) -> RunNoise | None:
    """The noise of single runs, from the value of each seed; None where no cell has two seeds."""
    if all(len(set(values.values())) == 1 for values in runs.values()) and max(map(len, runs.values()), default=1) > 1:
        return RunNoise(dict.fromkeys(runs, 0.0), dict.fromkeys(runs, math.inf), Shared())
    pooled = pool_variance(
        {(f"{series}\n{cell}", arm): list(values.values()) for (series, cell, arm), values in runs.items()}, few=True
    )
    if pooled.method is NoiseMethod.OWN:
        return None
    moments = {key: pooled.moments[f"{key[0]}\n{key[1]}", key[2]] for key in runs}
    variances = {key: moments[key].error ** 2 * len(runs[key]) for key in runs}
    return RunNoise(variances, {key: moments[key].df for key in runs}, _shared(runs, variances))


def _shared(runs: Mapping[RunKey, Mapping[int, float]], variances: Mapping[RunKey, float]) -> Shared:
    """Mean products of residuals, each over its standard deviation, by what the two runs of a seed have in common.

    A sum over pairs is the square of the sum less the sum of squares, so there is no loop over pairs.
    """
    parts, pairs = np.zeros(4), np.zeros(4)
    of_series: dict[str, list[RunKey]] = {}
    for key, seeds in runs.items():
        if len(seeds) > 1 and variances[key] > 0:
            of_series.setdefault(key[0], []).append(key)
    for keys in of_series.values():
        grid, mask = _residuals(keys, runs, variances)
        parts += _products(grid)
        pairs += _products(mask)
    alone, curve, twins, both = parts / np.maximum(pairs, 1)
    if alone <= 0:
        return Shared()
    along, between, over = (float(np.clip(part / alone, 0.0, MOST_SHARED)) for part in (curve, twins, both))
    if not pairs[2]:  # the arms of this study have no cell in common
        between = over
    over = min(over, along, between)
    excess = max(1.0, along + between - over)
    return Shared(over / excess, (along - over) / excess, (between - over) / excess)


def _residuals(
    keys: Sequence[RunKey], runs: Mapping[RunKey, Mapping[int, float]], variances: Mapping[RunKey, float]
) -> tuple[Array, Array]:
    """Residuals of one series over their standard deviation [arms, cells, seeds], and 1 where a run exists."""
    seeds = sorted({seed for key in keys for seed in runs[key]})
    cells, arms = (list(dict.fromkeys(key[i] for key in keys)) for i in (1, 2))
    grid = np.zeros((len(arms), len(cells), len(seeds)))
    mask = np.zeros_like(grid)
    for key in keys:
        values = np.array(list(runs[key].values()))
        scale = math.sqrt(variances[key] * (1 - 1 / len(values)))
        at = arms.index(key[2]), cells.index(key[1]), [seeds.index(seed) for seed in runs[key]]
        grid[at], mask[at] = (values - values.mean()) / scale, 1.0
    return grid, mask


def _products(grid: Array) -> Array:
    """Sums of products of runs of one seed, in grid [arms, cells, seeds]: itself, same arm, same cell, neither."""
    alone = float((grid**2).sum())
    curve = float((grid.sum(axis=1) ** 2).sum()) - alone
    twins = float((grid.sum(axis=0) ** 2).sum()) - alone
    every = float((grid.sum(axis=(0, 1)) ** 2).sum())
    return np.array([alone, curve, twins, every - alone - curve - twins])


@lru_cache(maxsize=8)
def _normals(columns: int, draws: int, stream: int) -> Array:
    return np.random.default_rng([stream, 1]).standard_normal((columns, draws))


@lru_cache(maxsize=32)
def _widening(df: float, draws: int, stream: int) -> Array:
    """Factors that turn normal steps into Student t's [draws]: one chi-squared per draw, at one quantile for any df."""
    if math.isinf(df):
        return np.ones(draws)
    quantiles = np.random.default_rng([stream, 2]).random(draws)
    widening: Array = np.sqrt(df / (2 * gammaincinv(df / 2, quantiles)))
    return widening


@dataclass(frozen=True)
class Draws:
    """Draws of one number, read in several ways: its interval covers those of all ways."""

    ways: tuple[Array, ...]
    """Sorted; infinite if a curve misses the target."""

    @classmethod
    def of(cls, *ways: Array) -> "Draws":
        """Draws in any order; one that is undefined could be anything, and counts half at either end."""
        return cls(tuple(np.sort(_anything(way)) for way in ways))

    def interval(self, level: float = ALPHA) -> Interval:
        """The interval that misses the truth with probability `level`; infinite where draws are too few."""
        low, high = math.inf, -math.inf
        for way in self.ways:
            rank = math.floor(level / 2 * (len(way) + 1) + 1e-9)
            low = min(low, float(way[rank - 1]) if rank else -math.inf)
            high = max(high, float(way[-rank]) if rank else math.inf)
        return Interval(low, high)

    def p(self, no_effect: float = 0.0) -> float:
        """Two-sided p of the truth `no_effect`: at most `level` exactly if the interval at that level excludes it."""
        below = max((np.searchsorted(way, no_effect, side="right") + 1) / (len(way) + 1) for way in self.ways)
        above = max((len(way) - np.searchsorted(way, no_effect) + 1) / (len(way) + 1) for way in self.ways)
        return float(min(1.0, 2 * min(below, above)))


def _anything(values: Array) -> Array:
    lost = np.isnan(values)
    if not lost.any():
        return values
    values = values.copy()
    values[lost] = np.where(np.arange(int(lost.sum())) % 2, np.inf, -np.inf)
    return values
