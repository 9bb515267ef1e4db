"""Sizes and SHA-256 of files. A large file is read once, as long as its size and times stay what they were."""

import contextlib
import hashlib
import os
from pathlib import Path

from flipscale.errors import DamagedFile
from flipscale.plain_files import open_plain, read_bytes, read_json_object
from flipscale.run import write_json
from flipscale.run.code import FileContent

LARGE_BYTES = 1 << 20
"""Digests of files of at least this size are kept; smaller files are read each time."""


def content_of(file: Path, kept: Path, *, most: int | None = None) -> FileContent | None:
    """Size and SHA-256 of a file; None if there is no such file, or it cannot be read.

    kept: the folder in which the digests of large files are kept; it need not exist, nor be writable.
    most: a file of more bytes is known by its size alone.
    """
    try:
        found = file.stat()
        if most is not None and found.st_size > most:
            return FileContent(found.st_size)
        if found.st_size < LARGE_BYTES:
            data = read_bytes(file, follow=True)
            return FileContent(len(data), hashlib.sha256(data).hexdigest())
        key = [found.st_size, found.st_mtime_ns, found.st_ino]
        return FileContent(found.st_size, _kept(file, key, kept) or _read(file, key, kept))
    except (OSError, DamagedFile):
        return None


def _kept(file: Path, key: list[int], kept: Path) -> str | None:
    """The kept digest of a file; None if none is kept, or the file has changed since."""
    try:
        noted = read_json_object(_note(file, kept))
        return str(noted["sha256"]) if noted["key"] == key else None
    except (OSError, DamagedFile, KeyError):
        return None


def _read(file: Path, key: list[int], kept: Path) -> str:
    with os.fdopen(open_plain(file, follow=True), "rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        after = os.fstat(opened.fileno())
    # The digest of a file that was written to meanwhile is not kept.
    if [after.st_size, after.st_mtime_ns, after.st_ino] == key:
        with contextlib.suppress(OSError):
            kept.mkdir(parents=True, exist_ok=True)
            write_json(_note(file, kept), {"file": str(file.resolve()), "key": key, "sha256": digest}, flush=False)
    return digest


def _note(file: Path, kept: Path) -> Path:
    name = hashlib.sha256(os.fsencode(file.resolve())).hexdigest()[:32]
    return kept / f"{name}.json"
