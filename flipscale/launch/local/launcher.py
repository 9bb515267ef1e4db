"""Runs on this machine: one worker for each GPU, or for each core without GPUs, and one list of runs for all.

A worker is an attendant (task.py), which starts `train` on the whole list and sees it through as on a cluster. `train`
does runs that no other process holds, so the leases are the queue. Workers have their own sessions and outlive the
terminal. A second submission waits for the first one's GPUs and cores: each has a lock, which a worker holds for life.
A submission is a folder, results/local/NAME:

    workers.json     the list of runs, and the workers: pid, birth, GPUs or core
    worker-K.log     the output of worker K
    stopped.json     why the whole submission stopped, if it did
"""

import atexit
import fcntl
import itertools
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from flipscale.errors import DamagedFile, LaunchError, require
from flipscale.guard import Names, lock_file, make_folder
from flipscale.launch.breaker import why_stopped
from flipscale.launch.launcher import (
    STOP_SECONDS,
    TRAIN,
    JobState,
    Request,
    by_resources,
    grouped,
    new_name,
    threads,
)
from flipscale.launch.site import Site
from flipscale.launch.stall import kill_tree
from flipscale.plain_files import open_plain, read_json
from flipscale.run import ATTEMPT, JOB, Holder, Job, RunFolder, State, birth, is_alive, machine, write_json
from flipscale.words import count
from flipscale.workspace import RUNS_FOLDER


class LocalLauncher:
    """Workers on this machine. Those of another host are not seen from here, only the leases they hold.

    `command` is what a worker starts on the list of runs.
    """

    ends_with_the_watcher = True
    poll_seconds = 0.0
    study = ""
    rest: Sequence[str] = ()
    name = site_name = "local"

    def __init__(self, results: Path, site: Site | None = None, *, command: Sequence[str] = TRAIN):
        if site is not None:
            raise LaunchError(
                "A site file describes a cluster; give it together with --on slurm or --on ray, or leave it out."
            )
        self.home = results.resolve() / self.name
        self.command = list(command)

    def submit(self, requests: Sequence[Request]) -> Iterator[Job]:
        require("torch")
        for alike in grouped(requests, by_resources):  # Workers do runs of the same needs.
            groups = slots_for(alike[0].resources.gpus)
            path = self.home / new_name()
            make_folder(path, self.home.parent)
            queue = LocalQueue(machine(), tuple(request.id for request in alike))
            start_workers(path, queue, self.command, groups)
            yield from (Job(request.id, self.name, path.name, time.time(), log=str(path)) for request in alike)

    def preview(self, requests: Sequence[Request]) -> str:
        said = []
        for alike in grouped(requests, by_resources):
            workers = min(len(alike), len(slots_for(alike[0].resources.gpus)))
            words = [shlex.join(self.command), *(shlex.quote(str(request.folder.path.resolve())) for request in alike)]
            said.append(
                f"# {count(workers, 'worker')} for {count(len(alike), 'run')}\n" + " \\\n    ".join(words) + "\n"
            )
        return "".join(said)

    def poll(self, jobs: Sequence[Job], *, closely: bool = False) -> dict[str, JobState]:
        """'waiting' while a worker of the submission lives, which takes up the remaining runs."""
        looks = {name: self._look(name) for name in {job.id for job in jobs}}
        return {job.run_id: looks[job.id] for job in jobs}

    def _look(self, name: str) -> JobState:
        if stopped := why_stopped(self.home / name):
            return JobState(State.CANCELLED, stopped)
        try:
            queue = LocalQueue.read(self.home / name)
        except DamagedFile as error:
            return JobState(None, f"it is not known whether its worker is alive: {error}")
        return JobState(State.WAITING if queue and queue.lives else None)

    def cancel(self, jobs: Sequence[Job], study: str | None = None) -> Sequence[str]:
        """Wait until attendants have stopped these runs, which are marked as cancelled; they go on with the others.

        Processes that do not stop are killed. LaunchError if another host or a foreign process holds a run.
        """
        end = time.monotonic() + STOP_SECONDS
        runs = [RunFolder(self.home.parent / RUNS_FOLDER / job.run_id) for job in jobs]
        while held := [(run, holder) for run in runs if (holder := _local_holder(run))]:
            for run, holder in held:
                is_ours = not holder.is_here or holder.may_be_signalled(run.path)
                if not is_ours and is_alive(holder.pid, holder.born):  # It may just have ended.
                    raise LaunchError(
                        f"{run.id} is marked as cancelled. Its lease names process {holder.pid}, which is not a "
                        "training of yours for this results folder, so no signal was sent; its owner has to end "
                        "it."
                    )
                if time.monotonic() > end and not holder.is_here:
                    raise LaunchError(f"{run.id} runs on {holder.host} and has not stopped; end it there.")
                if time.monotonic() > end:
                    kill_tree(holder.pid)
            time.sleep(0.05)
        return ()

    def send_later(self, command: Sequence[str], run_ids: Sequence[str]) -> str:
        return ""


