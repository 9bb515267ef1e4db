"""Seeds to estimates: a mean with its Student t interval, and what many comparisons at once do to it.

Whatever is estimated comes here as one value a seed, and the mean of the values is the estimate. For a difference
between twins the value of a seed is its difference. For what is read off mean curves it is the estimate and the seed's
influence on it (curves.py). The interval is Student t over these values.

Of what is read between the points of a curve the interval is wider: it holds what either of two ways to read leaves
possible, straight in the cost and straight in its logarithm. Seeds do not know how a curve runs between its points, and
with more of them the interval of one way alone holds the truth ever less often (bench/comparison.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from scipy.special import fdtrc, stdtr

from flipscale.stats import ALPHA, Array, Draws, t_limit

ONE_SEED = "one seed gives no interval"


@dataclass(frozen=True)
class Corrected:
    """An estimate as one of several claims that are made at once."""

    of: int
    """Claims in the family."""
    p: float
    """Holm's p: the chance of any such claim in the family if none were true."""
    low: float
    high: float
    """Ends of the interval at the level at which Holm decides on this claim: it holds 0 (a ratio: 1) just when the
    claim is not significant."""

    @property
    def significant(self) -> bool:
        """Whether the family as a whole leaves no more than a 5 % chance that this is chance."""
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
    also: "Estimate | None" = None
    """The same read in another way (curves straight in log cost between their points). `low` to `high` is then what
    either way leaves possible, and `p` the larger one."""
    draws: Draws | None = field(default=None, repr=False, compare=False)
    """Of a reading off curves: its draws, of a ratio those of its logarithm. Its interval is theirs."""
    at_least: bool = False
    """Whether this is a lower bound: `high` is infinite."""
    corrected: Corrected | None = None
    """Of an estimate that a verdict speaks of: among all that the verdicts speak of."""

    @property
    def interval(self) -> list[float] | None:
        """[low, high], or None where there is too little for one."""
        return None if self.low is None or self.high is None else [self.low, self.high]

    def as_a_bound(self) -> "Estimate":
        """The same as what the truth is at least."""
        return replace(self, at_least=True, high=None if self.high is None else math.inf)


class Effect(StrEnum):
    """What the interval of a claim says of it."""

    AHEAD = "ahead"
    BEHIND = "behind"
    NOT_SIGNIFICANT = "no significant difference"
    ONE_SEED = "one seed, no CI"


@dataclass(frozen=True)
class Finding:
    """A number as a comparison claims it, with the interval that decides about it."""

    value: float
    interval: tuple[float, float] | None
    """95 % CI, corrected for all claims of its family; None with one seed."""
    family: int
    """Claims in its family, itself among them."""
    seeds: int
    effect: Effect

    @property
    def significant(self) -> bool:
        return self.effect in (Effect.AHEAD, Effect.BEHIND)


def finding(estimate: Estimate) -> Finding:
    """The estimate, which has a mean, as it is claimed: judged by its corrected interval if it has one."""
    assert estimate.mean is not None
    corrected = estimate.corrected
    low, high = (estimate.low, estimate.high) if corrected is None else (corrected.low, corrected.high)
    family = 1 if corrected is None else corrected.of
    if low is None or high is None:
        return Finding(estimate.mean, None, family, estimate.n, Effect.ONE_SEED)
    no_effect = 1.0 if estimate.ratio else 0.0
    effect = Effect.AHEAD if low > no_effect else Effect.BEHIND if high < no_effect else Effect.NOT_SIGNIFICANT
    return Finding(estimate.mean, (low, high), family, estimate.n, effect)


def mean_of(values: Sequence[float]) -> Estimate:
    """The mean of one value a seed."""
    n = len(values)
    mean = float(np.mean(values))
    if n < 2:
        return Estimate(n, mean, None, None, None, tuple(values), ONE_SEED)
    sd = float(np.std(values, ddof=1))
    half = _half(n, sd, ALPHA)
    return Estimate(n, mean, sd, mean - half, mean + half, tuple(values), p=_p(n, mean, sd))


def ratio_of(logs: Sequence[float]) -> Estimate:
    """The geometric mean of one ratio a seed, given by their logarithms."""
    e = mean_of(logs)
    mean, low, high = (None if log is None else _exp(log) for log in (e.mean, e.low, e.high))
    return Estimate(e.n, mean, e.sd, low, high, tuple(map(math.exp, logs)), e.why, e.p, ratio=True)


def drawn(mean: float, draws: Draws, seeds: int, *, ratio: bool = False) -> Estimate:
    """A reading off curves that are means of `seeds` runs; with `ratio`, mean and draws are logarithms."""
    value = _exp(float(mean)) if ratio else float(mean)
    if not draws.ways:
        return Estimate(seeds, value, None, None, None, (), ONE_SEED, ratio=ratio)
    ends = draws.interval()
    low, high = (_exp(end) if ratio else end for end in (ends.low, ends.high))
    return Estimate(seeds, value, None, low, high, (), p=draws.p(), ratio=ratio, draws=draws)


