"""Runs on this machine: one worker for each GPU, or for each core where there is none, and one list of runs for all.

A worker is an attendant (task.py), which starts `train` on the whole list and sees it through as on a cluster. `train`
does what nobody else holds, so the leases are the queue. Workers are in sessions of their own and outlive the terminal.
A second submission waits for the first one's GPUs and cores: each has a lock, which a worker holds for life. A
submission is a folder, results/local/NAME:

    workers.json     the list of runs, the command, and the workers: pid, birth, GPUs or cores
    worker-K.log     what worker K said
    stopped.json     why the whole submission stopped, if it did

task.py    what a worker does
"""

import atexit
import contextlib
import fcntl
import json
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
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flipscale.errors import LaunchError
from flipscale.launch.attend import why_stopped
from flipscale.launch.launcher import STOP_SECONDS, TRAIN, Job, Request, Whereabouts, by_resources, grouped, threads
from flipscale.launch.site import Site
from flipscale.launch.tree import kill_tree
from flipscale.run import ATTEMPT, JOB, RunFolder, birth, is_alive, write_json
from flipscale.workspace import Workspace

_started: list[subprocess.Popen[bytes]] = []
"""The workers this process started, kept until they ended: a child that nobody waits for stays a zombie."""


@atexit.register
def _leave() -> None:
    """Workers outlive the process that started them, which Python would complain of where warnings are errors."""
    for process in _started:
        process.returncode = process.poll() or 0


@dataclass(frozen=True)
class Worker:
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


class LocalLauncher:
    """Workers on this machine. Those of another host are not seen from here, only the leases they hold.

    `command` is what a worker starts on the list of runs, `workers` the most there may be; None is as many as there are
    GPUs or cores.
    """

    ends_with_the_watcher = True
    poll_seconds = 0.0

    def __init__(
        self, results: Path, site: Site | None = None, *, command: Sequence[str] = TRAIN, workers: int | None = None
    ):
        if site is not None:
            raise LaunchError(
                "A site file describes a cluster; give it together with --on slurm or --on ray, or leave it out."
            )
        self.home = results.resolve() / "local"
        self.command = list(command)
        self.workers = workers

    def submit(self, requests: Sequence[Request]) -> Iterator[Job]:
        for alike in grouped(requests, by_resources):
            yield from self._submit(alike)

    def _submit(self, requests: Sequence[Request]) -> list[Job]:
        """Start workers for runs that need the same resources."""
        groups = _slots(requests[0].resources.get("gpus", 0))
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        queue = Queue(self.home / name, [str(one.folder.path.resolve()) for one in requests], self.command)
        queue.path.mkdir(parents=True)
        queue.start(groups, min(len(requests), self.workers or len(groups)))
        now = time.time()
        return [Job(request.id, "local", name, now, log=str(queue.path)) for request in requests]

    def preview(self, requests: Sequence[Request]) -> str:
        said = []
        for alike in grouped(requests, by_resources):
            groups = _slots(alike[0].resources.get("gpus", 0))
            workers = min(len(alike), self.workers or len(groups))
            said.append(f"# {workers} workers share these {len(alike)} runs\n{shlex.join(self.command)} \\\n")
            said.append(" \\\n".join(f"    {shlex.quote(str(one.folder.path.resolve()))}" for one in alike) + "\n")
        return "".join(said)

    def poll(self, jobs: Sequence[Job], *, closely: bool = False) -> dict[str, Whereabouts]:
        """'waiting' while a worker of the submission lives, which takes up what is left. What it holds is leased."""
        found = {}
        for name in {job.id for job in jobs}:
            queue = Queue.read(self.home / name)
            if stopped := why_stopped(self.home / name):
                found[name] = Whereabouts("cancelled", stopped)
            else:
                found[name] = Whereabouts("waiting" if queue and queue.alive() else None)
        return {job.run_id: found[job.id] for job in jobs}

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Wait until the attendants have stopped these runs, which are marked as cancelled. They go on with the others.

        Where nothing is left of a list all its workers are stopped. What does not stop is killed, and LaunchError
        raised where another host has it in hand.
        """
        cancelled = {job.run_id for job in jobs}
        # An older submission may hold the run as well: a cancelled run that is submitted again is on two lists.
        concerned = [
            queue
            for path in sorted(self.home.glob("*/workers.json"))
            if (queue := Queue.read(path.parent))
            and queue.alive()
            and cancelled & {folder.id for folder in queue.folders}
        ]
        for queue in concerned:
            # A worker of an older flipscale holds its runs itself.
            holders = queue.holders(cancelled)
            anything_left = bool(queue.left())
            doomed = [worker for worker in queue.alive() if worker.pid in holders or not anything_left]
            _stop(doomed)
            unstaffed = len(queue.left()) - len(queue.alive())
            queue.start([worker.slots for worker in doomed], min(len(doomed), unstaffed))

        end = time.monotonic() + STOP_SECONDS
        while held := list(self._held(cancelled)):
            for run_id, lease in held if time.monotonic() > end else ():
                if lease["host"] != socket.gethostname():
                    raise LaunchError(f"{run_id} is trained on {lease['host']} and does not stop; end it there.")
                kill_tree(lease["pid"])
            time.sleep(0.05)

    def _held(self, run_ids: Set[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Of these runs those that local workers have in hand, with the lease."""
        for run_id in sorted(run_ids):
            lease = RunFolder(Workspace(self.home.parent).run(run_id)).lease()
            if lease and lease["alive"] and str(lease.get("job")).startswith("local/"):
                yield run_id, lease


