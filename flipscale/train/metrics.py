"""Lines of metrics.jsonl."""

from dataclasses import dataclass, field
from time import time as now
from typing import Any


class Record:
    """A line."""

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class StepRecord(Record):
    """Observations of the training since the previous record."""

    step: int
    samples_seen: int
    """Up to this record."""
    loss: float
    """The mean since the record before."""
    lr: float
    logit_scale: float | None
    """The parameter itself, a logarithm; None of a fine-tuning, which compares no features."""
    images_per_second: float
    seconds: float
    """Seconds of training up to this record."""
    time: float = field(default_factory=now)


@dataclass(frozen=True)
class ScoreRecord(Record):
    """An evaluation on the way."""

    step: int
    samples_seen: int
    scores: dict[str, float]
    evaluation_seconds: float | None = None
    """None where a program evaluated and did not say how long it took."""
    time: float = field(default_factory=now)


def scores_in_words(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
