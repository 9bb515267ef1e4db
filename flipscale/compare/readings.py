"""Readings off two curves, with the uncertainty from seeds: every reading is repeated in draws of both.

Each is read along monotone cubics on the score's scale against log cost, and again along straight lines there. The
number is the cubics'; its interval covers both ways, as seeds do not tell how a curve runs between its points. A draw
that misses a score counts as infinitely slow or fast: the interval is then open at that end, 0 or infinity.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from flipscale.compare.estimates import ONE_SEED, Estimate, drawn, nothing
from flipscale.compare.lines import Lines
from flipscale.compare.parts import Crossover, Gain, Level, Miss, OneShift
from flipscale.stats import ALPHA, Array, Draws, ScoreScale
from flipscale.words import short

LEVELS = 9
"""Scores at which the speed-up curve is read, and costs at which the gain is."""

LOST = 0.05
"""A level that more than this share of the draws miss is left out of the test of one shift."""

BETWEEN_POINTS = 0.02
"""The error of a monotone cubic against a smooth curve between its points, in the logarithm of a cost."""

GRID = 2 * LEVELS
"""Costs at which the crossover of a draw is looked for, besides those of the points."""

FINE_GRID = 64 * LEVELS
"""The same for the mean curves, whose crossover is printed."""


@dataclass(frozen=True)
class TwoCurves:
    """Both curves, or draws of both."""

    base: Lines
    ours: Lines

    def straightened(self) -> "TwoCurves":
        """The same, straight between points."""
        return TwoCurves(self.base.straightened(), self.ours.straightened())

    def swapped(self) -> "TwoCurves":
        """The other way round."""
        return TwoCurves(self.ours, self.base)


@dataclass(frozen=True, kw_only=True)
class ComparedCurves:
    """Two curves with all that their readings need."""

    mean: TwoCurves
    ways: Callable[[int], tuple[TwoCurves, ...]]
    """Gives this many draws of both curves, for either way of reading; empty if the scatter of runs is unknown."""
    draws: int
    """Draws for what no verdict states."""
    claims: int
    """Draws for what verdicts state, 0 along costs other than the first."""
    seeds: int
    arm: str
    x: str
    log: bool
    """Whether costs are logarithms: there is no cost of 0."""
    scale: ScoreScale
    sign: int
    """-1 if less of the score is better."""

    def score(self, y: float) -> float:
        """A score in its own unit, from its signed value on the scale."""
        return float(self.scale.score(self.sign * y))

    def score_range(self) -> tuple[float, float]:
        """The scores that both curves pass through."""
        base, ours = self.mean.base.ys[0], self.mean.ours.ys[0]
        return max(float(base[0]), float(ours[0])), min(float(base.max()), float(ours.max()))

    def cost_range(self) -> tuple[float, float]:
        """The costs that both curves cover."""
        base, ours = self.mean.base.xs[0], self.mean.ours.xs[0]
        return max(float(base[0]), float(ours[0])), min(float(base[-1]), float(ours[-1]))

    def ratio(self, read: Callable[[TwoCurves], Array], draws: int) -> Estimate:
        """A reading whose logarithm `read` gives [curves]."""
        return drawn(read(self.mean)[0], Draws.of(*map(read, self.ways(draws))), self.seeds, ratio=True)


# At equal accuracy


def at_the_best(compared: ComparedCurves) -> tuple[Estimate, Miss | None]:
    """The speed-up at the baseline's best, or the reason why it is missing.

    An arm that begins above it is faster by at least the baseline's cost there over that of its shortest schedule.
    """
    if not compared.log:
        return nothing("a cost of 0 has no speed-up"), Miss.NO_COST
    best = compared.mean.base.best
    reached = compared.mean.ours.costs_to(compared.mean.base.ys[:, best, None])[0, 0]
    if reached == math.inf:
        return nothing(f"{compared.arm} stays below it"), Miss.BELOW
    missed = Miss.ABOVE if reached == -math.inf else None

    def read(curves: TwoCurves) -> Array:
        return _to_a_point_of(curves, best, at_least=missed is not None)

    estimate = compared.ratio(read, compared.claims or compared.draws)
    return (estimate if missed is None else estimate.as_a_bound()), missed


def _to_a_point_of(curves: TwoCurves, point: int, *, at_least: bool = False) -> Array:
    """log of the baseline's cost at one of its points over the arm's cost of reaching that score [curves].

    The score moves with the point: what raises both curves of a seed alike does not count.
    """
    reached = curves.ours.costs_to(curves.base.ys[:, point, None])[:, 0]
    if at_least:
        reached = np.where(reached == -math.inf, curves.ours.xs[:, 0], reached)
    return curves.base.xs[:, point] - reached


def levels(compared: ComparedCurves, draws: int) -> tuple[tuple[Level, ...], OneShift | None]:
    """The speed-up at scores that both curves pass through, from the lowest to the best; whether one number is enough.

    At both ends the score is that of a point and moves with it in the draws.
    """
    low, high = compared.score_range()
    if not low < high or not compared.log:
        return (), None
    targets = np.linspace(low, high, LEVELS)
    base, ours = compared.mean.base.ys[0], compared.mean.ours.ys[0]

    def read(curves: TwoCurves) -> Array:
        inner = targets[None, 1:-1]
        with np.errstate(invalid="ignore"):
            between = curves.base.costs_to(inner) - curves.ours.costs_to(inner)
        first = _to_a_point_of(curves, 0) if base[0] >= ours[0] else -_to_a_point_of(curves.swapped(), 0)
        if base.max() <= ours.max():
            last = _to_a_point_of(curves, compared.mean.base.best)
        else:
            last = -_to_a_point_of(curves.swapped(), compared.mean.ours.best)
        return np.column_stack([first, between, last])

    means = read(compared.mean)[0]
    ways = [read(way) for way in compared.ways(draws)]
    found = tuple(
        Level(
            compared.score(float(target)),
            drawn(means[i], Draws.of(*(way[:, i] for way in ways)), compared.seeds, ratio=True),
        )
        for i, target in enumerate(targets)
    )
    straight = read(compared.mean.straightened())[0]
    return found, _one_shift(compared, targets, np.array([means, straight]), ways)


def _one_shift(compared: ComparedCurves, scores: Array, means: Array, ways: list[Array]) -> OneShift | None:
    """Whether one speed-up holds at every score, that is whether one shift along log cost lays one curve on the other.

    p is the share of draws whose levels deviate from one shift by more, through noise alone, than those of the mean
    curves do. A level's deviation is what both ways of reading agree on, less BETWEEN_POINTS: two curves differ by
    where their points happen to lie, and where seeds agree well that alone would nearly always be significant. Levels
    that more than LOST of the draws miss are left out. means: [2 ways, levels].
    """
    kept = np.ones(means.shape[1], dtype=bool)
    for way in ways:
        kept &= np.isfinite(way).mean(axis=0) >= 1 - LOST
    if kept.sum() < 2:
        return None
    shift = math.exp(float(means[0, kept].mean()))
    cubic, straight = means[:, kept] - means[:, kept].mean(axis=1, keepdims=True)
    agreed = np.where(cubic * straight > 0, np.minimum(np.abs(cubic), np.abs(straight)), 0.0)
    low, high = (compared.score(float(scores[kept][i])) for i in (0, -1))
    if not ways:
        return OneShift(shift, None, None, low, high, "one seed gives no test")
    bent = float((np.maximum(agreed - BETWEEN_POINTS, 0.0) ** 2).sum())
    shares = []
    for way in ways:
        read = way[:, kept]
        read = read[np.isfinite(read).all(axis=1)]
        steps = read - np.median(read, axis=0)
        apart = ((steps - steps.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
        shares.append(float(np.mean(apart >= bent - 1e-15)))
    p = max(shares)
    return OneShift(shift, p, p <= ALPHA, low, high, None)


# At equal cost


def gains(compared: ComparedCurves) -> tuple[float | None, Estimate, tuple[Gain, ...]]:
    """The largest cost that both cover and the gain there, and the gains on the way to it."""
    low, high = compared.cost_range()
    back = math.exp if compared.log else float
    if high < low:
        ends = (short(back(high)), short(back(low)))
        why = f"the two arms have no {compared.x} in common: the one ends at {ends[0]}, the other begins at {ends[1]}"
        return None, nothing(why), ()
    costs = np.linspace(back(low), back(high), LEVELS if low < high else 1)
    at = np.log(costs) if compared.log else costs
    at[-1] = high
    means = _gains_at(compared, compared.mean, at)[0]
    ways = [_gains_at(compared, way, at) for way in compared.ways(compared.draws)]
    found = tuple(
        Gain(cost, drawn(means[i], Draws.of(*(way[:, i] for way in ways)), compared.seeds))
        for i, cost in enumerate(costs.tolist())
    )
    return found[-1].cost, found[-1].gain, found


def _gains_at(compared: ComparedCurves, curves: TwoCurves, costs: Array) -> Array:
    """Gains in the score's own unit [curves, costs]."""
    base, ours = (compared.scale.score(compared.sign * lines.scores_at(costs)) for lines in (curves.base, curves.ours))
    gained: Array = compared.sign * (ours - base)
    return gained


