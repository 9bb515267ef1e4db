"""Along the schedule: the cost of one arm for the score of another, and scores for the same cost.

A curve goes through the means over seeds of the runs of one series and arm, schedule by schedule: a monotone cubic
(scipy's PCHIP) against the logarithm of the cost. Nothing is read outside its points. Intervals come from a parametric
bootstrap: in each draw the points of both curves move by one variance that all runs of a seed share, and by another of
single runs (docs/how-computed.md). Where lengths share trunks the points move as those of the seeds do, by one weight a
seed, with S - 1 degrees of freedom.
"""

import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import pandas as pd
from scipy.interpolate import PchipInterpolator
from scipy.special import gammaincinv, ndtr

from flipscale.analysis.comparing.estimates import (
    NOT_REACHED,
    Crossover,
    Curve,
    Estimate,
    Sides,
    Speedup,
    SpeedupAt,
    drawn,
    nothing,
)
from flipscale.analysis.comparing.points import Point, different_devices
from flipscale.analysis.stats import Array, Interval, ScoreKind, failed_runs
from flipscale.words import short

CURVE_DRAWS = 10_000
"""For one comparison, so that an end of its 95 % interval has 250 draws beyond it."""

MOST_DRAWS = 100_000
"""For the smaller levels of more comparisons."""

STEPS = 16
"""Places between two points of a curve at which it is computed; straight lines join them."""

LEVELS = 17
"""Scores at which the curve of speed-ups is read, beside that at which the speed-up is stated."""

PLACES = 144
"""Costs at which the gain at equal cost is computed, to see where it changes its sign."""


EQUAL_COSTS = 0.01
"""Measured costs are equal within this share."""


@dataclass(frozen=True)
class Line:
    """The mean curve of one arm, in the order of costs."""

    name: str
    """The id of one of its runs."""
    costs: Array
    """Mean cost of each schedule [points]."""
    lengths: Array | None
    """Schedule lengths [points]; None where they are unknown."""
    samples: Array | None
    """Samples seen, those of parents included [points]; None where they are unknown or do not rise."""
    scores: Array
    """Of each run, signed so that more is better [points, seeds]."""
    log_costs: Array
    """Logarithm of each run's cost [points, seeds]."""

    @property
    def means(self) -> Array:
        """Mean over seeds [points]."""
        means: Array = self.scores.mean(axis=1)
        return means


@dataclass(frozen=True)
class Read:
    """Draws of a curve along the logarithm of costs or of samples, monotone between its points.

    It is computed at STEPS places a piece, with straight lines between them.
    """

    pieces: PchipInterpolator
    """A polynomial for each piece and draw."""

    @cached_property
    def xs(self) -> Array:
        """[places]"""
        xs = self.pieces.x
        inner = np.arange(STEPS) / STEPS
        return np.append((xs[:-1, None] + np.diff(xs)[:, None] * inner).ravel(), xs[-1])

    @cached_property
    def ys(self) -> Array:
        """[draws, places]"""
        ys: Array = self.pieces(self.xs)
        return ys

    def reach(self, targets: Array) -> Array:
        """Where each draw first reaches its target [draws]; -inf where it begins above, inf where it stays below."""
        xs = self.pieces.x
        coefficients = self.pieces.c
        points = np.vstack([coefficients[-1], np.polyval(coefficients[:, -1], xs[-1] - xs[-2])])
        above = points >= targets
        # A monotone curve is between its points, so it reaches the target in the piece before the first one above.
        piece = np.maximum(np.argmax(above, axis=0) - 1, 0)
        of_piece = coefficients[:, piece, np.arange(len(targets))]
        step = np.diff(xs)[piece] / STEPS
        low = np.zeros(len(targets))
        high = np.full(len(targets), float(STEPS))
        for _ in range(int(math.log2(STEPS))):
            middle = (low + high) / 2
            is_above = np.polyval(of_piece, middle * step) >= targets
            low = np.where(is_above, low, middle)
            high = np.where(is_above, middle, high)
        before, after = (np.polyval(of_piece, place * step) for place in (low, high))
        with np.errstate(divide="ignore", invalid="ignore"):
            reached = xs[piece] + step * (low + (targets - before) / (after - before))
        reached = np.where(above[0], np.where(points[0] > targets, -np.inf, xs[0]), reached)
        return np.where(above.any(axis=0), reached, np.inf)

    def scores_at(self, xs: Array) -> Array:
        """[draws, xs]"""
        at = np.clip(np.searchsorted(self.xs, xs) - 1, 0, len(self.xs) - 2)
        share = (xs - self.xs[at]) / (self.xs[at + 1] - self.xs[at])
        before, scores = (np.take(self.ys, places, axis=1) for places in (at, at + 1))
        scores -= before
        scores *= share
        scores += before
        return scores


