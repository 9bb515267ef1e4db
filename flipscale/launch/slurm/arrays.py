"""Which runs share a job, and which jobs an array: pure arithmetic on requests and a site.

A job is one task of an array. By default a run is a task. If the site packs, short runs share one, with the children
that start from them. A child that is not packed is a task of a later array: SLURM starts it when the task with the same
index in its parent's array has ended well, or when all tasks of that array have ended.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flipscale.errors import DamagedFile, LaunchError
from flipscale.guard import Names, make_folder
from flipscale.launch.launcher import Request, by_resources, grouped, needs_of
from flipscale.launch.memory import host_memory
from flipscale.launch.pack import bytes_of, limit_of, share_of, shared_tasks
from flipscale.launch.policy import nodes_to_avoid
from flipscale.launch.site import ALL, PREDICTED, Site
from flipscale.plain_files import read_json
from flipscale.run import write_json
from flipscale.settings.declarations import Resources, ResourcesRead


@dataclass(frozen=True)
class JobArray:
    """The array of one sbatch: tasks of one shape."""

    name: str
    """SUBMISSION-NUMBER, which no other array has. STUDY-FOLDER-DATE-TIME-RANDOM is that of a submission."""
    tasks: Mapping[int, tuple[Names, ...]]
    """The ids of the runs of each task, by its index."""
    resources: ResourcesRead
    """The needs of each run."""
    cores: int
    """The cores of each of its processes."""
    lanes: int
    """Runs at once in a task, at most."""
    avoid: tuple[str, ...]
    """Nodes that failed under these runs."""
    site: Site
    runs: str
    """The folder of run folders."""
    command: tuple[str, ...]
    """The command of a worker. That of an array without runs sends what is left of a study."""
    memory: int | None = None
    """Bytes of main memory that a run is to have on each of its nodes: 0 is all, None leaves it to the cluster."""
    time: int | None = None
    """Seconds that each job may take; None is the partition's limit."""
    after: str | None = None
    """The array whose task of the same index comes before a task."""
    after_jobs: tuple[str, ...] = ()
    """Jobs of SLURM that must have ended before any task starts; one of them is enough for an array without runs."""
    slurm_id: str | None = None
    """SLURM's number of the array, once it is sent."""
    cluster: str | None = None
    """The cluster it goes to; None is that of the machine which sends it."""

    def path(self, home: Path) -> Path:
        """The array's record; beside it lie its script and the logs of its tasks."""
        submission, _, number = self.name.rpartition("-")
        return home / submission / f"{number}.json"

    def log(self, home: Path, task: int | str) -> Path:
        path = self.path(home)
        return path.with_name(f"{path.stem}_{task}.log")

    @property
    def run_ids(self) -> list[str]:
        return [run_id for run_ids in self.tasks.values() for run_id in run_ids]

    @property
    def nodes(self) -> int:
        """How many nodes each run takes."""
        return nodes_of(self.resources, self.site)

    @property
    def gpus_per_node(self) -> int:
        """The GPUs that a job has on each node."""
        gpus = self.resources.gpus
        is_whole = gpus and self.site["pack"]["whole_nodes"] and self.nodes == 1
        return int(self.site["gpus_per_node"]) if is_whole else gpus // self.nodes

    def write(self, home: Path) -> None:
        path = self.path(home)
        make_folder(path.parent, home.parent)
        write_json(path, {"schema": 1, **vars(self), "resources": vars(self.resources)})

    @classmethod
    def read(cls, path: Path) -> "JobArray":
        """The array of that record."""
        array: JobArray = read_json(path, cls)
        if array.name != f"{path.parent.name}-{path.stem}" or not (array.slurm_id or "0").isdigit():
            raise DamagedFile(f"{path}: is the record of another array, {array.name!r}.")
        return array


def nodes_of(resources: Resources, site: Site) -> int:
    """How many nodes a run takes, by its GPUs, or where it has none by its processes.

    LaunchError if its processes cannot be split evenly over them.
    """
    gpus = resources.gpus
    processes = resources.devices
    what, key, needed = ("GPUs", "gpus_per_node", gpus) if gpus else ("processes", "processes_per_node", processes)
    most = site[key] or needed
    nodes = math.ceil(needed / most)
    if processes % nodes or gpus % nodes:
        raise LaunchError(
            f"A run of {needed} {what} cannot be divided evenly over nodes of {most}; ask for a multiple of {most}, or "
            f"correct the site's {key}."
        )
    return nodes


