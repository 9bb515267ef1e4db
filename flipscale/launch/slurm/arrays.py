"""Which runs share a job, and which jobs an array: pure arithmetic on requests and a site.

A job is one task of an array. By default a run is a task. If the site packs, short runs share one, with the children
that start from them. A child that is not packed is a task of a later array: SLURM starts it when the task with the same
index in its parent's array has ended.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flipscale.errors import DamagedFile, LaunchError
from flipscale.guard import Name
from flipscale.launch.launcher import Request, by_resources, grouped, needs_of
from flipscale.launch.memory import host_memory, most_memory
from flipscale.launch.pack import bytes_of, filled, limit_of, lines_of, scoring_tasks, seconds_of, share_of
from flipscale.launch.policy import nodes_to_avoid
from flipscale.launch.site import PREDICTED, Site
from flipscale.plain_files import read_json
from flipscale.run import write_json
from flipscale.settings import Resources, ResourcesRead


@dataclass(frozen=True)
class JobArray:
    """The array of one sbatch: tasks of one shape."""

    name: str
    """SUBMISSION-NUMBER, which no other array has."""
    tasks: Mapping[int, tuple[Name, ...]]
    """The ids of the runs of each task, by its index."""
    resources: ResourcesRead
    """The needs of each run."""
    lanes: int
    """Runs at once in a task, at most."""
    avoid: tuple[str, ...]
    """Nodes that failed under these runs."""
    site: Site
    runs: str
    """The folder of run folders."""
    command: tuple[str, ...]
    """The command of a worker."""
    cores: int | None = None
    """The cores of each process; None is the site's cpus_per_process."""
    memory: int | None = None
    """Bytes of main memory that a run is to have on each of its nodes; None leaves it to the cluster."""
    after: str | None = None
    """The array whose task of the same index must have ended before a task starts."""
    after_jobs: tuple[str, ...] = ()
    """Jobs of SLURM that must have ended before any task starts."""
    time: int | None = None
    """Seconds that each job may take, where a probe has timed its runs and the site says no limit."""
    slurm_id: str | None = None
    """SLURM's number of the array, once it is sent."""
    cluster: str | None = None
    """The cluster it goes to; None is that of the machine which sends it."""

    @property
    def job_name(self) -> str:
        return job_name_of(self.name)

    def path(self, home: Path) -> Path:
        """The array's record; beside it lie its script and the logs of its tasks."""
        submission, _, number = self.name.rpartition("-")
        return home / submission / f"{number}.json"

    def log(self, home: Path, task: int | str) -> Path:
        path = self.path(home)
        return path.with_name(f"{path.stem}_{task}.log")

    def write(self, home: Path) -> None:
        path = self.path(home)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"schema": 1, **vars(self), "resources": vars(self.resources)})

    @classmethod
    def read(cls, path: Path) -> "JobArray":
        """The array of that record."""
        array: JobArray = read_json(path, cls)
        if array.name != f"{path.parent.name}-{path.stem}" or not (array.slurm_id or "0").isdigit():
            raise DamagedFile(f"{path}: is the record of another array, {array.name!r}.")
        return array


def job_name_of(array: str) -> str:
    """What SLURM calls the jobs of the array of this name."""
    return f"flipscale-{array}"


@dataclass(frozen=True)
class Shape:
    """The resources that a job asks SLURM for."""

    nodes: int
    tasks_per_node: int
    cpus_per_task: int
    gpus_per_node: int
    memory_per_node: str | None


def shape_of(
    resources: Resources, lanes: int, site: Site, memory: int | None = None, cores: int | None = None
) -> Shape:
    """The nodes and the needs on each. LaunchError if a run's processes cannot be split evenly over nodes.

    memory: bytes of a run on each node. cores: of each process.
    """
    gpus = resources.gpus
    nodes = _nodes_of(resources, site)
    is_whole = bool(gpus) and site["pack"]["whole_nodes"] and nodes == 1
    return Shape(
        nodes=nodes,
        tasks_per_node=resources.devices // nodes * lanes,
        cpus_per_task=cores or site["cpus_per_process"],
        gpus_per_node=site["gpus_per_node"] if is_whole else gpus // nodes,
        memory_per_node=None if memory is None else _megabytes(memory * lanes),
    )