class Queue:
    """A list of runs and the workers that do them, as workers.json holds them."""

    def __init__(self, path: Path, paths: Sequence[str], command: Sequence[str], workers: Sequence[Worker] = ()):
        self.path = path
        self.folders = [RunFolder(path) for path in paths]
        self.command = list(command)
        self.workers = list(workers)

    @classmethod
    def read(cls, path: Path) -> "Queue | None":
        """The submission of that folder; None if there is none, or if its workers are on another host."""
        try:
            written = json.loads((path / "workers.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        if written["host"] != socket.gethostname():
            return None
        workers = [Worker(**{**worker, "slots": tuple(worker["slots"])}) for worker in written["workers"]]
        return cls(path, written["folders"], written["command"], workers)

    def alive(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.lives]

    def left(self) -> list[RunFolder]:
        """The runs that are not done and not cancelled, held ones included."""
        return [folder for folder in self.folders if not folder.is_over()]

    def holders(self, run_ids: Set[str]) -> set[int]:
        """The pids on this host that hold one of these runs."""
        leases = [folder.lease() for folder in self.folders if folder.id in run_ids]
        return {lease["pid"] for lease in leases if lease and lease["alive"] and lease["host"] == socket.gethostname()}

    def start(self, groups: Sequence[tuple[str, ...]], count: int) -> None:
        """Start `count` workers on as many of the groups of slots, on free ones first, and write workers.json."""
        if count <= 0:
            return
        self._write()  # It is what a worker reads first.
        slots = self.path.parent / "slots"
        slots.mkdir(exist_ok=True)
        locks = {group: [_open_lock(slots, slot) for slot in group] for group in groups}
        try:
            free_first = sorted(groups, key=lambda group: not _lock_at_once(locks[group]))
            for group in free_first[:count]:
                self.workers.append(self._start_one(group, locks[group]))
        finally:
            for lock in (lock for group in locks.values() for lock in group):
                os.close(lock)
            self._write()

    def _start_one(self, group: tuple[str, ...], locks: Sequence[int]) -> Worker:
        number = len(self.workers)
        environment = {**os.environ, **threads(1), JOB: f"local/{self.path.name}/{number}", ATTEMPT: "0"}
        if gpus := [slot.removeprefix("gpu-") for slot in group if slot.startswith("gpu-")]:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        command = [sys.executable, "-m", "flipscale.launch.local.task", str(self.path), str(number)]
        log = self.log(number)
        with open(log, "ab") as output:
            process = subprocess.Popen(
                [*command, *map(str, locks)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                pass_fds=locks,
            )
        _started.append(process)
        # A worker that is dead already has no birth; '' is none that a living process has.
        return Worker(process.pid, birth(process.pid) or "", group, str(log))

    def log(self, number: int) -> Path:
        """What the worker of this number and its `train` say."""
        return self.path / f"worker-{number}.log"

    def _write(self) -> None:
        written = {
            "schema": 1,
            "host": socket.gethostname(),
            "command": self.command,
            "folders": [str(folder.path) for folder in self.folders],
            "workers": [asdict(worker) for worker in self.workers],
        }
        write_json(self.path / "workers.json", written)


# Stopping


def _stop(workers: Iterable[Worker]) -> None:
    """Ask the workers to stop, wait until they have, and kill with all that they started those that do not."""
    workers = [worker for worker in workers if worker.lives]
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


# GPUs and cores


def _slots(gpus: int) -> list[tuple[str, ...]]:
    """What each worker of this machine has to itself: a core, a GPU, or `gpus` GPUs. LaunchError if too few."""
    found = gpus_here()
    if gpus > len(found):
        raise LaunchError(
            f"A run needs resources.gpus: {gpus}, and this machine shows {len(found)}. Choose another launcher, "
            f"lower resources.gpus, or set it to 0 to train on what there is."
        )
    if not found:
        return [(f"core-{core}",) for core in range(_cores())]
    each = max(1, gpus)
    return [
        tuple(f"gpu-{gpu}" for gpu in found[first : first + each]) for first in range(0, len(found) - each + 1, each)
    ]


def gpus_here() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them. Asked without torch, which takes seconds."""
    if shutil.which("nvidia-smi") is None:
        return []
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", errors="replace", check=False)
    there = re.findall(r"^GPU (\d+):", listing.stdout, flags=re.MULTILINE) if listing.returncode == 0 else []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not there:
        return there
    # As CUDA reads it: what follows an entry that names no GPU is not seen either.
    named = [entry.strip() for entry in visible.split(",")]
    end = next((at for at, entry in enumerate(named) if entry in ("", "-1", "NoDevFiles")), len(named))
    return named[:end]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _open_lock(folder: Path, slot: str) -> int:
    """A descriptor on the lock file of a GPU or core of this host."""
    name = f"{socket.gethostname()}-{slot}.lock".replace("/", "-")
    return os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o644)


def _lock_at_once(locks: Sequence[int]) -> bool:
    """Lock all if all are free, else none: two that wait with half a group in hand could wait for each other."""
    try:
        for lock in locks:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        for lock in locks:
            fcntl.flock(lock, fcntl.LOCK_UN)
        return False
    return True
