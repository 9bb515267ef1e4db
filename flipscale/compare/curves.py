"""Along the schedule: what one arm costs for the score of another, and scores for the same cost.

A curve is the mean over seeds of the runs of one series and arm, point by point of the schedule, and straight between
its points in the cost, as FLIP's 3.7 times was read (arXiv 2212.00794, Fig 1). Nothing is read outside the points. What
is read is read off the mean curves once; the value of a seed is that and the seed's influence on it, the derivative of
the reading towards the seed's own curve. So a seed whose own curve misses the target still counts, which readings of
each seed's curve would leave out: with 10 seeds nearly always one does, and those that are left are the lucky ones.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flipscale.compare.estimates import (
    LEVEL,
    ONE_SEED,
    Array,
    Estimate,
    draws_of_the_mean,
    mean_of,
    nothing,
    ratio_of,
    same_at_every_level,
    t_limit,
)
from flipscale.compare.parts import Crossover, Curve, Gain, Level, OneShift
from flipscale.compare.points import Point, different_devices
from flipscale.compare.spelling import short

LEVELS = 9
"""Scores at which the speed-up curve is read, and costs at which the gain is."""

DRAWS = 4000
_STEP = 1e-4  # of the way to a seed's own curve, for its influence


@dataclass(frozen=True)
class _Lines:
    """The curves of one arm: costs and scores [seeds, points], scores signed so that higher is better."""

    costs: Array
    scores: Array

    @cached_property
    def mean(self) -> tuple[Array, Array]:
        return self.costs.mean(axis=0), self.scores.mean(axis=0)

    def towards(self, seed: int, step: float) -> tuple[Array, Array]:
        """The mean curve, moved this much of the way to a seed's own."""
        xs, ys = self.mean
        return xs + step * (self.costs[seed] - xs), ys + step * (self.scores[seed] - ys)


_Line = tuple[Array, Array]
_Reading = Callable[[_Line, _Line], float]  # of the baseline's curve and the arm's


def curve_of(points: Sequence[Point], series: str, arm: str, x: str, lower: bool) -> Curve:
    """One arm of one series against the baseline, along the cost `x`."""
    sign = -1 if lower else 1
    points = [point for point in points if point.arm in ("", arm) and not math.isnan(point.costs[x])]
    of = {key: _by_seed([point for point in points if point.arm == key]) for key in ("", arm)}
    seeds = sorted(set(of[""]) & set(of[arm]))
    why = different_devices(points, x) or _unpaired(of, arm, x) or _unmatched(of, seeds)
    if not why:
        seeds, shared = _complete(of, arm, seeds)
        if min(map(len, shared.values())) < 2:
            several = min(max(map(len, of[key].values())) for key in ("", arm)) > 1
            why = (
                "the seeds have no two schedule lengths in common"
                if several
                else "one schedule length here, and a curve takes two"
            )
    if why:
        return Curve(
            series, arm, x, tuple(seeds), why, None, nothing(why), None, (), None, nothing(why), (), None, None
        )
    base, ours = (_lines([of[key][seed] for seed in seeds], shared[key], x, sign) for key in ("", arm))
    low, high = _score_range(base, ours)
    levels = _levels(base, ours, low, high, sign)
    speedup, otherwise = _at_the_best(base, ours, arm)
    equal, gain, gains = _gains(base, ours, x)
    return Curve(
        series=series,
        arm=arm,
        x=x,
        seeds=tuple(seeds),
        why=None,
        target=sign * float(base.mean[1].max()),
        speedup=speedup,
        speedup_log=otherwise,
        speedup_at=levels,
        equal_at=equal,
        gain=gain,
        gain_at=gains,
        crossover=_crossover(base, ours, x, arm),
        one_shift=_one_shift(base, ours, low, high, sign),
    )


def first_reach(xs: Sequence[float], ys: Sequence[float], target: float) -> float | None:
    """The x at which the polyline first has the target; None where that is before its first point, or never."""
    i = _where(ys, target)
    return None if i is None else _read((np.asarray(xs), np.asarray(ys)), i, target)


# Which runs make the curves


