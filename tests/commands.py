"""The command line in processes forked from one that has loaded what commands import.

An interpreter takes a second and more to load pandas, matplotlib and scipy, and four more to load torch and open_clip.
Local workers of a command that is waited for, and their trainings, are forked too. They are interpreters, as for users,
where somebody may cancel them, and where tests are about that, as commands are: the wheel, docs/full-scale.md, other
locales. Tests of launchers start interpreters.

Figures are drawn as SVG alone: PNG and PDF of each take three quarters of the time. Those tests have them drawn.
"""

import contextlib
import ctypes
import functools
import itertools
import multiprocessing
import os
import random
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkProcess, ForkServerContext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from flipscale.launch.launcher import threads
from flipscale.launch.workers import ASKED_TO_STOP, ends_with_this_process

ROOT = Path(__file__).parents[1]

LOADED = (
    *("flipscale.cli", "flipscale.workflow", "flipscale.launch.local", "flipscale.collecting", "flipscale.comparing"),
    *("flipscale.fitting", "flipscale.plotting", "flipscale.reporting"),
    *("flipscale.workflow.drawn", "flipscale.cli.tables"),
    *("flipscale.train", "flipscale.train.trainers.builtin.pretrain", "flipscale.train.trainers.builtin.timing"),
)
"""What is imported only when it is needed. MLflow is not among it: few commands use it, and it starts threads."""


@contextlib.contextmanager
def on_one_core() -> Iterator[None]:
    """What starts in the block finds a machine of one core. Training then has one worker: to start a second one would
    take longer than these small runs do.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {random.choice(sorted(cores))})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


class Process:
    """A process that has everything in memory, and calls a function of a module of tests."""

    def __init__(self, function: Callable[..., object], *arguments: Any, cwd: Path = ROOT):
        self.arguments = arguments
        self._folder = tempfile.TemporaryDirectory()
        self._said = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        given = (self._said, cwd, dict(os.environ), cores, function, arguments)
        self._process = _server().Process(target=_call, args=given)
        self._process.start()

    def send_signal(self, signum: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, signum)

    def end(self, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Wait until it has ended with this exit code; whatever happens, a user never sees a traceback."""
        self._process.join()
        out, err = (path.read_text(encoding="utf-8") for path in self._said)
        done = subprocess.CompletedProcess(self.arguments, self._process.exitcode or 0, out, err)
        self._process.close()
        self._folder.cleanup()
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == code, f"exit {done.returncode}: {done.stdout}{done.stderr}"
        return done


def start(*arguments: str, cwd: Path = ROOT) -> Process:
    """Start the command line."""
    return Process(_command, *arguments, cwd=cwd)


def flipscale(*arguments: str, cwd: Path = ROOT, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    # What cancels a worker knows it by the environment and the arguments with which its interpreter began.
    call = _command if "--detach" in arguments else _command_with_forks
    with on_one_core():
        return Process(call, *arguments, cwd=cwd).end(code)


def train(file: str, cwd: Path) -> None:
    """Train the runs of a study below cwd/results, as a worker does, where no test is about launching."""
    Process(_train, file, cwd=cwd).end()


@functools.cache
def _server() -> ForkServerContext:
    """The process that has loaded everything, and ends with this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LOADED))
    # Libraries read once how many threads they are to use: as many as those of a worker of this machine.
    with mock.patch.dict(os.environ, threads(1)), contextlib.chdir(ROOT):
        forkserver.ensure_running()
    return context


def _call(
    said: Sequence[Path],
    cwd: Path,
    environment: Mapping[str, str],
    cores: set[int] | None,
    function: Callable[..., object],
    arguments: Sequence[Any],
) -> None:
    """In the forked process: call the function in these surroundings."""
    from flipscale.plotting import FORMATS  # loaded there already; whoever imports this module does without

    for number, path in enumerate(said, start=1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
        os.close(file)
    if cores:
        os.sched_setaffinity(0, cores)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for name in {*FORMATS} - {"svg"}:
        del FORMATS[name]  # in the one table that all modules share
    function(*arguments)


def _command(*arguments: str) -> None:
    """What `python -m flipscale` does."""
    sys.argv = ["flipscale", *arguments]
    runpy.run_module("flipscale", run_name="__main__", alter_sys=True)


def _command_with_forks(*arguments: str) -> None:
    """The same, but what it starts on this machine is forked."""
    from flipscale.launch.local import launcher

    vars(launcher)["subprocess"] = _FORKING
    _command(*arguments)


def _popen(command: Sequence[str], **options: Any) -> "_Forked | subprocess.Popen[bytes]":
    """As subprocess.Popen has it; flipscale's own modules are forked."""
    ending = ends_with_this_process([])
    ends_with_parent = [*command[: len(ending)]] == ending
    _, *words = command[len(ending) :] if ends_with_parent else command
    if words[:2] != ["-P", "-m"]:
        return subprocess.Popen(command, **options)
    return _Forked(words[2:], ends_with_parent, **options)


_FORKING = SimpleNamespace(**{**vars(subprocess), "Popen": _popen})


class _Forked(ForkProcess):
    """As much of a Popen as launching needs."""

    def __init__(self, words: Sequence[str], ends_with_parent: bool, **options: Any):
        super().__init__(target=_begin, args=(words, ends_with_parent), kwargs=options)
        self.start()

    def poll(self) -> int | None:
        return self.exitcode

    @property
    def returncode(self) -> int | None:
        return self.exitcode

    def send_signal(self, signum: int) -> None:
        if self.pid is not None and self.exitcode is None:
            os.kill(self.pid, signum)


def _begin(
    words: Sequence[str],
    ends_with_parent: bool,
    *,
    stdin: int,
    stdout: Any = None,
    stderr: int | None = None,
    env: Mapping[str, str] | None = None,
    start_new_session: bool = False,
    pass_fds: Sequence[int] = (),
) -> None:
    """In the forked process: what Popen does for one that begins, then what its command does."""
    if ends_with_parent:
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if start_new_session:
        os.setsid()
    for signum in ASKED_TO_STOP:
        signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if stdout is not None:
        os.dup2(stdout.fileno(), 1)
        os.dup2(stdout.fileno(), 2)
    # Locks above all: those of other workers are not its own.
    for before, after in itertools.pairwise([2, *sorted(pass_fds), 65_536]):
        os.closerange(before + 1, after)
    if env is not None:
        os.environ.clear()
        os.environ.update(env)
    module, *arguments = words
    (_worker if module == "flipscale.launch.local.task" else _command)(*arguments)


def _worker(path: str, number: str, locks: str, *command: str) -> None:
    """What `python -m flipscale.launch.local.task` does."""
    from flipscale.launch.local import task

    vars(task)["subprocess"] = _FORKING
    sys.exit(task.main(Path(path), int(number), [int(lock) for lock in locks.split(",")], command))


def _train(file: str) -> None:
    from flipscale.planning import plan
    from flipscale.run import RunFolder, RunRequest
    from flipscale.study import read_study
    from flipscale.train import train

    folders = []
    for run in plan(read_study(file)).runs:
        folders.append(RunFolder(Path("results/runs") / run.id))
        folders[-1].ask(RunRequest.of(run))
    sys.exit(train([folder.path for folder in folders]))
