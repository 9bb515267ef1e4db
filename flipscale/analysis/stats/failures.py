"""Cells in which some runs do not take off: scores in two clusters, for which a Student t does not hold."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

AT_CHANCE, TAKES_OFF = 3.0, 10.0
"""A run fails where its score is at most AT_CHANCE standard errors above what guessing gives, while a run of its cell,
of either arm, is more than TAKES_OFF above it."""

MOST_EXACT, DRAWN = 20, 2**16
"""Up to MOST_EXACT pairs all signs are tried; of more, DRAWN random ones."""


class Failures(NamedTuple):
    """How many runs of a cell failed."""

    baseline: int
    arm: int
    runs: int
    """Of each arm."""

    @property
    def is_mixed(self) -> bool:
        """Whether only some runs of an arm failed."""
        return any(0 < failed < self.runs for failed in (self.baseline, self.arm))


def failed_runs(baseline: Sequence[float], arm: Sequence[float]) -> Failures | None:
    """The failed runs of a cell, by how many standard errors each score is above chance; None where none failed.

    A score whose chance level is unknown is infinitely far above it, and a missing one below it.
    """
    if not any(above > TAKES_OFF for above in (*baseline, *arm)):
        return None
    counts = [sum(bool(above <= AT_CHANCE) for above in runs) for runs in (baseline, arm)]
    return Failures(counts[0], counts[1], max(len(baseline), len(arm))) if any(counts) else None


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
