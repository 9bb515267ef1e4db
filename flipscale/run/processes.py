"""Processes of this machine that files name: whether one lives, and whether it is ours to signal."""

import contextlib
import functools
import os
import socket
from collections.abc import Collection
from pathlib import Path


@functools.cache
def machine() -> str:
    """This machine, as far as its processes are seen from here: its boot, and the PID namespace of this container. Two
    machines or containers may have the same host name. Without /proc (macOS) the host name has to do."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def birth(pid: int) -> str | None:
    """When process `pid` was started, in ticks since boot; None if it is gone or a zombie.

    Without /proc (macOS) the answer is '' for a process that lives.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        if _has_proc():
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return ""
    return None if fields[0] == "Z" else fields[19]


def is_alive(pid: int, born: str | None) -> bool:
    """Whether process `pid` of this host lives and is the one that was born at `born` (pids are reused).

    A file that does not say when it was born names no process.
    """
    return pid > 0 and born is not None and birth(pid) == born


def is_ours(pid: int, born: str | None, *, argument: str | None = None, variable: str, values: Collection[str]) -> bool:
    """Whether a process that a file names is one that flipscale started for it, so that it may be signalled.

    It must be alive, born at `born`, the user's, and started with `variable` set to one of `values` and, if given, with
    the path `argument` on its command line. Whoever writes the file cannot give another process these marks.
    Without /proc (macOS) only whether it is alive is known.
    """
    if not is_alive(pid, born):
        return False
    if not _has_proc():
        return True
    with contextlib.suppress(OSError):
        process = Path(f"/proc/{pid}")
        if process.stat().st_uid != os.geteuid():
            return False
        environment = (process / "environ").read_bytes().split(b"\0")
        arguments = (process / "cmdline").read_bytes().split(b"\0")
        is_started_so = any(os.fsencode(f"{variable}={value}") in environment for value in values)
        return is_started_so and (argument is None or _real(os.fsencode(argument)) in map(_real, arguments))
    return False


def _real(path: bytes) -> bytes:
    return os.path.realpath(path) if path.startswith(b"/") else path


def _has_proc() -> bool:
    return Path("/proc/self").is_dir()
