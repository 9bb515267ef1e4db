"""The parts of a comparison: pairs of twins, and curves with their readings. Plain data."""

from dataclasses import dataclass
from enum import StrEnum

from flipscale.compare.estimates import Estimate

Sides = tuple[frozenset[str], frozenset[str]]
"""The runs of the baseline, or of a claim's right side, and those of the arm, or of its left side."""


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

    @property
    def sides(self) -> Sides:
        return frozenset(twin for twin, _ in self.ids), frozenset(run for _, run in self.ids)


class Miss(StrEnum):
    """Why an arm's speed-up is no number, or only a bound."""

    BELOW = "never reaches the score"
    ABOVE = "its shortest schedule is better already"


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
    missed: Miss | None = None


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
    interval: tuple[float, float] | None
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
    crossover: Crossover | None = None
    sides: Sides | None = None