def read_line(xs: Array, ys: Array) -> Read:
    """The monotone cubic through points at xs [points] of several draws [draws, points]."""
    # Costs that are equal are a little apart here, as no curve is vertical.
    return Read(PchipInterpolator(np.maximum.accumulate(xs + 1e-9 * np.arange(len(xs))), ys, axis=1))


@dataclass(frozen=True)
class LogRatio:
    """The logarithm of what the baseline takes to a score over what the arm takes."""

    log: float
    draws: Array | None
    """In the order of draws, so that ratios of one comparison can be divided by each other."""
    at_least: bool
    """Whether the arm's shortest schedule is better already."""


@dataclass(frozen=True)
class TwoLines:
    """The curves of a baseline and of an arm, at the seeds that both have."""

    base: Line
    ours: Line
    seeds: tuple[int, ...]
    kind: ScoreKind
    sides: Sides
    trunks: bool = False
    """Whether lengths of a seed share a trunk on either side."""
    fails: bool = False
    """Whether only some runs of a point take off."""
    comparisons: int = 1
    """In their family: the ends of intervals at Holm's levels then rest on as many draws as those of one at 5 %."""

    @cached_property
    def draws(self) -> tuple[Array, Array, Array] | None:
        """Draws of the means of both curves [draws, points], and of the logarithm of their ratio of costs [draws].

        None with one seed, and where only some runs of a point take off, which no bootstrap of normal noise shows.
        """
        n = len(self.seeds)
        if n < 2 or self.fails:
            return None
        units = [self._units(line) for line in (self.base, self.ours)]
        residuals = [
            (line.scores - line.means[:, None]) / unit[:, None]
            for line, unit in zip((self.base, self.ours), units, strict=True)
        ]
        of_seed, of_run, df = (0.0, 0.0, n - 1) if self.trunks else _variances(np.concatenate(residuals))
        many = min(CURVE_DRAWS * self.comparisons, MOST_DRAWS)
        shared, wide = _normals("seed", 2, many)
        # One chi-squared a draw turns normal steps into Student's t.
        stretch = np.sqrt(df / (2 * gammaincinv(df / 2, np.clip(ndtr(wide), 1e-12, 1 - 1e-12))))
        weights = _normals("seeds", n, many) / math.sqrt(n * (n - 1)) if self.trunks else None
        curves = []
        costs = []
        for line, unit, rest in zip((self.base, self.ours), units, residuals, strict=True):
            of_points = np.array(_normals(line.name, len(line.costs) + 1, many))
            steps = math.sqrt(of_seed / n) * shared + math.sqrt(of_run / n) * of_points[:-1]
            steps = steps if weights is None else rest @ weights
            curves.append(line.means + (unit[:, None] * steps * stretch).T)
            costs.append(_cost_error(line) * of_points[-1])
        return curves[0], curves[1], costs[0] - costs[1]

    def _units(self, line: Line) -> Array:
        levels = self.kind.sign * line.means
        units = np.array([self.kind.noise_unit(level) for level in levels])
        floored: Array = np.maximum(units, 1e-9)
        return floored

    def _along_each(self, base: Array, ours: Array) -> dict[str, tuple[Read, Read]]:
        """Both curves, or draws of them, along the logarithms of `costs` and, where there are any, of `samples`."""
        found = {}
        for name in ("costs", "samples") if self._has_samples else ("costs",):
            xs = [np.log(getattr(line, name)) for line in (self.base, self.ours)]
            found[name] = read_line(xs[0], base), read_line(xs[1], ours)
        return found

    @cached_property
    def _means(self) -> dict[str, tuple[Read, Read]]:
        return self._along_each(self.base.means[None], self.ours.means[None])

    @cached_property
    def _drawn(self) -> dict[str, tuple[Read, Read]]:
        return {} if self.draws is None else self._along_each(*self.draws[:2])

    def ratio(self, name: str, score: float, point: int | None = None) -> "LogRatio | str":
        """The baseline's costs (or samples) to a score over the arm's, or why there are none.

        point: of the baseline, if the score is its mean there and moves with it.
        """
        if name == "samples" and not self._has_samples:
            return "the runs have no number of samples"
        target = self.kind.sign * score if point is None else float(self.base.means[point])
        lines = self._means[name]
        base, ours = (float(line.reach(np.array([target]))[0]) for line in lines)
        if math.isinf(base):
            return f"the baseline's curve does not pass through {self.kind.sign * target:.4g}"
        if ours == math.inf:
            return NOT_REACHED
        at_least = ours == -math.inf
        log = base - (float(lines[1].xs[0]) if at_least else ours)
        if self.draws is None:
            return LogRatio(log, None, at_least)
        targets = np.full(len(self.draws[0]), target) if point is None else self.draws[0][:, point]
        drawn_base, drawn_ours = self._drawn[name]
        reached = drawn_ours.reach(targets)
        if at_least:
            reached = np.where(reached == -np.inf, drawn_ours.xs[0], reached)
        draws = quotient(drawn_base.reach(targets), reached)
        return LogRatio(log, draws + self.draws[2] if name == "costs" else draws, at_least)

    def at_target(self) -> Speedup:
        """The speed-up to the baseline's mean at its last but one length."""
        point = len(self.base.costs) - 2
        score = self.kind.sign * float(self.base.means[point])
        at = None if self.base.lengths is None else float(self.base.lengths[point])
        ratio, fewer = (self.ratio(name, score, point) for name in ("costs", "samples"))
        if isinstance(ratio, str):
            return Speedup(score, at, nothing(ratio), nothing(ratio), nothing(ratio))
        read = partial(drawn, seeds=len(self.seeds), ratio=True)
        speedup = read(ratio.log, ratio.draws, at_least=ratio.at_least)
        if isinstance(fewer, str):
            return Speedup(score, at, speedup, nothing(fewer), nothing(fewer))
        samples = self._as_many(fewer)
        if fewer.at_least:  # An upper bound, of which draws would show one end alone.
            samples = Estimate(samples.n, samples.mean, why="the shortest schedule passes the score", ratio=True)
        cheap = ratio.log - fewer.log
        draws = None
        if ratio.draws is not None and fewer.draws is not None:
            with np.errstate(invalid="ignore"):
                draws = ratio.draws - fewer.draws
            draws = np.where(np.isfinite(draws), draws, cheap)
        return Speedup(score, at, speedup, read(cheap, draws), samples)

    def _as_many(self, fewer: LogRatio) -> Estimate:
        """The arm's samples over the baseline's, by the logarithm of the baseline's over the arm's."""
        draws = None if fewer.draws is None else -fewer.draws
        return drawn(-fewer.log, draws, len(self.seeds), ratio=True)

    @property
    def _has_samples(self) -> bool:
        return self.base.samples is not None and self.ours.samples is not None

    def levels(self) -> tuple[SpeedupAt, ...]:
        """The speed-up, and its samples, at scores that both curves pass through, from the lowest to the highest.

        That at which the speed-up is stated is among them, if both pass through it.
        """
        base = self.base.means
        ours = self.ours.means
        low = max(base[0], ours[0])
        high = min(base.max(), ours.max())
        if not low < high:
            return ()
        stated = float(base[-2])
        levels = []
        for target in sorted({*np.linspace(low, high, LEVELS).tolist(), *([stated] if low < stated < high else [])}):
            # At an end of a curve rounding must not put the score beyond it.
            inside = target - 1e-12 * abs(target) * (target == high != stated)
            ratio, fewer = (self.ratio(name, self.kind.sign * inside) for name in ("costs", "samples"))
            if not isinstance(ratio, str):
                speedup = drawn(ratio.log, ratio.draws, len(self.seeds), ratio=True)
                samples = None if isinstance(fewer, str) else replace(self._as_many(fewer), draws=None)
                levels.append(SpeedupAt(self.kind.sign * target, replace(speedup, draws=None), samples))
        return tuple(levels)

    def at_equal_cost(self) -> tuple[float | None, Estimate, Crossover | None]:
        """The largest cost that both curves cover, the gain there, and where the gain changes its sign."""
        base, ours = self._means["costs"]
        low = max(base.xs[0], ours.xs[0])
        high = min(base.xs[-1], ours.xs[-1])
        if high < low:
            ends = short(math.exp(high)), short(math.exp(low))
            why = f"no cost in common: the one curve ends at {ends[0]}, the other begins at {ends[1]}"
            return None, nothing(why), None
        grid = np.linspace(low, high, PLACES)
        means = _apart(base, ours, grid)
        draws = None if self.draws is None else _apart(*self._drawn["costs"], grid)
        gain = drawn(means[0, -1], None if draws is None else draws[:, -1], len(self.seeds))
        return math.exp(high), replace(gain, draws=None), _crossover(grid, means, draws)

    @property
    def end_alike(self) -> bool:
        """Whether both end at one length, whose costs are equal."""
        ends = [line.lengths[-1] for line in (self.base, self.ours) if line.lengths is not None]
        is_one_length = len(ends) == 2 and ends[0] == ends[1]
        return is_one_length and math.isclose(self.base.costs[-1], self.ours.costs[-1], rel_tol=EQUAL_COSTS)

    def straight(self) -> float | None:
        """The speed-up at the baseline's best between points straight in the cost, as FLIP's 3.7x was read."""
        best = int(np.argmax(self.base.means))
        target = self.base.means[best]
        means = self.ours.means
        if means[0] > target or means.max() < target:
            return None
        first = int(np.argmax(means >= target))
        around = slice(max(first - 1, 0), first + 1)
        return float(self.base.costs[best] / np.interp(target, means[around], self.ours.costs[around]))


