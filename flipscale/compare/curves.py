"""Along the schedule: what one arm costs for the score of another, and scores for the same cost.

A curve is the mean over seeds of the runs of one series and arm, schedule by schedule, and straight between its points
in the cost, as FLIP's 3.7 times was read (arXiv 2212.00794, Fig 1). Nothing is read outside the points. Seeds count by
their influence on what is read (lines.py), so a seed whose own curve misses the target counts as well. Readings of each
seed's own curve would leave it out: with 10 seeds nearly always one does, and those that are left are the lucky ones.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flipscale.compare.estimates import (
    ONE_SEED,
    Estimate,
    draws_of_the_mean,
    either,
    mean_of,
    nothing,
    ratio_of,
    same_at_every_level,
)
from flipscale.compare.lines import MeanCurve, log_of
from flipscale.compare.parts import Crossover, Curve, Gain, Level, Miss, OneShift
from flipscale.compare.points import Point, different_devices
from flipscale.stats import ALPHA, Array, t_limit
from flipscale.words import short

LEVELS = 9
"""Scores at which the speed-up curve is read, and costs at which the gain is."""

CROSSOVER_DRAWS = 4000
"""Resamples of which the share without a crossover is taken."""


def curve_of(points: Sequence[Point], series: str, arm: str, x: str, lower: bool) -> Curve:
    """One arm of one series against the baseline, along the cost `x`."""
    points = [point for point in points if point.arm in ("", arm) and not math.isnan(point.costs[x])]
    runs = _by_arm(points, arm)
    seeds = sorted(set(runs[""]) & set(runs[arm]))
    why = different_devices(points, x) or _unpaired(runs, arm, x) or _unmatched(runs, seeds)
    shared: dict[str, list[str]] = {}
    if not why:
        seeds, shared = _complete(runs, arm, seeds)
        why = _too_short(runs, shared)
    if why:
        return Curve(series=series, arm=arm, x=x, seeds=tuple(seeds), why=why, speedup=nothing(why), gain=nothing(why))
    sign = -1 if lower else 1
    base, ours = (_mean_curve([runs[key][seed] for seed in seeds], shared[key], x, sign) for key in ("", arm))
    low, high = _score_range(base, ours)
    speedup, otherwise, missed = _at_the_best(base, ours, arm)
    equal, gain, gains = _gains(base, ours, x)
    return Curve(
        series=series,
        arm=arm,
        x=x,
        seeds=tuple(seeds),
        target=sign * float(base.ys.max()),
        speedup=speedup,
        missed=missed,
        speedup_log=otherwise,
        speedup_at=_levels(base, ours, low, high, sign),
        equal_at=equal,
        gain=gain,
        gain_at=gains,
        crossover=_crossover(base, ours, x, arm),
        one_shift=_one_shift(base, ours, low, high, sign),
    )


# Which runs make the curves


_Runs = dict[int, dict[str, Point]]
"""Seed -> schedule -> its run."""


def _by_arm(points: Sequence[Point], arm: str) -> dict[str, _Runs]:
    """The runs of the baseline and of an arm."""
    return {key: _by_seed([point for point in points if point.arm == key]) for key in ("", arm)}


def _by_seed(points: Sequence[Point]) -> _Runs:
    """Twins share a schedule by their cell; without cells the points count by rank."""
    of_seed: dict[int, list[Point]] = {}
    for point in points:
        of_seed.setdefault(point.seed, []).append(point)
    return {
        seed: {
            f"{i}" if point.at is None and not point.cell else point.cell: point
            for i, point in enumerate(sorted(runs, key=lambda point: next(iter(point.costs.values()))))
        }
        for seed, runs in of_seed.items()
    }


def _unpaired(runs: dict[str, _Runs], arm: str, x: str) -> str | None:
    if set(runs[""]) & set(runs[arm]):
        return None
    if not runs[""]:
        return f"the baseline has no {x} here"
    return f"no seed has {x} of both the baseline and this arm"


def _unmatched(runs: dict[str, _Runs], seeds: list[int]) -> str | None:
    """Points without a schedule belong together by their rank, so the seeds of an arm must have equally many."""
    for of_arm in runs.values():
        bare = any(not point.cell and point.at is None for points in of_arm.values() for point in points.values())
        if bare and len({len(of_arm[seed]) for seed in seeds}) > 1:
            return "the seeds have different numbers of points, and no column that twins share says which go together"
    return None


def _complete(runs: dict[str, _Runs], arm: str, seeds: list[int]) -> tuple[list[int], dict[str, list[str]]]:
    """The seeds that make both curves, and the schedules of each arm that all of them have.

    All seeds, if what they share is a curve; else those that have the most schedules.
    """

    def shared(of_seeds: list[int]) -> dict[str, list[str]]:
        return {
            key: [at for at in runs[key][of_seeds[0]] if all(at in runs[key][seed] for seed in of_seeds)]
            for key in ("", arm)
        }

    if min(map(len, shared(seeds).values())) < 2:
        points = {seed: len(runs[""][seed]) + len(runs[arm][seed]) for seed in seeds}
        longest = [seed for seed in seeds if points[seed] == max(points.values())]
        if min(map(len, shared(longest).values())) >= 2:
            seeds = longest
    return seeds, shared(seeds)


def _too_short(runs: dict[str, _Runs], shared: dict[str, list[str]]) -> str | None:
    """Why the schedules that all seeds have make no curve."""
    if min(map(len, shared.values())) >= 2:
        return None
    several = min(max(map(len, of_arm.values())) for of_arm in runs.values()) > 1
    if several:
        return "the seeds have no two schedule lengths in common"
    return "one schedule length here, and a curve takes two"


def _mean_curve(of_seeds: Sequence[dict[str, Point]], shared: Sequence[str], x: str, sign: int) -> MeanCurve:
    costs = [[points[at].costs[x] for at in shared] for points in of_seeds]
    scores = [[sign * points[at].y for at in shared] for points in of_seeds]
    return MeanCurve.of(np.array(costs, dtype=np.float64), np.array(scores, dtype=np.float64))


# At equal accuracy


def _score_range(base: MeanCurve, ours: MeanCurve) -> tuple[float, float]:
    """The scores that both curves pass through."""
    return max(float(base.ys[0]), float(ours.ys[0])), min(float(base.ys.max()), float(ours.ys.max()))


def _positive(base: MeanCurve, ours: MeanCurve) -> bool:
    return bool(min(base.xs[0], ours.xs[0]) > 0)


def _at_the_best(base: MeanCurve, ours: MeanCurve, arm: str) -> tuple[Estimate, float | None, Miss | None]:
    """The speed-up at the baseline's best, or the reason why it is missing.

    Between them what it would be if curves were straight in log x between points.
    """
    target = float(base.ys.max())
    j = ours.reaches(target)
    if not _positive(base, ours):
        return nothing("a cost of 0 has no speed-up"), None, Miss.NO_COST
    if j is None and ours.ys[0] > target:
        return nothing(f"{arm} is above it already at its shortest schedule"), None, Miss.ABOVE
    if j is None:
        return nothing(f"{arm} stays below it"), None, Miss.BELOW
    estimate = _ratio_at_its_best(base, ours, j, 1)
    otherwise = base.log.xs[base.best] - ours.log.costs_to(j, target).mean()
    return estimate, math.exp(float(otherwise)), None


def _ratio_at_its_best(curve: MeanCurve, other: MeanCurve, j: int, sign: int) -> Estimate:
    """What the curve took to its best over what the other takes to there, in the stretch j; with sign -1 its inverse.

    The best of a seed is its own: what raises both curves of a seed alike does not count.
    """
    best = curve.best
    target, moves = float(curve.ys[best]), curve.dys[:, best]
    took = curve.log.xs[best] + curve.log.dxs[:, best]
    ways = (log_of(other.costs_to(j, target, moves)), other.log.costs_to(j, target, moves))
    return either(*(ratio_of((sign * (took - takes)).tolist()) for takes in ways))


def _levels(base: MeanCurve, ours: MeanCurve, low: float, high: float, sign: int) -> tuple[Level, ...]:
    """The speed-up at scores that both curves pass through, from the lowest to the best; this is the best of one."""
    if not low < high or not _positive(base, ours):
        return ()
    levels = []
    for target in map(float, np.linspace(low, high, LEVELS)[:-1]):
        i, j = base.reaches(target), ours.reaches(target)
        assert i is not None
        assert j is not None
        logs = log_of(base.costs_to(i, target)) - log_of(ours.costs_to(j, target))
        ratio = either(ratio_of(logs.tolist()), ratio_of(_logs_straight_in_log(base, ours, target)))
        levels.append(Level(sign * target, ratio))
    i, j = base.reaches(high), ours.reaches(high)
    assert i is not None
    assert j is not None
    at_best = _ratio_at_its_best(base, ours, j, 1) if high == base.ys.max() else _ratio_at_its_best(ours, base, i, -1)
    return (*levels, Level(sign * high, at_best))


def _one_shift(base: MeanCurve, ours: MeanCurve, low: float, high: float, sign: int) -> OneShift | None:
    """Whether one speed-up holds at every score, that is whether one shift along log cost lays one curve on the other.

    Read straight in the logarithm of the cost: straight in the cost, two curves that are one shift apart differ by how
    their points happen to lie, and where seeds agree well the test rejects nearly always (docs/log.md).
    """
    if not low < high or not _positive(base, ours):
        return None
    logs = np.array([_logs_straight_in_log(base, ours, float(t)) for t in np.linspace(low, high, LEVELS)]).T
    n = len(logs)
    shift = math.exp(float(logs.mean()))
    if n < 2:
        return OneShift(shift, None, None, sign * low, sign * high, "one seed gives no test")
    p = same_at_every_level(logs)
    return OneShift(shift, p, p <= ALPHA, sign * low, sign * high, None)


def _logs_straight_in_log(base: MeanCurve, ours: MeanCurve, target: float) -> list[float]:
    """Logarithms of the speed-up at one score between points straight in log cost, one value a seed."""
    i, j = base.reaches(target), ours.reaches(target)
    assert i is not None
    assert j is not None
    return [float(value) for value in base.log.costs_to(i, target) - ours.log.costs_to(j, target)]


# At equal cost


def _gains_at(base: MeanCurve, ours: MeanCurve, costs: Array) -> tuple[Array, Array]:
    """Gains [seeds, costs] between points straight in the cost, and straight in its logarithm if costs have one."""
    straight = np.array([ours.scores_at(cost) - base.scores_at(cost) for cost in costs.tolist()]).T
    if not _positive(base, ours):
        return straight, straight
    logs = np.array([ours.log.scores_at(cost) - base.log.scores_at(cost) for cost in np.log(costs).tolist()]).T
    return straight, logs


def _cost_range(base: MeanCurve, ours: MeanCurve) -> tuple[float, float]:
    """The costs that both curves cover."""
    return max(float(base.xs[0]), float(ours.xs[0])), min(float(base.xs[-1]), float(ours.xs[-1]))


def _gains(base: MeanCurve, ours: MeanCurve, x: str) -> tuple[float | None, Estimate, tuple[Gain, ...]]:
    """The largest cost that both cover and the gain there, and the gains on the way to it."""
    low, high = _cost_range(base, ours)
    if high < low:
        why = f"the two arms have no {x} in common: the one ends at {short(high)}, the other begins at {short(low)}"
        return None, nothing(why), ()
    costs = np.linspace(low, high, LEVELS if low < high else 1)
    costs[-1] = high
    straight, logs = _gains_at(base, ours, costs)
    gains = tuple(
        Gain(cost, either(mean_of(straight[:, i].tolist()), mean_of(logs[:, i].tolist())))
        for i, cost in enumerate(costs.tolist())
    )
    return high, gains[-1].gain, gains


def _crossover(base: MeanCurve, ours: MeanCurve, x: str, arm: str) -> Crossover | None:
    """Where the sign of the gain at equal cost changes, the last time if it does so more often.

    Its interval is the stretch around it in which the gain could be 0 (Student t at each cost, either way of reading
    between points), which ends where the curves do if it gets there.
    """
    low, high = _cost_range(base, ours)
    if not low < high:
        return None
    grid = np.unique([low, high, *np.linspace(low, high, 8 * LEVELS), *base.xs, *ours.xs])
    grid = grid[(grid >= low) & (grid <= high)]
    values, logs = _gains_at(base, ours, grid)
    mean = values.mean(axis=0)
    draws = draws_of_the_mean(values, CROSSOVER_DRAWS) if len(values) > 1 else None
    none = None if draws is None else float(np.mean((draws >= 0).all(axis=1) | (draws <= 0).all(axis=1)))
    changes = _changes(mean)
    if not changes:
        side = "ahead" if mean[np.argmax(np.abs(mean))] > 0 else "behind"
        return Crossover(None, None, None, (False, False), none, 0, f"{arm} is {side} over all {x} that both have")
    a, b = changes[-1]
    at = float(grid[a] + (grid[b] - grid[a]) * mean[a] / (mean[a] - mean[b]))
    turns = "ahead" if mean[b] > 0 else "behind"
    if len(values) < 2:
        return Crossover(at, turns, None, (False, False), None, len(changes), ONE_SEED)
    undecided = _undecided(values, logs)
    first, last = a, b
    while first > 0 and undecided[first]:
        first -= 1
    while last < len(grid) - 1 and undecided[last]:
        last += 1
    ends = bool(undecided[first]), bool(undecided[last])
    return Crossover(at, turns, (float(grid[first]), float(grid[last])), ends, none, len(changes), None)


def _undecided(*ways: Array) -> NDArray[np.bool_]:
    """Where gains [seeds, costs] could be 0 (Student t), or the ways to read them disagree on the sign."""
    signs = []
    for values in ways:
        n, mean = len(values), values.mean(axis=0)
        half = t_limit(n - 1) * values.std(axis=0, ddof=1) / math.sqrt(n)
        signs.append(np.where(np.abs(mean) > half, np.sign(mean), 0))
    undecided: NDArray[np.bool_] = (signs[0] == 0) | (signs[0] != signs[1])
    return undecided


def _changes(gains: Array) -> list[tuple[int, int]]:
    """The points before and after each change of sign; a gain of 0 is of no sign."""
    signed = np.flatnonzero(np.abs(gains) > 1e-12)
    signs = np.sign(gains[signed])
    return [(int(signed[i]), int(signed[i + 1])) for i in np.flatnonzero(signs[1:] != signs[:-1])]
