"""One law through some points: the best of many starts, and how many starts agree on it.

scipy's least_squares with the law's own Jacobian, tolerances of 1e-12 and a *summed* loss. A Huber loss averaged over
points and stopped at default tolerances ends early: it gave the published values of arXiv 2203.15556, 14 % above the
optimum of their own objective (arXiv 2404.10102).
"""

from dataclasses import dataclass

import numpy as np
import scipy  # loads scipy.optimize where it is first used

from flipscale.fit.descent import FREE, descend
from flipscale.fit.problem import Problem
from flipscale.stats import Array

TOLERANCE = 1e-12
AGREE = 1e-4
"""Two starts agree when their objectives differ by less than this share: where parameters trade off, the valley between
their ends is that flat."""

_ROOM = 1e-9  # share of a parameter's range by which a search starts inside its bounds


@dataclass(frozen=True)
class Solution:
    """The best parameters found, and how the search went."""

    theta: Array
    objective: float
    """Sum of the losses."""
    starts: int
    agree: int
    """Starts that ended at the same objective."""
    at_bounds: tuple[str, ...]
    """Parameters that ended at a bound."""
    condition: float
    """Condition number of the Jacobian at the solution, with columns of length 1: from 1e4 on, parameters trade off."""


def solve(problem: Problem, *, starts: int, seed: int = 0) -> Solution:
    """The best of `starts` searches from points drawn from the data, refined to TOLERANCE."""
    rng = np.random.default_rng(seed)
    drawn = problem.law.starts(rng, problem.x, problem.z, starts)[:, problem.free_places]
    ends = descend(problem, drawn)
    best = int(np.argmin(ends.objectives))
    part, objective = search(problem, ends.parts[best])
    agree = int((ends.objectives <= objective * (1 + AGREE) + 1e-14).sum())
    jacobian = problem.residuals(part)[1]
    lengths = np.linalg.norm(jacobian, axis=0)
    scaled = jacobian / np.where(lengths > 0, lengths, 1)
    singular = np.linalg.svd(scaled, compute_uv=False)
    condition = float(singular[0] / singular[-1]) if singular[-1] > 0 else float("inf")
    low, high = problem.bounds
    names = [problem.law.parameters[i] for i in problem.free_places]
    near = 1e-6 * np.maximum(1, np.abs(part))
    ended = tuple(
        name
        for name, value, a, b, n in zip(names, part, low, high, near, strict=True)
        if value - a < n or b - value < n
    )
    return Solution(problem.whole(part), objective, starts, agree, ended, condition)


def refits(problem: Problem, near: Array, counts: Array) -> Array:
    """theta [m, parameters] of m resamples, searched from the solution of all points.

    Resample i contains point j as often as counts[i, j] says, and has the measurements problem.z[i] if z is [m, n].
    """
    starts = np.tile(near[problem.free_places], (len(counts), 1))
    return problem.whole(descend(problem, starts, counts, damping=FREE).parts)


def search(problem: Problem, start: Array) -> tuple[Array, float]:
    """One search inside the bounds to TOLERANCE: the free parameters where it ended, and the objective there."""
    low, high = problem.bounds
    room = _ROOM * (high - low)
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
        done = scipy.optimize.least_squares(
            residuals,
            np.clip(start, low + room, high - room),
            jac=jacobian,
            bounds=(low, high),
            loss="huber" if problem.loss == "huber" else "linear",
            f_scale=problem.delta,
            x_scale="jac",
            xtol=TOLERANCE,
            ftol=TOLERANCE,
            gtol=TOLERANCE,
            max_nfev=2000,
        )
    return done.x, float(done.cost)
