"""A run of a plan as far as a reader of the results has to know it."""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

from flipscale import words


class State(enum.StrEnum):
    """The states a run can be in, in the order `status` counts them."""

    PLANNED = "planned"
    WAITING = "waiting"
    RUNNING = "running"
    LOST = "lost"
    CANCELLED = "cancelled"
    FAILED = "failed"
    FINISHED = "finished"


@dataclass(frozen=True)
class Hours:
    """Predicted device-hours, and the range that the real ones are likely in."""

    about: float
    low: float
    high: float

    @classmethod
    def within(cls, about: float, spread: float) -> "Hours":
        """Hours that may be `spread` times as many or as few."""
        return cls(about, about / spread, about * spread)

    def __mul__(self, factor: float) -> "Hours":
        return Hours(self.about * factor, self.low * factor, self.high * factor)

    def __str__(self) -> str:
        return words.predicted(self.about, self.low, self.high)


def total_hours(parts: Iterable[Hours]) -> Hours:
    """The hours of several runs together. The ranges add up: runs on one device are over or under together."""
    return reduce(lambda a, b: Hours(a.about + b.about, a.low + b.low, a.high + b.high), parts, Hours(0.0, 0.0, 0.0))


class Shown(NamedTuple):
    """A setting's value as people read it."""

    number: float | None
    """None if it is not a number."""
    words: str


@dataclass(frozen=True)
class RunRecord:
    """A run of a plan: what it is, its state, and its hours."""

    id: str
    cell: str | None
    """As results.csv writes it; None for a run that is not compared."""
    arm: str | None
    """In words; None for a run that is not compared."""
    tried: bool
    """Whether it is one of the sweep."""
    settings: Mapping[str, Shown]
    """Those that vary, and those of the baseline."""
    seed: int
    state: State
    kind: str
    """Of its failure; '' unless it has failed or is lost."""
    done: float
    """The share that is done, 0 to 1."""
    why: str
    """Why it failed, or what its launcher says of it."""
    flops: float
    """Of its training, without its parents'."""
    hours: Hours
    """Predicted device-hours, without its parents'."""
    is_priced: bool
    """Whether these are known."""
    measured: float | None
    """Device-hours that it took itself; None if unknown."""
