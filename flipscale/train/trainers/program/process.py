"""A program of somebody else at work on a run's folder. All that is known here is files and processes."""

import contextlib
import json
import math
import os
import queue
import re
import resource
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import IO, Annotated

import psutil

from flipscale.data.command import FOLDER_ARGUMENT, no_such_program, not_started, search_path
from flipscale.kinds import OrElse
from flipscale.plain_files import or_none, read_json
from flipscale.run import (
    HEARTBEAT_SECONDS,
    Doing,
    FailureKind,
    Lease,
    RunFolder,
    birth,
    fault_in,
    is_alive,
    is_ours,
    machine,
)
from flipscale.train.failure import Cause, Failed, say
from flipscale.train.machine import peak_resident_memory
from flipscale.train.stop import Stop

GRACE_SECONDS = 45.0
"""Seconds that a program has after a signal, to write a checkpoint. A local worker is given 60 seconds."""

TAIL = 4
"""Number of the program's last lines that are quoted when it fails."""

_IDLE_TALK = re.compile(r"I\d{4} \d\d:")
"""Lines that torch logs at the end of a process whose logging is at INFO. They would hide why the process failed."""

PROGRAM_NOTE = "program.json"
"""The file that says which process trains, and what it has used, while it lives."""

RUN_VARIABLE = "FLIPSCALE_RUN"
"""The environment variable in which a program finds its run's folder. What it starts has it too."""

DECLARABLE_KINDS = (FailureKind.OOM, FailureKind.DISK, FailureKind.DATA, FailureKind.DIVERGED, FailureKind.CODE)
"""The kinds of failure that a program may write into error.json."""


@dataclass
class Attempts:
    """The record of a run's program over all its attempts."""

    started: float
    attempts: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int | None = None


@dataclass(frozen=True)
class _Note:
    """program.json: the process that ran last, and all attempts."""

    machine: str
    """As its lease has it."""
    pid: int
    born: str | None
    attempts: Annotated[Attempts | None, OrElse(None)] = None


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    code: int
    """Its exit code; less than 0 for the signal that killed it."""
    stopped: bool
    """Whether it was asked to stop."""
    attempts: Attempts
    tail: Sequence[str] = field(default=())
    """Its last lines."""

    def raise_failure(self, name: str, run: RunFolder) -> None:
        """Raise Failed unless the program ended well, with the kind that it gave itself or that its end shows."""
        declared = declared_failure(run)
        if declared is not None:
            raise Failed(declared)
        if self.code == 0:
            return
        if self.code < 0:
            end = f"was killed by {signal.Signals(-self.code).name}"
        else:
            end = f"ended with exit code {self.code}"
        hint = ", which is what the system does when memory is short" if self._was_killed else ""
        quoted = f"Its last output: {' | '.join(self.tail)}" if self.tail else "It printed nothing."
        log = "All of its output is in its log (flipscale logs ID)."
        if str(run.path.resolve()) in quoted.partition("unrecognized arguments")[2]:
            log = "Its last argument is the run's folder: have it take that, or write {folder} where it belongs. " + log
        raise Failed(Cause(self._kind, f"{name} {end}{hint}. {log} {quoted}"))

    @property
    def _was_killed(self) -> bool:
        # A shell that ran the program reports its death by a signal as 128 and the signal.
        return self.code in (-signal.SIGKILL, 128 + signal.SIGKILL)

    @property
    def _kind(self) -> FailureKind:
        """The failure, by the program's exit and its last lines."""
        text = "\n".join(self.tail)
        if self._was_killed or any(word in text for word in ("MemoryError", "OutOfMemoryError", "out of memory")):
            return FailureKind.OOM
        if "No space left on device" in text or "Disk quota exceeded" in text:
            return FailureKind.DISK
        fault = fault_in(text)
        return fault.kind if fault else FailureKind.CODE


