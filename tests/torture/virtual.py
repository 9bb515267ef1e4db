"""A virtual machine room: hosts with clocks of their own, processes as greenlets, and time that only sleep moves.

While a `World` runs, it answers what launchers and leases ask of the system: time, sleep, pids, host names, the
environment, signals, file locks, and when a file was touched. flipscale's own code runs unchanged, hours of it in a
second, and the seed determines each course of events.
"""

import contextlib
import fcntl
import heapq
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import types
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import greenlet

from flipscale.run import lease as lease_module

REAL = types.SimpleNamespace(
    time=time.time, flock=fcntl.flock, utime=os.utime, replace=Path.replace, getpid=os.getpid, environ=os.environ
)


class Ended(BaseException):
    """The process of a virtual program ends."""

    def __init__(self, code: int):
        super().__init__(code)
        self.code = code


class Process:
    """A virtual process, on a host, with an environment and handlers of signals."""

    def __init__(self, world: "World", pid: int, host: str, environ: Mapping[str, str], tag: str):
        self.world, self.pid, self.host, self.tag = world, pid, host, tag
        self.environ = dict(environ)
        self.handlers: dict[int, Any] = {}
        self.threads: list[greenlet.greenlet] = []
        self.returncode: int | None = None
        self.born = f"{world.now:.6f}"

    # What Popen has

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, signum: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.world.kill(self.pid, signum)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def end(self, code: int) -> None:
        """End it at once. The kernel drops its locks."""
        if self.returncode is None:
            self.returncode = code
            for lock in [lock for lock, holder in self.world.locks.items() if holder is self]:
                del self.world.locks[lock]
                with contextlib.suppress(OSError):
                    REAL.flock(lock, fcntl.LOCK_UN)


