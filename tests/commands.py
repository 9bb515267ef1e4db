"""The command line in processes of its own, which find what it imports in memory already.

An interpreter takes a second and more to load pandas, matplotlib and scipy, and tests give some hundred commands. Here
a command is `python -m flipscale` in a process that is forked from one that has loaded them and does nothing else. The
tests of the tutorials, of the wheel, of docs/full-scale.md and of other locales start interpreters, as users do.

Figures are drawn as SVG alone: PNG and PDF of each take three quarters of the time. Those tests have them drawn.
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
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path

ROOT = Path(__file__).parents[1]

LOADED = (
    *("flipscale.cli", "flipscale.workflow", "flipscale.launch", "flipscale.collect", "flipscale.compare"),
    *("flipscale.fit", "flipscale.plot", "flipscale.report", "flipscale.workflow.drawn", "flipscale.cli.tables"),
)
"""What commands import when they need it. Neither torch nor MLflow: few of them do, and both start threads."""


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


def flipscale(*arguments: str, cwd: Path = ROOT, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command line; whatever happens, a user never sees a traceback."""
    with tempfile.TemporaryDirectory() as folder, on_one_core():
        said = [Path(folder, name) for name in ("stdout", "stderr")]
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        process = _server().Process(target=_command, args=(arguments, cwd, said, dict(os.environ), cores))
        process.start()
        process.join()
        out, err = (path.read_text(encoding="utf-8") for path in said)
    done = subprocess.CompletedProcess(arguments, process.exitcode or 0, out, err)
    process.close()
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == code, f"exit {done.returncode}: {done.stdout}{done.stderr}"
    return done


@functools.cache
def _server() -> ForkServerContext:
    """The process that has loaded everything, and ends with this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LOADED))
    return context


def _command(
    arguments: Sequence[str], cwd: Path, said: Sequence[Path], environment: Mapping[str, str], cores: set[int] | None
) -> None:
    """In the forked process: what `python -m flipscale` does."""
    from flipscale.plot import FORMATS  # Loaded there already; whoever imports this module does without matplotlib.

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
    sys.argv = ["flipscale", *arguments]
    runpy.run_module("flipscale", run_name="__main__", alter_sys=True)