def crossover(compared: ComparedCurves) -> Crossover | None:
    """The cost at which the gain at equal cost changes its sign; the last one if there are several.

    Each draw has its own. A draw without one counts as beyond the end of the curves at which its sign is wrong.
    """
    low, high = compared.cost_range()
    if not low < high:
        return None
    grid = _costs(compared, low, high, GRID)
    fine = _costs(compared, low, high, FINE_GRID)
    back = math.exp if compared.log else float
    means = _apart(compared.mean, fine)
    ways = [_apart(way, grid) for way in compared.ways(compared.draws)]
    none = max(float(np.mean((way >= 0).all(axis=1) | (way <= 0).all(axis=1))) for way in ways) if ways else None
    signed = means[0][np.abs(means[0]) > 1e-12]
    changes = int((np.sign(signed[1:]) != np.sign(signed[:-1])).sum())
    if not changes:
        side = "ahead" if means[0, np.argmax(np.abs(means[0]))] > 0 else "behind"
        why = f"{compared.arm} is {side} over all {compared.x} that both have"
        return Crossover(None, None, None, (False, False), none, 0, why)
    beyond = float(np.sign(signed[-1]))
    at = back(float(_last_change(fine, means, beyond)[0]))
    turns = "ahead" if beyond > 0 else "behind"
    if not ways:
        return Crossover(at, turns, None, (False, False), None, changes, ONE_SEED)
    interval = Draws.of(*(_last_change(grid, way, beyond) for way in ways)).interval()
    open_ends = interval.low == -math.inf, interval.high == math.inf
    ends = back(max(interval.low, low)), back(min(interval.high, high))
    return Crossover(at, turns, ends, open_ends, none, changes, None)