def either(estimate: Estimate, other: Estimate) -> Estimate:
    """The first estimate, its interval and p widened to what another way of reading the same leaves possible."""
    if estimate.low is None or estimate.high is None or other.low is None or other.high is None:
        return estimate
    low, high = min(estimate.low, other.low), max(estimate.high, other.high)
    no_effect = 1.0 if estimate.ratio else 0.0
    assert estimate.mean is not None
    assert other.mean is not None
    opposed = (estimate.mean - no_effect) * (other.mean - no_effect) <= 0
    p = 1.0 if opposed else max(estimate.p or 0.0, other.p or 0.0)
    return replace(estimate, low=low, high=high, p=p, also=other)


def nothing(why: str) -> Estimate:
    """No estimate, and why."""
    return Estimate(0, None, None, None, None, (), why)


def corrected(family: Sequence[Estimate]) -> list[Estimate]:
    """The estimates with what is left of each when all are claimed at once (Holm, 1979).

    Ordered by p, the k-th of m is judged at the level 5 % / (m - k + 1), as long as all before it were significant;
    the rest at the level at which the first of them failed. Its interval is at that same level. So the chance that any
    claim of the family has the wrong sign is at most 5 %, however the claims depend on each other. Those without an
    interval (one seed) claim nothing and do not count.
    """
    order = sorted((i for i, e in enumerate(family) if e.p is not None), key=lambda i: family[i].p or 0.0)
    done = list(family)
    m, worst, failed, share = len(order), 0.0, False, len(order)
    for k, i in enumerate(order):
        e = family[i]
        assert e.p is not None
        if not failed:
            share = m - k
        worst = max(worst, min(1.0, (m - k) * e.p))
        failed = failed or worst > ALPHA
        low, high = _interval(e, ALPHA / share)
        if e.also is not None:
            theirs = _interval(e.also, ALPHA / share)
            low, high = min(low, theirs[0]), max(high, theirs[1])
        done[i] = replace(e, corrected=Corrected(m, worst, low, high))
    return done


def _interval(e: Estimate, level: float) -> tuple[float, float]:
    """The interval at another level."""
    if e.draws is not None:
        ends = e.draws.interval(level)
        low, high = (_exp(end) if e.ratio else end for end in (ends.low, ends.high))
        return low, math.inf if e.at_least else high
    assert e.sd is not None
    assert e.mean is not None
    half = _half(e.n, e.sd, level)
    if e.ratio:
        return _exp(math.log(e.mean) - half), _exp(math.log(e.mean) + half)
    return e.mean - half, e.mean + half


def same_at_every_level(values: Array) -> float:
    """p of the hypothesis that the columns of `values` [seeds, levels] have one mean.

    Analysis of variance with repeated measures, a seed being measured at every level; its degrees of freedom are
    shrunk by Geisser and Greenhouse's epsilon, as neighbouring levels of a curve go up and down together.
    """
    n, k = values.shape
    assert min(n, k) > 1
    levels = values.mean(axis=0)
    rest = values - values.mean(axis=1, keepdims=True) - levels + values.mean()
    between = n * float(((levels - values.mean()) ** 2).sum())
    within = float((rest**2).sum())
    if within <= 1e-18 * max(1.0, n * float((values**2).sum())):  # seeds agree to the last digit
        return 1.0 if between <= 1e-15 else 0.0
    covariance = rest.T @ rest / (n - 1)
    epsilon = np.trace(covariance) ** 2 / ((k - 1) * float((covariance**2).sum()))
    epsilon = float(min(1.0, max(epsilon, 1 / (k - 1))))
    return float(fdtrc((k - 1) * epsilon, (n - 1) * (k - 1) * epsilon, between / within * (n - 1)))


def draws_of_the_mean(values: Array, draws: int, seed: int = 0) -> Array:
    """Means [draws, levels] that `values` [seeds, levels] leave possible: a multivariate t around their mean.

    At each level alone the draws are distributed as its Student t interval says, and levels move together as they do in
    the seeds; resampling the few seeds themselves would leave far too little spread.
    """
    n = len(values)
    rng = np.random.default_rng(seed)
    mean = values.mean(axis=0)
    weights = rng.standard_normal((draws, n)) / np.sqrt(rng.chisquare(n - 1, (draws, 1)) / (n - 1))
    means: Array = mean + weights @ (values - mean) / math.sqrt(n * (n - 1))
    return means


def _half(n: int, sd: float, level: float) -> float:
    return t_limit(n - 1, level) * sd / math.sqrt(n)


def _p(n: int, mean: float, sd: float) -> float:
    error = sd / math.sqrt(n)
    if error <= 1e-12 * max(1.0, abs(mean)):  # seeds agree to the last digit
        return 0.0 if abs(mean) > 1e-12 else 1.0
    return float(2 * stdtr(n - 1, -abs(mean) / error))


def _exp(value: float) -> float:
    return math.exp(max(-700.0, min(value, 700.0))) if math.isfinite(value) else max(0.0, value)
