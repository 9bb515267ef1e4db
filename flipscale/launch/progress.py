"""How a study goes while it runs: `watch` looks at the run folders, `wait` says what it sees until nothing is left."""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from flipscale.launch import Job, Submission, cancel, states
from flipscale.run import RunFolder, State

if TYPE_CHECKING:
    from flipscale.plan import Run

LOOK_SECONDS = 0.5
"""The folders are looked at this often."""

SAY_SECONDS = 10.0
"""Where lines cannot be rewritten, how the runs go is said this often; starts and ends are said at once."""

TAIL_BYTES = 4096
"""The end of metrics.jsonl that is read for its last record. A record is about 200 bytes."""

ACTIVE = (State.WAITING, State.RUNNING)


@dataclass(frozen=True)
class RunProgress:
    """How far a run is. What was not recorded yet is None."""

    id: str
    state: State
    samples: int
    """Samples seen so far, of `total`."""
    total: int
    loss: float | None = None
    images_per_second: float | None = None

    @property
    def done(self) -> float:
        """The share that is done, 0 to 1."""
        return 1.0 if self.state is State.FINISHED else min(1.0, self.samples / self.total)

    def __str__(self) -> str:
        said = [f"{self.id}: {self.state}"]
        if self.samples:
            said.append(f"{self.samples:,} of {self.total:,} samples")
        if self.loss is not None:
            said.append(f"loss {self.loss:.4f}")
        if self.images_per_second is not None:
            said.append(f"{self.images_per_second:,.0f} images/s")
        return ", ".join(said)


@dataclass(frozen=True)
class StudyProgress:
    """How far a study is."""

    runs: tuple[RunProgress, ...]
    done: float
    """The share of all training FLOPs that is done, 0 to 1."""
    elapsed: float
    """Seconds since the watching began."""
    left: float | None
    """Seconds that the runs on the way will take at the pace since then; None while nothing tells the pace."""

    def count(self, state: State) -> int:
        return sum(run.state is state for run in self.runs)

    @property
    def active(self) -> bool:
        return any(run.state in ACTIVE for run in self.runs)

    def __str__(self) -> str:
        others = [state for state in State if state is not State.FINISHED and self.count(state)]
        return ", ".join(
            [
                f"{self.count(State.FINISHED)} of {len(self.runs)} finished",
                *(f"{self.count(state)} {state}" for state in others),
                f"{self.done:.0%} of the FLOPs",
                f"{_duration(self.elapsed)} so far",
                *([f"about {_duration(self.left)} left"] if self.left is not None and self.active else []),
            ]
        )


def watch(runs: Sequence["Run"], results: Path, *, every: float = LOOK_SECONDS) -> Iterator[StudyProgress]:
    """How the study goes, again and again, until no run waits or runs; what it yields last is how it ended."""
    began = time.monotonic()
    flops = {run.id: run.cost.train_flops for run in runs}
    ended: dict[str, RunProgress] = {}
    at_first: float | None = None
    while True:
        # What has ended is not looked at again: a study may have thousands of runs.
        found = states([run for run in runs if run.id not in ended], results)
        seen = dict(ended)
        for run in runs:
            if run.id in found:
                seen[run.id] = _progress(RunFolder(results / "runs" / run.id), found[run.id], run.cost.samples)
        ended = {run_id: run for run_id, run in seen.items() if run.state in (State.FINISHED, State.FAILED)}

        done = sum(flops[run_id] * run.done for run_id, run in seen.items())
        to_come = sum(flops[run_id] * (1 - run.done) for run_id, run in seen.items() if run.state in ACTIVE)
        at_first = done if at_first is None else at_first
        elapsed = time.monotonic() - began
        left = to_come * elapsed / (done - at_first) if done > at_first else None
        progress = StudyProgress(tuple(seen[run.id] for run in runs), done / (sum(flops.values()) or 1), elapsed, left)
        yield progress
        if not progress.active:
            return
        time.sleep(every)


def wait(
    runs: Sequence["Run"], results: Path, submission: Submission, stream: TextIO, *, every: float = LOOK_SECONDS
) -> StudyProgress:
    """Say on `stream` how the runs go until none waits or runs, and return how they ended.

    Ctrl-C stops the runs of this submission, not those that somebody else had started: each writes a checkpoint, and
    KeyboardInterrupt is raised when all have. A second Ctrl-C leaves at once; the runs stop by themselves.
    """
    voice = _Voice(stream)
    try:
        for progress in watch(runs, results, every=every):
            voice.follow(progress, results)
        return progress
    except KeyboardInterrupt:
        voice.say("Stopping. Each run writes a checkpoint first.")
        mine = {job.run_id for job in submission.jobs}
        stopped = cancel([run for run in runs if run.id in mine], results)
        voice.say(f"{len(stopped)} runs cancelled. `flipscale submit` goes on from their checkpoints.")
        raise


def _progress(folder: RunFolder, state: State, total: int) -> RunProgress:
    record = _last_record(folder.path / "metrics.jsonl") or {}
    return RunProgress(
        folder.id, state, record.get("samples", 0), total, record.get("loss"), record.get("images_per_second")
    )


def _last_record(path: Path) -> dict[str, Any] | None:
    """The last record of the loss in metrics.jsonl, from the end of the file only; None if there is none yet."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except ValueError:
            continue  # Torn: the tail may begin within a line, and the last one may still be in writing.
        if isinstance(record, dict) and "loss" in record:
            return record
    return None


class _Voice:
    """Says what changed, line by line, and how it goes: in a last line that a terminal rewrites, else now and then."""

    def __init__(self, stream: TextIO):
        self.stream = stream
        self.terminal = stream.isatty()
        self.before: dict[str, State] = {}
        self.spoke = time.monotonic()

    def follow(self, progress: StudyProgress, results: Path) -> None:
        if not self.before:
            # What is finished already, or is nobody's business here, is in the counts of the study's line.
            self.before = {run.id: run.state for run in progress.runs if run.state is not State.RUNNING}
        for run in progress.runs:
            if run.state is not self.before.get(run.id):
                self.say(f"{run}{_because(RunFolder(results / 'runs' / run.id), run.state)}")
        self.before = {run.id: run.state for run in progress.runs}

        if self.terminal and progress.active:
            running = next((f"; {run}" for run in progress.runs if run.state is State.RUNNING), "")
            line = f"{progress}{running}"[: shutil.get_terminal_size().columns - 1]
            self.stream.write(f"\r\033[K{line}")
            self.stream.flush()
        elif not progress.active:
            self.say(str(progress))
        elif time.monotonic() - self.spoke >= SAY_SECONDS:
            for run in progress.runs:
                if run.state is State.RUNNING:
                    self.say(str(run))
            self.say(str(progress))

    def say(self, line: str) -> None:
        self.stream.write(f"\r\033[K{line}\n" if self.terminal else f"{line}\n")
        self.stream.flush()
        self.spoke = time.monotonic()


def _because(folder: RunFolder, state: State) -> str:
    """What a person should know of a run that did not end well."""
    if state is State.FAILED:
        error = folder.error() or {}
        return f" ({error.get('kind')}): {error.get('reason')}"
    if state is State.LOST and (job := Job.read(folder)):
        return f": its process is gone; what it said is in {job.log}"
    return ""


def _duration(seconds: float) -> str:
    """As people say it: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
