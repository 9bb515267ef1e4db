"""Where runs run. A launcher starts workers, says which jobs it still knows, and stops them; it knows nothing of models.

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

from flipscale.errors import LaunchError, did_you_mean
from flipscale.run import FailureKind, RunFolder, State

if TYPE_CHECKING:
    from flipscale.plan import Run

__all__ = ["LAUNCHERS", "Job", "Launcher", "Submission", "Whereabouts", "cancel", "launcher_named", "states", "submit"]

LAUNCHERS = {"local": "flipscale.launch.local:LocalLauncher"}
"""Each launcher by name, as module:class; the class takes the results folder. Imported on first use, as some are heavy."""

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
        return cls(
            run_id=folder.id,
            launcher=written["launcher"],
            id=written["id"],
            submitted=written["submitted"],
            log=written["log"],
            cancelled=written.get("cancelled"),
        )


class Launcher(Protocol):
    """What starts workers somewhere. Called with the submit lock held, but for `poll`."""

    def submit(self, folders: Sequence[RunFolder], resources: Mapping[str, Any]) -> list[Job]:
        """Start workers for the runs, which all need the same resources, in this order. LaunchError if it cannot."""

    def poll(self, jobs: Sequence[Job]) -> dict[str, Whereabouts]:
        """Where each job is, by run id, with one question for all. 'waiting' will do for a job that runs: the lease knows."""

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Stop the jobs, already marked as cancelled in their folders, and no others. A run in hand writes a checkpoint."""


def launcher_named(name: str, results: Path) -> Launcher:
    """The launcher of this name for this results folder; LaunchError if there is none of the name."""
    if name not in LAUNCHERS:
        raise LaunchError(f"There is no launcher {name!r}; {did_you_mean(name, LAUNCHERS)}")
    module, _, cls = LAUNCHERS[name].partition(":")
    return cast(Launcher, getattr(importlib.import_module(module), cls)(results))


# Submit


@dataclass(frozen=True)
class Submission:
    """What one submit did: the jobs it started, costliest run first, and how many runs it left alone, by their state."""

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
    with _submit_lock(results):
        skipped: Counter[State] = Counter()
        for run_id, state in states(by_cost, results).items():
            if not _to_do(_folder(results, run_id), state, retry_diverged):
                skipped[state] += 1
        for run in by_cost:
            folder = _folder(results, run.id)
            if _to_do(folder, states([run], results)[run.id], retry_diverged):
                pass
    raise NotImplementedError
