"""The owner of a results folder: results/NAME/.study names its study file, relative to that folder.

A study's results are found by the name of its file, so two files of one name in different folders would overwrite each
other's. A file that was moved or edited keeps its results, and so does a copy with the same content, or one of study
and results together.
"""

import os
from pathlib import Path

from flipscale.errors import DamagedFile, FlipscaleError
from flipscale.plain_files import read_bytes
from flipscale.run import replacing

NOTE = ".study"

MOST_NOTE_BYTES = 65536
"""A path is shorter."""


def check_owner(folder: Path, file: Path) -> None:
    """Raise FlipscaleError where the results in `folder` are of another study file than `file`."""
    file, owner = file.resolve(), owner_of(folder)
    if owner is None or owner == file:
        return
    try:
        same = read_bytes(owner) == read_bytes(file)
    except (OSError, DamagedFile):  # It was moved or deleted, or is of another machine.
        return
    if not same:
        raise FlipscaleError(
            f"{folder} holds the results of {owner}, and {file} has the same name. Rename one of the two files, or "
            f"keep their results apart with --results DIR. To give {folder} to {file}, delete {folder / NOTE}."
        )


def note_owner(folder: Path, file: Path) -> None:
    """Write down that the results in `folder` are of `file`, unless they are of another that is still there: a copy of
    it with the same content may use them, and must not take them over."""
    owner = owner_of(folder)
    if owner is None or not owner.exists():
        with replacing(folder / NOTE) as note:
            path = os.path.relpath(file.resolve(), folder.resolve())
            note.write(f"{path}\n".encode(errors="surrogateescape"))


def owner_of(folder: Path) -> Path | None:
    """The study file that the results in `folder` are of, there or not; None where nothing says so."""
    try:
        noted = read_bytes(folder / NOTE, most=MOST_NOTE_BYTES).decode(errors="surrogateescape").strip()
        return (folder / noted).resolve()
    except (OSError, DamagedFile, ValueError, RuntimeError):  # a NUL byte, a link in a loop
        return None