def _by_seed(points: Sequence[Point]) -> dict[int, dict[str, Point]]:
    """Seed -> schedule -> its run. Twins share a schedule by their cell; without cells the points count by rank."""
    of: dict[int, list[Point]] = {}
    for point in points:
        of.setdefault(point.seed, []).append(point)
    return {
        seed: {
            f"{i}" if point.at is None and not point.cell else point.cell: point
            for i, point in enumerate(sorted(runs, key=lambda p: next(iter(p.costs.values()))))
        }
        for seed, runs in of.items()
    }


def _unpaired(of: dict[str, dict[int, dict[str, Point]]], arm: str, x: str) -> str | None:
    if set(of[""]) & set(of[arm]):
        return None
    if not of[""]:
        return f"the baseline has no {x} here"
    return f"no seed has {x} of both the baseline and this arm"


def _unmatched(of: dict[str, dict[int, dict[str, Point]]], seeds: list[int]) -> str | None:
    """Points without a schedule belong together by their rank, so the seeds of an arm must have equally many."""
    for runs in of.values():
        bare = any(not point.cell and point.at is None for points in runs.values() for point in points.values())
        if bare and len({len(runs[seed]) for seed in seeds}) > 1:
            return "the seeds have different numbers of points, and no column that twins share says which go together"
    return None


def _complete(
    of: dict[str, dict[int, dict[str, Point]]], arm: str, seeds: list[int]
) -> tuple[list[int], dict[str, list[str]]]:
    """The seeds that make both curves, and the schedules of each arm that all of them have.

    All seeds, if what they share is a curve; else those that have the most schedules.
    """

    def shared(of_seeds: list[int]) -> dict[str, list[str]]:
        return {
            key: [at for at in of[key][of_seeds[0]] if all(at in of[key][seed] for seed in of_seeds)]
            for key in ("", arm)
        }

    if min(map(len, shared(seeds).values())) < 2:
        points = {seed: len(of[""][seed]) + len(of[arm][seed]) for seed in seeds}
        longest = [seed for seed in seeds if points[seed] == max(points.values())]
        if min(map(len, shared(longest).values())) >= 2:
            seeds = longest
    return seeds, shared(seeds)


def _lines(of_seeds: Sequence[dict[str, Point]], shared: Sequence[str], x: str, sign: int) -> _Lines:
    costs = np.array([[points[at].costs[x] for at in shared] for points in of_seeds], dtype=np.float64)
    scores = np.array([[sign * points[at].y for at in shared] for points in of_seeds], dtype=np.float64)
    order = np.argsort(costs.mean(axis=0), kind="stable")
    return _Lines(costs[:, order], scores[:, order])


# Reading


def _where(ys: Sequence[float] | Array, target: float) -> int | None:
    """The end of the stretch in which a polyline first has the target; None where it begins above, or stays below."""
    if ys[0] > target:
        return None
    return next((i for i in range(1, len(ys)) if ys[i] >= target or ys[i - 1] == target), None)


def _read(line: _Line, i: int, target: float) -> float:
    """The x at which the stretch that ends at point i, or the straight line on from it, has the target."""
    xs, ys = line
    if ys[i] == ys[i - 1]:
        return float(xs[i - 1])
    return float(xs[i - 1] + (xs[i] - xs[i - 1]) * (target - ys[i - 1]) / (ys[i] - ys[i - 1]))


def _estimates(base: _Lines, ours: _Lines, reading: _Reading) -> list[float]:
    """The reading off the mean curves, and for each seed that and its influence on it; the latter's mean is the first.

    It must be smooth there: which stretch of a curve is read is settled beforehand.
    """
    at_mean = reading(base.mean, ours.mean)

    def slope(seed: int) -> float:
        up, down = (reading(base.towards(seed, s), ours.towards(seed, s)) for s in (_STEP, -_STEP))
        return (up - down) / (2 * _STEP)

    slopes = np.array([slope(seed) for seed in range(len(base.costs))]) if len(base.costs) > 1 else np.zeros(1)
    # Influences add up to 0 but for the curvature within a step.
    return [at_mean + float(slope - slopes.mean()) for slope in slopes]