def _nodes_of(resources: Resources, site: Site) -> int:
    """How many nodes a run takes, by its GPUs, or where it has none by its processes."""
    gpus, processes = resources.gpus, resources.devices
    what, key, needed = ("GPUs", "gpus_per_node", gpus) if gpus else ("processes", "processes_per_node", processes)
    most = site[key] or needed
    nodes = math.ceil(needed / most)
    if processes % nodes or gpus % nodes:
        raise LaunchError(
            f"A run of {needed} {what} cannot be divided evenly over nodes of {most}; ask for a multiple of {most}, or "
            f"correct the site's {key}."
        )
    return nodes


def _megabytes(memory: int) -> str:
    """An amount as sbatch takes it, in the largest unit in which it is whole: 960G, 768M."""
    unit = next((power for power in (3, 2) if memory % 1024**power == 0), 1)
    return f"{memory // 1024**unit}{'KMG'[unit - 1]}"


def arrays_of(
    requests: Sequence[Request],
    site: Site,
    size: int,
    submission: str,
    *,
    command: Sequence[str],
    under_way: Mapping[str, str] | None = None,
) -> list[JobArray]:
    """The arrays that start these runs, each of at most `size` tasks, in the order they are to be sent.

    under_way: SLURM's jobs of parents that are not among the requests, by their run's id.
    """
    plan = _Arrays(requests, site, size, submission, tuple(command), under_way or {})
    plan.pack()
    plan.single()
    return plan.arrays


