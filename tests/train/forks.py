"""Processes that train, forked from one that has loaded torch and open_clip: to load both takes longer than to train.

That one is this module run as a program. It forks a process for each line of its standard input and says how they
ended, and ends with the test session. Processes that `flipscale train` starts itself are interpreters, as for users.
"""

import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]

SLOWLY = """
import time
from flipscale.train.trainers.builtin.training import Training
step = Training.step
def slowly(*arguments):
    time.sleep(0.2)
    step(*arguments)
Training.step = slowly
"""
"""Code with which a run of 20 steps takes long enough to be disturbed."""


class Forked:
    """A process that runs `code`, as much of a Popen as tests need."""

    def __init__(self, code: str, **environment: str) -> None:
        file, name = tempfile.mkstemp(prefix="flipscale-said-")
        os.close(file)
        self._said = Path(name)
        self.pid: int = _ask(code=code, said=name, environment={**os.environ, **environment})
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = _ask(pid=self.pid)
        return self.returncode

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)

    def communicate(self, timeout: float = PATIENCE) -> tuple[None, str]:
        """Wait for its end; what it said on stderr. A test calls this or `wait`, once."""
        until = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("a forked training", timeout)
            time.sleep(0.01)
        said = self._said.read_text(encoding="utf-8")
        self._said.unlink()
        return None, said

    def wait(self) -> int:
        self.communicate()
        assert self.returncode is not None
        return self.returncode


def _ask(**what: Any) -> Any:
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(what) + "\n")
    server.stdin.flush()
    return json.loads(server.stdout.readline())


@functools.cache
def _server() -> "subprocess.Popen[str]":
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.train.forks"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    atexit.register(server.communicate)
    return server


# The process that is forked


def main() -> None:
    # What a training imports in the course of it, too.
    import flipscale.train.evaluate
    import flipscale.train.trainers.builtin.prepare
    import flipscale.train.trainers.builtin.pretrain  # noqa: F401

    for line in sys.stdin:
        asked = json.loads(line)
        answer = _end_of(asked["pid"]) if "pid" in asked else _start(**asked)
        print(json.dumps(answer), flush=True)


def _end_of(pid: int) -> int | None:
    """The exit code of a process, or minus the signal that killed it; None while it runs."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _start(code: str, said: str, environment: Mapping[str, str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        nothing, file = os.open(os.devnull, os.O_RDWR), os.open(said, os.O_WRONLY | os.O_APPEND)
        for number, of in ((0, nothing), (1, nothing), (2, file)):
            os.dup2(of, number)
        os.environ.clear()
        os.environ.update(environment)
        exec(code, {"__name__": "__main__"})
        ended = 0
    except SystemExit as error:
        ended = error.code if isinstance(error.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        ended = 1
    sys.stderr.flush()
    os._exit(ended)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends pytest, and that its standard input.
    main()
