"""The processes that a torture has started, found by a folder that their command line names."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

ROLES = {
    "trainer": (b"torture/trainer.py\0", b"\0flipscale\0train\0"),
    "attendant": (b"flipscale.launch.local.task\0", b"flipscale.launch.slurm.task\0"),
    "driver": (b"flipscale.launch.ray.driver\0",),
    "submitter": (b"tests.torture.submitter\0",),
}
"""What the command line of each role contains. srun contains its trainer's, so it counts as a trainer."""


def with_folder(folder: Path) -> dict[int, str]:
    """The role of each living process whose command line names the folder, by pid; '' if it has none of ROLES."""
    found = {}
    name = os.fsencode(str(folder))
    for path in Path("/proc").glob("[0-9]*"):
        try:
            said = (path / "cmdline").read_bytes()
            if name in said and int(path.name) != os.getpid() and not _is_zombie(path):
                found[int(path.name)] = next(
                    (role for role, words in ROLES.items() if any(w in said for w in words)), ""
                )
        except OSError:
            continue  # it has just ended
    return found


def _is_zombie(path: Path) -> bool:
    return (path / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] in "ZX"


def left_over(folder: Path, seconds: float = 60.0, but: Iterable[str] = ()) -> list[str]:
    """Wait until no such process is left, at most this long; the command lines of those still there."""
    until = time.monotonic() + seconds
    while living := {pid: role for pid, role in with_folder(folder).items() if role not in but}:
        if time.monotonic() > until:
            return [f"{pid} {_command(pid)}" for pid in living]
        time.sleep(0.2)
    return []


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    except OSError:
        return "(ended)"
