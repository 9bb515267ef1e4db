"""Where runs run. A launcher starts workers, says which jobs it still knows, and stops them; it knows no models.

Success is in the run folder, never in what a launcher says. Every worker is `python -m flipscale train FOLDER...`, and
the lease in each folder decides who does a run, so handing a run out twice wastes a process at most, never a training.
`submit`, `states` and `cancel` are the same for every launcher.
"""

import contextlib
import fcntl
import importlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from flipscale.errors import LaunchError, RunFolderError, did_you_mean
from flipscale.run import FailureKind, RunFolder, State

if TYPE_CHECKING:
    from flipscale.plan import Run

__all__ = ["LAUNCHERS", "Job", "Launcher", "Submission", "Whereabouts", "cancel", "launcher_named", "states", "submit"]

LAUNCHERS = {"local": "flipscale.launch.local:LocalLauncher"}
"""Each launcher by name, as module:class; the class takes the results folder. Imported on first use: some are heavy."""

Whereabouts = Literal["waiting", "running"] | None
"""What a launcher says of a job: it will come, it goes on, or (None) the launcher does not know it any more."""


@dataclass(frozen=True)
class Job:
    """One submission of one run to one launcher, as job.json holds it. A run may need several, one after the other."""

    run_id: str
    launcher: str
    """The launcher's name in LAUNCHERS."""
    id: str
    """What the launcher finds the job by. Several jobs may share an id where they share workers."""
    submitted: float
    """Unix time."""
    log: str
    """The file or folder that gets what the job's processes print."""
    cancelled: float | None = None
    """Unix time of the cancelling. A worker passes over a run whose job is cancelled."""

    def write(self, folder: RunFolder) -> None:
        folder.write_job({key: value for key, value in vars(self).items() if value is not None})

    @classmethod
    def read(cls, folder: RunFolder) -> "Job | None":
        written = folder.job()
        if written is None:
            return None
        try:
            return cls(
                run_id=folder.id,
                launcher=written["launcher"],
                id=written["id"],
                submitted=written["submitted"],
                log=written["log"],
                cancelled=written.get("cancelled"),
            )
        except KeyError as error:
            raise RunFolderError(
                f"{folder.path / 'job.json'}: has no {error}, so it is not flipscale's; delete it and submit again."
            ) from error


class Launcher(Protocol):
    """What starts workers somewhere. Called with the submit lock held, but for `poll`."""

    def submit(self, folders: Sequence[RunFolder], resources: Mapping[str, Any]) -> list[Job]:
        """Start workers for the runs, which all need the same resources, in this order. LaunchError if it cannot."""

    def poll(self, jobs: Sequence[Job]) -> dict[str, Whereabouts]:
        """Where each job is, by run id; one question for all. 'waiting' will do for one that runs: its lease tells."""

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Stop these jobs, which are marked as cancelled already, and no others. A run in hand writes a checkpoint."""


def launcher_named(name: str, results: Path) -> Launcher:
    """The launcher of this name for this results folder; LaunchError if there is none of the name."""
    if name not in LAUNCHERS:
        raise LaunchError(f"There is no launcher {name!r}; {did_you_mean(name, LAUNCHERS)}")
    module, _, cls = LAUNCHERS[name].partition(":")
    return cast(Launcher, getattr(importlib.import_module(module), cls)(results))


# Submit


@dataclass(frozen=True)
class Submission:
    """What one submit did: the jobs it started, costliest run first, and how many runs it left alone, by state."""

    jobs: tuple[Job, ...]
    skipped: Mapping[State, int]


def submit(
    runs: Iterable["Run"], results: Path, launcher: str | Launcher, *, retry_diverged: bool = False
) -> Submission:
    """Hand the runs that nobody does and that are not done to the launcher.

    Planned, lost, cancelled and failed runs go out; finished, running and waiting ones are left alone. A diverged run
    diverges again, so it is left alone too unless `retry_diverged`.
    """
    if isinstance(launcher, str):
        launcher = launcher_named(launcher, results)
    # The costliest goes first, so that no long run is left to one worker at the end. The same run twice is one run.
    by_cost = sorted({run.id: run for run in runs}.values(), key=lambda run: -run.cost.train_flops)
    shapes: dict[str, list[Run]] = {}
    jobs: list[Job] = []
    skipped: Counter[State] = Counter()
    with _submit_lock(results):
        before = states(by_cost, results)
        for run in by_cost:
            folder = _folder(results, run.id)
            if _is_to_do(folder, before[run.id], retry_diverged):
                folder.ask(run.to_dict())
                shapes.setdefault(json.dumps(dict(run.resources), sort_keys=True), []).append(run)
            else:
                skipped[before[run.id]] += 1
        for alike in shapes.values():
            folders = [_folder(results, run.id) for run in alike]
            for folder in folders:
                folder.clear_for_retry()
            for job in launcher.submit(folders, alike[0].resources):
                job.write(_folder(results, job.run_id))
                jobs.append(job)
    return Submission(tuple(jobs), dict(skipped))


def _is_to_do(folder: RunFolder, state: State, retry_diverged: bool) -> bool:
    if state is State.FAILED:
        error = folder.error()
        return retry_diverged or error is None or error["kind"] != FailureKind.DIVERGED
    return state in (State.PLANNED, State.LOST, State.CANCELLED)


# Look, and stop


def states(runs: Iterable["Run"], results: Path) -> dict[str, State]:
    """The state of each run by id, in the order of the runs. Each launcher is asked once for all of its jobs."""
    folders = {run.id: _folder(results, run.id) for run in runs}
    found = {run_id: folder.state() for run_id, folder in folders.items()}
    # Only where the files leave it open does it matter what the launcher says: 'lost' then means 'unless it knows'.
    jobs: dict[str, list[Job]] = {}
    for run_id, state in found.items():
        if state is State.LOST and (job := Job.read(folders[run_id])):
            jobs.setdefault(job.launcher, []).append(job)
    for name, asked in jobs.items():
        for run_id, whereabouts in launcher_named(name, results).poll(asked).items():
            # The files are read again: a job may have finished its run after the first look, and be gone by now.
            found[run_id] = folders[run_id].state(whereabouts)
    return found


def cancel(runs: Iterable["Run"], results: Path) -> list[str]:
    """Stop the runs that wait or run, and only those: their ids. `submit` goes on from their checkpoints."""
    jobs: dict[str, list[Job]] = {}
    with _submit_lock(results):
        for run_id, state in states(runs, results).items():
            folder = _folder(results, run_id)
            job = Job.read(folder)
            if state in (State.WAITING, State.RUNNING) and job is not None:
                # Marked before it is stopped, or another worker of the same list would take it up meanwhile.
                job = replace(job, cancelled=time.time())
                job.write(folder)
                jobs.setdefault(job.launcher, []).append(job)
        for name, cancelled in jobs.items():
            launcher_named(name, results).cancel(cancelled)
    return [job.run_id for cancelled in jobs.values() for job in cancelled]


def _folder(results: Path, run_id: str) -> RunFolder:
    return RunFolder(results / "runs" / run_id)


@contextlib.contextmanager
def _submit_lock(results: Path) -> Iterator[None]:
    """Nobody else submits or cancels in this results folder while the block runs; who comes second waits."""
    results.mkdir(parents=True, exist_ok=True)
    with open(results / ".submit.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
