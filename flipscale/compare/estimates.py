"""Seeds to estimates: a number with its interval, and its correction for many comparisons.

A cost ratio is a geometric mean over seeds, with a Student t interval. Gains at equal samples use the noise of the
study (gains.py). Readings off curves have the interval of their draws (readings.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from flipscale.stats import ALPHA, Draws, Judged, holm, moments

ONE_SEED = "one seed gives no interval"

WIDEST_RATIO = 100.0
"""The interval of a ratio whose ends are further apart than this factor says nothing."""


@dataclass(frozen=True)
class Corrected:
    """An estimate as one of several claims that are made at once."""

    of: int
    """Claims in the family."""
    p: float
    """Holm's p: the chance of any such claim in the family if none were true."""
    low: float
    high: float
    """Ends of the interval at the level at which Holm decides on this claim: it contains 0 (a ratio: 1) exactly when
    the claim is not significant."""

    @property
    def significant(self) -> bool:
        """Whether the claim is significant at 5 % after correction for its family."""
        return self.p <= ALPHA


@dataclass(frozen=True)
class Estimate:
    """A number measured once per seed: its mean, and how far that can be trusted."""

    n: int
    """Seeds that gave a value."""
    mean: float | None
    """Mean over seeds; of a ratio the geometric mean, so that 2x and 1/2x cancel."""
    sd: float | None
    """Standard deviation over seeds; of a ratio, of its logarithm."""
    low: float | None
    """Lower end of the 95 % Student t interval of the mean, for this number alone."""
    high: float | None
    """Upper end of it."""
    values: tuple[float, ...]
    """The value of each seed, in the order of seeds."""
    why: str | None = None
    """Why there is no mean, or no interval."""
    p: float | None = None
    """Two-sided p of Student's t that the mean is 0, or the ratio 1; for this number alone."""
    ratio: bool = False
    draws: Draws | None = field(default=None, repr=False, compare=False)
    """The draws of a reading off curves, for a ratio those of its logarithm. Its interval comes from them."""
    at_least: bool = False
    """Whether this is a lower bound: `high` is infinite."""
    corrected: Corrected | None = None
    """Its correction for all estimates in the verdicts, if a verdict states it."""
    df: float | None = None
    """Degrees of freedom of an interval that rests on the noise of the study; None for any other."""
    by_its_seeds: "Estimate | None" = None
    """In that case, the estimate by these seeds alone."""
    p_level: float | None = None
    """p of the hypothesis that the truth lies beyond the margin within which arms count as level, corrected."""
    widest: float | None = None
    """An interval wider than this says nothing."""

    @property
    def interval(self) -> list[float] | None:
        """[low, high], or None where there is too little for one."""
        return None if self.low is None or self.high is None else [self.low, self.high]

    def as_a_bound(self) -> "Estimate":
        """The same as a lower bound."""
        return replace(self, at_least=True, high=None if self.high is None else math.inf)

    def says_nothing(self, low: float, high: float) -> bool:
        """Whether an interval of this estimate is too wide to print."""
        if self.ratio:
            assert self.mean is not None
            if low > 0 and math.isfinite(high):
                return high > WIDEST_RATIO * low
            # An end is open: the other may be as far from the number as both may be from their middle.
            half = math.sqrt(WIDEST_RATIO)
            return (low == 0 or self.mean > half * low) and (math.isinf(high) or high > half * self.mean)
        return self.widest is not None and high - low > self.widest


class Effect(StrEnum):
    """The verdict that the interval of a claim allows."""

    AHEAD = "ahead"
    BEHIND = "behind"
    LEVEL = "level"
    NOT_SIGNIFICANT = "no significant difference"
    TOO_FEW_SEEDS = "undecided, too few seeds"
    """No significant difference, and an interval so wide that it says nothing."""
    ONE_SEED = "one seed, no CI"


