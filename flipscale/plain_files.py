"""Files that anybody may have put there or damaged: read only if they are plain files, and as JSON where expected.

A folder of results may come from another machine, a full disk or a stranger. A pipe in the place of a file would block
its reader for ever, a device never ends, and a file may claim more bytes than there is memory. Here each of these is a
`DamagedFile` that names the file, so that a reader of many files can say so and go on with the next.
"""

import contextlib
import io
import json
import os
import re
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

from flipscale.errors import DamagedFile
from flipscale.kinds import record_of

AnyPath = str | os.PathLike[str]
Held = TypeVar("Held")

MOST_FILE_BYTES = 2**29
"""The most bytes of a file that is read whole, unless its reader sets another limit."""

_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
"""The escape of half a character. Two of them may be one."""

_FILE_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_plain(path: AnyPath, flags: int = os.O_RDONLY, mode: int = 0o666, *, follow: bool = False) -> int:
    """A descriptor of a plain file, for `os.fdopen` or `os.read`, or as the `opener` of `open`. FileNotFoundError where
    there is none to read. A link is damage too, unless `follow`, as for a file that a person has named: one in a
    results folder might lead to any file of the user's. A file is emptied, as `flags` may ask, only if it is plain."""
    try:
        how = flags & ~os.O_TRUNC | os.O_NONBLOCK | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
        descriptor = os.open(path, how, mode)
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:
        raise FileNotFoundError(error.errno, error.strerror, os.fspath(path)) from error
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL byte
        kind = os.lstat(path).st_mode if os.path.lexists(path) else stat.S_IFREG
        if stat.S_ISLNK(kind) and not follow:
            raise DamagedFile(refused_link(path)) from error
        if not stat.S_ISREG(kind) and not stat.S_ISLNK(kind):
            raise DamagedFile(_not_plain(path, kind)) from error
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise
        raise DamagedFile(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        raise DamagedFile(_not_plain(path, kind))
    if flags & os.O_TRUNC:
        os.ftruncate(descriptor, 0)
    return descriptor


def open_file(path: AnyPath) -> io.BufferedReader:
    """A plain file, open for reading, as `open_plain` has it."""
    return os.fdopen(open_plain(path), "rb")


def _not_plain(path: AnyPath, mode: int) -> str:
    kind = _FILE_KINDS.get(stat.S_IFMT(mode), "an unknown kind of file")
    return f"{path}: is {kind}, where a plain file is expected."


def refused_link(path: AnyPath) -> str:
    """The complaint about a link below a results folder."""
    return (
        f"{os.fspath(path)}: is a link, and flipscale follows none below a results or plots folder; put the file or "
        f"folder itself there, or delete the link."
    )


def read_bytes(path: AnyPath, *, most: int = MOST_FILE_BYTES, tail: int | None = None, follow: bool = False) -> bytes:
    """What a plain file holds, or its last `tail` bytes; at most `most`. FileNotFoundError where there is none."""
    descriptor = open_plain(path, follow=follow)
    try:
        size = os.fstat(descriptor).st_size
        if tail is not None:
            os.lseek(descriptor, max(0, size - tail), os.SEEK_SET)
        elif size > most:
            raise DamagedFile(f"{path}: holds {size:,} bytes, where at most {most:,} are allowed.")
        # A file object would take twice as long, and collecting reads 30,000 files.
        at_once = min(size, most if tail is None else tail) + 1
        return b"".join(iter(lambda: os.read(descriptor, at_once), b""))
    except OSError as error:
        raise DamagedFile(f"{path}: cannot be read ({error.strerror}).") from error
    finally:
        os.close(descriptor)


def read_text(path: AnyPath, *, most: int = MOST_FILE_BYTES, follow: bool = False) -> str:
    """The text of a plain file in UTF-8, with or without a byte order mark. Raises as `read_bytes` does."""
    try:
        return read_bytes(path, most=most, follow=follow).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DamagedFile(f"{path}: is not UTF-8 text; save it as UTF-8.") from error


def parsed(text: bytes) -> Any:
    """The JSON in a text. ValueError for anything wrong with it, such as nesting too deep to read.

    Half a character (a lone surrogate), which an escape can write but no UTF-8 file can hold, is wrong too. A byte of a
    file's name that is not UTF-8 is accepted.
    """
    try:
        data = json.loads(text)
        if _HALF.search(text):  # Python joins the two halves where both are there.
            # A byte of a name that is not UTF-8 may be there: Python keeps it as one of 128 halves.
            json.dumps(data, ensure_ascii=False).encode(errors="surrogateescape")
    except RecursionError:
        raise ValueError("nested too deeply to read") from None
    return data


def read_json(path: AnyPath, kind: type[Held]) -> Held:
    """The JSON in a plain file, as this type: a dataclass, for example. FileNotFoundError where there is none."""
    text = read_bytes(path)
    try:
        data = parsed(text)
    except ValueError as error:
        raise DamagedFile(f"{path}: not JSON ({error}).") from error
    try:
        return record_of(kind, data)
    except ValueError as error:
        raise DamagedFile(f"{path}: {error}.") from error


Given = ParamSpec("Given")


def or_none(read: Callable[Given, Held], *given: Given.args, **more: Given.kwargs) -> Held | None:
    """What a function reads from a file; None where there is none or it is damaged, for callers that go on without."""
    with contextlib.suppress(OSError, DamagedFile):
        return read(*given, **more)
    return None


def is_fresh(path: Path, seconds: float) -> bool:
    """Whether somebody has touched the file within that time. FileNotFoundError where there is none.

    A file server has a clock of its own, and ours may have been set back: where the two seem to differ, its clock is
    asked, so that a time in its future keeps no file fresh. In a folder that cannot be written to, ours counts.
    """
    try:
        touched = path.stat().st_mtime
    except FileNotFoundError:
        raise
    except OSError:  # a link to itself, say
        return False
    now = time.time()
    if abs(now - touched) >= seconds:
        with contextlib.suppress(OSError):
            now = file_system_now(path.parent) / 1e9
    return abs(now - touched) < seconds


def file_system_now(folder: Path) -> int:
    """The time by the clock that gives files in this folder their times, in ns: a file server has its own."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".clock") as probe:
        os.utime(probe.name)  # as a lease is kept fresh: by the server's clock, not the client's
        return os.fstat(probe.fileno()).st_mtime_ns


def name_of_temporary(name: str) -> str:
    """The name of the file that a temporary one of `replacing` was to become; '' for any other file."""
    match = re.fullmatch(r"\.(.+)\.\d+\.\d+\.tmp", name)
    return match[1] if match else ""


@contextlib.contextmanager
def replacing(path: Path, *, flush: bool = True, at_last: Callable[[], None] = lambda: None) -> Iterator[IO[bytes]]:
    """A new file that takes the place of `path` when the block ends without an error; until then the old one stands.

    `at_last` is called when the new file is on the disk. If it raises, the old one stays.

    A device such as /dev/null is written to directly: for root, replacing it would break it for all programs.
    """
    if _is_device(path):
        with open(path, "wb") as file:
            yield file
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with open(temporary, "wb", opener=open_plain) as file:
            yield file
            if flush:
                file.flush()
                os.fsync(file.fileno())
        at_last()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_device(path: Path) -> bool:
    """Whether it is a device; a link to one counts only in /dev, as /dev/stdout, and not in a results folder."""
    is_device = path.is_char_device() or path.is_block_device()
    return is_device and (not path.is_symlink() or path.is_relative_to("/dev"))
