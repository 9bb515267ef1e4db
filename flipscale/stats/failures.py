"""Cells in which some runs take off and others do not: scores in two clusters, for which a Student t does not hold."""

from collections.abc import Sequence

import numpy as np

TAKES_OFF = 0.5
"""A run fails where its score is below this part of its cell's best. The rule is used where one arm of the cell has
both kinds of runs: where all runs of an arm are that low, the arm is worse, and no seed says otherwise."""

MOST_EXACT, DRAWN = 20, 2**16
"""Up to MOST_EXACT pairs all signs are tried; of more, DRAWN random ones."""


def failed_runs(baseline: Sequence[float], arm: Sequence[float]) -> tuple[int, int] | None:
    """How many runs of the baseline and of an arm failed; None where neither has runs of both kinds."""
    best = max(*baseline, *arm)
    if not any(min(runs) < TAKES_OFF * max(runs) for runs in (baseline, arm)):
        return None
    counts = [int(sum(score < TAKES_OFF * best for score in runs)) for runs in (baseline, arm)]
    return counts[0], counts[1]


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p of a mean difference of pairs: the share of all signs that give a mean as far from 0 (Fisher 1935).

    n pairs have 2^n signs, so p is never below 2^(1 - n): 5 pairs decide nothing at 5 %.
    """
    values = np.asarray(differences, dtype=np.float64)
    n = len(values)
    if n <= MOST_EXACT:
        sums = np.zeros(1)
        for value in values:
            sums = np.concatenate([sums + value, sums - value])
    else:
        signs = 1 - 2 * np.random.default_rng(0).integers(0, 2, (DRAWN, n))
        signs[0] = 1
        sums = signs @ values
    return float(np.mean(np.abs(sums) >= abs(sums[0]) * (1 - 1e-12)))
