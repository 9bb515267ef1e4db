"""How far runs are, and how that is said: line by line, or on a terminal in a line that is rewritten."""

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from flipscale.launch.launcher import Job
from flipscale.launch.stall import silence
from flipscale.run import RunFolder, State
from flipscale.words import count, duration
from flipscale.workspace import Workspace

SAY_SECONDS = 10.0
"""Where lines cannot be rewritten, how the runs go is said this often; starts and ends are said at once."""

TAIL_BYTES = 4096
"""The end of metrics.jsonl that is read for its last record. A record is about 200 bytes."""

RUNNING_TAIL_BYTES = 65536
"""The same of a run that runs: its last scores may lie some hundred records back."""

PACE_SECONDS = 60.0
"""It takes this long until the pace that was seen tells more than the speed that the running runs have recorded."""

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
    says: str = ""
    """Why it failed; or what its launcher says of it: where it is, why it waits, how its job ended."""
    failures: Sequence[Mapping[str, Any]] = ()
    """What went wrong in attempts before, the first of them first."""
    scores: Mapping[str, Any] = field(default_factory=dict)
    """What its last evaluation so far gave."""
    seconds_since_step: float | None = None
    """Of a run that runs: since its last step, record, or batch of an evaluation."""
    quiet: str = ""
    """'no step for 12 min', where that is long by its own measure. Its speed of before is then not given."""

    @property
    def done(self) -> float:
        """The share that is done, 0 to 1."""
        if self.state is State.FINISHED or not self.total:  # an evaluation trains nothing
            return float(self.state is State.FINISHED)
        return min(1.0, self.samples / self.total)

    @property
    def seen(self) -> str:
        """What it has seen, for a person; '' before the first record."""
        said = [f"{self.samples:,} of {self.total:,} samples"] if self.samples else []
        if self.loss is not None:
            said.append(f"loss {self.loss:.4f}")
        if self.images_per_second is not None:
            said.append(f"{self.images_per_second:,.0f} images/s")
        if self.quiet:
            said.append(self.quiet)
        return ", ".join(said)

    @property
    def story(self) -> str:
        """What went wrong so far and what was done about it; '' where nothing did."""
        # The one that ended it is what `says` says.
        failures = self.failures[:-1] if self.state is State.FAILED else self.failures
        if not failures:
            return ""
        kinds = Counter(failure["kind"] for failure in failures)
        often = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
        last = failures[-1]
        where = f" on {last['node']}" if last.get("node") else ""
        return f"attempts that failed: {often}; the last{where}: {last.get('then', '')}"

    @property
    def detail(self) -> str:
        """All that is to be said of it but its state."""
        return ", ".join(part.rstrip(".") for part in (self.seen, self.says, self.story) if part)

    def __str__(self) -> str:
        return ", ".join(filter(None, [f"{self.id}: {self.state}", self.detail]))


@dataclass(frozen=True)
class StudyProgress:
    """How far a study is."""

    runs: tuple[RunProgress, ...]
    done: float
    """The share of all training FLOPs that is done, 0 to 1."""
    elapsed: float
    """Seconds since the watching began."""
    left: float | None
    """Seconds that the runs on the way will take by their FLOPs: at the speed that the running ones have recorded, or
    at the pace since the watching began once that has been seen for a while; None while nothing tells either."""
    hours: float = 0.0
    """Device-hours that the cost model predicts for all runs."""
    hours_done: float = 0.0
    """The part of them that is done: of each run the share of its samples that it has seen."""

    @property
    def samples_per_second(self) -> float | None:
        """What all running runs see together, as they last recorded it; None where none has."""
        speeds = [run.images_per_second for run in self.runs if run.state is State.RUNNING and run.images_per_second]
        return sum(speeds) if speeds else None

    def count(self, state: State) -> int:
        return sum(run.state is state for run in self.runs)

    @property
    def active(self) -> bool:
        return any(run.state in ACTIVE for run in self.runs)

    @property
    def counts(self) -> str:
        """'2 of 8 finished, 5 waiting, 1 running'."""
        counted = Counter(run.state for run in self.runs)
        others = [f"{counted[state]} {state}" for state in State if state is not State.FINISHED and counted[state]]
        return ", ".join([f"{counted[State.FINISHED]} of {len(self.runs)} finished", *others])

    @property
    def time_left(self) -> str:
        """'about 3 min 20 s left'; '' where nothing is on its way or nothing tells."""
        return f"about {duration(self.left)} left" if self.left is not None and self.active else ""

    def __str__(self) -> str:
        since = f"{duration(self.elapsed)} so far" if round(self.elapsed) else ""  # of one look there is no time to say
        said = [self.counts, f"{self.done:.0%} of the FLOPs", since, self.time_left]
        return ", ".join(filter(None, said))


