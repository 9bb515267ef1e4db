"""The workers of a submission to this machine, and the list of runs that they share."""

import atexit
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from flipscale.errors import DamagedFile
from flipscale.guard import is_name, plain_file
from flipscale.launch.launcher import threads
from flipscale.launch.local.machine import lock_at_once, open_lock
from flipscale.plain_files import read_json_object, record_of
from flipscale.run import ATTEMPT, JOB, RunFolder, birth, is_alive, is_ours, write_json
from flipscale.settings import JsonObject
from flipscale.workspace import RUNS_FOLDER

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
