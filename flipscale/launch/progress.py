"""How far runs are, and the words for it."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from flipscale.launch.stall import silence
from flipscale.launch.states import RunState, run_folder
from flipscale.planning.runs import Run
from flipscale.run import SCORING_FILE, FailedAttempt, Failure, Reached, State
from flipscale.words import duration

RUNNING_TAIL_BYTES = 65536
"""How much of the end of a running run's metrics.jsonl is read: its last scores may lie some hundred records back."""

PACE_SECONDS = 60.0
"""After this long the observed pace is a better guide than the speeds that the running runs have recorded."""

ACTIVE = (State.WAITING, State.RUNNING)


@dataclass(frozen=True)
class RunProgress:
    """The progress of a run. Values that were not recorded yet are None."""

    id: str
    state: State
    samples_seen: int
    """Samples so far, of `total`; steps of a program that trains no CLIP."""
    total: int
    loss: float | None = None
    images_per_second: float | None = None
    """The latest reading."""
    says: str = ""
    """Why it failed; or what its launcher says of it: where it is, why it waits, how its job ended."""
    failures: Sequence[FailedAttempt] = ()
    """Failures of earlier attempts, the first of them first."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """The scores of its latest evaluation."""
    seconds_since_step: float | None = None
    """Seconds since a running run's last step, record, or batch of an evaluation."""
    quiet: str = ""
    """'no step for 12 min', where that is long for this run. Its last recorded speed is then left out."""

    failure: Failure | None = None
    """The failure that ended it, if it has failed."""
    files: frozenset[str] = frozenset()
    """The names of the files in its folder."""
    name: str = ""
    """What distinguishes it in its study, as `plan.Run` has it."""
    on_trunk: int = 0
    """The first samples of `total`, which the run of its trunk trains."""
    unit: str = "samples"

    @property
    def done(self) -> float:
        """The share that is done, 0 to 1."""
        if self.state is State.FINISHED or not self.total:  # an evaluation trains nothing
            return float(self.state is State.FINISHED)
        return min(1.0, max(0, self.samples_seen - self.on_trunk) / (self.total - self.on_trunk))

    @property
    def seen(self) -> str:
        """Its samples so far, for a person; '' before the first record."""
        if SCORING_FILE in self.files and self.state is not State.FINISHED:
            return ", ".join(filter(None, ["trained, to be scored", self.quiet]))
        of_all = f" of {self.total:,}" if self.total else ""
        said = [f"{self.samples_seen:,}{of_all} {self.unit}"] if self.samples_seen else []
        if self.on_trunk:
            said.append(f"the first {self.on_trunk:,} with its trunk")
        if self.loss is not None:
            said.append(f"loss {self.loss:.4f}")
        if self.images_per_second is not None:
            said.append(f"{self.images_per_second:,.0f} images/s")
        if self.quiet:
            said.append(self.quiet)
        return ", ".join(said)

    @property
    def story(self) -> str:
        """Its failures so far and the answers to them; '' without failures."""
        # `says` already reports the one that ended it.
        failures = self.failures[:-1] if self.state is State.FAILED else self.failures
        if not failures:
            return ""
        kinds = Counter(failed.kind for failed in failures)
        often = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
        last = failures[-1]
        if last.given_up:  # It has been submitted again since, so it is no longer given up.
            return f"earlier attempts that failed: {often}"
        where = f" on {last.node}" if last.node else ""
        return f"attempts that failed: {often}; the last{where}: {last.then}"

    @property
    def detail(self) -> str:
        """All there is to say about it except its state."""
        return ", ".join(part.rstrip(".") for part in (self.seen, self.says, self.story) if part)

    def line(self, what: str) -> str:
        """A line about it, which begins with its name and ends with its id."""
        return f"{self.name}: {what} ({self.id})" if self.name else f"{self.id}: {what}"

    def __str__(self) -> str:
        return self.line(", ".join(filter(None, [str(self.state), self.detail])))


@dataclass(frozen=True)
class StudyProgress:
    """How far a study is."""

    runs: tuple[RunProgress, ...]
    done: float
    """The share of all training FLOPs that is done, 0 to 1."""
    elapsed: float
    """Seconds since the watching began."""
    left: float | None
    """Seconds that the active runs will still take, by the times of a probe or else by their FLOPs: at the speed that
    the running ones have recorded, or at the pace since the watching began once that has been seen for a while. None
    before either is known."""
    hours: float = 0.0
    """Device-hours of all runs, as a probe or else the cost model has them."""
    is_timed: bool = False
    """Whether a probe has timed all runs."""
    hours_done: float = 0.0
    """The part of them that is done: for each run, the share of its samples that it has seen."""

    @property
    def samples_per_second(self) -> float | None:
        """The speed of all running runs together, as they last recorded it; None if none has."""
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
        """'about 3 min 20 s left'; '' where no run is active or the time is unknown."""
        return f"about {duration(self.left)} left" if self.left is not None and self.active else ""

    def __str__(self) -> str:
        since = f"{duration(self.elapsed)} so far" if round(self.elapsed) else ""  # a single look has no elapsed time
        said = [self.counts, f"{self.done:.0%} of the FLOPs", since, self.time_left]
        return ", ".join(filter(None, said))


def run_progress(run: Run, results: Path, look: RunState) -> RunProgress:
    """How far the run is, by the end of its metrics.jsonl. look: its state, as `StateReader` has read it."""
    folder = run_folder(results, run.id)
    is_running = look.state is State.RUNNING
    silent = silence(folder) if is_running else None
    error = folder.error() if look.state is State.FAILED else None
    quiet = silent.says if silent and silent.is_quiet else ""
    reached = Reached()
    if "metrics.jsonl" in look.files:  # Scores are of interest while it runs.
        reached = folder.reached(RUNNING_TAIL_BYTES, scores=True) if is_running else folder.reached()
    is_clip = run.settings.is_clip
    return RunProgress(
        id=run.id,
        state=look.state,
        samples_seen=reached.samples_seen if is_clip else reached.step,
        total=run.whole_cost.samples_seen if is_clip else reached.steps,
        unit="samples" if is_clip else "steps",
        loss=reached.loss,
        images_per_second=None if quiet else reached.images_per_second,
        says=f"{error.kind}: {error.reason}" if error else look.says,
        failures=folder.failures() if "failures.jsonl" in look.files else [],
        scores=reached.scores,
        seconds_since_step=silent.seconds if silent else None,
        quiet=quiet,
        failure=error,
        files=look.files,
        name=run.name,
        on_trunk=run.trunk.samples if run.trunk else 0,
    )


def rewritable(stream: TextIO) -> bool:
    """Whether lines of the stream can be written again: it is a terminal, and one that knows how to."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"