def _local_holder(run: RunFolder) -> Holder | None:
    """The living local worker that holds the run."""
    holder = run.holder()
    return holder if holder and holder.alive and (holder.job or "").startswith("local/") else None


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


@dataclass(frozen=True)
class LocalQueue:
    """A list of runs and the workers that do them, as workers.json holds them.

    No file says what a worker executes, as workers.json may come from somebody else. Nor does one say where runs are:
    they are known by their ids, in the results folder that holds the list.
    """

    machine: str
    """As leases have it."""
    runs: tuple[Names, ...]
    """Their ids."""
    workers: tuple[LocalWorker, ...] = ()

    @classmethod
    def read(cls, path: Path) -> "LocalQueue | None":
        """The submission of that folder; None if there is none."""
        try:
            return read_json(path / "workers.json", cls)
        except FileNotFoundError:
            return None

    def write(self, path: Path) -> None:
        write_json(path / "workers.json", {"schema": 1, **asdict(self)})

    def folders(self, path: Path) -> list[RunFolder]:
        return [RunFolder(path.parents[1] / RUNS_FOLDER / run_id) for run_id in self.runs]

    @property
    def lives(self) -> bool:
        """Whether any of the workers lives. Those of another host are not seen from here."""
        _started[:] = [process for process in _started if process.poll() is None]
        return self.machine == machine() and any(is_alive(each.pid, each.born) for each in self.workers)


def start_workers(path: Path, queue: LocalQueue, command: Sequence[str], groups: Sequence[tuple[str, ...]]) -> None:
    """Start a worker of the queue for each run, at most one on each group of slots, free ones first. Writes
    workers.json.

    command: what each executes on the runs.
    """
    queue.write(path)  # It is what a worker reads first.
    folder = path.parent / "slots"
    make_folder(folder, path.parents[1])
    locks = {group: [lock_file(folder / f"{socket.gethostname()}-{slot}.lock") for slot in group] for group in groups}
    try:
        free_first = sorted(groups, key=lambda group: not lock_at_once(locks[group]))
        for number, group in enumerate(free_first[: len(queue.runs)]):
            environment = {**os.environ, **threads(1), JOB: f"local/{path.name}/{number}", ATTEMPT: "0"}
            if gpus := [slot.removeprefix("gpu-") for slot in group if slot.startswith("gpu-")]:
                environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
            task = [sys.executable, "-P", "-m", "flipscale.launch.local.task", str(path), str(number)]
            with open(worker_log(path, number), "ab", opener=open_plain) as output:
                process = subprocess.Popen(
                    [*task, ",".join(map(str, locks[group])), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,
                    pass_fds=locks[group],
                )
            _started.append(process)
            # A worker that is dead already has no birth; '' is none that a living process has.
            worker = LocalWorker(process.pid, birth(process.pid) or "", group)
            queue = replace(queue, workers=(*queue.workers, worker))
    finally:
        for lock in (lock for group in locks.values() for lock in group):
            os.close(lock)
        queue.write(path)


def worker_log(path: Path, number: int) -> Path:
    """The log of the worker of this number and its `train`."""
    return path / f"worker-{number}.log"


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
    named = (entry.strip() for entry in visible.split(","))
    return list(itertools.takewhile(lambda entry: entry not in ("", "-1", "NoDevFiles"), named))


def cores_here() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