def quotient(over: Array, under: Array) -> Array:
    """Draws of the logarithm of a quotient, by those of its parts."""
    with np.errstate(invalid="ignore"):
        draws: Array = over - under
    # A draw in which neither curve passes through the score says nothing: half are counted on either side.
    lost = np.isnan(draws)
    draws[lost] = np.where(np.arange(int(lost.sum())) % 2, np.inf, -np.inf)
    return draws


def _apart(base: Read, ours: Read, grid: Array) -> Array:
    apart: Array = ours.scores_at(grid) - base.scores_at(grid)
    return apart


def _crossover(grid: Array, means: Array, draws: Array | None) -> Crossover | None:
    """Where the gain changes its sign, the last time; None where the mean curves do not cross."""
    signs = np.sign(means[0])
    beyond = float(signs[-1])
    at = float(_last_change(grid, means, beyond)[0])
    if not beyond or math.isinf(at):
        return None
    turns = "ahead" if beyond > 0 else "behind"
    if draws is None:
        return Crossover(math.exp(at), turns, None)
    changes = np.sort(_last_change(grid, draws, beyond))
    k = int(0.025 * len(changes))
    low, high = np.exp([changes[k], changes[-k - 1]]).tolist()
    return Crossover(math.exp(at), turns, Interval(low, high))