def _score_range(base: _Lines, ours: _Lines) -> tuple[float, float]:
    """The scores that both mean curves pass through."""
    return (
        max(float(base.mean[1][0]), float(ours.mean[1][0])),
        min(float(base.mean[1].max()), float(ours.mean[1].max())),
    )


def _log(line: _Line) -> _Line:
    return np.log(line[0]), line[1]


def _log_speedup(base: _Lines, ours: _Lines, target: float, *, log: bool = False) -> list[float] | None:
    """Logarithms of the cost ratio at one score, one value a seed; between points straight in the cost, or its log."""
    i, j = _where(base.mean[1], target), _where(ours.mean[1], target)
    if i is None or j is None:
        return None

    def cost(line: _Line, at: int) -> float:
        return _read(_log(line), at, target) if log else _ln(_read(line, at, target))

    return _estimates(base, ours, lambda b, o: cost(b, i) - cost(o, j))


def _at_the_best(base: _Lines, ours: _Lines, arm: str) -> tuple[Estimate, float | None]:
    """The speed-up at the baseline's best; and what it would be if curves were straight in log x between points."""
    (xs, ys), best = base.mean, int(np.argmax(base.mean[1]))
    j = _where(ours.mean[1], float(ys[best]))
    if not _positive(base, ours):
        return nothing("a cost of 0 has no speed-up"), None
    if j is None:
        above = ours.mean[1][0] > ys[best]
        return nothing(f"{arm} {'is above it already at its shortest schedule' if above else 'stays below it'}"), None
    otherwise = math.exp(_ln(float(xs[best])) - _read(_log(ours.mean), j, float(ys[best])))
    return ratio_of(_log_ratio_at_its_best(base, ours, j)), otherwise


def _log_ratio_at_its_best(one: _Lines, other: _Lines, j: int) -> list[float]:
    """log of what the one took to its best over what the other takes to there, in the stretch j, one value a seed.

    The best of a seed is its own: what raises both curves of a seed alike does not count.
    """
    best = int(np.argmax(one.mean[1]))
    return _estimates(one, other, lambda a, b: _ln(float(a[0][best])) - _ln(_read(b, j, float(a[1][best]))))


def _levels(base: _Lines, ours: _Lines, low: float, high: float, sign: int) -> tuple[Level, ...]:
    """The speed-up at scores that both curves pass through, from the lowest to the best; this is the best of one."""
    if not low < high or not _positive(base, ours):
        return ()
    levels = []
    for target in map(float, np.linspace(low, high, LEVELS)[:-1]):
        logs = _log_speedup(base, ours, target)
        assert logs is not None
        levels.append(Level(sign * target, ratio_of(logs)))
    j = _where(ours.mean[1], high)
    if high == base.mean[1].max() and j is not None:
        logs = _log_ratio_at_its_best(base, ours, j)
    else:
        i = _where(base.mean[1], high)
        assert i is not None
        logs = [-value for value in _log_ratio_at_its_best(ours, base, i)]
    return (*levels, Level(sign * high, ratio_of(logs)))


def _positive(base: _Lines, ours: _Lines) -> bool:
    return bool(min(base.costs.min(), ours.costs.min()) > 0)


def _one_shift(base: _Lines, ours: _Lines, low: float, high: float, sign: int) -> OneShift | None:
    """Whether one speed-up holds at every score, that is whether one shift along log cost lays one curve on the other.

    Read straight in the logarithm of the cost: straight in the cost, two curves that are one shift apart differ by how
    their points happen to lie, and the test rejects nearly always where seeds agree well (bench/comparison).
    """
    if not low < high or not _positive(base, ours):
        return None
    of_levels = [_log_speedup(base, ours, float(t), log=True) for t in np.linspace(low, high, LEVELS)]
    logs = np.array([values for values in of_levels if values is not None]).T
    n, k = logs.shape
    shift = math.exp(float(logs.mean()))
    if n < 2:
        return OneShift(shift, None, None, sign * low, sign * high, "one seed gives no test")
    if k < 2:
        return OneShift(shift, None, None, sign * low, sign * high, "the curves pass through one score together")
    p = same_at_every_level(logs)
    return OneShift(shift, p, p <= LEVEL, sign * low, sign * high, None)


