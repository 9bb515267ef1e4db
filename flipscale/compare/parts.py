"""The parts of a comparison: pairs of twins, and curves with their readings. Plain data."""

from dataclasses import dataclass
from enum import Enum, auto

from flipscale.compare.estimates import Estimate


@dataclass(frozen=True)
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
    """Its intervals stand on the noise of the whole study (gains.py)."""
    twins: tuple[tuple[float, float], ...]
    """Score of the baseline and of the arm, by seed."""
    ids: tuple[tuple[str, str], ...]
    """Runs of the baseline and of the arm, by seed."""
    ratios: dict[str, Estimate]
    """Cost, masked over baseline: train_flops, time, peak_memory_bytes."""


@dataclass(frozen=True)
class Level:
    """The speed-up at one score that both curves pass through."""

    score: float
    speedup: Estimate


@dataclass(frozen=True)
class Gain:
    """The gain at one cost that both curves cover."""

    cost: float
    gain: Estimate


@dataclass(frozen=True)
class Crossover:
    """The cost at which the gain changes its sign."""

    at: float | None
    turns: str | None
    """'ahead' or 'behind': what the arm is beyond it."""
    interval: tuple[float, float] | None
    """95 % interval."""
    open: tuple[bool, bool]
    """Whether an end of the interval is merely where the curves end: the crossover may lie beyond."""
    none: float | None
    """Share of draws in which the gain has one sign at every cost that both have."""
    changes: int
    """Changes of sign; `at` is the last."""
    why: str | None
    """Why there is no crossover, or no interval."""


@dataclass(frozen=True)
class OneShift:
    """Whether one shift along the logarithm of the cost lays the arm's curve on the baseline's."""

    shift: float
    """That shift, as a speed-up: the geometric mean over the scores that both pass through."""
    p: float | None
    """p of the hypothesis that one shift suffices."""
    rejected: bool | None
    low: float
    """The range of scores that were tested, from here ..."""
    high: float
    why: str | None
    """Why there is no test."""


class Miss(Enum):
    """Why an arm has no speed-up at the baseline's best score."""

    BELOW = auto()
    """It never gets there."""
    ABOVE = auto()
    """Its shortest schedule is better already: the speed-up is a lower bound."""
    NO_COST = auto()
    """A cost of 0 has no speed-up."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Two curves of score against one cost, in one series."""

    series: str
    arm: str
    x: str
    """The cost: gpu_hours, train_flops, ..."""
    seeds: tuple[int, ...]
    why: str | None = None
    """Why there are no curves."""
    target: float | None = None
    """The baseline's best score, of the mean over seeds."""
    speedup: Estimate
    """At equal accuracy, the target."""
    missed: Miss | None = None
    """The reason why it is missing."""
    speedup_straight: float | None = None
    """The speed-up along curves that are straight in the cost between their points, as FLIP's 3.7x was read."""
    speedup_at: tuple[Level, ...] = ()
    """At scores that both curves pass through, from the worst to the best."""
    equal_at: float | None = None
    """The largest cost that both curves cover."""
    gain: Estimate
    """At that cost."""
    gain_at: tuple[Gain, ...] = ()
    """At costs that both curves cover, up to that."""
    crossover: Crossover | None = None
    one_shift: OneShift | None = None
