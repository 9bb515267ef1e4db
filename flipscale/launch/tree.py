"""A process and all that it started, on this machine: seen in /proc, and killed together."""

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import NamedTuple


class _Entry(NamedTuple):
    state: str
    parent: int
    session: int


def tree(pid: int) -> list[int]:
    """The pids of a living process and of all that came from it, its own first.

    The sessions that they lead belong to it as a whole. Without /proc (macOS) it is the process alone.
    """
    entries = _entries()
    if not entries:
        return [pid]
    found = [pid] if pid in entries else []
    for process in found:  # The list grows in the loop.
        found += [other for other, entry in entries.items() if process in entry[1:] and other not in found]
    return found


def is_stopped(pid: int) -> bool:
    """Whether the process is stopped, as by SIGSTOP."""
    entry = _entries().get(pid)
    return entry is not None and entry.state in "Tt"


def kill_tree(pid: int) -> None:
    """Kill the process and all that came from it. Stopped ones are killed as well."""
    doomed: set[int] = set()
    while new := set(tree(pid)) - doomed:  # It may start others until it is dead.
        doomed |= new
        for process in new:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)


def _entries() -> dict[int, _Entry]:
    """All processes of this machine but zombies."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if fields[0] not in "ZX":
                found[int(stat.parent.name)] = _Entry(fields[0], int(fields[1]), int(fields[3]))
    return found
