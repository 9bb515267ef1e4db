"""Writes and locks in a results folder, which may come from a stranger: its content is data, never an instruction.

Below a results folder flipscale follows no link: a link could make it empty, overwrite or quote a file of the user's
that lies elsewhere. plain_files.py opens files by the same rule.

    open(path, "a", opener=open_plain)     append to a plain file
    make_folder(folder, results)           a folder, and those between the two
    with locked(path): ...                 one process at a time

tests/test_guard.py holds that no module opens such a path in another way.
"""

import contextlib
import fcntl
import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from flipscale.errors import RunFolderError
from flipscale.kinds import By
from flipscale.plain_files import open_plain, refused_link

WORD_SECONDS = 10.0
"""Whoever waits longer than this for a lock says so."""


def is_plain(path: str | os.PathLike[str]) -> bool:
    """Whether there is a plain file at the path itself, which is not a link to one."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def check_folder(path: str | os.PathLike[str]) -> None:
    """Raise RunFolderError if a folder is a link. A missing folder is fine."""
    if os.path.islink(path):  # noqa: PTH114  a Path for each of 10,000 folders takes longer than its look
        raise RunFolderError(refused_link(path))


def make_folder(folder: Path, root: Path | None = None) -> None:
    """Make a folder below a results or plots folder, unless it is there. RunFolderError where it is a link, or one
    between it and `root` is. `root`, by default the folder that it is in, may be one."""
    root = root or folder.parent
    if folder == root:
        folder.mkdir(parents=True, exist_ok=True)
    else:
        make_folder(folder.parent, root)
        check_folder(folder)
        folder.mkdir(exist_ok=True)


def lock_file(path: Path) -> int:
    """A descriptor of a lock file. Whoever may read a file can lock it for ever, so only its owner may."""
    return open_plain(path, os.O_RDWR | os.O_CREAT, 0o600)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock while the block runs; any other process waits. The file at `path` is never emptied."""
    lock = lock_file(path)
    message = f"waiting for {path}, which another process holds"
    word = threading.Timer(WORD_SECONDS, lambda: print(message, file=sys.stderr))
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            word.start()
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            finally:
                word.cancel()
        yield
    finally:
        os.close(lock)


def is_name(text: object) -> bool:
    """Whether a text is the name of something in a folder, and no path that leads elsewhere."""
    return isinstance(text, str) and text not in ("", ".", "..") and "/" not in text and "\0" not in text


def _names(text: object) -> object:
    if not all(map(is_name, str(text).split("/"))):
        raise ValueError
    return text


Names = Annotated[str, By(_names)]
"""Names with a slash between them: a path that leads to something in a folder."""
