"""Many searches of one law at once: the resamples of a fit, and its starts.

Each is damped Newton's method on the summed loss (K. Levenberg 1944, D. Marquardt 1963). The damping is the Hessian of
the squares that lie above the loss and touch it (P. J. Huber 1981, Robust Statistics, section 7.8), and its diagonal.
Nearly all residuals are beyond Huber's delta, where the loss itself has no curvature: there damping alone is the usual
reweighted step, and without damping the points within delta decide, which ends in few steps. Bounds are kept by
projection. All searches take a step together, so they cost a few calls of numpy and not one call each.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flipscale.fit.problem import Problem
from flipscale.stats import Array

MOST_STEPS = 200
"""The most steps of a search: where parameters trade off it wanders along a valley, whose floor is flat by then."""

ENDS = 1e-10
"""A search ends when a step lowers the objective, and should lower it, by less than this share."""

DAMPED, FREE = 100.0, 0.1
"""Damping of the first step: from starts that may be far away, and from the solution for nearly the same points."""

_LEAST, _MOST = 1e-12, 1e12  # damping
_DIAGONAL = 1e-3  # of the damping
_TRUSTED, _DOUBTED = 0.75, 0.25  # shares of what a step should gain, above and below which damping changes
_CACHED = 400_000  # numbers of a Jacobian that fit into the processor's cache


@dataclass(frozen=True)
class Ends:
    """The ends of searches."""

    parts: Array
    """Free parameters [m, free]."""
    objectives: Array
    """Sums of losses there [m]; infinite where a search could not begin."""


def descend(problem: Problem, starts: Array, counts: Array | None = None, *, damping: float = DAMPED) -> Ends:
    """Searches from starts [m, free], each inside the bounds of the problem.

    Search i fits the table problem.z[i] if that is [m, n], with point j as often as counts[i, j] says.
    """
    low, high = problem.bounds
    counts = np.ones((len(starts), len(problem.x))) if counts is None else counts
    parts, objectives = np.clip(starts, low, high), np.full(len(starts), np.inf)
    with np.errstate(all="ignore"):
        for block in _blocks(len(starts), len(problem.x) * len(low)):
            searches = _Searches(problem, counts[block], block, parts[block])
            searches.damping[:] = damping
            _descend(searches, (low, high), parts, objectives)
    return Ends(parts, objectives)


class _Searches:
    """The searches that have not ended: where they are, and the loss and its slopes there."""

    def __init__(self, problem: Problem, counts: Array, places: NDArray[np.intp], parts: Array) -> None:
        self.problem = problem if problem.z.ndim == 1 else replace(problem, z=problem.z[places])
        self.counts, self.places, self.parts = counts, places, parts
        self.damping = np.ones(len(places))
        self.values, self.jacobian, self.objective = self.at(parts)

    def at(self, parts: Array) -> tuple[Array, Array, Array]:
        """Residuals [m, n], their Jacobian [m, n, free] and the objective [m]."""
        values, jacobian = self.problem.residuals(parts)
        size, bend = np.abs(values), self.problem.bend
        losses = np.where(size <= bend, 0.5 * values**2, bend * size - 0.5 * bend**2)
        objective = (self.counts * losses).sum(axis=1)
        return values, jacobian, np.where(np.isfinite(objective), objective, np.inf)

    def slopes(self) -> tuple[Array, Array, Array]:
        """The gradient [m, free], the Hessian, and that of the squares above the loss [m, free, free]."""
        size, bend = np.abs(self.values), self.problem.bend
        pull = self.counts * np.minimum(1.0, bend / np.maximum(size, 1e-300))
        turned = self.jacobian.transpose(0, 2, 1)
        gradient = (turned @ (pull * self.values)[..., None])[..., 0]
        above = (turned * pull[:, None]) @ self.jacobian
        hessian = (turned * (self.counts * (size <= bend))[:, None]) @ self.jacobian if np.isfinite(bend) else above
        return gradient, hessian, above

    def move(self, better: NDArray[np.bool_], parts: Array, found: tuple[Array, Array, Array]) -> None:
        """Move the searches that improve."""
        values, jacobian, objective = found
        self.parts = np.where(better[:, None], parts, self.parts)
        self.values = np.where(better[:, None], values, self.values)
        self.jacobian = np.where(better[:, None, None], jacobian, self.jacobian)
        self.objective = np.where(better, objective, self.objective)

    def keep(self, going: NDArray[np.bool_]) -> None:
        """Keep only these searches."""
        if self.problem.z.ndim > 1:
            self.problem = replace(self.problem, z=self.problem.z[going])
        for name in ("counts", "places", "parts", "damping", "values", "jacobian", "objective"):
            setattr(self, name, getattr(self, name)[going])


def _descend(searches: _Searches, bounds: tuple[Array, Array], parts: Array, objectives: Array) -> None:
    """Search on until all have ended, and note where."""
    searches.keep(np.isfinite(searches.objective))
    for _ in range(MOST_STEPS):
        if not len(searches.places):
            return
        moved, should_gain = _step(searches, bounds)
        found = searches.at(moved)
        gain = searches.objective - found[2]
        better, share = gain > 0, gain / np.maximum(should_gain, 1e-300)
        dust = ENDS * searches.objective
        ended = (gain <= dust) & (should_gain <= 10 * dust) & (searches.damping <= 1) & better
        ended |= ~better & ((should_gain <= dust) | (searches.damping > _MOST))
        searches.move(better, moved, found)
        parts[searches.places], objectives[searches.places] = searches.parts, searches.objective
        factor = np.where(better & (share > _TRUSTED), 0.2, np.where(better & (share > _DOUBTED), 1.0, 4.0))
        searches.damping = np.maximum(searches.damping * factor, _LEAST)
        if ended.any():
            searches.keep(~ended)


def _step(searches: _Searches, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
    """The next place of each [m, free], and its expected gain [m]."""
    gradient, hessian, above = searches.slopes()
    low, high = bounds
    held = ((searches.parts <= low) & (gradient > 0)) | ((searches.parts >= high) & (gradient < 0))
    damped = hessian + searches.damping[:, None, None] * above
    diagonal = np.einsum("mii->mi", above)
    diagonal = np.maximum(diagonal, 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-300)
    places = np.arange(len(low))
    damped[:, places, places] += (_DIAGONAL * searches.damping[:, None] + 1e-14) * diagonal
    damped[held[:, :, None] | held[:, None, :]] = 0
    damped[:, places, places] += held
    step = -np.linalg.solve(damped, np.where(held, 0, gradient)[..., None])[..., 0]
    moved = np.clip(searches.parts + step, low, high)
    step = moved - searches.parts
    curved = (hessian @ step[..., None])[..., 0]
    return moved, -(step * (gradient + 0.5 * curved)).sum(axis=1)


def _blocks(n: int, numbers: int) -> Iterator[NDArray[np.intp]]:
    """Indices of n searches, in blocks that fit into the cache at `numbers` per search."""
    size = max(_CACHED // max(numbers, 1), 1)
    return (np.arange(start, min(start + size, n)) for start in range(0, n, size))