def arrays_of(
    requests: Sequence[Request],
    site: Site,
    size: int,
    submission: str,
    *,
    command: Sequence[str],
    cluster: str | None = None,
    longest: float = math.inf,
    under_way: Mapping[str, str] | None = None,
) -> list[JobArray]:
    """The arrays that start these runs, each of at most `size` tasks, in the order they are to be sent.

    longest: the time limit of the site's partitions, in seconds. under_way: SLURM's jobs of parents that are not among
    the requests, by their run's id.
    """
    plan = _Arrays(site, submission, tuple(command), cluster, longest, under_way or {})
    tasks = shared_tasks(requests, site, plan.key, plan.lanes)
    shared = {request.id for task, _ in tasks for request in task}
    alone = {request.id: request for request in requests if request.id not in shared}
    tasks += [([request], 1) for request in alone.values() if alone.keys().isdisjoint(request.parents)]
    for alike in grouped(tasks, lambda task: (plan.key(task[0][0]), task[1])):
        for start in range(0, len(alike), size):
            part = [task for task, _ in alike[start : start + size]]
            plan.add(dict(enumerate(part)), lanes=alike[0][1])
    while left := [request for request in requests if request.id not in plan.placed]:
        children = [request for request in left if plan.parent_of(request)[0]]
        for of_array in grouped(children, lambda child: (plan.key(child), plan.parent_of(child)[0])):
            while of_array:  # A run may have several children, and a task of its index is in each array once.
                entries: dict[int, list[Request]] = {}
                for child in of_array:
                    entries.setdefault(plan.parent_of(child)[1], [child])
                plan.add(entries, after=plan.parent_of(of_array[0])[0])
                of_array = [child for child in of_array if child.id not in plan.placed]
    return plan.arrays


@dataclass
class _Arrays:
    site: Site
    submission: str
    command: tuple[str, ...]
    cluster: str | None
    longest: float
    under_way: Mapping[str, str]
    arrays: list[JobArray] = field(default_factory=list)
    placed: dict[str, tuple[str, int]] = field(default_factory=dict)
    """The array and the task of each run."""

    def add(self, tasks: Mapping[int, Sequence[Request]], *, lanes: int = 1, after: str | None = None) -> None:
        runs = [run for of_task in tasks.values() for run in of_task]
        first = runs[0]
        site = self.site
        resources, cores = needs_of(first, site)
        nodes = nodes_of(first.resources, site)
        if first.asked.starts_its_processes and nodes > 1:
            raise LaunchError(
                f"{first.id}: open_clip's program trains on one node, of {site['gpus_per_node']} GPUs here; lower "
                f"resources.gpus from {resources.gpus}, or use flipscale's own trainer."
            )
        processes = first.resources.devices // nodes
        written = site["memory_per_process"]
        if written == PREDICTED:  # All jobs of an array ask for the same, so for what the neediest run needs.
            memory = max(host_memory(run, processes) or 0 for run in runs) or None
        elif written == ALL:
            memory = 0
        else:
            memory = bytes_of(written) * processes if written else None
        array = JobArray(
            name=f"{self.submission}-{len(self.arrays)}",
            tasks={index: tuple(request.id for request in of_task) for index, of_task in tasks.items()},
            resources=resources,
            cores=cores,
            lanes=lanes,
            memory=memory,
            time=self._time(tasks.values()),
            avoid=tuple(nodes_to_avoid(first.folder.failures())),
            site=site,
            runs=str(first.folder.path.resolve().parent),
            command=self.command,
            cluster=self.cluster,
            after=after,
            after_jobs=() if after else self._jobs_before(first),
        )
        self.arrays.append(array)
        self.placed |= {request.id: (array.name, index) for index, of_task in tasks.items() for request in of_task}

    def _time(self, tasks: Iterable[Sequence[Request]]) -> int | None:
        """The time limit of jobs that do these tasks: as a probe predicts it, at most the site's."""
        site = self.site
        limit = limit_of(tasks)
        if limit == math.inf or site["time_limit"] != PREDICTED:
            return site["time"]  # type: ignore[no-any-return]
        # A job that is warned as soon as it begins would never get anywhere.
        return int(min(max(limit, 2 * site["warning"]), site["time"] or self.longest))

    def key(self, request: Request) -> tuple[Hashable, ...]:
        """The values that runs of one array share."""
        has_memory = self.site["memory_per_process"] == PREDICTED and host_memory(request) is not None
        avoid = tuple(nodes_to_avoid(request.folder.failures()))
        return (by_resources(request), avoid, has_memory, self._jobs_before(request))

    def parent_of(self, request: Request) -> tuple[str, int]:
        """The array and task of the run's parent; ('', -1) while it has none."""
        return next((self.placed[parent] for parent in request.parents if parent in self.placed), ("", -1))

    def _jobs_before(self, request: Request) -> tuple[str, ...]:
        return tuple(self.under_way[parent] for parent in request.parents if parent in self.under_way)

    def lanes(self, line: Sequence[Request]) -> int:
        """How many runs are at once in a job: on a device, and beside each other on a node of which it has all GPUs."""
        gpus = line[0].resources.gpus
        most = int(self.site["gpus_per_node"])
        beside = most // gpus if gpus and self.site["pack"]["whole_nodes"] else 1
        return share_of(line, self.site) * max(1, beside)