class Program:
    """A program at work. It leads a session of its own, so that its children are signalled and counted with it."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]):
        self.began = time.monotonic()
        self.starters_memory = peak_resident_memory()
        try:
            self._process = subprocess.Popen(
                arguments,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except (FileNotFoundError, NotADirectoryError):
            raise no_such_program(arguments[0]) from None
        except OSError as error:
            raise not_started(arguments[0], error.strerror) from error
        self.pid = self._process.pid
        self.born = birth(self.pid)
        self.usage: resource.struct_rusage | None = None
        # Read from the moment it starts: a program whose output nobody takes stands still.
        self.lines: queue.SimpleQueue[tuple[float, str]] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def code(self) -> int | None:
        """The exit code once the program has ended and what it wrote has been read; None before that."""
        if self.usage is None:
            # Unlike Popen's poll, wait4 reports what the program and the children it waited for have used.
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
            if not pid:
                return None
            self.usage, self._process.returncode = used, os.waitstatus_to_exitcode(status)
            # What outlives the program holds its output open, and would write into a folder that is no longer its own.
            self.signal(signal.SIGKILL)
            self._reader.join(timeout=5)
        return self._process.returncode

    def signal(self, signum: int) -> None:
        """Send a signal to the program and its children."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signum)

    def end(self) -> None:
        """Leave nothing of it alive."""
        while self.code() is None:
            self.signal(signal.SIGKILL)
            time.sleep(0.01)

    def _read(self, output: IO[bytes]) -> None:
        with output:
            for line in output:
                self.lines.put((time.monotonic(), line.decode(errors="replace").rstrip("\r\n").rpartition("\r")[2]))


Heed = Callable[[str, float, Program], None]
"""Called with each line of a program's output, the time (monotonic) it came, and the program."""


@dataclass(frozen=True)
class ProgramStart:
    """How a program is started."""

    arguments: Sequence[str]
    """The program and its arguments."""
    environment: Mapping[str, str | None] = field(default_factory=dict)
    """Environment variables to set for it, or with None to remove."""
    note: str = PROGRAM_NOTE
    """The file of the run's folder that says which process it is, and what it has used."""


def with_folder(arguments: Sequence[str], run: RunFolder) -> list[str]:
    """The arguments with the run's folder in place of {folder}, or after them."""
    folder = str(run.path.resolve())
    if any(FOLDER_ARGUMENT in argument for argument in arguments):
        return [argument.replace(FOLDER_ARGUMENT, folder) for argument in arguments]
    return [*arguments, folder]


def run_program(start: ProgramStart, run: RunFolder, lease: Lease, stop: Stop, *, heed: Heed | None = None) -> Ended:
    """Start a program on the run and stay with it until it has ended.

    Its output goes to log.txt, and each line of it is a sign of life. A signal that comes here is passed on to it and
    its children; after GRACE_SECONDS they are killed. They are killed too when the lease is lost or `heed` raises:
    nothing goes on without flipscale.
    """
    lease.mend_records()
    _end_leftover(run, start.note)
    attempts = known_attempts(run, start.note)
    attempts.attempts += 1
    say(run, f"attempt {attempts.attempts}: {' '.join(start.arguments)}")
    program = Program(start.arguments, environment_of(run, start.environment))
    earlier = replace(attempts)
    tail = deque[str](maxlen=TAIL)
    noted = -math.inf
    last_record = run.tail("metrics.jsonl", 64)
    killed_at: float | None = None
    try:
        with run.open_log() as log:
            while True:
                code = program.code()
                if code is not None or time.monotonic() - noted > HEARTBEAT_SECONDS:
                    noted = time.monotonic()
                    lease.fence()
                    if (last := run.tail("metrics.jsonl", 64)) != last_record:
                        last_record = last
                        lease.live(Doing.PROGRAM)
                    _count(attempts, earlier, program)
                    known = _Note(machine(), program.pid, program.born, attempts)
                    with lease.replace(start.note) as file:
                        file.write(json.dumps({"schema": 1, **asdict(known)}, indent=1).encode())
                for when, line in _waiting(program.lines, seconds=0.1 if code is None else 0.001):
                    log.write(f"{line}\n")
                    lease.live()
                    if line.strip() and not _IDLE_TALK.match(line):
                        tail.append(line.strip())
                    if heed is not None:
                        heed(line, when, program)
                log.flush()
                if code is not None:
                    return Ended(code, killed_at is not None, attempts, tuple(tail))
                if stop.signal is not None and killed_at is None:
                    say(run, f"passing {stop.name} on to process {program.pid}, which has {GRACE_SECONDS:.0f} s to end")
                    program.signal(stop.signal)
                    killed_at = time.monotonic() + GRACE_SECONDS
                if killed_at is not None and time.monotonic() > killed_at:
                    program.signal(signal.SIGKILL)
    finally:
        program.end()


