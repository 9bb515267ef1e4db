"""Seeds to estimates: a number with its interval, and its correction for the other comparisons of its family; and what
pairs of twins and curves consist of.

A cost ratio is a geometric mean over seeds, with a Student t interval. Gains at equal samples use the noise of the
study (twins.py). Readings off curves have the interval of their draws (speedups.py).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from flipscale.analysis.stats import ALPHA, Array, Failures, Interval, Judged, Moments, holm, moments, sign_flip_p

ONE_SEED = "one seed gives no interval"


class Effect(StrEnum):
    """The verdict that the test of an estimate allows."""

    AHEAD = "ahead"
    BEHIND = "behind"
    LEVEL = "level"
    NOT_SIGNIFICANT = "no significant difference"
    ONE_SEED = "one seed, no CI"
    NO_CI = "no CI"
    """Some of its runs do not take off, or all have one score."""


@dataclass(frozen=True)
class Corrected:
    """An estimate as one of several that are judged at once."""

    of: int
    """Comparisons in the family."""
    p: float
    """Holm's p: the chance of any such result in the family if no effect were real."""
    interval: Interval | None = None
    """At the level at which Holm decides on this estimate; None where an exact test decides."""
    claim: str = ""
    """The claim of the study that decides, in whose family it then is."""
    looks: int = 1
    """Looks at the results, which p and interval are corrected for as well."""


@dataclass(frozen=True)
class Estimate:
    """A number, and how far it can be trusted."""

    n: int
    """Seeds that gave a value."""
    mean: float | None
    """Mean over seeds; of a ratio the geometric mean, so that 2x and 1/2x cancel."""
    interval: Interval | None = None
    """95 % interval, for this number alone; None where there is too little for one."""
    values: tuple[float, ...] = ()
    """The value of each seed, in the order of seeds; none of a reading off curves."""
    why: str | None = None
    """Why there is no mean, or no interval."""
    p: float | None = None
    """Two-sided p that the mean is 0, or the ratio 1; for this number alone."""
    ratio: bool = False
    at_least: bool = False
    """Whether this is a lower bound: the interval has no upper end."""
    corrected: Corrected | None = None
    """Its correction for its family, if it is one of several that are judged."""
    df: float | None = None
    """Degrees of freedom of its interval, if that is a Student t."""
    p_level: float | None = None
    """p of the hypothesis that the truth lies beyond the margin within which arms count as level, corrected."""
    failures: Failures | None = None
    """How many runs of the baseline and of the arm failed, where some did: an exact test then decides."""
    draws: Array | None = field(default=None, repr=False, compare=False)
    """The draws of a reading off curves, sorted; for a ratio those of its logarithm."""

    @property
    def value(self) -> float:
        """The mean, where it is known to have one."""
        assert self.mean is not None
        return self.mean

    @property
    def family(self) -> tuple[int, int]:
        """The comparisons that it is corrected for, and the looks."""
        return (self.corrected.of, self.corrected.looks) if self.corrected else (1, 1)

    @property
    def decisive(self) -> Interval | None:
        """The interval that decides: the corrected one where there is a family."""
        return (self.corrected or self).interval

    @property
    def among_several(self) -> Interval | None:
        """The corrected interval where it is not its own family."""
        return self.corrected.interval if self.corrected and self.corrected.of > 1 else None

    @property
    def effect(self) -> Effect:
        """By the corrected p where there is one."""
        if self.p is None:
            return Effect.ONE_SEED if self.n < 2 else Effect.NO_CI
        if (self.corrected.p if self.corrected else self.p) <= ALPHA:
            return Effect.AHEAD if self.value > (1 if self.ratio else 0) else Effect.BEHIND
        level = self.p_level is not None and self.p_level <= ALPHA
        return Effect.LEVEL if level else Effect.NOT_SIGNIFICANT

    @property
    def significant(self) -> bool:
        return self.effect in (Effect.AHEAD, Effect.BEHIND)


