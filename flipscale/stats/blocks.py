"""Means and slopes over cells. Seeds go along whole lines of cells, so the unit that repeats is the seed, not the cell.

Methods that take cells as independent cover the truth in only half of all studies whose cells share a seed's effect
(docs/compare.md has the simulation). A mean over cells is therefore a Student t over the means of seeds; for similar
cells that were not run, it is the wider of that and of a Student t over cells. A slope is a Student t over the slopes
of seeds, or uses the moderated noise of its cells: an effect of a seed on all cells alike does not tilt a line.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc, fdtrc

from flipscale.stats.scales import Array
from flipscale.stats.student import Interval, Moments, moments

WARN_P = 0.1
"""Below this p, intervals over cells are probably too narrow. With three seeds the test finds little, so a larger p
proves nothing."""


@dataclass(frozen=True)
class Mean:
    """The mean difference over the cells of a study."""

    mean: float
    these: Interval
    """95 % interval of the mean over exactly these cells."""
    alike: Interval
    """95 % interval of the mean over cells like these."""
    spread: float
    """Standard deviation of the true differences from cell to cell (Paule and Mandel 1982)."""


def mean_over(differences: Array, errors: Sequence[float]) -> Mean | None:
    """The mean over cells of differences [cells, seeds], whose cells have these standard errors.

    None with one cell or one seed.
    """
    cells, seeds = differences.shape
    if min(cells, seeds) < 2:
        return None
    by_seed = moments(differences.mean(axis=0).tolist())
    by_cell = moments(differences.mean(axis=1).tolist())
    assert by_seed is not None
    assert by_cell is not None
    these = by_seed.interval()
    alike = max(these, by_cell.interval(), key=lambda interval: interval.half_width)
    return Mean(by_seed.mean, these, alike, spread_of(differences.mean(axis=1), np.asarray(errors)))


def spread_of(effects: Array, errors: Array) -> float:
    """The standard deviation of true effects [cells], measured with these standard errors (Paule and Mandel 1982)."""

    def excess(variance: float) -> float:
        weights = 1 / (errors**2 + variance)
        mean = float((weights * effects).sum() / weights.sum())
        return float((weights * (effects - mean) ** 2).sum()) - (len(effects) - 1)

    if (errors <= 0).any():
        return float(effects.std(ddof=1))
    low, high = 0.0, float(effects.var(ddof=1)) * len(effects)
    if excess(low) <= 0:
        return 0.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return math.sqrt((low + high) / 2)


@dataclass(frozen=True)
class Slope:
    """How a difference changes along an axis, per unit of x."""

    by_seed: Moments | None
    """Student t over the slopes of seeds; None with one seed."""
    moderated: Moments
    """By the noise of the cells, which does not include how seeds tilt lines."""
    bends_p: float | None
    """p of the hypothesis that the differences lie on a line; None with two values of x."""


def slope_of(lines: Sequence[tuple[Array, Array, Sequence[Moments]]]) -> Slope | None:
    """The slope common to lines of cells: x [cells], differences [cells, seeds], and each cell's noise.

    Each line has its own level. None where no line has two values of x.
    """
    centred = [x - x.mean() for x, _, _ in lines]
    total = sum(float((x**2).sum()) for x in centred)
    if total == 0:
        return None
    weights = np.concatenate(centred) / total
    noise = [moments for _, _, of_line in lines for moments in of_line]
    differences = np.concatenate([values for _, values, _ in lines])
    parts = weights**2 * np.array([moments.error**2 for moments in noise])
    df = np.array([moments.df for moments in noise])
    variance = float(parts.sum())
    satterthwaite = variance**2 / float((parts**2 / df).sum()) if variance else float(df.min())
    means = differences.mean(axis=1)
    slope = float(weights @ means)
    return Slope(
        moments((weights @ differences).tolist()),
        Moments(slope, math.sqrt(variance), satterthwaite),
        _bends(lines, slope),
    )


def _bends(lines: Sequence[tuple[Array, Array, Sequence[Moments]]], slope: float) -> float | None:
    """p of the chi-squared of the residuals from a line."""
    squares, df = 0.0, -1
    for x, values, noise in lines:
        errors = np.array([moments.error for moments in noise])
        if (errors <= 0).any():
            return None
        level = values.mean(axis=1) - slope * (x - x.mean())
        squares += float((((level - level.mean()) / errors) ** 2).sum())
        df += len(x) - 1
    return float(chdtrc(df, squares)) if df > 0 else None


@dataclass(frozen=True)
class SeedEffect:
    """The test whether seeds move all cells alike, by more than twins share."""

    p: float


def seed_effect(differences: Array) -> SeedEffect | None:
    """F test of a seed's effect that all cells share, of differences [cells, seeds]; None with one cell or seed."""
    cells, seeds = differences.shape
    if min(cells, seeds) < 2:
        return None
    by_seed = cells * float(differences.mean(axis=0).var(ddof=1))
    rest = (
        differences
        - differences.mean(axis=0, keepdims=True)
        - differences.mean(axis=1, keepdims=True)
        + differences.mean()
    )
    within = float((rest**2).sum()) / ((cells - 1) * (seeds - 1))
    if within <= 1e-24:
        return SeedEffect(1.0)
    return SeedEffect(float(fdtrc(seeds - 1, (seeds - 1) * (cells - 1), by_seed / within)))
