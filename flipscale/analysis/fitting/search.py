"""The least loss of a law through points: many searches at once, from many starts or for many resamples.

Each search is damped Newton's method on the *summed* loss (K. Levenberg 1944, D. Marquardt 1963). The damping is the
Hessian of the squares that lie above the loss and touch it (P. J. Huber 1981, Robust Statistics, section 7.8), and its
diagonal. All searches take a step together, so they cost a few calls of numpy and not one call each. Where two searches
of the same points end apart, scipy's least_squares goes on from the better end. A loss averaged over points and stopped
at default tolerances ends early: it gave the published values of arXiv 2203.15556, 14 % above the optimum of their own
objective (arXiv 2404.10102).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import scipy  # loads scipy.optimize where it is first used
from numpy.typing import NDArray

from flipscale.analysis.fitting.laws import Law
from flipscale.analysis.stats import Array

Loss = Literal["huber", "squares"]

DELTA = 1.345
"""Huber's delta in standard deviations of the residuals: 95 % as efficient as squares where noise is normal."""

TOLERANCE = 1e-12
"""Of scipy's least_squares."""

AGREE = 1e-4
"""Two searches agree when their objectives differ by less than this share: where parameters trade off, the valley
between their ends is that flat."""

_SCALE_ROUNDS = 10  # of fit and scale in turn
_LEAST_DELTA = 1e-4  # of runs without noise
_MOST_STEPS = 200
_GAINS_NO_MORE = 1e-10  # a search ends when a step gains, and should gain, less than this share
# Damping of the first step: from starts that may be far away, and from the solution of all points.
_DAMPED = 100.0
_FREE = 0.1
# The bounds of damping.
_LEAST = 1e-12
_MOST = 1e12
_DIAGONAL = 1e-3  # of the damping
# Shares of what a step should gain, above and below which damping changes.
_TRUSTED = 0.75
_DOUBTED = 0.25
_MANY = 500  # points, of which resamples differ too little to have another solution; 2,000 took 14 s
_CACHED = 400_000  # numbers of a Jacobian that fit into the processor's cache


@dataclass(frozen=True)
class Problem:
    """A law, its points, and the parameters held fixed."""

    law: Law
    x: Array
    """Variables [n, roles]."""
    z: Array
    """Measurements on the law's link scale [n]; [m, n] if m tables are fitted at once."""
    delta: float = float("inf")
    """Residual at which the loss turns from a square to a line: infinite for squares."""
    linear: bool = False
    """Whether residuals are taken in y itself, where the link is a logarithm."""
    fixed: Mapping[str, float] = field(default_factory=dict)
    """Parameter -> its value in theta."""
    tied: Mapping[str, str] = field(default_factory=dict)
    """Parameter -> the one it equals."""
    weights: Array | None = None
    """Inverse variances of the points, 1 on average [n]; None: all equal."""

    @property
    def free_places(self) -> list[int]:
        """The places in theta that are fitted."""
        return [i for i, name in enumerate(self.law.parameters) if name not in {*self.fixed, *self.tied}]

    @property
    def bounds(self) -> tuple[Array, Array]:
        """The lowest and the highest value of each free parameter."""
        low, high = self.law.bounds(self.x, self.z)
        return low[self.free_places], high[self.free_places]

    def whole(self, part: Array) -> Array:
        """theta [..., parameters] from its free part."""
        theta = np.empty((*part.shape[:-1], len(self.law.parameters)))
        theta[..., self.free_places] = part
        place = self.law.parameters.index
        for name, value in self.fixed.items():
            theta[..., place(name)] = value
        for name, other in self.tied.items():
            theta[..., place(name)] = theta[..., place(other)]
        return theta

    def residuals(self, part: Array) -> tuple[Array, Array]:
        """Predicted minus measured [..., n], and its Jacobian over the free parameters [..., n, free]."""
        predicted, jacobian = self.law.evaluate(self.whole(part), self.x)
        place = self.law.parameters.index
        for name, other in self.tied.items():
            jacobian[..., place(other)] += jacobian[..., place(name)]
        if self.fixed or self.tied:
            jacobian = jacobian[..., self.free_places]
        value = predicted - self.z
        if self.linear and self.law.link != "linear":
            y = np.exp(np.minimum(predicted, 700.0))
            value = y - np.exp(self.z)
            jacobian = jacobian * y[..., None]
        if self.weights is None:
            return value, jacobian
        roots = np.sqrt(self.weights)
        return roots * value, roots[:, None] * jacobian

    def loss_of(self, values: Array) -> Array:
        """The loss of each residual."""
        size = np.abs(values)
        with np.errstate(invalid="ignore"):  # of an infinite delta, in the half that is not taken
            return np.where(size <= self.delta, 0.5 * values**2, self.delta * size - 0.5 * self.delta**2)


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
    drawn = _starts(problem, starts, seed)
    parts, objectives = descend(problem, drawn)
    part, objective = search(problem, parts[int(np.argmin(objectives))])
    agree = int((objectives <= objective * (1 + AGREE) + 1e-14).sum())
    jacobian = problem.residuals(part)[1]
    lengths = np.linalg.norm(jacobian, axis=0)
    singular = np.linalg.svd(jacobian / np.where(lengths > 0, lengths, 1), compute_uv=False)
    condition = float(singular[0] / singular[-1]) if singular[-1] > 0 else float("inf")
    low, high = problem.bounds
    near = 1e-6 * np.maximum(1, np.abs(part))
    ended = np.flatnonzero((part - low < near) | (high - part < near))
    names = [problem.law.parameters[problem.free_places[i]] for i in ended]
    return Solution(problem.whole(part), objective, starts, agree, tuple(names), condition)


