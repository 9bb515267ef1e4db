"""The workers of an attendant: one `train` in each lane, started, asked to stop, and its log read for why it died."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flipscale.errors import DamagedFile
from flipscale.launch.launcher import STOP_SECONDS
from flipscale.plain_files import open_plain
from flipscale.run import FailureKind, Fault, RunFolder, fault_in

POLL_SECONDS = 0.1
"""Seconds between looks at the workers."""

SAID_BYTES = 4096
"""How much of the end of a worker's output is searched for the reason of its death."""

STEP_BYTES = 2**20
"""The same for the node of the process that died first: hundreds of others may print after it."""

STOP_SIGNAL = signal.SIGUSR2
"""Asks a worker to stop with a checkpoint. srun passes it on, where SIGTERM makes it kill what it started."""

ASKED_TO_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
"""After one of these `train` writes a checkpoint and ends with 128 + its number."""

_CHATTER = re.compile(
    r"srun: (Terminating|Job step aborted|error: .*(Exited with exit code|Terminated|Killed)|.*--help)|Try \"srun"
)
"""Lines that srun prints after a worker's last ones."""

_KILLED_FOR_MEMORY = re.compile(
    r"^(?!.*failed \(oom\): ).*(oom[-_ ]kill|exceeded .*memory limit|out of memory)", re.IGNORECASE | re.MULTILINE
)
"""Words of SLURM when the kernel, or SLURM itself, killed a process for lack of memory, and words of CUDA. Messages of
`train` about a run that it failed in order belong to another run."""

_FIRST_DEATH = re.compile(
    r"^srun: (?:error: (?P<node>[\w.-]+): tasks? [\d,-]+: (?!Exited|Terminated|Out Of Memory)"
    r"|Terminating|Job step aborted|Force Terminated)",
    re.MULTILINE,
)
"""Line of srun about a process that a signal killed; srun then ends all others, and says so before naming them."""


_NO_STEP = re.compile(
    r"^srun: .*(Expired or invalid job|Invalid job id|Unable to confirm allocation|Unable to contact slurm controller)",
    re.MULTILINE,
)
"""Lines of srun where the controller no longer knows the job, as after a crash: none of its processes has started."""


_ENDS_WITH_PARENT = """
import ctypes, os, sys
prctl = getattr(ctypes.CDLL(None), "prctl", None)
if prctl:
    prctl(1, 15)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{sys.argv[2]}: {error.strerror}")
"""


def ends_with_this_process(command: Sequence[str]) -> list[str]:
    """The command, which the kernel asks to stop (SIGTERM) when the process that starts it is gone, however that ends.

    Other systems than Linux do not.
    """
    return [sys.executable, "-I", "-S", "-c", _ENDS_WITH_PARENT, str(os.getpid()), *command]


class Process(Protocol):
    """A worker as far as an attendant cares: what Popen gives, or several processes that act as one."""

    @property
    def returncode(self) -> int:
        """As Popen has it, once `poll` has said that it ended."""

    def poll(self) -> int | None: ...
    def send_signal(self, signum: int, /) -> None: ...
    def terminate(self) -> None: ...


Start = Callable[[Sequence[RunFolder], int], Process]
"""Starts a worker on these runs, in the lane of this number."""


@dataclass(frozen=True)
class Started:
    """A worker that was started."""

    process: Process
    began: float
    """Unix time."""
    said_from: Mapping[Path, int]
    """The offset in each log at which its own lines begin."""

    @property
    def code(self) -> int:
        """Its exit code, once it has ended."""
        return self.process.returncode

    @property
    def signal(self) -> int:
        """The signal that its exit code stands for, as Popen gives it or as a shell does; below 1 if for none."""
        return -self.code if self.code < 0 else self.code - 128


@dataclass(frozen=True)
class Death:
    """Why a worker died, where that was not in order."""

    kind: FailureKind
    reason: str