class World:
    """Time, hosts and processes. `run` goes on until nothing is left to happen, or `until` is true."""

    def __init__(self, draw: random.Random, hosts: Mapping[str, float]):
        """hosts: how far the clock of each is off, in seconds."""
        self.draw = draw
        self.hosts = dict(hosts)
        self.now = 0.0
        self.epoch = REAL.time()
        self.current: Process | None = None
        self.processes: dict[int, Process] = {}
        self.locks: dict[int, Process] = {}
        """The process that last locked the file of each descriptor."""
        self.is_over = False
        self.programs: Callable[[list[str]], tuple[int, str, str]] | None = None
        """What programs of a scheduler answer: exit code, stdout, stderr."""
        self.start: Callable[[list[str], Mapping[str, str]], Process] | None = None
        """Starts a worker by its command."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._hub = greenlet.getcurrent()

    def at(self, when: float, do: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (when, self._number, do))

    def spawn(self, host: str, environ: Mapping[str, str], program: Callable[[], Any], tag: str = "") -> Process:
        process = Process(self, 1000 + len(self.processes), host, environ, tag)
        self.processes[process.pid] = process

        def main() -> None:
            try:
                process.end(program() or 0)
            except Ended as end:
                process.end(end.code)

        self.thread(process, main)
        return process

    def thread(self, process: Process, do: Callable[[], None]) -> None:
        thread = greenlet.greenlet(do, self._hub)
        process.threads.append(thread)
        self.at(self.now, lambda: self._resume(process, thread))

    def _resume(self, process: Process, thread: greenlet.greenlet) -> None:
        if process.returncode is not None or thread.dead:
            return
        self.current = process
        os.environ = process.environ  # type: ignore[assignment]  # noqa: B003
        try:
            thread.switch()
        finally:
            self.current = None
            os.environ = REAL.environ  # noqa: B003

    def run(self, until: Callable[[], bool]) -> None:
        while self._events and not until():
            when, _, do = heapq.heappop(self._events)
            self.now = max(self.now, when)
            do()

    def close(self) -> None:
        """Unwind all threads; they can do nothing any more."""
        self.is_over = True
        for process in self.processes.values():
            process.end(-9)
            for thread in process.threads:
                if not thread.dead and thread:
                    with contextlib.suppress(BaseException):
                        thread.throw(greenlet.GreenletExit)

    # What processes ask for

    def sleep(self, seconds: float) -> None:
        process, thread = self.current, greenlet.getcurrent()
        if self.is_over or process is None:
            raise greenlet.GreenletExit
        self.at(self.now + max(seconds, 1e-3), lambda: self._resume(process, thread))
        self._hub.switch()

    def time(self) -> float:
        return self.epoch + self.now + (self.hosts[self.current.host] if self.current else 0.0)

    def kill(self, pid: int, signum: int) -> None:
        process = self.processes.get(pid)
        if process is None or process.returncode is not None:
            raise ProcessLookupError(pid)
        handler = process.handlers.get(signum)
        if signum in (0, signal.SIGCONT, signal.SIGQUIT):
            return
        if callable(handler) and signum != signal.SIGKILL:
            handler(signum, None)
        else:
            process.end(-int(signum))

    def birth(self, pid: int) -> str | None:
        process = self.processes.get(pid)
        if process is None or process.returncode is not None:
            return None
        here = self.current.host if self.current else process.host
        return process.born if process.host == here else None

    def flock(self, file: Any, how: int) -> None:
        """Lock a file; a process that waits for the lock lets the others run."""
        descriptor = file if isinstance(file, int) else file.fileno()
        while True:
            try:
                REAL.flock(descriptor, how | fcntl.LOCK_NB)
            except BlockingIOError:
                if how & fcntl.LOCK_NB:
                    raise
                self.sleep(0.5)
            else:
                if self.current is not None:
                    self.locks[descriptor] = self.current
                return

    def touch(self, path: Any, times: Any = None, **more: Any) -> None:
        """Set times by the clock of the file server, up to 3 s old, because hosts cache attributes."""
        seen = self.epoch + self.now - self.draw.uniform(0, 3)
        REAL.utime(path, times or (seen, seen), **more)

    def flush(self, descriptor: int) -> None:
        """On a busy file server a flush takes a while, in which other processes run."""
        if self.current is not None and self.draw.random() < 0.2:
            self.sleep(self.draw.choice((0.01, 0.5, 3.0)))

    def replace(self, path: Path, target: Any) -> Path:
        moved: Path = REAL.replace(path, target)
        self.touch(moved)
        return moved

    def signal(self, signum: int, handler: Any) -> Any:
        assert self.current is not None
        before = self.current.handlers.get(signum)
        self.current.handlers[signum] = handler
        return before

    def answer(self, command: Any, **options: Any) -> "subprocess.CompletedProcess[str]":
        assert self.programs is not None
        code, said, errors = self.programs([str(word) for word in command])
        return subprocess.CompletedProcess(command, code, said, errors)

    def popen(self, command: Any, env: Mapping[str, str] | None = None, **options: Any) -> Process:
        assert self.start is not None
        return self.start([str(word) for word in command], dict(env or os.environ))

    @contextlib.contextmanager
    def instead_of_the_system(self) -> Iterator[None]:
        """While the block runs, this world replaces the system calls of the code."""
        world = self

        class Thread:
            def __init__(self, target: Callable[[], None], daemon: bool = False):
                self.target = target

            def start(self) -> None:
                assert world.current is not None
                world.thread(world.current, self.target)

        class Event:
            def __init__(self) -> None:
                self.is_set = False

            def set(self) -> None:
                self.is_set = True

            def wait(self, seconds: float) -> bool:
                if not self.is_set:
                    world.sleep(seconds)
                return self.is_set

        threads = types.SimpleNamespace(Thread=Thread, Event=Event)
        instead: list[tuple[Any, str, Any]] = [
            (time, "time", self.time),
            (time, "monotonic", lambda: 1e6 + self.now),
            (time, "sleep", self.sleep),
            (os, "getpid", lambda: self.current.pid if self.current else REAL.getpid()),
            (os, "kill", self.kill),
            (os, "utime", self.touch),
            (os, "fsync", self.flush),
            (socket, "gethostname", lambda: self.current.host if self.current else "nowhere"),
            (fcntl, "flock", self.flock),
            (signal, "signal", self.signal),
            (subprocess, "run", self.answer),
            (subprocess, "Popen", self.popen),
            (shutil, "which", lambda name, *rest, **more: f"/bin/{name}"),
            (Path, "replace", lambda path, target: self.replace(path, target)),
            (secrets, "token_hex", lambda size: self.draw.randbytes(size).hex()),
            (uuid, "uuid4", lambda: uuid.UUID(bytes=self.draw.randbytes(16))),
            (lease_module, "threading", threads),
        ]
        by_name = {
            "birth": self.birth,
            "is_ours": lambda pid, born, **more: born is not None and self.birth(pid) == born,
        }
        modules = [module for name, module in sys.modules.items() if name.startswith("flipscale.")]
        instead += [(one, name, do) for one in modules for name, do in by_name.items() if callable(vars(one).get(name))]
        with contextlib.ExitStack() as stack:
            for owner, name, value in instead:
                stack.enter_context(mock.patch.object(owner, name, value))
            yield