def mean_of(values: Sequence[float]) -> Estimate:
    """The mean of one value per seed."""
    known = moments(values)
    if known is None:
        return Estimate(len(values), float(np.mean(values)), values=tuple(values), why=ONE_SEED)
    return Estimate(len(values), known.mean, known.interval(), tuple(values), p=known.p, df=known.df)


def exact_p(difference: Estimate) -> float:
    """p of a mean of pairs among which runs failed; 1 where a run has no score, so that a pair has no difference."""
    is_complete = difference.failures is not None and difference.failures.runs == len(difference.values)
    return sign_flip_p(difference.values) if is_complete else 1.0


def ratio_of(logs: Sequence[float]) -> Estimate:
    """The geometric mean of one ratio per seed, given by their logarithms."""
    e = mean_of(logs)
    ends = e.interval and Interval(*map(math.exp, e.interval))
    return replace(e, mean=math.exp(e.value), interval=ends, values=tuple(map(math.exp, logs)), ratio=True)


def scaled(estimate: Estimate, by: float) -> Estimate:
    """The estimate in another unit; with a negative factor also of the opposite difference."""

    def ends(interval: Interval | None) -> Interval | None:
        return interval and Interval(*sorted(by * end for end in interval))

    both = estimate.corrected
    failures = estimate.failures
    return replace(
        estimate,
        mean=by * estimate.value,
        interval=ends(estimate.interval),
        values=tuple(by * value for value in estimate.values),
        corrected=both and replace(both, interval=ends(both.interval)),
        failures=Failures(failures.arm, failures.baseline, failures.runs) if failures and by < 0 else failures,
    )


def nothing(why: str) -> Estimate:
    """No estimate, and why."""
    return Estimate(0, None, why=why)


def drawn(mean: float, draws: Array | None, seeds: int, *, ratio: bool = False, at_least: bool = False) -> Estimate:
    """A reading off curves that are means of `seeds` runs; with `ratio`, mean and draws are logarithms."""
    reading = Estimate(seeds, _exp(mean) if ratio else float(mean), ratio=ratio, at_least=at_least)
    if draws is None:
        return replace(reading, why=ONE_SEED if seeds < 2 else "some runs of these curves do not take off")
    reading = replace(reading, p=p_of(draws, at_least=at_least), draws=np.sort(draws))
    return replace(reading, interval=ends_of(reading, ALPHA))


def p_of(draws: Array, *, at_least: bool = False) -> float:
    """Two-sided p of draws that the truth is 0: twice the smaller share on either side of it.

    A lower bound that is below 0 says nothing.
    """
    below = int((draws <= 0).sum())
    above = int((draws >= 0).sum())
    share = ((below if at_least else min(below, above)) + 1) / (len(draws) + 1)
    return min(1.0, 2 * share)


def ends_of(reading: Estimate, level: float) -> Interval:
    """The interval of a reading's draws: it excludes 0, or a ratio of 1, exactly if p is at most `level`."""
    assert reading.draws is not None
    k = int(level / 2 * (len(reading.draws) + 1) + 1e-9)
    low, high = (reading.draws[k - 1], reading.draws[-k]) if k else (-math.inf, math.inf)
    low, high = (_exp(low), _exp(high)) if reading.ratio else (float(low), float(high))
    return Interval(low, math.inf if reading.at_least else high)


def decided(
    estimate: Estimate, judged: Judged, moments: Moments | None = None, *, sides: int = 1, claim: str = "", looks: int
) -> Estimate:
    """The estimate as one of its family, with its intervals by its draws, or else by its moments if it has them.

    sides: 2 for two one-sided tests at 5 %, which are a 90 % interval.
    """
    both = Corrected(judged.family, judged.p, None, claim, looks)
    if estimate.draws is not None:
        both = replace(both, interval=ends_of(estimate, judged.level))
        return replace(estimate, draws=None, corrected=both)
    if moments is None:
        return replace(estimate, corrected=both)
    alone, corrected = (moments.interval(sides * level) for level in (ALPHA, judged.level))
    both = replace(both, interval=corrected)
    return replace(estimate, interval=alone, why=None, df=moments.df, corrected=both)


