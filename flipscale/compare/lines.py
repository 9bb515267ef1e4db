"""A mean curve, and readings off it: what it costs to a score, and what it scores at a cost, one value a seed.

The curve is straight between its points. A reading is made once, off the mean over seeds. The value of a seed is that
reading and the seed's influence on it: the derivative of the reading towards the seed's own curve. So the values have
the reading as their mean, and spread as it would from one set of seeds to another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flipscale.stats import Array


@dataclass(frozen=True)
class MeanCurve:
    """Costs and scores of a mean curve, and how far each seed's own are from them."""

    xs: Array
    """Mean costs [points], rising."""
    ys: Array
    """Mean scores [points], signed so that higher is better."""
    dxs: Array
    """Costs of each seed less the means [seeds, points]."""
    dys: Array
    """Scores of each seed less the means [seeds, points]."""

    @classmethod
    def of(cls, costs: Array, scores: Array) -> "MeanCurve":
        """The mean of the curves of all seeds [seeds, points]."""
        order = np.argsort(costs.mean(axis=0), kind="stable")
        costs, scores = costs[:, order], scores[:, order]
        xs, ys = costs.mean(axis=0), scores.mean(axis=0)
        return cls(xs, ys, costs - xs, scores - ys)

    @cached_property
    def log(self) -> "MeanCurve":
        """The same curve against the logarithm of its costs, straight between its points there."""
        return MeanCurve(np.log(self.xs), self.ys, self.dxs / self.xs, self.dys)

    @property
    def best(self) -> int:
        """The first point of the best score."""
        return int(np.argmax(self.ys))

    def reaches(self, target: float) -> int | None:
        """The end of the stretch in which the curve first has a score; None if it begins above, or stays below."""
        return _reaches(self.ys, target)

    def costs_to(self, i: int, target: float, moves: Array | float = 0.0) -> Array:
        """The cost at which the stretch that ends at point i has a score [seeds]; a seed's own is off by `moves`."""
        (x0, x1), (y0, y1) = map(float, self.xs[i - 1 : i + 1]), map(float, self.ys[i - 1 : i + 1])
        if y0 == y1:
            return x0 + self.dxs[:, i - 1]
        share = (target - y0) / (y1 - y0)
        along, up = self._moved(i, share)
        return x0 + share * (x1 - x0) + along + (moves - up) * (x1 - x0) / (y1 - y0)

    def scores_at(self, cost: float) -> Array:
        """The score at a cost that the curve covers [seeds]."""
        i = int(np.clip(np.searchsorted(self.xs, cost), 1, len(self.xs) - 1))
        (x0, x1), (y0, y1) = map(float, self.xs[i - 1 : i + 1]), map(float, self.ys[i - 1 : i + 1])
        if x0 == x1:
            return y1 + self.dys[:, i]
        share = (cost - x0) / (x1 - x0)
        along, up = self._moved(i, share)
        return y0 + share * (y1 - y0) + up - along * (y1 - y0) / (x1 - x0)

    def _moved(self, i: int, share: float) -> tuple[Array, Array]:
        """How far each seed moves the place at this share of the stretch that ends at point i, along x and along y."""
        along, up = ((1 - share) * d[:, i - 1] + share * d[:, i] for d in (self.dxs, self.dys))
        return along, up


def log_of(values: Array) -> Array:
    """The logarithm of a reading, one value a seed: of its mean, and each seed's influence on that."""
    mean = values.mean()
    logs: Array = np.log(mean) + (values - mean) / mean
    return logs


def first_reach(xs: Sequence[float], ys: Sequence[float], target: float) -> float | None:
    """The x at which the polyline first has the target; None where that is before its first point, or never."""
    i = _reaches(ys, target)
    if i is None:
        return None
    if ys[i] == ys[i - 1]:
        return xs[i - 1]
    return xs[i - 1] + (xs[i] - xs[i - 1]) * (target - ys[i - 1]) / (ys[i] - ys[i - 1])


def _reaches(ys: Sequence[float] | Array, target: float) -> int | None:
    if ys[0] > target:
        return None
    return next((i for i in range(1, len(ys)) if ys[i] >= target or ys[i - 1] == target), None)