def with_scale(problem: Problem, *, starts: int, seed: int = 0) -> Problem:
    """The problem with a delta of DELTA standard deviations of its residuals, by their median absolute deviation.

    Fit and scale are found in turn, first by squares. The smallest residuals, one less than there are parameters, are
    left out of the median, as a fit makes that many small (P. W. Holland and R. E. Welsch 1977).
    """
    parts, objectives = descend(problem, _starts(problem, starts, seed))
    part = parts[[int(np.argmin(objectives))]]
    for _ in range(_SCALE_ROUNDS):
        delta = max(DELTA * _deviation(problem, part[0]), _LEAST_DELTA)
        if abs(delta - problem.delta) < 1e-3 * delta:
            break
        problem = replace(problem, delta=delta)
        part = descend(problem, part)[0]
    return problem


def _deviation(problem: Problem, part: Array) -> float:
    """The standard deviation of residuals, by their median size; a row counts by its weight."""
    size = np.abs(problem.residuals(part)[0])
    order = np.argsort(size)[max(len(part) - 1, 0) :]
    counted = np.cumsum(np.ones(len(order)) if problem.weights is None else problem.weights[order])
    middle = [min(int(np.searchsorted(counted, counted[-1] / 2, side)), len(order) - 1) for side in ("left", "right")]
    return float(size[order][middle].mean()) / 0.6745


def refits(problem: Problem, near: Array, counts: Array) -> Array:
    """theta [m, parameters] of m resamples, from the solution of all points and, of few, one start each.

    Resample i contains point j as often as counts[i, j] says, and has the measurements problem.z[i] if z is [m, n].
    """
    starts = np.tile(near[problem.free_places], (len(counts), 1))
    parts, objectives = descend(problem, starts, counts, damping=_FREE)
    if len(problem.x) > _MANY:
        return problem.whole(parts)
    again, others = descend(problem, _starts(problem, len(counts), seed=0), counts)
    parts = np.where((others < objectives)[:, None], again, parts)
    apart = np.abs(others - objectives) > AGREE * np.minimum(others, objectives) + 1e-14
    for i in np.flatnonzero(apart).tolist():
        rows = np.repeat(np.arange(len(problem.x)), counts[i].astype(int))
        parts[i] = search(_with_points(problem, rows, i), parts[i])[0]
    return problem.whole(parts)


def _with_points(problem: Problem, rows: NDArray[np.intp], table: int) -> Problem:
    """The same with these points of one table only, each as often as it is listed."""
    z = problem.z if problem.z.ndim == 1 else problem.z[table]
    weights = None if problem.weights is None else problem.weights[rows]
    return replace(problem, x=problem.x[rows], z=z[rows], weights=weights)


def search(problem: Problem, start: Array) -> tuple[Array, float]:
    """One search by scipy inside the bounds: the free parameters where it ended, and the objective there."""
    low, high = problem.bounds
    room = 1e-9 * (high - low)
    huber = bool(np.isfinite(problem.delta))
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        done = scipy.optimize.least_squares(
            lambda part: problem.residuals(part)[0],
            np.clip(start, low + room, high - room),
            jac=lambda part: problem.residuals(part)[1],
            bounds=(low, high),
            loss="huber" if huber else "linear",
            f_scale=problem.delta if huber else 1.0,
            x_scale="jac",
            xtol=TOLERANCE,
            ftol=TOLERANCE,
            gtol=TOLERANCE,
            max_nfev=2000,
        )
        before = float(problem.loss_of(problem.residuals(start)[0]).sum())
    # It may end a little above a start that is at a bound, which it has to leave.
    return (start, before) if before < done.cost else (done.x, float(done.cost))


def _starts(problem: Problem, starts: int, seed: int) -> Array:
    z = problem.z if problem.z.ndim == 1 else problem.z.mean(axis=0)
    drawn = problem.law.starts(np.random.default_rng(seed), problem.x, z, starts)
    return drawn[:, problem.free_places]


def descend(
    problem: Problem, starts: Array, counts: Array | None = None, *, damping: float = _DAMPED
) -> tuple[Array, Array]:
    """Searches from starts [m, free] inside the bounds: where they end, and the objectives there [m].

    Search i fits the table problem.z[i] if that is [m, n], with point j as often as counts[i, j] says. The objective
    is infinite where a search could not begin.
    """
    low, high = problem.bounds
    counts = np.ones((len(starts), len(problem.x))) if counts is None else counts
    parts = np.clip(starts, low, high)
    objectives = np.full(len(starts), np.inf)
    with np.errstate(all="ignore"):
        blocks = len(starts) * len(problem.x) * len(low) // _CACHED + 1
        for block in np.array_split(np.arange(len(starts)), blocks):
            searches = _Searches(problem, counts[block], block, parts[block])
            searches.damping[:] = damping
            _descend(searches, (low, high), parts, objectives)
    return parts, objectives


