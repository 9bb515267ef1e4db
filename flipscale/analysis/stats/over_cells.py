"""Means and slopes over cells, and whether seeds move all cells alike.

Seeds run through whole lines of cells. A mean over cells is therefore a Student t over the means of seeds. A slope has
the variances of its cells: what a seed adds to all cells alike does not tilt a line. Where its cells share trunks it is
a Student t over the slopes of seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc, fdtrc

from flipscale.analysis.stats.student import Array, Interval, Moments, moments

WARN_P = 0.1
"""Below this p, intervals over cells are probably too narrow. With three seeds the test finds little, so a larger p
proves nothing."""


def mean_over(differences: Array) -> Moments | None:
    """The mean over cells of differences [cells, seeds]; None with one cell or one seed."""
    cells, _ = differences.shape
    return None if cells < 2 else moments(differences.mean(axis=0).tolist())


@dataclass(frozen=True)
class Slope:
    """How a difference changes along an axis, per unit of x."""

    slope: float
    interval: Interval
    """95 % interval."""
    bends_p: float | None
    """p of the hypothesis that the differences lie on a line; None with two values of x, or with trunks."""


def slope_of(lines: Sequence[tuple[Array, Sequence[Moments]]], by_seed: Array | None = None) -> Slope | None:
    """The slope common to lines of cells: x [cells] and each cell's difference. Each line has its own level.

    `by_seed` has the differences of seeds [cells, seeds], the cells in the order of lines, where cells share trunks.
    None where no line has two values of x.
    """
    centred = np.concatenate([x - x.mean() for x, _ in lines])
    total = float((centred**2).sum())
    if total == 0:
        return None
    weights = centred / total
    if by_seed is not None:
        of_seeds = moments((weights @ by_seed).tolist())
        return None if of_seeds is None else Slope(of_seeds.mean, of_seeds.interval(), None)
    cells = [cell for _, of_line in lines for cell in of_line]
    means, errors, df = (np.array([getattr(cell, name) for cell in cells]) for name in ("mean", "error", "df"))
    parts = (weights * errors) ** 2
    variance = float(parts.sum())
    # Satterthwaite (1946).
    of_slope = variance**2 / float((parts**2 / df).sum()) if variance else float(df.min())
    slope = float(weights @ means)
    moments_of_slope = Moments(slope, math.sqrt(variance), of_slope)
    return Slope(slope, moments_of_slope.interval(), _bends_p(lines, slope))


def _bends_p(lines: Sequence[tuple[Array, Sequence[Moments]]], slope: float) -> float | None:
    """p of the chi-squared of the residuals from parallel lines."""
    squares = 0.0
    df = -1
    for x, cells in lines:
        means, errors = (np.array([getattr(cell, name) for cell in cells]) for name in ("mean", "error"))
        if (errors <= 0).any():
            return None
        level = means - slope * (x - x.mean())
        squares += float((((level - level.mean()) / errors) ** 2).sum())
        df += len(x) - 1
    return float(chdtrc(df, squares)) if df > 0 else None


def seed_effect_p(differences: Array) -> float | None:
    """p of the F test of a seed's effect that all cells share, of differences [cells, seeds] in units of noise.

    None with one cell or one seed.
    """
    cells, seeds = differences.shape
    if min(cells, seeds) < 2:
        return None
    by_seed = cells * float(differences.mean(axis=0).var(ddof=1))
    rest = differences - differences.mean(axis=0) - differences.mean(axis=1, keepdims=True) + differences.mean()
    within = float((rest**2).sum()) / ((cells - 1) * (seeds - 1))
    return 1.0 if within <= 1e-24 else float(fdtrc(seeds - 1, (seeds - 1) * (cells - 1), by_seed / within))
