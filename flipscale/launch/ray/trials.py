"""Which runs share a trial of Ray Tune, and what it asks Ray for: pure arithmetic on requests and a site.

By default a run is a trial. If the site packs by time, short ones share a trial with the children that start from them,
one after another. A trial asks for a bundle for each process of its run.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flipscale.guard import Names, make_folder
from flipscale.launch.launcher import Request, by_resources, needs_of
from flipscale.launch.pack import bytes_of, share_of, shared_tasks
from flipscale.launch.site import ALL, DEFAULTS, PREDICTED, Site
from flipscale.plain_files import read_json
from flipscale.run import RunFolder, write_json
from flipscale.settings.declarations import ResourcesRead

NOT_HERE = (
    *("cluster", "partition", "account", "qos", "reservation", "time", "time_limit", "warning", "gres"),
    *("gpus_per_node", "processes_per_node", "constraint", "max_array_size", "sbatch", "srun", "export", "container"),
)
"""Keys of a site file that a Ray cluster cannot follow; nor can it follow pack.whole_nodes."""

RayNode = Mapping[str, Any]
"""A node, as Ray describes it."""


@dataclass(frozen=True)
class Task:
    """The runs of one trial, one after another, of one shape."""

    runs: tuple[Names, ...]
    """Their ids, parents before children."""
    resources: ResourcesRead
    """The needs of each run."""
    share: int
    """Runs at once on the GPUs of one."""
    cores: int = 1
    """The cores of each process."""


@dataclass(frozen=True)
class Trials:
    """The submission that one submit hands to Ray, as submission.json holds it."""

    name: str
    """The unique name of the submission's folder and of Ray's job."""
    tasks: tuple[Task, ...]
    address: str
    """Where Ray's Jobs API listens."""
    site: Site
    runs: str
    """The folder of run folders."""
    command: tuple[str, ...]
    """The command of a worker."""
    folder: str
    """The working directory of the submitting command, from which relative paths of a study start."""
    rest: tuple[str, ...] = ()
    """The command that sends what follows these runs, if anything does."""

    def path(self, home: Path) -> Path:
        return home / self.name / "submission.json"

    def write(self, home: Path) -> None:
        make_folder(home / self.name, home.parent)
        tasks = [{**vars(task), "resources": vars(task.resources)} for task in self.tasks]
        write_json(self.path(home), {"schema": 1, **vars(self), "tasks": tasks})

    @classmethod
    def read(cls, path: Path) -> "Trials":
        """The submission of that submission.json."""
        return read_json(path, cls)

    def run(self, run_id: str) -> RunFolder:
        return RunFolder(f"{self.runs}/{run_id}")

    def run_folders(self, index: int | None = None) -> list[RunFolder]:
        """The runs of a task, or of all."""
        tasks = self.tasks if index is None else [self.tasks[index]]
        return [self.run(run_id) for task in tasks for run_id in task.runs]

    def is_ours(self, run: RunFolder, index: int) -> bool:
        """Whether the run is still asked of this task, and not of another submission."""
        job = run.job()
        return job is not None and (job.launcher, job.id) == ("ray", job_id(self.name, index))


def job_id(name: str, index: int) -> str:
    """The name of a task in job.json."""
    return f"{name}/{index}"


def tasks_of(requests: Sequence[Request], site: Site) -> list[Task]:
    """The tasks that do these runs: those that share none first, in their order."""
    shared = shared_tasks(
        requests, site, lambda request: (by_resources(request), share_of([request], site)), lambda line: 1
    )
    placed = {request.id for task, _ in shared for request in task}
    tasks = [[request] for request in requests if request.id not in placed] + [task for task, _ in shared]
    return [
        Task(tuple(request.id for request in runs), resources, share_of(runs, site), cores)
        for runs in tasks
        for resources, cores in [needs_of(runs[0], site)]
    ]


def bundle_of(task: Task, site: Site) -> dict[str, float]:
    """The needs of each process of a run."""
    processes = task.resources.devices
    gpus = task.resources.gpus
    bundle: dict[str, float] = {"CPU": task.cores}
    if gpus:
        # Ray counts in ten-thousandths; rounded up, three thirds would not fit on a GPU.
        bundle["GPU"] = math.floor(gpus / processes / task.share * 10_000) / 10_000
        if site["gpu_type"]:
            bundle[f"accelerator_type:{site['gpu_type']}"] = 0.001
    # Ray limits nothing, and a node that claims little would never get a run that is predicted to need more.
    if site["memory_per_process"] not in (None, PREDICTED, ALL):
        bundle["memory"] = bytes_of(site["memory_per_process"])
    return bundle


def keys_not_here(site: Site) -> list[str]:
    """Keys of a site file that Ray cannot follow."""
    wrong = [key for key in NOT_HERE if site[key] != DEFAULTS[key]]
    return wrong + (["pack.whole_nodes"] if site["pack"]["whole_nodes"] else [])
