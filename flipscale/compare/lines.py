"""Curves between their points, many at once: the mean curve, or draws of it.

Straight lines between the points of a curve that bends are biased to one side: straight in the cost, a speed-up comes
out 2 to 10 % too low if schedules double, and up to 29 % if they quadruple (bench/comparison.py). Scores are therefore
read on a scale on which they are about straight (logit, logarithm) against the logarithm of the cost, along a monotone
cubic (Fritsch and Carlson 1980, with the slopes of Fritsch and Butland 1984, as scipy's PCHIP).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from flipscale.stats import Array

_STEPS, _CLOSE = 40, 1e-9
"""At most this many Newton steps to a target within a stretch, each kept inside it; and how close is enough, as a
share of its rise."""


@dataclass(frozen=True)
class Lines:
    """Curves through points, without overshoot between them."""

    xs: Array
    """Costs or their logarithms [curves, points], rising."""
    ys: Array
    """Scores [curves, points], signed so that higher is better."""
    straight: bool = False
    """Whether they are straight between points instead of cubic."""

    def straightened(self) -> "Lines":
        """Straight between the same points."""
        return Lines(self.xs, self.ys, straight=True)

    @property
    def best(self) -> int:
        """The index of the first point with the best score, of a single curve."""
        return int(np.argmax(self.ys[0]))

    @cached_property
    def slopes(self) -> tuple[Array, Array]:
        """Rise over a whole stretch at the slope of its left end, and of its right end [curves, points - 1]."""
        steps, rises = np.diff(self.xs, axis=1), np.diff(self.ys, axis=1)
        if self.straight or rises.shape[1] == 1:
            return rises, rises
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            chords = np.where(steps > 0, rises / steps, 0.0)
            left, right = chords[:, :-1], chords[:, 1:]
            w1, w2 = 2 * steps[:, 1:] + steps[:, :-1], steps[:, 1:] + 2 * steps[:, :-1]
            inner = np.where(left * right > 0, (w1 + w2) / (w1 / left + w2 / right), 0.0)
        first = _end_slope(steps[:, 0], steps[:, 1], chords[:, 0], chords[:, 1])
        last = _end_slope(steps[:, -1], steps[:, -2], chords[:, -1], chords[:, -2])
        at = np.column_stack([first, inner, last])
        return at[:, :-1] * steps, at[:, 1:] * steps

    def costs_to(self, targets: Array) -> Array:
        """The cost at which each curve first reaches each target [curves or 1, targets]: [curves, targets].

        Minus infinity if it begins above, infinity if it stays below.
        """
        curves, points = self.ys.shape
        targets = np.broadcast_to(targets, (curves, targets.shape[1]))
        stretch = np.full(targets.shape, -1, dtype=np.intp)
        for i in range(points - 1, 0, -1):
            hit = (self.ys[:, i, None] >= targets) | (self.ys[:, i - 1, None] == targets)
            stretch[hit] = i - 1
        above = self.ys[:, :1] > targets
        found = np.where(above, -np.inf, np.inf)
        read = (stretch >= 0) & ~above
        rows = np.nonzero(read)[0]
        stretches = stretch[read]
        share = self._share(rows, stretches, targets[read])
        x0, x1 = self.xs[rows, stretches], self.xs[rows, stretches + 1]
        found[read] = x0 + share * (x1 - x0)
        return found

    def _share(self, rows: NDArray[np.intp], stretches: NDArray[np.intp], targets: Array) -> Array:
        """How far along its stretch each target lies, 0 to 1."""
        y0, y1 = self.ys[rows, stretches], self.ys[rows, stretches + 1]
        rise = y1 - y0
        with np.errstate(divide="ignore", invalid="ignore"):
            share: Array = np.where(rise > 0, np.clip((targets - y0) / rise, 0.0, 1.0), 0.0)
        if self.straight:
            return share
        m0, m1 = (slopes[rows, stretches] for slopes in self.slopes)
        square, cube = 3 * rise - 2 * m0 - m1, m0 + m1 - 2 * rise
        low, high = np.zeros_like(share), np.ones_like(share)
        for _ in range(_STEPS):
            miss = y0 + share * (m0 + share * (square + share * cube)) - targets
            if (np.abs(miss) <= _CLOSE * rise).all():
                break
            low, high = np.where(miss <= 0, share, low), np.where(miss >= 0, share, high)
            slope = m0 + share * (2 * square + 3 * share * cube)
            with np.errstate(divide="ignore", invalid="ignore"):
                step = share - miss / slope
            share = np.where((step >= low) & (step <= high), step, (low + high) / 2)
        return share

    def scores_at(self, costs: Array) -> Array:
        """The score of each curve at each cost [costs]: [curves, costs]; straight on beyond its ends."""
        scores = np.empty((len(self.ys), len(costs)))
        last = self.xs.shape[1] - 2
        for i in range(last + 1):
            x0, x1 = self.xs[:, i], self.xs[:, i + 1]
            # Draws of a curve have about the same costs, so most stretches concern few columns.
            columns = np.flatnonzero(((costs >= x0.min()) | (i == 0)) & ((costs <= x1.max()) | (i == last)))
            here = costs[columns]
            read = self._cubic(i, here)
            scores[:, columns] = read if i == 0 else np.where(here >= x0[:, None], read, scores[:, columns])
        return scores

    def _cubic(self, i: int, costs: Array) -> Array:
        """The scores of each curve at costs along its stretch i: [curves, costs]."""
        x0, step = self.xs[:, i, None], (self.xs[:, i + 1] - self.xs[:, i])[:, None]
        y0, rise = self.ys[:, i, None], (self.ys[:, i + 1] - self.ys[:, i])[:, None]
        m0, m1 = (slopes[:, i, None] for slopes in self.slopes)
        along = (costs - x0) / np.where(step > 0, step, 1.0)
        share = np.clip(along, 0.0, 1.0)
        cubic = y0 + share * (m0 + share * (3 * rise - 2 * m0 - m1 + share * (m0 + m1 - 2 * rise)))
        beyond = along - share
        scores: Array = cubic + beyond * np.where(beyond > 0, m1, m0)
        return scores


def _end_slope(step: Array, beyond: Array, chord: Array, second: Array) -> Array:
    """The slope at the end of a curve, by its last two stretches; kept so that the curve stays monotone."""
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = ((2 * step + beyond) * chord - step * second) / (step + beyond)
    slope = np.where(slope * chord > 0, slope, 0.0)
    steep = (chord * second <= 0) & (np.abs(slope) > 3 * np.abs(chord))
    found: Array = np.where(steep, 3 * chord, slope)
    return found


def first_reach(xs: Sequence[float], ys: Sequence[float], target: float) -> float | None:
    """The x at which the polyline first reaches the target; None where that is before its first point, or never."""
    (found,) = Lines(np.array([xs]), np.array([ys]), straight=True).costs_to(np.array([[target]]))[0].tolist()
    return float(found) if np.isfinite(found) else None