class Workers:
    """The workers of one attendant."""

    def __init__(self, start: Start, log: Path, *, lanes: int = 1, stop_seconds: float = STOP_SECONDS):
        """log: the output of workers. lanes: the most workers at once. stop_seconds: time that one has to stop."""
        self.start = start
        self.log = log
        self.lanes = lanes
        self.stop_seconds = stop_seconds
        self.stopping_since: float | None = None
        """When they were asked to stop (monotonic)."""
        self._at_work: dict[int, Started] = {}

    def __bool__(self) -> bool:
        return bool(self._at_work)

    @property
    def has_room(self) -> bool:
        """Whether a lane is empty."""
        return len(self._at_work) < self.lanes

    def fill(self, runs: Sequence[RunFolder]) -> None:
        """Start workers on these runs, a lane each, until all lanes have one or there is one for each run."""
        while len(self._at_work) < min(self.lanes, len(runs)):
            lane = next(lane for lane in range(self.lanes) if lane not in self._at_work)
            said = {log: log.stat().st_size for log in self._logs if log.exists()}
            self._at_work[lane] = Started(self.start(runs, lane), time.time(), said)

    def ask_to_stop(self) -> None:
        """Ask all to stop; a call after `stop_seconds` ends them."""
        if self.stopping_since is None:
            self.stopping_since = time.monotonic()
            self.send_signal(STOP_SIGNAL)
        elif time.monotonic() - self.stopping_since > self.stop_seconds:
            self.terminate()

    def send_signal(self, signum: int) -> None:
        for worker in self._at_work.values():
            worker.process.send_signal(signum)

    def terminate(self) -> None:
        for worker in self._at_work.values():
            worker.process.terminate()

    def wait(self, seconds: float) -> None:
        """Wait until one of them ends, or this time is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not any(each.process.poll() is not None for each in self._at_work.values()):
            time.sleep(POLL_SECONDS)

    def ended(self) -> list[Started]:
        """Those that have ended, lane by lane. Each is given once."""
        lanes = [lane for lane, worker in self._at_work.items() if worker.process.poll() is not None]
        return [self._at_work.pop(lane) for lane in lanes]

    def death(self, worker: Started, *, did_something: Callable[[], bool]) -> Death | None:
        """Why a worker died; None where it ended as it should. A killed worker cannot say why, but the log does."""
        said = self._said(worker)
        if _KILLED_FOR_MEMORY.search(said):
            return Death(FailureKind.OOM, "It was killed because it used more memory than its job has.")
        stopped = worker.code == 0 or worker.signal in ASKED_TO_STOP
        if not stopped and (fault := self._fault(worker)):
            return Death(fault.kind, f"Its process ended; the log says: {fault.line.rstrip('.')}. See {self.log}.")
        if worker.signal == signal.SIGKILL:
            return Death(FailureKind.NODE, "Its process was killed, for an unknown reason.")
        if re.search("node failure|node_fail", said, re.IGNORECASE):
            return Death(FailureKind.NODE, "A node of its job failed.")
        if stopped:
            return None
        if _NO_STEP.search(said):
            return Death(FailureKind.NODE, f"SLURM did not start its process{self.last_words(worker)}")
        # `train` ends with 1 after a failure that it wrote down. If it did nothing, `train` itself is at fault.
        if worker.code == 1 and did_something():
            return None
        how = f"ended with code {worker.code}"
        if worker.code < 0:
            how = f"was ended by {signal.Signals(-worker.code).name}"
        return Death(FailureKind.CODE, f"Its process {how}{self.last_words(worker)}")

    def failed_node(self, worker: Started) -> str | None:
        """The node that a log names, or that of the process killed first, of a worker that srun started on several."""
        if (fault := self._fault(worker)) and fault.node:
            return fault.node
        death = _FIRST_DEATH.search(self._said(worker, STEP_BYTES))
        return death["node"] if death else None

    def last_words(self, worker: Started) -> str:
        """'; it said: ... See LOG.'"""
        lines = [line for line in self._said(worker).splitlines() if line.strip() and not _CHATTER.match(line)]
        said = f"; it said: {lines[-1].strip()[:300].rstrip('.')}" if lines else ""
        return f"{said}. See {self.log}."

    @property
    def _logs(self) -> list[Path]:
        """The log, and beside it those that Ray has for the other processes."""
        return [self.log, *sorted(self.log.parent.glob(f"{self.log.stem}-*.log"))]

    def _fault(self, worker: Started) -> Fault | None:
        """The fault of a GPU, a node or the network that any process of the worker told of."""
        return fault_in("\n".join(self._said(worker, STEP_BYTES, log) for log in self._logs))

    def _said(self, worker: Started, size: int = SAID_BYTES, log: Path | None = None) -> str:
        """The end of what the worker printed to its log, or to another of its processes' logs."""
        log = log or self.log
        try:
            with open(log, "rb", opener=open_plain) as file:
                file.seek(max(worker.said_from.get(log, 0), os.fstat(file.fileno()).st_size - size))
                return file.read().decode(errors="replace")
        except (FileNotFoundError, DamagedFile):
            return ""