@dataclass
class _Arrays:
    requests: Sequence[Request]
    site: Site
    size: int
    submission: str
    command: tuple[str, ...]
    under_way: Mapping[str, str]
    arrays: list[JobArray] = field(default_factory=list)
    placed: dict[str, tuple[str, int]] = field(default_factory=dict)
    """The array and the task of each run."""

    def pack(self) -> None:
        """Tasks of several runs: lines of a parent and its children that are short, or that can share a device."""
        for alike in grouped((request for request in self.requests if request.only_scores), self._key):
            self._add(scoring_tasks(alike))
        tasks = filled(
            filter(self._is_packed, lines_of(self._not_placed())),
            lambda line: (*self._key(line[0]), self._lanes(line)),
            self._has_room,
        )
        for (*_, lanes), of_lanes in tasks.items():
            self._add(of_lanes, lanes=lanes)

    def single(self) -> None:
        """A task for each run that is not packed, children in arrays after that of their parents."""
        waiting = self._not_placed()
        ids = {request.id for request in waiting}
        first = [request for request in waiting if not ids & set(request.parents)]
        for alike in grouped(first, lambda request: (*self._key(request), self._jobs_before(request))):
            self._add([[request] for request in alike], after_jobs=self._jobs_before(alike[0]))
        while left := self._not_placed():
            ready = [request for request in left if self._parent_of(request)[0]]
            for alike in grouped(ready, lambda request: (*self._key(request), self._parent_of(request)[0])):
                self._add_after(alike)

    def _not_placed(self) -> list[Request]:
        return [request for request in self.requests if request.id not in self.placed]

    def _add(self, tasks: Sequence[Sequence[Request]], lanes: int = 1, after_jobs: tuple[str, ...] = ()) -> None:
        for start in range(0, len(tasks), self.size):
            part = dict(enumerate(tasks[start : start + self.size]))
            self._append(part, lanes=lanes, after_jobs=after_jobs)

    def _add_after(self, children: Sequence[Request]) -> None:
        """Arrays that follow one, with its indices: as many as one of its runs has children, at most."""
        rounds: list[dict[int, list[Request]]] = []
        for child in children:
            _, index = self._parent_of(child)
            free = next((taken for taken in rounds if index not in taken), None)
            if free is None:
                rounds.append(free := {})
            free[index] = [child]
        for entries in rounds:
            self._append(entries, after=self._parent_of(children[0])[0])

    def _append(
        self,
        tasks: Mapping[int, Sequence[Request]],
        *,
        lanes: int = 1,
        after: str | None = None,
        after_jobs: tuple[str, ...] = (),
    ) -> None:
        first = next(iter(tasks.values()))[0]
        resources, cores = needs_of(first, self.site)
        if first.asked.starts_its_processes and _nodes_of(first.resources, self.site) > 1:
            raise LaunchError(
                f"{first.id}: open_clip's program trains on one node, of {self.site['gpus_per_node']} GPUs here; lower "
                f"resources.gpus from {resources.gpus}, or use flipscale's own trainer."
            )
        name = f"{self.submission}-{len(self.arrays)}"
        self.arrays.append(
            JobArray(
                name=name,
                tasks={index: tuple(request.id for request in runs) for index, runs in tasks.items()},
                resources=resources,
                cores=cores,
                lanes=lanes,
                memory=self._memory([run for runs in tasks.values() for run in runs]),
                time=self._limit(tasks.values(), lanes),
                avoid=tuple(nodes_to_avoid(first.folder.failures())),
                site=self.site,
                runs=str(first.folder.path.resolve().parent),
                command=self.command,
                after=after,
                after_jobs=after_jobs,
            )
        )
        self.placed |= {request.id: (name, index) for index, runs in tasks.items() for request in runs}

    def _key(self, request: Request) -> tuple[Hashable, ...]:
        """The values that runs of one array share."""
        has_memory = self._is_predicted and host_memory(request) is not None
        return (by_resources(request), tuple(nodes_to_avoid(request.folder.failures())), has_memory)

    @property
    def _is_predicted(self) -> bool:
        return bool(self.site["memory_per_process"] == PREDICTED)

    def _memory(self, runs: Sequence[Request]) -> int | None:
        """The memory of a run on a node, for the neediest one: all jobs of an array ask for the same."""
        written, resources = self.site["memory_per_process"], runs[0].resources
        processes = resources.devices // _nodes_of(resources, self.site)
        if self._is_predicted:
            return most_memory(runs, processes)
        return bytes_of(written) * processes if written else None

    def _limit(self, tasks: Iterable[Sequence[Request]], lanes: int) -> int | None:
        """The time limit of each job in seconds; None if the site has one, or if no probe has timed the runs."""
        limit = None if self.site["time"] else limit_of(tasks, lanes)
        return None if limit is None else limit + int(self.site["warning"])

    def _parent_of(self, request: Request) -> tuple[str, int]:
        """The array and task of the run's parent; ('', -1) while it has none."""
        return next((self.placed[parent] for parent in request.parents if parent in self.placed), ("", -1))

    def _jobs_before(self, request: Request) -> tuple[str, ...]:
        return tuple(self.under_way[parent] for parent in request.parents if parent in self.under_way)

    # Packing

    def _is_packed(self, line: Sequence[Request]) -> bool:
        limit = self.site["pack"]["time"]
        short = limit is not None and seconds_of(line) <= limit
        shares = limit is None and len(line) == 1 and self._lanes(line) > 1
        if not short and not shares:
            return False
        return all(self._key(request) == self._key(line[0]) and not self._jobs_before(request) for request in line)

    def _has_room(self, task: Sequence[Request], line: Sequence[Request]) -> bool:
        """A task that runs one after another is full when the time is; one that only shares, when each lane has one."""
        lanes, limit = self._lanes(line), self.site["pack"]["time"]
        return seconds_of([*task, *line]) <= limit * lanes if limit else len(task) + len(line) <= lanes

    def _lanes(self, line: Sequence[Request]) -> int:
        return share_of(line, self.site) * self._beside(line[0].resources)

    def _beside(self, resources: Resources) -> int:
        """How many runs stand beside each other on a node of which the job takes all GPUs."""
        gpus = resources.gpus
        fits = gpus and self.site["pack"]["whole_nodes"] and gpus <= self.site["gpus_per_node"]
        return int(self.site["gpus_per_node"]) // int(gpus) if fits else 1
