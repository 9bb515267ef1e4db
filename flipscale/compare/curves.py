"""Along the schedule: the cost of one arm for the score of another, and scores for the same cost.

A curve is the mean over seeds of the runs of one series and arm, schedule by schedule (readings.py reads it). Nothing
is read outside its points. The scatter of runs is estimated once from all runs of the study, so a curve of two
seeds is judged by the noise of many runs.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from flipscale.compare.estimates import nothing
from flipscale.compare.lines import Lines
from flipscale.compare.parts import Curve
from flipscale.compare.points import Point, different_devices
from flipscale.compare.readings import ComparedCurves, TwoCurves, at_the_best, crossover, gains, levels
from flipscale.stats import Array, RunKey, RunNoise, ScoreScale, Transform, run_noise, scale_of

ALL_DRAWS = 200_000
"""Draws of all curves of a study together. Studies with many curves draw fewer for each."""


@dataclass(frozen=True)
class DrawCounts:
    """How many draws of a curve are made."""

    claims: int = 20_000
    """For a speed-up that verdicts state: a family of hundreds is judged at levels of 1 in 10,000."""
    others: int = 4_000
    """For everything else, where the study has few curves."""
    fewest: int = 1_000
    """For everything else, where it has many."""


@dataclass(frozen=True)
class CurveNoise:
    """How far the runs of a study scatter over seeds."""

    scale: ScoreScale
    scores: RunNoise | None
    """On the scale of the score; None where it is unknown."""
    costs: Mapping[str, RunNoise | None]
    """Noise of the logarithm of each cost; None if it does not scatter."""


def curves_of(
    points: Sequence[Point],
    arms: Iterable[str],
    costs: Sequence[str],
    *,
    fraction: bool,
    lower: bool,
    draws: DrawCounts = DrawCounts(),
) -> list[Curve]:
    """A curve for each series, arm that the series has, and cost; verdicts are about those along the first."""
    noise = curve_noise(points, costs, fraction=fraction, lower=lower)
    of_series = {
        series: [point for point in points if point.series == series]
        for series in dict.fromkeys(point.series for point in points)
    }
    wanted = [
        (its_points, series, arm)
        for series, its_points in of_series.items()
        for arm in arms
        if any(point.arm == arm for point in its_points)
    ]
    others = max(draws.fewest, min(draws.others, ALL_DRAWS // max(1, len(wanted))))
    return [
        _Asked(series, arm, cost, lower, noise, others, draws.claims if cost == costs[0] else 0).curve(its)
        for its, series, arm in wanted
        for cost in costs
    ]


def curve_noise(points: Sequence[Point], costs: Iterable[str], *, fraction: bool, lower: bool) -> CurveNoise:
    """The noise of these runs, all series and arms together."""
    scale = scale_of([point.y for point in points], fraction=fraction, lower_is_better=lower)
    runs = _runs_by_key(points)
    scores = {
        key: dict(zip(seeds, scale.of([point.y for point in seeds.values()]).tolist(), strict=True))
        for key, seeds in runs.items()
    }
    return CurveNoise(scale, run_noise(scores), {cost: run_noise(_log_costs(runs, cost)) for cost in costs})


def _runs_by_key(points: Sequence[Point]) -> dict[RunKey, dict[int, Point]]:
    """Runs that differ only in their seed, schedule by schedule as curves have them."""
    by_arm: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        by_arm.setdefault((point.series, point.arm), []).append(point)
    runs: dict[RunKey, dict[int, Point]] = {}
    for (series, arm), its_points in by_arm.items():
        for seed, schedules in _by_seed(its_points).items():
            for cell, point in schedules.items():
                runs.setdefault((series, cell, arm), {})[seed] = point
    return runs


def _log_costs(runs: Mapping[RunKey, Mapping[int, Point]], cost: str) -> dict[RunKey, dict[int, float]]:
    """Logarithms of a cost, where it is known and not 0."""
    logs = {
        key: {seed: math.log(point.costs[cost]) for seed, point in seeds.items() if point.costs[cost] > 0}
        for key, seeds in runs.items()
    }
    return {key: of_key for key, of_key in logs.items() if of_key}


@dataclass(frozen=True)
class _Asked:
    """Which two curves are compared, and how."""

    series: str
    arm: str
    x: str
    lower: bool
    noise: CurveNoise
    draws: int
    claims: int

    def curve(self, points: Sequence[Point]) -> Curve:
        """The arm of the series against the baseline, along the cost."""
        points = [point for point in points if point.arm in ("", self.arm) and not math.isnan(point.costs[self.x])]
        runs = _by_arm(points, self.arm)
        seeds = sorted(set(runs[""]) & set(runs[self.arm]))
        why = different_devices(points, self.x) or _unpaired(runs, self.arm, self.x) or _unmatched(runs, seeds)
        shared: dict[str, list[str]] = {}
        if not why:
            seeds, shared = _complete(runs, self.arm, seeds)
            why = _too_short(runs, shared)
        if why:
            return Curve(
                series=self.series,
                arm=self.arm,
                x=self.x,
                seeds=tuple(seeds),
                why=why,
                speedup=nothing(why),
                gain=nothing(why),
            )
        base, ours = (_mean_points([runs[key][seed] for seed in seeds], shared[key], self.x) for key in ("", self.arm))
        return self._read(base, ours, seeds)

    def _read(self, base: "_Points", ours: "_Points", seeds: Sequence[int]) -> Curve:
        """Readings off the two mean curves."""
        compared = self._compared(base, ours, len(seeds))
        speedup, missed = at_the_best(compared)
        equal, gain, at_costs = gains(compared)
        at_scores, one_shift = levels(compared, self.draws)
        if self.claims and one_shift is not None and one_shift.rejected:
            at_scores, one_shift = levels(compared, self.claims)
        return Curve(
            series=self.series,
            arm=self.arm,
            x=self.x,
            seeds=tuple(seeds),
            target=compared.score(float(compared.mean.base.ys.max())),
            speedup=speedup,
            missed=missed,
            speedup_straight=_straight_in_the_cost(base, ours, compared.sign) if missed is None else None,
            speedup_at=at_scores,
            equal_at=equal,
            gain=gain,
            gain_at=at_costs,
            crossover=crossover(compared),
            one_shift=one_shift,
        )

    def _compared(self, base: "_Points", ours: "_Points", seeds: int) -> ComparedCurves:
        """The two mean curves, with their draws if the scatter of runs is known."""
        log = bool(min(base.costs[0], ours.costs[0]) > 0)
        sign = -1 if self.lower else 1
        mean = TwoCurves(*(of_arm.line(self.noise.scale, sign, log) for of_arm in (base, ours)))
        keys = [[(self.series, cell, arm) for cell in of_arm.cells] for arm, of_arm in (("", base), (self.arm, ours))]
        scores, costs = self.noise.scores, self.noise.costs[self.x] if log else None

        @cache
        def ways(draws: int) -> tuple[TwoCurves, ...]:
            if scores is None or not scores.knows([*keys[0], *keys[1]]):
                return ()
            curves = _draw(mean, keys, seeds, scores, costs, draws)
            return curves, curves.straightened()

        return ComparedCurves(
            mean=mean,
            ways=ways,
            draws=self.draws,
            claims=self.claims,
            seeds=seeds,
            arm=self.arm,
            x=self.x,
            log=log,
            scale=self.noise.scale,
            sign=sign,
        )


def _draw(
    mean: TwoCurves,
    keys: Sequence[Sequence[RunKey]],
    seeds: int,
    scores: RunNoise,
    costs: RunNoise | None,
    draws: int,
) -> TwoCurves:
    """Draws of both curves."""
    up = scores.steps(keys, seeds, draws, stream=0)
    known = costs is not None and costs.knows([*keys[0], *keys[1]])
    along = costs.steps(keys, seeds, draws, stream=1) if costs is not None and known else (np.zeros((1, 1)),) * 2
    base, ours = (
        # Costs of neighbouring schedules that change places in a draw count as equal.
        Lines(np.maximum.accumulate(np.broadcast_to(line.xs + dx, dy.shape), axis=1), line.ys + dy)
        for line, dx, dy in zip((mean.base, mean.ours), along, up, strict=True)
    )
    return TwoCurves(base, ours)


# Which runs make the curves


_Runs = dict[int, dict[str, Point]]
"""Seed -> schedule -> its run."""


def _by_arm(points: Sequence[Point], arm: str) -> dict[str, _Runs]:
    """The runs of the baseline and of an arm."""
    return {key: _by_seed([point for point in points if point.arm == key]) for key in ("", arm)}


def _by_seed(points: Sequence[Point]) -> _Runs:
    """The runs by seed and schedule. A cell names its schedule; without cells, the rank by cost does."""
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
    """Points without a schedule are matched by rank, so all seeds of an arm need the same number of them."""
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


@dataclass(frozen=True)
class _Points:
    """Mean costs and scores of a curve [points], in the order of costs."""

    cells: tuple[str, ...]
    costs: Array
    scores: Array

    def line(self, scale: ScoreScale, sign: int, log: bool) -> Lines:
        """The curve on the score's scale, against the cost or its logarithm."""
        xs = np.log(self.costs) if log else self.costs
        return Lines(xs[None], sign * scale.of(self.scores)[None])


def _mean_points(of_seeds: Sequence[dict[str, Point]], shared: Sequence[str], x: str) -> _Points:
    costs = np.array([[points[at].costs[x] for at in shared] for points in of_seeds], dtype=np.float64).mean(axis=0)
    scores = np.array([[points[at].y for at in shared] for points in of_seeds], dtype=np.float64).mean(axis=0)
    order = np.argsort(costs, kind="stable")
    return _Points(tuple(shared[i] for i in order), costs[order], scores[order])


def _straight_in_the_cost(base: _Points, ours: _Points, sign: int) -> float:
    """The speed-up at the baseline's best between points straight in the cost, as FLIP's 3.7x was read."""
    plain = ScoreScale(Transform.PLAIN)
    lines = [points.line(plain, sign, log=False).straightened() for points in (base, ours)]
    best = lines[0].best
    return float(lines[0].xs[0, best] / lines[1].costs_to(lines[0].ys[:, best, None])[0, 0])
