"""The interface of launchers: they start workers somewhere, report which jobs they still know, and stop them."""

import importlib
import json
import secrets
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, TypeVar, cast

from flipscale.errors import LaunchError, did_you_mean
from flipscale.launch.site import DEFAULTS, Site
from flipscale.run import Job, RunFolder, RunRequest, State
from flipscale.settings.declarations import Resources
from flipscale.workspace import LAUNCHERS

T = TypeVar("T")


class NoPlace(LaunchError):
    """A scheduler takes no more jobs of this user, account or QOS until some have ended."""


TRAIN = (sys.executable, "-P", "-m", "flipscale", "train")
"""The worker's command; the folders of the runs follow. -P: a yaml.py in the working folder is not imported."""

STOP_SECONDS = 60.0
"""Seconds that a worker has to end its step and write a checkpoint when asked to stop; then it is killed."""


@dataclass(frozen=True)
class Request:
    """A run that is to be started: its folder, and what run.json says in it."""

    folder: RunFolder
    asked: RunRequest
    only_scores: bool = False
    """Whether it is trained, and its weights are to be scored."""

    @property
    def id(self) -> str:
        return self.folder.id

    @property
    def resources(self) -> Resources:
        return self.asked.resources

    @property
    def parents(self) -> Sequence[str]:
        return () if self.only_scores else self.asked.after


@dataclass(frozen=True)
class Attempt:
    """One start of a job: the job as FLIPSCALE_JOB names it, how often it was started before, and the node."""

    job: str
    number: int
    node: str


@dataclass(frozen=True)
class JobState:
    """A launcher's answer about a job."""

    state: Literal[State.WAITING, State.CANCELLED] | None
    """WAITING: it waits or goes on. CANCELLED: the launcher called it off. None: the launcher no longer knows it."""
    says: str = ""
    """In the launcher's words: why it waits, or how it ended."""
    answered: bool = True
    """Whether the launcher could be asked. If not, it has not said that the job is gone."""


class Launcher(Protocol):
    """Starts workers somewhere. All but `poll` and `preview` are called with the submit lock held."""

    name: str
    """As --on takes it."""

    ends_with_the_watcher: bool
    """Whether Ctrl-C stops the runs, as it does with a program in the foreground."""

    poll_seconds: float
    """Seconds between two polls while somebody watches, at least."""

    study: str
    """The study whose runs are sent, by which a scheduler's jobs are named."""

    rest: Sequence[str]
    """The command that sends what follows the runs of the next `submit`; empty if nothing does, or somebody waits."""

    @property
    def site_name(self) -> str:
        """The key of times that are measured there: 'local', 'slurm NAME'."""

    def submit(self, requests: Sequence[Request]) -> Iterable[Job]:
        """Start workers for the runs, in this order but children after their parents. LaunchError if it cannot.

        Each job is written into its run's folder as it comes, before the next is asked for: by then it may not have
        been sent yet, and it is not sent where the writing fails.
        """

    def preview(self, requests: Sequence[Request]) -> str:
        """The text that `submit` would send, for a person to read. Sends nothing."""

    def poll(self, jobs: Sequence[Job], *, closely: bool = False) -> dict[str, JobState]:
        """The state of each job, by run id, from one question for all. Only leases show that a run is running.

        `closely` retries a scheduler that is away for a moment: for commands that change something.
        """

    def cancel(self, jobs: Sequence[Job], study: str | None = None) -> Sequence[str]:
        """Stop these jobs, which are marked as cancelled already, and no others. A run in hand writes a checkpoint.

        study: stop all else that the scheduler has of this study in this results folder too, and return its names.
        """

    def send_later(self, command: Sequence[str], run_ids: Sequence[str]) -> str:
        """Have the command executed when jobs of these runs have ended: who does it, '' if nobody."""


class ClusterLauncher:
    """What launchers of clusters have in common. `site` is read by `read_site`; `command` is what a worker executes."""

    name: str
    ends_with_the_watcher = False
    poll_seconds = 5.0
    study = ""
    rest: Sequence[str] = ()

    def __init__(self, results: Path, site: Site | None = None, *, command: Sequence[str] | None = None):
        self.results = results.resolve()
        self.home = self.results / self.name
        self.site = DEFAULTS if site is None else site
        self.python: str = self.site["python"] or sys.executable
        self.command = tuple(command or (self.python, *TRAIN[1:]))

    @property
    def site_name(self) -> str:
        return f"{self.name} {self.site['name']}" if self.site["name"] else self.name


def launcher_named(name: str, results: Path, site: Site | None = None, *, address: str | None = None) -> Launcher:
    """The launcher of this name for this results folder; LaunchError if there is none of the name.

    address: the address of its cluster, for Ray.
    """
    if name not in LAUNCHERS:
        raise LaunchError(f"There is no launcher {name!r}; {did_you_mean(name, LAUNCHERS)}")
    module, _, cls = LAUNCHERS[name].partition(":")
    launcher = getattr(importlib.import_module(module), cls)
    if address is None:
        return cast(Launcher, launcher(results, site))
    if not hasattr(launcher, "address"):
        raise LaunchError("An address names a Ray cluster; give it together with --on ray, or leave it out.")
    return cast(Launcher, launcher(results, site, address=address))


def new_name() -> str:
    """A name that no submission has had: the time, and a random number."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"


def grouped(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """The items in groups of the same key, in the order of their first."""
    groups: dict[Hashable, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def by_resources(request: Request) -> str:
    """The key of runs that need the same resources."""
    return json.dumps([vars(request.resources), request.asked.starts_its_processes], sort_keys=True)


def needs_of(request: Request, site: Site) -> tuple[Resources, int]:
    """What a run's processes get between them, and the cores of each: one has all where it starts the others itself."""
    resources = request.resources
    cores = int(site["cpus_per_process"])
    if not request.asked.starts_its_processes:
        return resources, cores
    return replace(resources, processes=1), cores * resources.devices


def threads(cores: int) -> dict[str, str]:
    """The environment of a worker with this number of cores: more threads would slow other workers."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    # Threads that spin while they wait take the cores of the other workers.
    return {**dict.fromkeys(names, str(cores)), "OMP_WAIT_POLICY": "PASSIVE"}
