"""The best of several cells, and the slope of a difference: what claims with `best_of` and `along` are about."""

from collections.abc import Sequence

import numpy as np

from flipscale.analysis.stats import Array


def best_on_other_seeds(scores: Array, sign: int) -> list[int]:
    """For each seed the cell that has the best mean over the other seeds.

    scores: [cells, seeds], of two seeds or more. A cell chosen on a seed's own score would be too good there.
    sign: -1 where lower is better.
    """
    seeds = range(scores.shape[1])
    return [int(np.argmax(sign * np.delete(scores, seed, axis=1).mean(axis=1))) for seed in seeds]


def slope_weights(amounts: Sequence[float]) -> Array:
    """The weights of values at these amounts, whose sum is their least-squares slope per doubling of the amount."""
    doublings = np.log2(amounts)
    centred = doublings - doublings.mean()
    return np.asarray(centred / (centred**2).sum())