def _last_change(grid: Array, apart: Array, beyond: float) -> Array:
    """The last place at which each draw's gain turns to the sign `beyond`, or an infinity where it never does."""
    ahead = beyond * apart > 0
    turns = ahead[:, 1:] & ~ahead[:, :-1]
    last = turns.shape[1] - 1 - np.argmax(turns[:, ::-1], axis=1)
    rows = np.arange(len(apart))
    before = apart[rows, last]
    after = apart[rows, last + 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        at = grid[last] + (grid[last + 1] - grid[last]) * before / (before - after)
    changes: Array = np.where(turns.any(axis=1), at, np.where(ahead[:, -1], -np.inf, np.inf))
    return changes


# Noise


def _variances(residuals: Array) -> tuple[float, float, float]:
    """The variance that runs of a seed share, that of single runs, and its degrees of freedom, by residuals from the
    mean of each point [points, seeds]."""
    points, seeds = residuals.shape
    by_seed = residuals.mean(axis=0)
    rest = float(((residuals - by_seed) ** 2).sum()) / ((points - 1) * (seeds - 1))
    of_seed = max(0.0, float(by_seed.var(ddof=1)) - rest / points)
    return of_seed, rest, float((points - 1) * (seeds - 1))


def _cost_error(line: Line) -> float:
    """Standard error of the logarithm of a curve's costs: their scatter over seeds, common to its points."""
    seeds = line.log_costs.shape[1]
    return math.sqrt(float(line.log_costs.var(axis=1, ddof=1).mean()) / seeds)


def _normals(name: str, columns: int, draws: int) -> Array:
    """Standard normal draws [columns, draws], the same for one name each time: a curve moves alike wherever it is."""
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal((columns, draws))


# Which runs make the curves


def curves_of(
    points: Sequence[Point], arms: Iterable[str], costs: Sequence[str], kind: ScoreKind, looks: int = 1
) -> list[Curve]:
    """A curve for each series, arm that the series has, and cost; verdicts are about those along the first."""
    every: list[tuple[Curve, TwoLines | str]] = []
    for series in dict.fromkeys(point.series for point in points):
        of_series = [point for point in points if point.series == series]
        base = [point for point in of_series if not point.arm]
        for arm in arms:
            ours = [point for point in of_series if point.arm == arm]
            if ours:
                every += [(Curve(series=series, arm=arm, x=x), two_lines(base, ours, x, kind)) for x in costs]
    family = looks * sum(curve.x == costs[0] and not isinstance(lines, str) for curve, lines in every)
    return [
        replace(curve, why=lines)
        if isinstance(lines, str)
        else _read(curve, lines, family if curve.x == costs[0] else 1)
        for curve, lines in every
    ]


def _read(asked: Curve, lines: TwoLines, comparisons: int) -> Curve:
    """comparisons: in the family of the speed-up. The other readings are not corrected."""
    lines = replace(lines)  # Draws go with this copy: those of all curves of a large study take gigabytes.
    in_family = lines if comparisons == lines.comparisons else replace(lines, comparisons=comparisons)
    equal_at, gain, crossover = lines.at_equal_cost()
    return replace(
        asked,
        seeds=lines.seeds,
        sides=lines.sides,
        speedup=in_family.at_target(),
        speedup_straight=lines.straight(),
        speedup_at=lines.levels(),
        equal_at=equal_at,
        gain=gain,
        at_equal_samples=lines.end_alike,
        crossover=crossover,
    )


def two_lines(base: Sequence[Point], ours: Sequence[Point], x: str, kind: ScoreKind) -> TwoLines | str:
    """The curves of two groups of runs along a cost, or why there are none.

    They take all seeds of both, if what these share is a curve; else those that have the most schedules.
    """
    sides = [[point for point in runs if not math.isnan(point.costs[x])] for runs in (base, ours)]
    every = [*sides[0], *sides[1]]
    grids = [schedules_of(runs) for runs in sides]
    seeds = sorted({point.seed for point in sides[0]} & {point.seed for point in sides[1]})
    if why := different_devices(every, x):
        return why
    if not seeds:
        return f"no seed has {x} of both the baseline and this arm" if sides[0] else f"the baseline has no {x} here"
    are_ranked = any(not point.cell and point.at is None for point in every)
    if are_ranked and any(grid[seeds].count().nunique() > 1 for grid in grids):
        return "the seeds have different numbers of points, and no column that twins share says which go together"
    lengths = grids[0][seeds].count() + grids[1][seeds].count()
    for some in (seeds, [seed for seed in seeds if lengths[seed] == lengths.max()]):
        shared = [grid[some].dropna() for grid in grids]
        if min(map(len, shared)) > 1:
            break
    else:
        several = min(grid.count().max() for grid in grids) > 1
        return (
            "the seeds have no two schedule lengths in common"
            if several
            else "one schedule length here, and a curve takes two"
        )
    if any(point.costs[x] <= 0 for point in every):
        return "a cost of 0 has no logarithm"
    ids = [frozenset(point.id for point in runs if point.seed in some) for runs in sides]
    trunks = [point.trunk for point in every if point.trunk >= 0]
    share = len(set(trunks)) < len(trunks)
    lines = [_line(grid, x, kind.sign) for grid in shared]
    return TwoLines(lines[0], lines[1], tuple(some), kind, (ids[0], ids[1]), share, _fails(shared))


def _fails(grids: Sequence[pd.DataFrame]) -> bool:
    """Whether only some runs of a point fail, in the grids of the baseline and of the arm; their rows are cells.

    Short schedules after which no run is half as far above chance as the best of all are not looked at.
    """
    above = [grid.map(lambda point: point.above_chance) for grid in grids]
    best = max(rows.to_numpy().max() for rows in above)
    for cell in above[0].index.union(above[1].index):
        runs = [rows.loc[cell].tolist() if cell in rows.index else [] for rows in above]
        failures = failed_runs(runs[0], runs[1])
        if failures and failures.is_mixed and max(*runs[0], *runs[1]) >= best / 2:
            return True
    return False


def schedules_of(points: Sequence[Point]) -> pd.DataFrame:
    """The runs [schedule, seed]. A cell names its schedule; without cells, the rank by cost does."""
    of_seeds: dict[int, dict[str, Point]] = {}
    for point in sorted(points, key=lambda point: next(iter(point.costs.values()))):
        runs = of_seeds.setdefault(point.seed, {})
        runs[f"{len(runs)}" if point.at is None and not point.cell else point.cell] = point
    return pd.DataFrame(of_seeds)


def _line(grid: pd.DataFrame, x: str, sign: int) -> Line:
    costs = grid.map(lambda point: point.costs[x]).to_numpy(np.float64)
    order = costs.mean(axis=1).argsort(kind="stable")
    first = grid.iloc[order, 0]
    return Line(
        name=first.iloc[0].id,
        costs=costs[order].mean(axis=1),
        lengths=_rising([point.at for point in first]),
        samples=_rising([point.seen for point in first]),
        scores=sign * grid.map(lambda point: point.y).to_numpy(np.float64)[order],
        log_costs=np.log(costs[order]),
    )


def _rising(values: Sequence[float | None]) -> Array | None:
    """Positive numbers that rise, or None."""
    known = [value for value in values if value is not None and value > 0]
    rises = len(known) == len(values) and bool((np.diff(known) > 0).all())
    return np.array(known, dtype=np.float64) if rises else None
