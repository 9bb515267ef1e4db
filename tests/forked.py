"""Processes that are forked from one that has loaded their modules, and otherwise are as new interpreters are.

A new interpreter takes longer to load torch and open_clip than the small trainings of tests take. So where they are in
memory (tests/zygote.py), `Popen` forks when it is to start `python -P -m flipscale`. The process has the environment,
the command line (in /proc too, where flipscale recognises its processes), descriptors, session and signal handlers of
a new one, and nothing that flipscale keeps in memory. It does not call the handlers of atexit. Popen starts an
interpreter for any other program, without /proc, from a process of several threads, and where a variable differs that
Python or torch read when they start, as for a worker with a GPU.
"""

import contextlib
import ctypes
import functools
import inspect
import os
import runpy
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Collection, Iterable, Mapping, Sequence
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, NoReturn

from tests import zygote

MODULES = ["flipscale", "flipscale.launch.local.task"]
"""What is forked after `python -m`."""

READ_AT_START = {
    *("PYTHONPATH", "PYTHONHASHSEED", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONWARNINGS", "LC_ALL", "LC_CTYPE", "LANG"),
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
    "CUDA_VISIBLE_DEVICES",
}
"""Variables that Python, torch or a library below them reads once. With GPUs each worker has the last one."""

_ORDINARY = {
    "executable": None, "shell": False, "close_fds": True, "restore_signals": True, "startupinfo": None,
    "gid": None, "gids": None, "uid": None, "umask": -1, "process_group": -1,
}  # fmt: skip
"""Options of Popen that a forked process does not have at other values."""

_options = inspect.signature(subprocess.Popen._execute_child)


class Popen(subprocess.Popen[Any]):
    """subprocess.Popen, but for flipscale's processes it forks."""

    def _execute_child(self, *given: Any) -> None:
        asked = _options.bind(self, *given).arguments
        environment = dict(os.environ if asked["env"] is None else asked["env"])
        if not _can_be_forked(asked, environment):
            super()._execute_child(*given)
            return
        pipes = [asked[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")]
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        started, starting = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _be_new(asked, environment, starting)
        self._child_created = True
        os.close(starting)
        self._close_pipe_fds(*pipes)
        with open(started, "rb") as pipe:  # As Popen does, return when the process is what it is to be.
            pipe.read()


def _can_be_forked(asked: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
    arguments = asked["args"]
    return (
        isinstance(arguments, list)
        and arguments[0] == sys.executable
        and _after_dash_m(arguments)[:1] in [[module] for module in MODULES]
        and {name: asked[name] for name in _ORDINARY} == _ORDINARY
        and _read_at_start(environment) == _read_at_start(zygote.STARTED_WITH)
        and _is_one_thread()
        and all(
            len(_as_in_memory(strings)) < end - start
            for strings, (start, end) in zip((arguments, _assignments(environment)), _places(), strict=True)
        )
    )


def _after_dash_m(arguments: Sequence[str]) -> Sequence[str]:
    """The module and its arguments where this is `python -m` or `python -P -m`."""
    words = arguments[2 if arguments[1:2] == ["-P"] else 1 :]
    return words[1:] if words[:1] == ["-m"] else []


def _is_one_thread() -> bool:
    """Whether a forked process would lack no thread; never without /proc."""
    tasks = Path("/proc/self/task")
    return tasks.is_dir() and len(os.listdir(tasks)) == 1


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name in READ_AT_START}


# In the new process


def _be_new(asked: Mapping[str, Any], environment: Mapping[str, str], starting: int) -> NoReturn:
    """Be what Popen is asked for, close `starting`, and end with the exit code of the module."""
    code = 1
    try:
        for number, end in enumerate([asked["p2cread"], asked["c2pwrite"], asked["errwrite"]]):
            if end != -1:
                os.dup2(end, number)
        if asked["cwd"] is not None:
            os.chdir(asked["cwd"])
        if asked["start_new_session"]:
            os.setsid()
        if asked["preexec_fn"] is not None:
            asked["preexec_fn"]()
        _close_all_but({0, 1, 2, starting, *asked["pass_fds"]})
        _handle_no_signals()
        os.environ.clear()  # before the place of its first strings is written to
        _show_in_proc(asked["args"], environment)
        os.environ.update(environment)
        _forget()
        os.close(starting)
        code = _run(*_after_dash_m(asked["args"]))
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _close_all_but(kept: Collection[int]) -> None:
    sys.stdin = open(0, closefd=False)  # noqa: SIM115, that of the forkserver has another number
    for number in map(int, os.listdir("/proc/self/fd")):
        if number not in kept:
            with contextlib.suppress(OSError):
                os.close(number)


def _handle_no_signals() -> None:
    """Have the signal handlers of a new interpreter: ignored signals still are."""
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, signal.SIG_DFL)
    for signum in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(signum, signal.SIG_IGN)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _show_in_proc(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Have /proc show the command line and the environment, which it reads where the first ones lie in memory."""
    for strings, (start, end) in zip((arguments, _assignments(environment)), _places(), strict=True):
        ctypes.memmove(start, _as_in_memory(strings).ljust(end - start, b"\0"), end - start)


def _places() -> list[tuple[int, int]]:
    """The addresses at which the command line and the environment begin and end."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end, begin_environment, end_environment = map(int, fields[45:49])
    return [(begin, end), (begin_environment, end_environment)]


def _assignments(environment: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in environment.items()]


def _as_in_memory(strings: Iterable[str]) -> bytes:
    return b"".join(os.fsencode(string) + b"\0" for string in strings)


def _forget() -> None:
    """Empty what flipscale keeps in memory, and drop the ties to the process that forked this one."""
    for name, module in tuple(sys.modules.items()):
        if name.partition(".")[0] == "flipscale":
            for kept in vars(module).values():
                if isinstance(kept, functools._lru_cache_wrapper):
                    kept.cache_clear()
    # multiprocessing's processes of the one that forked this one, which are not there for this one
    resource_tracker._resource_tracker._fd = resource_tracker._resource_tracker._pid = None


def _run(module: str, *arguments: str) -> int:
    """Do what `python -m` does, and return the exit code."""
    sys.orig_argv = [sys.executable, "-m", module, *arguments]
    sys.argv = [module, *arguments]
    if not hasattr(sys.modules.get(module), "__path__"):
        sys.modules.pop(module, None)
    code: object = None
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    threading._shutdown()
    if code is None or isinstance(code, int):
        return code or 0
    print(code, file=sys.stderr)
    return 1