def _costs(compared: ComparedCurves, low: float, high: float, number: int) -> Array:
    """This many costs from `low` to `high`, and the costs of the points between them."""
    points = [*compared.mean.base.xs[0], *compared.mean.ours.xs[0]]
    costs = np.unique([low, high, *np.linspace(low, high, number), *points])
    within: Array = costs[(costs >= low) & (costs <= high)]
    return within


def _apart(curves: TwoCurves, grid: Array) -> Array:
    """How far the arm is above the baseline on the scale [curves, costs]."""
    apart: Array = curves.ours.scores_at(grid) - curves.base.scores_at(grid)
    return apart


def _last_change(grid: Array, apart: Array, beyond: float) -> Array:
    """The last cost at which each curve's gain turns to the sign `beyond`, or an infinity where it never does."""
    ahead = beyond * apart > 0
    turns = ahead[:, 1:] & ~ahead[:, :-1]
    last = turns.shape[1] - 1 - np.argmax(turns[:, ::-1], axis=1)
    rows = np.arange(len(apart))
    before, after = apart[rows, last], apart[rows, last + 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        at = grid[last] + (grid[last + 1] - grid[last]) * before / (before - after)
    never = np.where(ahead[:, -1], -np.inf, np.inf)
    return np.where(turns.any(axis=1), at, never)
