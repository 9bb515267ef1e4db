"""What a launcher is: it starts workers somewhere, says which jobs it still knows, and stops them."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from flipscale.errors import LaunchError, RunFolderError, did_you_mean
from flipscale.run import RunFolder

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