def _waiting(lines: queue.SimpleQueue[tuple[float, str]], seconds: float) -> Iterator[tuple[float, str]]:
    """The lines that are there, or the first that comes within this number of seconds."""
    with contextlib.suppress(queue.Empty):
        yield lines.get(timeout=seconds)
        # No more than were there at first: a program that never stops talking must not keep us from all else.
        for _ in range(lines.qsize()):
            yield lines.get_nowait()


def environment_of(run: RunFolder, changes: Mapping[str, str | None]) -> dict[str, str]:
    """The environment of a program on the run, with these changes."""
    environment: dict[str, str | None] = {
        **os.environ,
        RUN_VARIABLE: str(run.path.resolve()),
        "PYTHONUNBUFFERED": "1",
        "PATH": search_path(),
        **changes,
    }
    return {name: value for name, value in environment.items() if value is not None}


def known_attempts(run: RunFolder, note: str = PROGRAM_NOTE) -> Attempts:
    """The record of the attempts so far; a new one before the first."""
    known = or_none(read_json, run.path / note, _Note)
    return (known and known.attempts) or Attempts(started=time.time())


def _end_leftover(run: RunFolder, note: str) -> None:
    """End the program of an attempt whose flipscale was killed: it may still live, and write."""
    known = or_none(read_json, run.path / note, _Note)
    if known is None or known.machine != machine() or not is_alive(known.pid, known.born):
        return
    pid = known.pid
    born = known.born
    if not is_ours(pid, born, variable=RUN_VARIABLE, values=[str(run.path.resolve())]):
        say(run, f"{note} names process {pid}, which was not started for this run: it is left alone")
    else:
        say(run, f"ending process {pid}, left over from an attempt whose flipscale was killed")
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        while is_alive(pid, born):
            time.sleep(0.05)


def _count(attempts: Attempts, earlier: Attempts, program: Program) -> None:
    """Bring the record of the program up to date."""
    attempts.seconds = earlier.seconds + program.seconds
    if program.usage is None:
        cpu, memory = usage(program.pid)
    else:
        cpu = program.usage.ru_utime + program.usage.ru_stime
        memory = 1024 * program.usage.ru_maxrss
        # Linux counts what the process that started it held as the program's: only more than that is its own. Otherwise
        # what was seen while it lived stands.
        memory = memory if program.starters_memory is not None and memory > program.starters_memory else 0
    # Children that it did not wait for were seen while they lived, and are not in what it used at its end.
    attempts.cpu_seconds = max(attempts.cpu_seconds, earlier.cpu_seconds + cpu)
    attempts.peak_memory_bytes = max(attempts.peak_memory_bytes or 0, memory) or None


def usage(session: int) -> tuple[float, int]:
    """CPU seconds of all processes of a session so far, and the bytes in memory of the largest."""
    seconds = 0.0
    memory = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == session:
                used = process.cpu_times()
                seconds += used.user + used.system + used.children_user + used.children_system
                memory = max(memory, process.memory_info().rss)
    return seconds, memory


def declared_failure(run: RunFolder) -> Cause | None:
    """The failure that the program itself wrote into error.json."""
    error = run.error()
    if error is None:
        return None
    kind = error.kind if error.kind in DECLARABLE_KINDS else FailureKind.CODE
    return Cause(kind, error.reason or "The program's error.json gives no reason.")