def corrected(family: Sequence[Estimate], looks: int) -> list[Estimate]:
    """Readings off curves, corrected for all of them (Holm). Those without an interval do not count."""
    judged = holm([None if e.draws is None else e.p for e in family], looks)
    return [decided(e, j, looks=looks) if j else e for e, j in zip(family, judged, strict=True)]


def _exp(value: float) -> float:
    return math.exp(value) if math.isfinite(value) else max(0.0, float(value))


Sides = tuple[frozenset[str], frozenset[str]]
"""The runs of the baseline, or of a claim's right side, and those of the arm, or of its left side."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Runs against their twins in one cell: the same schedule, so equal samples."""

    cell: str
    series: str
    at: float | None
    """Schedule length."""
    arm: str
    """Differences from the baseline, as 'mask_ratio=0.5'."""
    seeds: tuple[int, ...]
    baseline_score: float
    score: float
    gain: Estimate
    """Its intervals stand on the noise of the whole study (twins.py)."""
    unit: float
    """The unit of its noise, at the mean of both arms."""
    moments: Moments | None = None
    """The gain with its standard error by that noise; None where its scatter is unknown."""
    ids: tuple[tuple[str, str], ...]
    """Runs of the baseline and of the arm, by seed."""
    ratios: Mapping[str, Estimate]
    """Cost, masked over baseline: train_flops, time, peak_memory_bytes."""
    trunks: frozenset[int] = frozenset()
    """Trunks that its runs share with those of other lengths: the arm's, or the baseline's where the arm has none."""

    @property
    def sides(self) -> Sides:
        return frozenset(twin for twin, _ in self.ids), frozenset(run for _, run in self.ids)


NOT_REACHED = "its longest runs do not reach the score"
"""Why an arm has no speed-up."""


@dataclass(frozen=True)
class Speedup:
    """The baseline's cost to a score over the arm's, and what it is made of: cost a sample, and samples."""

    score: float
    at: float | None
    """The baseline's schedule length whose mean the score is; None for any other score."""
    speedup: Estimate
    cheaper: Estimate
    """The baseline's cost a sample over the arm's."""
    samples: Estimate
    """The arm's samples to the score over the baseline's. The speed-up is `cheaper` over this."""


@dataclass(frozen=True)
class SpeedupAt:
    """A point of the curve of speed-ups over scores; its intervals are uncorrected."""

    score: float
    speedup: Estimate
    samples: Estimate | None
    """The arm's samples to the score over the baseline's; None where they are unknown."""


@dataclass(frozen=True)
class Crossover:
    """The cost at which the gain changes its sign; the last one if there are several."""

    at: float
    turns: str
    """'ahead' or 'behind': what the arm is beyond it."""
    interval: Interval | None
    """95 % interval; an end is infinite, or 0, where the curves end before it."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Two curves of score against one cost, in one series."""

    series: str
    arm: str
    x: str
    """The cost: gpu_hours, train_flops, ..."""
    seeds: tuple[int, ...] = ()
    why: str | None = None
    """Why there are no curves."""
    speedup: Speedup | None = None
    """To the baseline's mean at its last but one length."""
    speedup_straight: float | None = None
    """To the baseline's best, along curves that are straight in the cost, as FLIP's 3.7x was read."""
    speedup_at: tuple[SpeedupAt, ...] = ()
    """By score, from the lowest that both curves pass through to the highest."""
    equal_at: float | None = None
    """The largest cost that both curves cover."""
    gain: Estimate | None = None
    """At that cost."""
    at_equal_samples: bool = False
    """Whether both curves end there, at one length: the gain is then that of the twins."""
    crossover: Crossover | None = None
    sides: Sides | None = None
    pair: Pair | None = None
    """The twins of its longest schedule, of a curve along the first cost; None where no run has one."""

    @property
    def factor(self) -> Estimate | None:
        """The speed-up where it is a number."""
        return self.speedup.speedup if self.speedup and self.speedup.speedup.mean is not None else None