@dataclass(frozen=True)
class Finding:
    """A number as a comparison claims it, with the interval that decides about it."""

    value: float
    interval: tuple[float, float] | None
    """95 % CI, corrected for all claims of its family; None with one seed, or where it is too wide to say anything."""
    family: int
    """Claims in its family, itself among them."""
    seeds: int
    effect: Effect
    at_least: bool = False
    """Whether the value is a lower bound."""

    @property
    def significant(self) -> bool:
        return self.effect in (Effect.AHEAD, Effect.BEHIND)


def finding(estimate: Estimate) -> Finding:
    """The finding of an estimate that has a mean, judged by its corrected interval if it has one."""
    assert estimate.mean is not None
    corrected = estimate.corrected
    low, high = (estimate.low, estimate.high) if corrected is None else (corrected.low, corrected.high)
    family = 1 if corrected is None else corrected.of
    if low is None or high is None:
        return Finding(estimate.mean, None, family, estimate.n, Effect.ONE_SEED, estimate.at_least)
    effect = _effect(estimate, low, high)
    interval = None if effect is Effect.TOO_FEW_SEEDS else (low, high)
    return Finding(estimate.mean, interval, family, estimate.n, effect, estimate.at_least)


def _effect(estimate: Estimate, low: float, high: float) -> Effect:
    """The verdict of an interval on an estimate."""
    no_effect = 1.0 if estimate.ratio else 0.0
    if low > no_effect:
        return Effect.AHEAD
    if high < no_effect:
        return Effect.BEHIND
    if estimate.p_level is not None and estimate.p_level <= ALPHA:
        return Effect.LEVEL
    return Effect.TOO_FEW_SEEDS if estimate.says_nothing(low, high) else Effect.NOT_SIGNIFICANT


def mean_of(values: Sequence[float]) -> Estimate:
    """The mean of one value per seed."""
    found = moments(values)
    if found is None:
        return Estimate(len(values), float(np.mean(values)), None, None, None, tuple(values), ONE_SEED)
    ends, sd = found.interval(), float(np.std(values, ddof=1))
    return Estimate(len(values), found.mean, sd, ends.low, ends.high, tuple(values), p=found.p)


def ratio_of(logs: Sequence[float]) -> Estimate:
    """The geometric mean of one ratio per seed, given by their logarithms."""
    e = mean_of(logs)
    mean, low, high = (None if log is None else _exp(log) for log in (e.mean, e.low, e.high))
    return Estimate(e.n, mean, e.sd, low, high, tuple(map(math.exp, logs)), e.why, e.p, ratio=True)


def drawn(mean: float, draws: Draws, seeds: int, *, ratio: bool = False) -> Estimate:
    """A reading off curves that are means of `seeds` runs; with `ratio`, mean and draws are logarithms."""
    value = _exp(float(mean)) if ratio else float(mean)
    if not draws.ways:
        return Estimate(seeds, value, None, None, None, (), ONE_SEED, ratio=ratio)
    low, high = _ends(draws, ALPHA, ratio=ratio)
    return Estimate(seeds, value, None, low, high, (), p=draws.p(), ratio=ratio, draws=draws)


def nothing(why: str) -> Estimate:
    """No estimate, and why."""
    return Estimate(0, None, None, None, None, (), why)


def corrected(family: Sequence[Estimate]) -> list[Estimate]:
    """Readings off curves, corrected for all of them (Holm's procedure).

    Those without an interval claim nothing and do not count.
    """
    judgements = holm([None if e.draws is None else e.p for e in family])
    return [e if judged is None else _corrected(e, judged) for e, judged in zip(family, judgements, strict=True)]


def _corrected(e: Estimate, judged: Judged) -> Estimate:
    assert e.draws is not None
    low, high = _ends(e.draws, judged.level, ratio=e.ratio)
    return replace(e, corrected=Corrected(judged.family, judged.p, low, math.inf if e.at_least else high))


def _ends(draws: Draws, level: float, *, ratio: bool) -> tuple[float, float]:
    interval = draws.interval(level)
    return (_exp(interval.low), _exp(interval.high)) if ratio else (interval.low, interval.high)


def _exp(value: float) -> float:
    return math.exp(max(-700.0, min(value, 700.0))) if math.isfinite(value) else max(0.0, value)
