"""The command line in processes forked from one that has loaded what commands import.

An interpreter takes a second and more to load pandas, matplotlib and scipy, and two more to load torch and open_clip.
Workers and trainings that a command starts are interpreters, as for users. So are commands where tests are about that:
the wheel, docs/full-scale.md and other locales.
"""

import contextlib
import functools
import multiprocessing
import os
import random
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any
from unittest import mock

from flipscale.launch.launcher import threads

ROOT = Path(__file__).parents[1]

LOADED = (
    *("flipscale.cli", "flipscale.workflow", "flipscale.launch.local", "flipscale.collecting"),
    *(
        "flipscale.analysis.comparing",
        "flipscale.analysis.fitting",
        "flipscale.analysis.plotting",
        "flipscale.analysis.reporting",
    ),
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
    with on_one_core():
        return start(*arguments, cwd=cwd).end(code)


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
    for number, path in enumerate(said, start=1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
        os.close(file)
    if cores:
        os.sched_setaffinity(0, cores)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    function(*arguments)


def _command(*arguments: str) -> None:
    """What `python -m flipscale` does."""
    sys.argv = ["flipscale", *arguments]
    runpy.run_module("flipscale", run_name="__main__", alter_sys=True)


def _train(file: str) -> None:
    from flipscale.planning.runs import plan
    from flipscale.run import RunFolder, RunRequest
    from flipscale.study import read_study
    from flipscale.train import train

    folders = []
    for run in plan(read_study(file)).runs:
        folders.append(RunFolder(Path("results/runs") / run.id))
        folders[-1].ask(RunRequest.of(run))
    sys.exit(train([folder.path for folder in folders]))
