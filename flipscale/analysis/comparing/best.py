"""The best of several cells, and the slope of a difference: what claims with `best_of` and `along` are about."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from flipscale.analysis.stats import Array, Moments, moments


def best_on_other_seeds(scores: Array, sign: int) -> list[int]:
    """For each seed the cell that has the best mean over the other seeds.

    scores: [cells, seeds], of two seeds or more. A cell chosen on a seed's own score would be too good there.
    sign: -1 where lower is better.
    """
    seeds = range(scores.shape[1])
    return [int(np.argmax(sign * np.delete(scores, seed, axis=1).mean(axis=1))) for seed in seeds]


def moments_at_best(values: Sequence[float], choices: Sequence[Sequence[object]]) -> Moments | None:
    """Moments of a difference [seeds] whose sides are at their best cells; None of one seed.

    choices: for each side, what each seed chose. Where the seeds of a side choose different cells, values of two seeds
    are not independent, as all other seeds take part in both choices. The variance of their mean then counts
    1 / n + 1 / (n - 1) in place of 1 / n: one seed is scored and n - 1 choose (C. Nadeau and Y. Bengio 2003, Machine
    Learning 52, for resamples of which part is tested and part trains). bench.comparison measures the coverage.
    """
    known = moments(values)
    if known is None or all(len(set(chosen)) == 1 for chosen in choices):
        return known
    n = len(values)
    return replace(known, error=known.error * math.sqrt(1 + n / (n - 1)))


def slope_weights(amounts: Sequence[float]) -> Array:
    """The weights of values at these amounts, whose sum is their least-squares slope per doubling of the amount."""
    doublings = np.log2(amounts)
    centred = doublings - doublings.mean()
    return np.asarray(centred / (centred**2).sum())
