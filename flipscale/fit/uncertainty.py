"""The uncertainty of an estimate: resamples of seed groups, and intervals that cover as often as they claim.

Rows that differ only in their seed are one group, and groups are drawn: two seeds of one setting are not independent
evidence for the form of a law. `widened` adds the effect on the level of seeds that settings share.

The percentiles of a bootstrap over few groups are too narrow, as normal tails are against Student's (T. C. Hesterberg
2015, The American Statistician 69:371). Each end is therefore as far from the estimate as its percentile is from the
median of the draws, times t / z. bench/coverage.py measures how often the intervals then cover the truth.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from flipscale.stats import Array

DRAWS = 1000
"""Resamples: with 100 the ends of a 95 % interval are themselves uncertain by a fifth of its width."""

COVERAGE = 0.95
"""The share of intervals that should cover the truth."""


def resamples(clusters: NDArray[np.intp], n: int, seed: int = 0) -> NDArray[np.intp]:
    """How often each of n resamples contains each row [n, rows]: each draws as many groups as there are, with repeats.

    `clusters` is the group of each row, numbered from 0; a group is drawn with all of its rows.
    """
    groups = int(clusters.max(initial=-1)) + 1
    drawn = np.random.default_rng(seed).integers(0, groups, (n, groups)) + groups * np.arange(n)[:, None]
    return np.bincount(drawn.ravel(), minlength=n * groups).reshape(n, groups)[:, clusters]


def stretch(freedom: int, coverage: float = COVERAGE) -> float | None:
    """By how much the ends of a percentile interval are moved out: t / z; None with too few groups for an interval.

    `freedom` is the number of groups minus that of fitted parameters.
    """
    return None if freedom < 2 else float(stdtrit(freedom, (1 + coverage) / 2) / ndtri((1 + coverage) / 2))


def interval(draws: Array, estimate: Array | float, by: float, coverage: float = COVERAGE) -> tuple[Array, Array]:
    """The ends of the interval of each column of draws [n, ...] about its estimate, stretched `by` this factor."""
    low, middle, high = np.quantile(draws, [(1 - coverage) / 2, 0.5, (1 + coverage) / 2], axis=0)
    return estimate - by * (middle - low), estimate + by * (high - middle)


def widened(
    ends: tuple[Array, Array],
    estimate: Array | float,
    freedom: int,
    error: Array | float,
    seeds_freedom: int,
    coverage: float = COVERAGE,
) -> tuple[Array, Array]:
    """The ends of intervals about their estimates with an independent error on top, that of the seeds' mean.

    `ends` stand on a Student t with `freedom`, `error` has `seeds_freedom`. The new ends are as many standard errors
    away as the mean of both t, weighted by the variances (W. G. Cochran and G. M. Cox 1957,
    Experimental Designs, section 4.14), each end by itself. Welch and Satterthwaite's degrees of freedom cover too
    rarely with two seeds: 90 % of studies with a shared effect of 0.03.
    """
    tail = (1 + coverage) / 2
    by_settings, by_seeds = float(stdtrit(freedom, tail)), float(stdtrit(seeds_freedom, tail))

    def half(width: Array) -> Array:
        settings, seeds = (width / by_settings) ** 2, np.asarray(error, dtype=np.float64) ** 2
        total = np.maximum(settings + seeds, 1e-300)
        return np.asarray((settings * by_settings + seeds * by_seeds) / np.sqrt(total))

    low, high = ends
    return estimate - half(np.asarray(estimate - low)), estimate + half(np.asarray(high - estimate))
