"""Ray Tune's own folder, in the temporary one: gone with the driver, or, where that is killed, with the next one."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from flipscale.errors import RunFolderError
from flipscale.guard import plain_file

PREFIX = "flipscale-tune-"

_NEW_SECONDS = 60.0
"""How old a folder may be before its driver holds its lock."""


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder while the block runs. What killed drivers of this user left on this machine is removed first."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        _remove_if_dead(left)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    lock = plain_file(str(folder / "lock"), os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _remove_if_dead(folder: Path) -> None:
    """Remove the folder of a driver that no longer holds its lock."""
    with contextlib.suppress(OSError, RunFolderError):
        found = folder.lstat()
        if found.st_uid != os.geteuid() or folder.is_symlink() or time.time() - found.st_mtime < _NEW_SECONDS:
            return
        lock = plain_file(str(folder / "lock"), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
