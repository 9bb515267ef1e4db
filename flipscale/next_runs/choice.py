"""Runs chosen one after the other: the next is the one that tells most about a quantity for its cost.

A quantity g . theta is linear in parameters theta, known with covariance P, near their estimate. A run measures
j . theta with variance s2, after which the variance g P g of the quantity is lower by (g P j)^2 / (s2 + j P j):
V-optimality (Atkinson, Donev and Tobias 2007, Optimum Experimental Designs). That gain is divided by cost^0.7:
by the cost itself only the cheapest runs would be chosen. bench/next.py holds the choice against other designs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flipscale.analysis.stats import Array

COST_POWER = 0.7

LEAST_GAIN = 1e-3
"""A step that lowers the variance of a quantity by a smaller share is not worth a run."""


@dataclass(frozen=True)
class Quantity:
    """What is asked, as far as the choice needs it."""

    covariance: Array
    """Of the parameters [parameters, parameters]."""
    gradient: Array
    """Of the quantity by the parameters [parameters]."""

    @property
    def variance(self) -> float:
        return float(self.gradient @ self.covariance @ self.gradient)

    def after(self, gradient: Array, variance: float) -> "Quantity":
        """The quantity once a run has measured gradient . theta with this variance."""
        moved = self.covariance @ gradient
        return Quantity(
            self.covariance - np.outer(moved, moved) / (variance + float(gradient @ moved)),
            self.gradient,
        )


@dataclass(frozen=True)
class Candidate:
    """Runs that measure something together: one, or a seed of every cell of a contrast, with those they start from."""

    quantity: int
    """The place of the quantity that they tell about."""
    gradient: Array
    """Of what they measure by its parameters [parameters]."""
    variance: float
    runs: tuple[str, ...]


def choose(
    quantities: Sequence[Quantity], candidates: Sequence[Candidate], costs: Mapping[str, float], budget: float
) -> tuple[list[Candidate], list[Quantity]]:
    """The candidates to run, in the order of choice, and the quantities after them.

    costs: of each run. A run is paid once, whichever candidates it is part of. budget: the most that
    all of them may cost together.
    """
    now = list(quantities)
    chosen = list[Candidate]()
    left = budget
    paid = set[str]()
    open_ = dict(enumerate(candidates))
    while True:
        best = None
        best_score = 0.0
        for place, candidate in open_.items():
            price = sum(costs[run] for run in candidate.runs if run not in paid)
            quantity = now[candidate.quantity]
            gain = 1 - quantity.after(candidate.gradient, candidate.variance).variance / quantity.variance
            score = gain / max(price, 1e-9) ** COST_POWER
            if price <= left and gain > LEAST_GAIN and score > best_score * (1 + 1e-9):
                best = place
                best_score = score
        if best is None:
            return chosen, now
        candidate = open_.pop(best)
        chosen.append(candidate)
        left -= sum(costs[run] for run in candidate.runs if run not in paid)
        paid.update(candidate.runs)
        now[candidate.quantity] = now[candidate.quantity].after(candidate.gradient, candidate.variance)
