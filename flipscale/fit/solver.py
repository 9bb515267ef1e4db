"""One law through some points: the best of many starts, and how sure one can be that it is the best.

scipy's least_squares with the law's own Jacobian, tolerances of 1e-12 and a *summed* loss. A Huber loss averaged over
points and stopped at default tolerances ends early: it gave the published values of arXiv 2203.15556, 14 % above the
optimum of their own objective (arXiv 2404.10102).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.optimize import least_squares

from flipscale.fit.law import Law
from flipscale.stats import Array

Loss = Literal["huber", "squares"]

DELTA = 1e-3
"""Where the Huber loss turns from a square to a line, in units of the residual: as in arXiv 2203.15556."""

TOLERANCE = 1e-12
AGREE = 1e-6
"""Two starts agree when their objectives differ by less than this share."""

MOST_STEPS = 100
"""Steps of a resample's search: where parameters trade off it wanders along a valley, whose floor is flat by then."""

_ROOM = 1e-9  # of the range of a parameter, that a search starts inside its bounds


@dataclass(frozen=True)
class Problem:
    """A law, its points, and what is held fast."""

    law: Law
    x: Array
    """Variables [n, roles]."""
    z: Array
    """What was measured, on the law's link scale [n]."""
    loss: Loss
    linear: bool = False
    """Whether residuals are taken in y itself, where the link is a logarithm."""
    fixed: Mapping[str, float] | None = None
    """Parameter -> its value in theta."""
    tied: Mapping[str, str] | None = None
    """Parameter -> the one it equals."""
    weights: Array | None = None
    """Inverse variances of the points, 1 on average [n]; None: all alike."""
    delta: float = DELTA
    """Where Huber's loss turns from a square to a line."""

    @property
    def free(self) -> list[int]:
        """The places in theta that are fitted."""
        names = self.law.parameters
        return [i for i, name in enumerate(names) if name not in (self.fixed or {}) and name not in (self.tied or {})]

    def with_points(self, rows: "np.ndarray[tuple[int], np.dtype[np.intp]]") -> "Problem":
        """The same with these points only, each as often as it is named."""
        weights = None if self.weights is None else self.weights[rows]
        return replace(self, x=self.x[rows], z=self.z[rows], weights=weights)

    def moved(self, by: float) -> "Problem":
        """The same with all that was measured moved up."""
        return replace(self, z=self.z + by)

    def location(self, residuals: Array) -> float:
        """The level of residuals that the loss settles on: their mean, or Huber's, about which large ones balance."""
        weights = np.ones(len(residuals)) if self.weights is None else self.weights
        at = float(np.average(residuals, weights=weights))
        if self.loss == "squares":
            return at
        at = float(np.median(residuals))
        for _ in range(MOST_STEPS):
            pull = weights * np.minimum(1.0, self.delta / np.maximum(np.abs(residuals - at), 1e-300))
            step = float((pull * residuals).sum() / pull.sum()) - at
            at += step
            if abs(step) < 1e-3 * self.delta:
                break
        return at

    def whole(self, part: Array) -> Array:
        """theta from its free part."""
        theta = np.empty(len(self.law.parameters))
        theta[self.free] = part
        place = {name: i for i, name in enumerate(self.law.parameters)}
        for name, value in (self.fixed or {}).items():
            theta[place[name]] = value
        for name, other in (self.tied or {}).items():
            theta[place[name]] = theta[place[other]]
        return theta

    def residuals(self, part: Array) -> tuple[Array, Array]:
        """Predicted minus measured [n], and its Jacobian over the free parameters [n, free]."""
        predicted, jacobian = self.law.evaluate(self.whole(part), self.x)
        place = {name: i for i, name in enumerate(self.law.parameters)}
        for name, other in (self.tied or {}).items():
            jacobian[:, place[other]] += jacobian[:, place[name]]
        jacobian = jacobian[:, self.free]
        value = predicted - self.z
        if self.linear and self.law.link != "linear":
            y = np.exp(np.minimum(predicted, 700.0))
            value, jacobian = y - np.exp(self.z), jacobian * y[:, None]
        if self.weights is None:
            return value, jacobian
        roots = np.sqrt(self.weights)
        return roots * value, roots[:, None] * jacobian


