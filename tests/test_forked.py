"""A process that is forked differs from a new interpreter in what it has loaded, and in nothing else."""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from flipscale.architecture import architecture
from flipscale.launch.launcher import threads
from flipscale.run import JOB, birth, is_ours
from tests.commands import ROOT, Process

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="without /proc every process is a new interpreter"),
]

Kind = type[subprocess.Popen[Any]]


def in_process(function: Callable[[], object], tmp_path: Path) -> Any:
    """What the function prints as JSON in a process that has everything in memory."""
    return json.loads(Process(function, cwd=tmp_path).end().stdout)


def kinds() -> tuple[Kind, Kind]:
    """The Popen that forks, and Python's."""
    from tests import forked

    forked.MODULES.append("tests.look")
    assert forked.Popen.__base__ is not None
    return forked.Popen, forked.Popen.__base__


def start(kind: Kind, *arguments: str, more: Mapping[str, str] = {}, **options: Any) -> subprocess.Popen[str]:
    """more: variables beside those that a worker of this machine has."""
    command = [sys.executable, "-m", "tests.look", *arguments]
    environment = {**os.environ, **threads(1), **more}
    options |= {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return kind(command, cwd=ROOT, text=True, **options)


def look_from_both() -> None:
    architecture("ViT-B-16")
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    inherited, _ = (os.open(os.devnull, os.O_RDONLY) for _ in range(2))
    said = []
    for kind in kinds():
        process = start(
            *(kind, "look", "more"),
            more={JOB: "local/a/0"},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[inherited],
            preexec_fn=functools.partial(os.umask, 0o27),
        )
        out, _ = process.communicate()
        said.append({**json.loads(out), "code": process.returncode, "args": process.args})
    print(json.dumps(said))


def test_it_has_what_a_new_interpreter_has(tmp_path: Path) -> None:
    forked, started = in_process(look_from_both, tmp_path)
    assert (forked.pop("has torch"), started.pop("has torch")) == (True, False)
    assert forked.pop("drawn") != started.pop("drawn")
    assert forked == started
    assert forked["folder"] == str(ROOT)
    assert forked["in /proc"]["cmdline"][1:] == ["-m", "tests.look", "look", "more"]


def end_both() -> None:
    said = []
    for kind in kinds():
        for how in ("code", "words", "raise"):
            process = start(kind, how)
            out, _ = process.communicate()
            said.append((process.returncode, out.splitlines()[-1:]))
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL):
            process = start(kind, "wait")
            assert process.stdout is not None
            process.stdout.readline()
            assert process.poll() is None
            process.send_signal(signum)
            said.append((process.wait(), []))
    print(json.dumps(said))


def test_it_ends_as_a_new_interpreter_does(tmp_path: Path) -> None:
    words = [[3, []], [1, ["words"]], [1, ["ValueError: raised"]]]
    assert in_process(end_both, tmp_path) == [*words, [-2, []], [-15, []], [-10, []], [-9, []]] * 2


def recognise() -> None:
    process = start(kinds()[0], "wait", "/a/submission", more={JOB: "local/a/0"})
    born = birth(process.pid)
    asked = [("/a/submission", "local/a/0"), ("/a/submission", "local/a/1"), ("/another", "local/a/0")]
    print(json.dumps([is_ours(process.pid, born, argument=path, variable=JOB, values=[job]) for path, job in asked]))
    process.kill()
    process.wait()


def test_flipscale_recognises_it_by_its_command_line_and_job(tmp_path: Path) -> None:
    assert in_process(recognise, tmp_path) == [True, False, False]


@contextlib.contextmanager
def a_thread() -> Iterator[None]:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    yield
    done.set()
    thread.join()


def look_where_it_cannot_be_forked() -> None:
    kind, _ = kinds()
    with a_thread():
        processes = [start(kind, "look")]
    variables = [{"OMP_NUM_THREADS": "2"}, {"LONG": "x" * 60_000}]
    processes += [start(kind, "look", more=more) for more in variables]
    processes += [start(kind, "look", umask=0o27), start(kind, "look")]
    print(json.dumps([json.loads(process.communicate()[0])["has torch"] for process in processes]))


def test_it_is_an_interpreter_where_a_fork_would_differ(tmp_path: Path) -> None:
    assert in_process(look_where_it_cannot_be_forked, tmp_path) == [False] * 4 + [True]
