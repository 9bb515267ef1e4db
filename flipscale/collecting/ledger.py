"""Predicted and spent hours, by study, arm and state; failed and stopped work is counted.

Hours are device-hours, or core-hours on a CPU, as everywhere. The hours of a run are the sum of

  - its training: by result.json for a finished run; for any other by its last record, or by its lease before the first
    record
  - its evaluations, which no prediction covers
  - losses: the attempts that failed, less the part of their training that a checkpoint kept

An attempt that was killed without a trace leaves only its records, and its start is not counted.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import NamedTuple

from flipscale.cell import SettingLabels, arm_words
from flipscale.errors import DamagedFile
from flipscale.planning.identity import show_setting
from flipscale.run import FailedAttempt, FailureKind, Glance, Probe, Result, RunFolder, RunRequest, State
from flipscale.settings.declarations import JsonObject
from flipscale.study.settings import read_setting
from flipscale.words import device_hours, short

PROBE_ARM = "probe"
"""Takes the arm's place for time spent on a probe."""

STOPPED = (FailureKind.TIMEOUT, FailureKind.PREEMPTED)
"""Failures that end an attempt with a checkpoint: its training is in the records of the next one."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What runs took, and what they were to take, in hours of their devices."""

    training: float
    evaluation: float
    lost: float
    untimed: int
    """Failed attempts whose time is unknown."""
    samples: int
    """Samples that they trained themselves so far, without those of their trunks."""
    flops: int
    planned_samples: int
    """Of all that they train themselves, as `predicted`; 0 without a prediction."""
    planned_flops: int

    @property
    def spent(self) -> float:
        """All hours that they took so far."""
        return self.training + self.evaluation + self.lost


@dataclass(frozen=True, kw_only=True)
class LedgerEntry(Work):
    """One run of one study."""

    id: str
    study: str
    arm: str
    """How it differs from the baseline, in words, such as 'mask 50 %'."""
    state: State
    unit: str
    """'core-hours' or 'GPU-hours'."""
    predicted: float | None
    """Hours of training as predicted when it was submitted or planned; None without a prediction."""
    low: float | None
    high: float | None
    """The range that was given with them."""

    @property
    def ratio(self) -> float | None:
        """Its measured over its predicted training time; None unless it has finished and both are known."""
        known = self.state is State.FINISHED and self.predicted and self.training
        return self.training / self.predicted if known and self.predicted else None

    @property
    def is_within(self) -> bool:
        """Whether its training took a time within the predicted range."""
        return self.low is not None and self.high is not None and self.low <= self.training <= self.high


@dataclass(frozen=True, kw_only=True)
class LedgerSum(Work):
    """Several runs together."""

    runs: int
    predicted: float
    ratio: float | None
    """Measured over predicted training time of the finished runs; None without any."""


@dataclass(frozen=True)
class Accuracy:
    """How good predictions were, over finished runs."""

    runs: int
    median: float
    """Median of measured over predicted, run by run."""
    worst: float
    """The largest factor between the two, either way."""
    within: int
    """Runs within the range that was given."""
    ranged: int
    """Runs with a range."""


def sum_of(entries: Iterable[LedgerEntry]) -> LedgerSum:
    """The sum of some entries. A run that several studies share is counted once."""
    once = list({entry.id: entry for entry in entries}.values())
    finished = [entry for entry in once if entry.ratio is not None]
    foreseen = sum(entry.predicted or 0.0 for entry in finished)
    return LedgerSum(
        runs=len(once),
        predicted=sum(entry.predicted or 0.0 for entry in once),
        ratio=sum(entry.training for entry in finished) / foreseen if foreseen else None,
        **{each.name: sum(getattr(entry, each.name) for entry in once) for each in fields(Work)},
    )


def accuracy_of(entries: Iterable[LedgerEntry]) -> Accuracy | None:
    """How good the predictions of these runs were; None where none has finished."""
    finished = {entry.id: entry for entry in entries if entry.ratio is not None}.values()
    ratios = [entry.ratio for entry in finished if entry.ratio]
    if not ratios:
        return None
    return Accuracy(
        runs=len(ratios),
        median=median(ratios),
        worst=max(max(ratio, 1 / ratio) for ratio in ratios),
        within=sum(entry.is_within for entry in finished),
        ranged=sum(entry.low is not None and entry.low != entry.high for entry in finished),
    )


def grouped_by(
    entries: Iterable[LedgerEntry], key: Callable[[LedgerEntry], tuple[str, ...]]
) -> dict[tuple[str, ...], LedgerSum]:
    """Sums by a key, in the order of the first of each."""
    groups: dict[tuple[str, ...], list[LedgerEntry]] = {}
    for entry in entries:
        groups.setdefault(key(entry), []).append(entry)
    return {name: sum_of(group) for name, group in groups.items()}


@dataclass(frozen=True)
class PlannedStudy:
    """The runs that a study asks for."""

    name: str
    asked: Sequence[RunRequest]
    baseline: JsonObject
    """The settings of its baseline, as JSON."""
    labels: SettingLabels = field(default_factory=dict)