class _Searches:
    """The searches that have not ended: where they are, and the loss and its slopes there."""

    def __init__(self, problem: Problem, counts: Array, places: NDArray[np.intp], parts: Array) -> None:
        self.problem = problem if problem.z.ndim == 1 else replace(problem, z=problem.z[places])
        self.counts = counts
        self.places = places
        self.parts = parts
        self.damping = np.ones(len(places))
        self.values, self.jacobian, self.objective = self.at(parts)

    def at(self, parts: Array) -> tuple[Array, Array, Array]:
        """Residuals [m, n], their Jacobian [m, n, free] and the objective [m]."""
        values, jacobian = self.problem.residuals(parts)
        objective = (self.counts * self.problem.loss_of(values)).sum(axis=1)
        return values, jacobian, np.where(np.isfinite(objective), objective, np.inf)

    def slopes(self) -> tuple[Array, Array, Array]:
        """The gradient [m, free], the Hessian, and that of the squares above the loss [m, free, free]."""
        size = np.abs(self.values)
        bend = self.problem.delta
        pull = self.counts * np.minimum(1.0, bend / np.maximum(size, 1e-300))
        turned = self.jacobian.transpose(0, 2, 1)
        gradient = (turned @ (pull * self.values)[..., None])[..., 0]
        above = (turned * pull[:, None]) @ self.jacobian
        hessian = (turned * (self.counts * (size <= bend))[:, None]) @ self.jacobian if np.isfinite(bend) else above
        return gradient, hessian, above

    def move(self, better: NDArray[np.bool_], parts: Array, after: tuple[Array, Array, Array]) -> None:
        """Move the searches that improve."""
        kept = self.parts, self.values, self.jacobian, self.objective
        for old, new in zip(kept, (parts, *after), strict=True):
            old[better] = new[better]

    def keep(self, going: NDArray[np.bool_]) -> None:
        """Keep only these searches."""
        if self.problem.z.ndim > 1:
            self.problem = replace(self.problem, z=self.problem.z[going])
        for name in ("counts", "places", "parts", "damping", "values", "jacobian", "objective"):
            setattr(self, name, getattr(self, name)[going])


def _descend(searches: _Searches, bounds: tuple[Array, Array], parts: Array, objectives: Array) -> None:
    """Search on until all have ended, and note where."""
    searches.keep(np.isfinite(searches.objective))
    for _ in range(_MOST_STEPS):
        if not len(searches.places):
            return
        moved, should_gain = _step(searches, bounds)
        after = searches.at(moved)
        gain = searches.objective - after[2]
        better = gain > 0
        share = gain / np.maximum(should_gain, 1e-300)
        dust = _GAINS_NO_MORE * searches.objective
        ended = (gain <= dust) & (should_gain <= 10 * dust) & (searches.damping <= 1) & better
        ended |= ~better & ((should_gain <= dust) | (searches.damping > _MOST))
        searches.move(better, moved, after)
        parts[searches.places], objectives[searches.places] = searches.parts, searches.objective
        factor = np.where(better & (share > _TRUSTED), 0.2, np.where(better & (share > _DOUBTED), 1.0, 4.0))
        searches.damping = np.maximum(searches.damping * factor, _LEAST)
        if ended.any():
            searches.keep(~ended)


def _step(searches: _Searches, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
    """The next place of each [m, free], and its expected gain [m]."""
    gradient, hessian, above = searches.slopes()
    low, high = bounds
    parts = searches.parts
    held = ((parts <= low) & (gradient > 0)) | ((parts >= high) & (gradient < 0))
    damped = hessian + searches.damping[:, None, None] * above
    diagonal = np.einsum("mii->mi", above)
    diagonal = np.maximum(diagonal, 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-300)
    places = np.arange(len(low))
    damped[:, places, places] += (_DIAGONAL * searches.damping[:, None] + 1e-14) * diagonal
    for _ in places:
        # A parameter at its bound that the step would take outside is held there, and the others step without it.
        part = np.where(held[:, :, None] | held[:, None, :], 0, damped)
        part[:, places, places] += held
        step = -np.linalg.solve(part, np.where(held, 0, gradient)[..., None])[..., 0]
        outside = ((parts <= low) & (step < 0)) | ((parts >= high) & (step > 0))
        if not (outside & ~held).any():
            break
        held |= outside
    # A step ends at the first bound in its way: cut off at each bound by itself it may lead uphill.
    room = np.where(step < 0, low - parts, high - parts) / np.where(step == 0, np.inf, step)
    share = np.where(step == 0, 1, room).min(axis=1, keepdims=True).clip(max=1)
    moved = np.clip(parts + share * step, low, high)
    step = moved - parts
    curved = (hessian @ step[..., None])[..., 0]
    return moved, -(step * (gradient + 0.5 * curved)).sum(axis=1)