# At equal cost


def _gain_at(base: _Lines, ours: _Lines, cost: float) -> list[float]:
    i, j = (_stretch(lines.mean[0], cost) for lines in (base, ours))

    def score(line: _Line, at: int) -> float:
        xs, ys = line
        if xs[at] == xs[at - 1]:
            return float(ys[at])
        return float(ys[at - 1] + (ys[at] - ys[at - 1]) * (cost - xs[at - 1]) / (xs[at] - xs[at - 1]))

    return _estimates(base, ours, lambda b, o: score(o, j) - score(b, i))


def _stretch(xs: Array, x: float) -> int:
    return int(np.clip(np.searchsorted(xs, x, side="left"), 1, len(xs) - 1))


def _cost_range(base: _Lines, ours: _Lines) -> tuple[float, float]:
    """The costs that both mean curves cover."""
    return (
        max(float(base.mean[0][0]), float(ours.mean[0][0])),
        min(float(base.mean[0][-1]), float(ours.mean[0][-1])),
    )


def _gains(base: _Lines, ours: _Lines, x: str) -> tuple[float | None, Estimate, tuple[Gain, ...]]:
    """The largest cost that both cover and the gain there, and the gains on the way to it."""
    low, high = _cost_range(base, ours)
    if high < low:
        why = f"the two arms have no {x} in common: the one ends at {short(high)}, the other begins at {short(low)}"
        return None, nothing(why), ()
    costs = [high] if high == low else [float(cost) for cost in np.linspace(low, high, LEVELS)]
    gains = tuple(Gain(cost, mean_of(_gain_at(base, ours, cost))) for cost in costs)
    return high, gains[-1].gain, gains


def _crossover(base: _Lines, ours: _Lines, x: str, arm: str) -> Crossover | None:
    """Where the sign of the gain at equal cost changes, the last time if it does so more often.

    Its interval is the stretch around it in which the gain could be 0 (Student t at each cost), which ends where the
    curves do if it gets there.
    """
    low, high = _cost_range(base, ours)
    if not low < high:
        return None
    grid = np.unique([low, high, *np.linspace(low, high, 8 * LEVELS), *base.mean[0], *ours.mean[0]])
    grid = grid[(grid >= low) & (grid <= high)]
    values = np.array([_gain_at(base, ours, float(cost)) for cost in grid]).T
    n, mean = len(values), values.mean(axis=0)
    draws = draws_of_the_mean(values, DRAWS) if n > 1 else None
    none = None if draws is None else float(np.mean((draws >= 0).all(axis=1) | (draws <= 0).all(axis=1)))
    changes = _changes(mean)
    if not len(changes):
        side = "ahead" if mean[np.argmax(np.abs(mean))] > 0 else "behind"
        return Crossover(None, None, None, (False, False), none, 0, f"{arm} is {side} over all {x} that both have")
    a, b = changes[-1]
    at = float(grid[a] + (grid[b] - grid[a]) * mean[a] / (mean[a] - mean[b]))
    turns = "ahead" if mean[b] > 0 else "behind"
    if n < 2:
        return Crossover(at, turns, None, (False, False), None, len(changes), ONE_SEED)
    undecided = np.abs(mean) <= t_limit(n) * values.std(axis=0, ddof=1) / math.sqrt(n)
    first, last = a, b
    while first > 0 and undecided[first]:
        first -= 1
    while last < len(grid) - 1 and undecided[last]:
        last += 1
    ends = bool(undecided[first]), bool(undecided[last])
    return Crossover(at, turns, (float(grid[first]), float(grid[last])), ends, none, len(changes), None)


def _changes(gains: Array) -> list[tuple[int, int]]:
    """The points before and after each change of sign; a gain of 0 is of no sign."""
    signed = np.flatnonzero(np.abs(gains) > 1e-12)
    signs = np.sign(gains[signed])
    return [(int(signed[i]), int(signed[i + 1])) for i in np.flatnonzero(signs[1:] != signs[:-1])]


def _ln(value: float) -> float:
    return math.log(max(value, 1e-300))
