"""The GPUs and cores of this machine, and a lock for each: its holder has that GPU or core to itself."""

import fcntl
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from flipscale.errors import LaunchError
from flipscale.guard import plain_file


def slots_for(gpus: int) -> list[tuple[str, ...]]:
    """The share of each worker of this machine: a core, a GPU, or `gpus` GPUs. LaunchError if there are too few."""
    found = gpus_here()
    if gpus > len(found):
        raise LaunchError(
            f"A run needs resources.gpus: {gpus}, and this machine shows {len(found)}. Choose another launcher, "
            f"lower resources.gpus, or set it to 0 to train on what is here."
        )
    if not found:
        return [(f"core-{core}",) for core in range(cores_here())]
    each = max(1, gpus)
    return [
        tuple(f"gpu-{gpu}" for gpu in found[first : first + each]) for first in range(0, len(found) - each + 1, each)
    ]


def gpus_here() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them. Asked without torch, which takes seconds."""
    if shutil.which("nvidia-smi") is None:
        return []
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", errors="replace", check=False)
    numbers = re.findall(r"^GPU (\d+):", listing.stdout, flags=re.MULTILINE) if listing.returncode == 0 else []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not numbers:
        return numbers
    # As CUDA reads it: what follows an entry that names no GPU is not seen either.
    named = [entry.strip() for entry in visible.split(",")]
    end = next((at for at, entry in enumerate(named) if entry in ("", "-1", "NoDevFiles")), len(named))
    return named[:end]


def cores_here() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_lock(folder: Path, slot: str) -> int:
    """A descriptor on the lock file of a GPU or core of this host."""
    name = f"{socket.gethostname()}-{slot}.lock".replace("/", "-")
    return plain_file(os.fspath(folder / name), os.O_RDWR | os.O_CREAT)


def lock_at_once(locks: Sequence[int]) -> bool:
    """Lock all if all are free, else none: two that wait with half a group in hand could wait for each other."""
    try:
        for lock in locks:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        for lock in locks:
            fcntl.flock(lock, fcntl.LOCK_UN)
        return False
    return True