@dataclass(frozen=True)
class Solution:
    """The best parameters found, and what the search was like."""

    theta: Array
    objective: float
    """Sum of the losses."""
    starts: int
    agree: int
    """Starts that ended at the same objective."""
    at_bounds: tuple[str, ...]
    """Parameters that ended at the end of what they may be."""
    condition: float
    """Of the Jacobian at the solution, its columns at length 1: 1e4 and more says that parameters trade off."""


def solve(problem: Problem, *, starts: int, seed: int = 0) -> Solution:
    """The best of `starts` searches from points drawn from the data."""
    rng = np.random.default_rng(seed)
    drawn = problem.law.starts(rng, problem.x, problem.z, starts)[:, problem.free]
    found = [search(problem, start) for start in drawn]
    found.sort(key=lambda end: end[1])
    part, objective = found[0]
    limit = objective * (1 + AGREE) + 1e-14
    jacobian = problem.residuals(part)[1]
    lengths = np.linalg.norm(jacobian, axis=0)
    scaled = jacobian / np.where(lengths > 0, lengths, 1)
    singular = np.linalg.svd(scaled, compute_uv=False)
    condition = float(singular[0] / singular[-1]) if singular[-1] > 0 else float("inf")
    low, high = _bounds(problem)
    names = [problem.law.parameters[i] for i in problem.free]
    near = 1e-6 * np.maximum(1, np.abs(part))
    ended = tuple(
        name
        for name, value, a, b, n in zip(names, part, low, high, near, strict=True)
        if value - a < n or b - value < n
    )
    return Solution(problem.whole(part), objective, starts, sum(end[1] <= limit for end in found), ended, condition)


def refit(problem: Problem, near: Array) -> Array:
    """theta of a resample, searched from the solution of all points.

    Without bounds a step costs half, and a start this good seldom needs them; an end outside is searched anew inside.
    """
    low, high = _bounds(problem)
    part = _search(problem, near[problem.free], (-np.inf, np.inf), 1e-8, most=MOST_STEPS)[0]
    if not ((low <= part) & (part <= high)).all():
        start = np.clip(near[problem.free], low + _ROOM * (high - low), high - _ROOM * (high - low))
        part = _search(problem, start, (low, high), 1e-8, most=MOST_STEPS)[0]
    return problem.whole(part)


def search(problem: Problem, start: Array) -> tuple[Array, float]:
    """One search inside the bounds: the free parameters where it ended, and the objective there."""
    low, high = _bounds(problem)
    room = _ROOM * (high - low)
    return _search(problem, np.clip(start, low + room, high - room), (low, high), TOLERANCE, most=2000)


def _search(
    problem: Problem,
    start: Array,
    bounds: tuple[Array, Array] | tuple[float, float],
    tolerance: float,
    *,
    most: int,
) -> tuple[Array, float]:
    last: list[tuple[bytes, Array]] = []

    def residuals(part: Array) -> Array:
        # least_squares asks for the value and then for the Jacobian at the same point: one evaluation gives both.
        value, jacobian = problem.residuals(part)
        last[:] = [(part.tobytes(), jacobian)]
        return value

    def jacobian(part: Array) -> Array:
        if last and last[0][0] == part.tobytes():
            return last[0][1]
        return problem.residuals(part)[1]

    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        done = least_squares(
            residuals,
            start,
            jac=jacobian,
            bounds=bounds,
            loss="huber" if problem.loss == "huber" else "linear",
            f_scale=problem.delta,
            x_scale="jac",
            xtol=tolerance,
            ftol=tolerance,
            gtol=tolerance,
            max_nfev=most,
        )
    return done.x, float(done.cost)


def _bounds(problem: Problem) -> tuple[Array, Array]:
    low, high = problem.law.bounds(problem.x, problem.z)
    return low[problem.free], high[problem.free]