def run_progress(
    folder: RunFolder,
    state: State,
    total: int,
    says: str = "",
    files: Container[str] = ("metrics.jsonl", "failures.jsonl"),
) -> RunProgress:
    """How far the run is that will see `total` samples; the end of its metrics.jsonl is read, no more.

    `files` are those that may be there.
    """
    size = RUNNING_TAIL_BYTES if state is State.RUNNING else TAIL_BYTES
    record, scores = None, None
    if "metrics.jsonl" in files:
        record, scores = last_records(folder, size, scores=state is State.RUNNING)
    record = record or {}
    if state is State.FAILED:
        error = folder.error() or {}
        says = f"{error.get('kind')}: {error.get('reason')}"
    silent = silence(folder) if state is State.RUNNING else None
    quiet = silent.says if silent and silent.is_quiet else ""
    return RunProgress(
        folder.id,
        state,
        record.get("samples", 0),
        total,
        record.get("loss"),
        None if quiet else record.get("images_per_second"),
        says,
        folder.failures() if "failures.jsonl" in files else (),
        scores or {},
        silent.seconds if silent else None,
        quiet,
    )


def last_records(
    folder: RunFolder, size: int = TAIL_BYTES, *, scores: bool = True
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The last record of the loss in metrics.jsonl and the last scores, each from the last `size` bytes or None.

    Without `scores` none are looked for: their lines are the long ones, and there may be thousands of runs.
    """
    loss: dict[str, Any] | None = None
    last_scores: dict[str, Any] | None = None
    for line in reversed(folder.tail("metrics.jsonl", size).splitlines()):
        if not ((loss is None and b'"loss"' in line) or (scores and b'"scores"' in line)):
            continue
        try:
            record = json.loads(line)
        except ValueError:
            continue  # Torn: the tail may begin within a line, and the last one may still be in writing.
        if not isinstance(record, dict):
            continue
        if loss is None and "loss" in record and type(record.get("samples")) is int:
            loss = record
        if scores and last_scores is None and isinstance(record.get("scores"), dict):
            last_scores = record["scores"]
        if loss is not None and (last_scores is not None or not scores):
            break
    return loss, last_scores


def rewritable(stream: TextIO) -> bool:
    """Whether lines of the stream can be written again: it is a terminal, and one that knows how to."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class Voice:
    """Says what changed, line by line, and how it goes: in a last line that a terminal rewrites, else now and then."""

    def __init__(self, stream: TextIO, *, plain: bool = False):
        """`plain` adds lines and rewrites none."""
        self.stream = stream
        self.terminal = rewritable(stream) and not plain
        self.before: dict[str, State] = {}
        self.spoke = time.monotonic()

    def follow(self, progress: StudyProgress, results: Path) -> None:
        if not self.before:
            # What is finished already, or is nobody's business here, is in the counts of the study's line.
            self.before = {run.id: run.state for run in progress.runs if run.state is not State.RUNNING}
        changed = [run for run in progress.runs if run.state is not self.before.get(run.id)]
        alike = Counter(run.says for run in changed if run.state is State.CANCELLED and run.says)
        for run in changed:
            if run.state is not State.CANCELLED or alike[run.says] < 2:
                self.say(_ended_badly(RunFolder(Workspace(results).run(run.id)), run) or str(run))
        for says, number in alike.items():
            if number > 1:  # They are runs of a submission that was stopped.
                self.say(f"{count(number, 'run')}: cancelled, {says}")
        self.before = {run.id: run.state for run in progress.runs}

        if self.terminal and progress.active:
            running = next((f"; {run}" for run in progress.runs if run.state is State.RUNNING), "")
            # Where none runs yet, why the first of them waits.
            running = running or next((f"; {run.says}" for run in progress.runs if run.says), "")
            line = f"{progress}{running}"[: shutil.get_terminal_size().columns - 1]
            self.stream.write(f"\r\033[K{line}")
            self.stream.flush()
        elif not progress.active:
            self.say(str(progress))
        elif time.monotonic() - self.spoke >= SAY_SECONDS:
            for run in progress.runs:
                if run.state is State.RUNNING:
                    self.say(str(run))
            why = Counter(run.says for run in progress.runs if run.state is State.WAITING and run.says)
            for says, number in why.most_common(1) if not progress.count(State.RUNNING) else ():
                self.say(f"{number} of them: {says}")
            self.say(str(progress))

    def say(self, line: str) -> None:
        self.stream.write(f"\r\033[K{line}\n" if self.terminal else f"{line}\n")
        self.stream.flush()
        self.spoke = time.monotonic()


def _ended_badly(folder: RunFolder, run: RunProgress) -> str | None:
    """What a person should know of a run that did not end well."""
    if run.state is State.FAILED:
        error = folder.error() or {}
        return f"{run.id}: failed ({error.get('kind')}): {error.get('reason')}"
    if run.state is State.LOST and (job := Job.read(folder)):
        how = f" ({run.says})" if run.says else ""
        return f"{run.id}: lost, its process is gone{how}; what it said is in {job.log}"
    return None
