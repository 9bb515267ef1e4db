"""Hands runs to workers of this machine, and stops them.

A submission is a list of runs and the workers that share it. Each worker has a GPU or a core of this machine to itself
by holding its lock.
"""

import atexit
import contextlib
import fcntl
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path

from flipscale.errors import DamagedFile, LaunchError
from flipscale.guard import is_name, plain_file
from flipscale.launch.attend import why_stopped
from flipscale.launch.launcher import STOP_SECONDS, TRAIN, JobState, Request, by_resources, grouped, threads
from flipscale.launch.site import Site
from flipscale.launch.stall import kill_tree
from flipscale.plain_files import read_json_object, record_of
from flipscale.run import ATTEMPT, JOB, Holder, Job, RunFolder, State, birth, is_alive, is_ours, write_json
from flipscale.settings import JsonObject
from flipscale.words import count
from flipscale.workspace import RUNS_FOLDER


class LocalLauncher:
    """Workers on this machine. Those of another host are not seen from here, only the leases they hold.

    `command` is what a worker starts on the list of runs. `workers` is the most there may be; None is one for each GPU
    or core.
    """

    ends_with_the_watcher = True
    poll_seconds = 0.0
    name = site_name = "local"

    def __init__(
        self, results: Path, site: Site | None = None, *, command: Sequence[str] = TRAIN, workers: int | None = None
    ):
        if site is not None:
            raise LaunchError(
                "A site file describes a cluster; give it together with --on slurm or --on ray, or leave it out."
            )
        self.home = results.resolve() / self.name
        self.command = list(command)
        self.workers = workers

    def submit(self, requests: Sequence[Request]) -> Iterator[Job]:
        for alike in grouped(requests, by_resources):
            yield from self._submit(alike)

    def _submit(self, requests: Sequence[Request]) -> list[Job]:
        """Start workers for runs that need the same resources."""
        groups = slots_for(requests[0].resources.gpus)
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        queue = LocalQueue(self.home / name, [request.id for request in requests])
        queue.path.mkdir(parents=True)
        queue.start(self.command, groups, min(len(requests), self.workers or len(groups)))
        now = time.time()
        return [Job(request.id, self.name, name, now, log=str(queue.path)) for request in requests]

    def preview(self, requests: Sequence[Request]) -> str:
        said = []
        for alike in grouped(requests, by_resources):
            groups = slots_for(alike[0].resources.gpus)
            workers = min(len(alike), self.workers or len(groups))
            said.append(f"# {count(workers, 'worker')} for {count(len(alike), 'run')}\n{shlex.join(self.command)} \\\n")
            said.append(
                " \\\n".join(f"    {shlex.quote(str(request.folder.path.resolve()))}" for request in alike) + "\n"
            )
        return "".join(said)

    def poll(self, jobs: Sequence[Job], *, closely: bool = False) -> dict[str, JobState]:
        """'waiting' while a worker of the submission lives, which takes up the remaining runs."""
        states = {}
        for name in {job.id for job in jobs}:
            if stopped := why_stopped(self.home / name):
                states[name] = JobState(State.CANCELLED, stopped)
                continue
            try:
                queue = LocalQueue.read(self.home / name)
                states[name] = JobState(State.WAITING if queue and queue.alive() else None)
            except DamagedFile as error:
                states[name] = JobState(None, f"it is not known whether its worker is alive: {error}")
        return {job.run_id: states[job.id] for job in jobs}

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Wait until attendants have stopped these runs, which are marked as cancelled, and go on with the others.

        If nothing is left of a list, all its workers are stopped. Workers that do not stop are killed; LaunchError if
        another host or a foreign process holds a run. No worker is started.
        """
        cancelled = {job.run_id for job in jobs}
        for queue in self._queues_with(cancelled):
            if not queue.left():
                _stop(queue, queue.alive())
        self._end_held(cancelled)

    def _queues_with(self, run_ids: Set[str]) -> "list[LocalQueue]":
        """The queues at work that have any of these runs on their list.

        There may be several of a run: one that was cancelled and is submitted again is on two lists.
        """
        queues = []
        for path in sorted(self.home.glob("*/workers.json")):
            # A damaged list names no workers, but the lease of a run names its holder, which is waited for.
            with contextlib.suppress(DamagedFile):
                queue = LocalQueue.read(path.parent)
                if queue and queue.alive() and run_ids & {run.id for run in queue.folders}:
                    queues.append(queue)
        return queues

    def _end_held(self, run_ids: Set[str]) -> None:
        """Wait until no process holds these runs; kill those that take too long; raise for one on another host."""
        end = time.monotonic() + STOP_SECONDS
        while held := list(self._held(run_ids)):
            for run_id, holder in held:
                if self._is_a_strangers(run_id, holder):
                    raise LaunchError(
                        f"{run_id} is marked as cancelled. Its lease names process {holder.pid}, which is not a "
                        "training of yours for this results folder, so no signal was sent; its owner has to end "
                        "it."
                    )
                if time.monotonic() > end and not holder.is_here:
                    raise LaunchError(f"{run_id} runs on {holder.host} and has not stopped; end it there.")
                if time.monotonic() > end:
                    kill_tree(holder.pid)
            time.sleep(0.05)

    def _held(self, run_ids: Set[str]) -> Iterator[tuple[str, Holder]]:
        """Those of these runs that local workers hold, with their holders."""
        for run_id in sorted(run_ids):
            holder = self._run(run_id).holder()
            if holder and holder.alive and holder.job is not None and holder.job.startswith("local/"):
                yield run_id, holder

    def _is_a_strangers(self, run_id: str, holder: Holder) -> bool:
        """Whether the lease names a living process of this machine that is none of ours."""
        is_ours = not holder.is_here or holder.may_be_signalled(self._run(run_id).path)
        return not is_ours and is_alive(holder.pid, holder.born)  # It may just have ended.

    def _run(self, run_id: str) -> RunFolder:
        return RunFolder(self.home.parent / RUNS_FOLDER / run_id)


# Stopping


def _stop(queue: "LocalQueue", doomed: "Sequence[LocalWorker]") -> None:
    """Ask these workers of the list to stop, wait until they have, and kill with all that they started those that do
    not. A process that is not a worker of the list gets no signal, whatever workers.json says."""
    ours = queue.ours()
    workers = [worker for worker in doomed if worker in ours]
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGTERM)
    end = time.monotonic() + STOP_SECONDS
    while any(worker.lives for worker in workers) and time.monotonic() < end:
        time.sleep(0.05)
    for worker in workers:
        if worker.lives:
            kill_tree(worker.pid)
    while any(worker.lives for worker in workers):
        time.sleep(0.05)


# The list of runs and its workers

_started: list[subprocess.Popen[bytes]] = []
"""The workers this process started, kept until they ended: a child that nobody waits for stays a zombie."""


@atexit.register
def _leave() -> None:
    """Workers outlive the process that started them, which Python would complain about where warnings are errors."""
    for process in _started:
        process.returncode = process.poll() or 0


@dataclass(frozen=True)
class LocalWorker:
    pid: int
    born: str
    """`run.birth` of the pid, as pids are used again."""
    slots: tuple[str, ...]
    """The GPUs ("gpu-0") or the core ("core-3") it has to itself."""
    log: str

    @property
    def lives(self) -> bool:
        _started[:] = [process for process in _started if process.poll() is None]
        return is_alive(self.pid, self.born)


@dataclass(frozen=True)
class _WrittenQueue:
    """What workers.json holds."""

    host: str
    folders: tuple[str, ...]
    workers: tuple[JsonObject, ...]


class LocalQueue:
    """A list of runs and the workers that do them, as workers.json holds them.

    No file says what a worker executes, as workers.json may come from somebody else. Nor does one say where runs are:
    they are known by their ids, in the results folder that holds the list.
    """

    def __init__(self, path: Path, run_ids: Sequence[str], workers: Sequence[LocalWorker] = ()):
        self.path = path
        runs = path.parents[1] / RUNS_FOLDER
        self.folders = [RunFolder(runs / run_id) for run_id in run_ids]
        self.workers = list(workers)

    @classmethod
    def read(cls, path: Path) -> "LocalQueue | None":
        """The submission of that folder; None if there is none, or if its workers are on another host. DamagedFile
        where workers.json cannot be read."""
        try:
            data = read_json_object(path / "workers.json")
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            written = record_of(_WrittenQueue, data)
            workers = [record_of(LocalWorker, worker) for worker in written.workers]
        except ValueError as error:
            raise DamagedFile(f"{path / 'workers.json'}: {error}, so it lists no flipscale workers.") from error
        if written.host != socket.gethostname():
            return None
        # Versions before this one wrote whole paths.
        run_ids = [os.path.basename(folder) for folder in written.folders]
        return cls(path, list(filter(is_name, run_ids)), workers)

    def alive(self) -> list[LocalWorker]:
        return [worker for worker in self.workers if worker.lives]

    def ours(self) -> list[LocalWorker]:
        """The living workers that this submission started, and that may be signalled."""
        return [worker for number, worker in enumerate(self.workers) if worker.lives and self._is_ours(number, worker)]

    def _is_ours(self, number: int, worker: LocalWorker) -> bool:
        job = f"local/{self.path.name}/{number}"
        return is_ours(worker.pid, worker.born, argument=str(self.path), variable=JOB, values=[job])

    def left(self) -> list[RunFolder]:
        """The runs that are not done and not cancelled, held ones included."""
        return [folder for folder in self.folders if not folder.is_over()]

    def start(self, command: Sequence[str], groups: Sequence[tuple[str, ...]], count: int) -> None:
        """Start `count` workers on as many of the groups of slots, on free ones first, and write workers.json.

        command: what each executes on the runs.
        """
        if count <= 0:
            return
        self._write()  # It is what a worker reads first.
        slots = self.path.parent / "slots"
        slots.mkdir(exist_ok=True)
        locks = {group: [open_lock(slots, slot) for slot in group] for group in groups}
        try:
            free_first = sorted(groups, key=lambda group: not lock_at_once(locks[group]))
            for group in free_first[:count]:
                self.workers.append(self._start_one(command, group, locks[group]))
        finally:
            for lock in (lock for group in locks.values() for lock in group):
                os.close(lock)
            self._write()

    def _start_one(self, command: Sequence[str], group: tuple[str, ...], locks: Sequence[int]) -> LocalWorker:
        number = len(self.workers)
        environment = {**os.environ, **threads(1), JOB: f"local/{self.path.name}/{number}", ATTEMPT: "0"}
        if gpus := [slot.removeprefix("gpu-") for slot in group if slot.startswith("gpu-")]:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        task = [sys.executable, "-P", "-m", "flipscale.launch.local.task", str(self.path), str(number)]
        log = self.log(number)
        with open(log, "ab", opener=plain_file) as output:
            process = subprocess.Popen(
                [*task, ",".join(map(str, locks)), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                pass_fds=locks,
            )
        _started.append(process)
        # A worker that is dead already has no birth; '' is none that a living process has.
        return LocalWorker(process.pid, birth(process.pid) or "", group, str(log))

    def log(self, number: int) -> Path:
        """The log of the worker of this number and its `train`."""
        return self.path / f"worker-{number}.log"

    def _write(self) -> None:
        written = {
            "schema": 1,
            "host": socket.gethostname(),
            "folders": [folder.id for folder in self.folders],
            "workers": [asdict(worker) for worker in self.workers],
        }
        write_json(self.path / "workers.json", written)


# The GPUs and cores of this machine


def slots_for(gpus: int) -> list[tuple[str, ...]]:
    """The share of each worker of this machine: a core, a GPU, or `gpus` GPUs. LaunchError if there are too few."""
    shown = gpus_here()
    if gpus > len(shown):
        raise LaunchError(
            f"A run needs resources.gpus: {gpus}, and this machine shows {len(shown)}. Choose another launcher, "
            f"lower resources.gpus, or set it to 0 to train on what is here."
        )
    if not shown:
        return [(f"core-{core}",) for core in range(cores_here())]
    each = max(1, gpus)
    return [
        tuple(f"gpu-{gpu}" for gpu in shown[first : first + each]) for first in range(0, len(shown) - each + 1, each)
    ]


def gpus_here() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them. Asked without torch, which takes seconds."""
    if shutil.which("nvidia-smi") is None:
        return []
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", errors="replace", check=False)
    numbers = re.findall(r"^GPU (\d+):", listing.stdout, flags=re.MULTILINE) if listing.returncode == 0 else []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not numbers:
        return numbers
    # As CUDA reads it: what follows an entry that names no GPU is not seen either.
    named = [entry.strip() for entry in visible.split(",")]
    end = next((at for at, entry in enumerate(named) if entry in ("", "-1", "NoDevFiles")), len(named))
    return named[:end]


def cores_here() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_lock(folder: Path, slot: str) -> int:
    """A descriptor on the lock file of a GPU or core of this host."""
    name = f"{socket.gethostname()}-{slot}.lock".replace("/", "-")
    return plain_file(os.fspath(folder / name), os.O_RDWR | os.O_CREAT)


def lock_at_once(locks: Sequence[int]) -> bool:
    """Lock all if all are free, else none: two that wait with half a group in hand could wait for each other."""
    try:
        for lock in locks:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        for lock in locks:
            fcntl.flock(lock, fcntl.LOCK_UN)
        return False
    return True
