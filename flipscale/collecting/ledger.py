"""Predicted and spent hours of runs; failed and stopped work is counted.

Hours are device-hours, or core-hours on a CPU, as everywhere. The hours of a run are the sum of

  - its training: by result.json for a finished run; for any other by its last record, or by its lease before the first
    record
  - its evaluations, which no prediction covers
  - losses: the attempts that failed, less the part of their training that a checkpoint kept

An attempt that was killed without a trace leaves only its records, and its start is not counted; nor is a failed
attempt without a recorded time.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from flipscale.run import FailedAttempt, Result, RunFolder, RunRequest, State
from flipscale.words import device_hours


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """One run of one study."""

    id: str
    study: str
    state: State
    unit: str
    """'core-hours' or 'GPU-hours'."""
    predicted: float
    """Hours of training as predicted when it was submitted or planned; 0 without a prediction, as a probe's."""
    spent: float
    """Hours that it took so far."""


@dataclass(frozen=True, kw_only=True)
class LedgerSum:
    """Several runs together."""

    runs: int
    predicted: float
    spent: float


def grouped_by(
    entries: Iterable[LedgerEntry], key: Callable[[LedgerEntry], tuple[str, ...]]
) -> dict[tuple[str, ...], LedgerSum]:
    """Sums by a key, in the order of the first of each. A run that several studies share is counted once in each."""
    groups: dict[tuple[str, ...], dict[str, LedgerEntry]] = {}
    for entry in entries:
        groups.setdefault(key(entry), {})[entry.id] = entry
    return {
        name: LedgerSum(
            runs=len(group),
            predicted=sum(entry.predicted for entry in group.values()),
            spent=sum(entry.spent for entry in group.values()),
        )
        for name, group in groups.items()
    }


def entry_of(study: str, planned: RunRequest, folder: RunFolder, state: State, *, is_probe: bool) -> LedgerEntry:
    """The entry of a run, or of a probe. Raises DamagedFile where its folder cannot be read."""
    # The prediction made when it was submitted: today's plan may know more.
    asked = folder.asked() or planned
    result = folder.result() or Result()  # Scores that are measured later do not change what training took.
    trained, lost = _seconds_of(folder, state, result, asked)
    devices = result.devices or asked.resources.devices
    training = trained * devices / 3600 if result.own_gpu_hours is None else result.own_gpu_hours
    return LedgerEntry(
        id=folder.id,
        study=study,
        state=state,
        unit=device_hours(result.device or asked.resources.device or "cpu"),
        predicted=asked.cost.gpu_hours if asked.cost and not is_probe else 0.0,
        spent=training + ((result.evaluation_seconds or 0.0) + lost) * devices / 3600,
    )


def _seconds_of(folder: RunFolder, state: State, result: Result, asked: RunRequest) -> tuple[float, float]:
    """Wall time that a run took of each of its devices: for training that was kept, and for attempts that were lost."""
    glance = folder.glance()
    failures = folder.failures() if "failures.jsonl" in glance.files else []
    failed = sum(each.seconds or 0.0 for each in failures)
    error = folder.error() if state is State.FAILED else None
    if error is not None and not error.noted:
        failed += error.seconds or 0.0
    trained = _recorded_seconds(folder, asked) if result.train_seconds is None else result.train_seconds
    if result.trunk:
        trained -= result.trunk.train_seconds or 0.0
    if result == Result() and state is State.RUNNING and glance.holder and glance.holder.taken:
        trained = max(trained, time.time() - glance.holder.taken)
    return trained, max(0.0, failed - _kept_seconds(trained, failures, result))


def _recorded_seconds(folder: RunFolder, asked: RunRequest) -> float:
    """Training seconds up to the last record, those of its trunk left out at its mean pace."""
    last = max(folder.last_records(), key=lambda record: float(record.get("seconds") or 0.0), default={})
    seconds = float(last.get("seconds") or 0.0)
    seen = int(last.get("samples_seen") or 0)
    if asked.trunk is None or not seen:
        return seconds
    return seconds * max(0, seen - asked.trunk.samples) / seen


def _kept_seconds(trained: float, failures: Sequence[FailedAttempt], result: Result) -> float:
    """How much of the training that was kept was done in attempts that failed."""
    if result == Result():
        return trained
    reached = max((failed.samples_seen for failed in failures), default=0)
    return trained * min(1.0, reached / result.samples_seen) if result.samples_seen else 0.0