def entries_of(
    study: PlannedStudy, runs: Path, states: Mapping[str, State], left_out: Callable[[str], None]
) -> list[LedgerEntry]:
    """An entry for each run of a study. runs: the folder of run folders.

    states: those of its runs, by id.
    left_out: called with the reason for each run that has no entry because its folder is damaged.
    """
    reference = {name: _text(name, value) for name, value in study.baseline.items()}
    entries = []
    for each in study.asked:
        try:
            settings = {**each.settings, **(each.settings.get("parameters") or {})}
            arm = arm_words({name: _text(name, settings.get(name)) for name in reference}, reference, study.labels)
            entries.append(_entry(study.name, arm, each, RunFolder(runs / each.id), states[each.id]))
        except DamagedFile as error:
            left_out(str(error))
    return entries


def probes_of(
    probes: Iterable[tuple[RunFolder, Probe]], states: Mapping[str, State], left_out: Callable[[str], None]
) -> Iterator[LedgerEntry]:
    """An entry for each of these probes, as `entries_of` has them."""
    for folder, probe in probes:
        try:
            if (asked := folder.asked()) is not None:
                yield _entry(probe.study, PROBE_ARM, asked, folder, states[folder.id])
        except DamagedFile as error:
            left_out(str(error))


def _entry(study: str, arm: str, planned: RunRequest, folder: RunFolder, state: State) -> LedgerEntry:
    glance = folder.glance()
    # The prediction made when it was submitted: today's plan may know more.
    asked = folder.asked() or planned
    result = folder.result() or Result()  # Scores that are measured later do not change what training took.
    took = _seconds_of(folder, glance, state, result, asked)
    hours = (result.devices or asked.resources.devices) / 3600
    cost = None if arm == PROBE_ARM else asked.cost
    return LedgerEntry(
        id=folder.id,
        study=study,
        arm=arm,
        state=state,
        unit=device_hours(result.device or asked.resources.device or "cpu"),
        predicted=cost.gpu_hours if cost else None,
        low=cost.gpu_hours_low if cost else None,
        high=cost.gpu_hours_high if cost else None,
        training=took.training * hours if result.own_gpu_hours is None else result.own_gpu_hours,
        evaluation=(result.evaluation_seconds or 0.0) * hours,
        lost=took.lost * hours,
        untimed=took.untimed,
        samples=took.samples if cost else 0,
        flops=took.samples * cost.flops_per_sample if cost else 0,
        planned_samples=cost.samples_seen if cost else 0,
        planned_flops=cost.train_flops if cost else 0,
    )


class _RunSeconds(NamedTuple):
    """Wall time that a run took of each of its devices."""

    training: float
    lost: float
    untimed: int
    """Failed attempts without a time."""
    samples: int
    """What it trained itself."""


def _seconds_of(folder: RunFolder, glance: Glance, state: State, result: Result, asked: RunRequest) -> _RunSeconds:
    failures = folder.failures() if "failures.jsonl" in glance.files else []
    failed = [each.seconds for each in failures if each.seconds is not None or each.kind not in STOPPED]
    error = folder.error() if state is State.FAILED else None
    if error is not None and not error.noted:
        failed.append(error.seconds)
    if result.train_seconds is None:
        trained, samples = _recorded(folder, asked)
    else:
        trained, samples = result.train_seconds, result.samples_seen or 0
    if result.trunk:
        trained -= result.trunk.train_seconds or 0.0
        samples -= result.trunk.samples_seen or 0
    if result == Result() and state is State.RUNNING and glance.holder and glance.holder.taken:
        trained = max(trained, time.time() - glance.holder.taken)
    lost = max(0.0, sum(filter(None, failed)) - _kept_seconds(trained, failures, result))
    return _RunSeconds(trained, lost, failed.count(None), samples)


def _recorded(folder: RunFolder, asked: RunRequest) -> tuple[float, int]:
    """Training seconds and samples up to the last record, those of its trunk left out at its mean pace."""
    last = max(folder.last_records(), key=lambda record: float(record.get("seconds") or 0.0), default={})
    seconds, seen = float(last.get("seconds") or 0.0), int(last.get("samples_seen") or 0)
    on_trunk = asked.trunk.samples if asked.trunk else 0
    trained = max(0, seen - on_trunk)
    return (seconds * trained / seen if on_trunk and seen else seconds), trained


def _kept_seconds(trained: float, failures: Sequence[FailedAttempt], result: Result) -> float:
    """How much of the training that was kept was done in attempts that failed."""
    if result == Result():
        return trained
    reached = max((failed.samples_seen for failed in failures), default=0)
    return trained * min(1.0, reached / result.samples_seen) if result.samples_seen else 0.0


def _text(name: str, value: object) -> str:
    """A setting's value in JSON as tables write it."""
    return short(show_setting(read_setting(name, value)))
