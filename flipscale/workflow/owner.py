"""The owner of a results folder: results/NAME/.study has the path of its study file, and a digest of its content.

A study's results are found by the name of its file, so two files of one name in different folders would overwrite each
other's. A file that was moved or edited keeps its results, and so does a copy with the same content, or one of study
and results together. The path is compared and never opened: the folder may come from a stranger.
"""

import hashlib
import os
from pathlib import Path

from flipscale.errors import FlipscaleError
from flipscale.plain_files import or_none, read_bytes, replacing
from flipscale.study.document import MOST_STUDY_BYTES

NOTE = ".study"

MOST_NOTE_BYTES = 65536
"""A path and a digest are shorter."""


def check_owner(folder: Path, file: Path) -> None:
    """Raise FlipscaleError where the results in `folder` are of another study file than `file`."""
    if not may_own(folder, file):
        raise FlipscaleError(
            f"{folder} holds the results of {_noted(folder)[0]}, and {file.resolve()} has the same name. Rename one of "
            f"the two files, or keep their results apart with --results DIR. To give {folder} to {file.resolve()}, "
            f"delete {folder / NOTE}."
        )


def may_own(folder: Path, file: Path) -> bool:
    """Whether the results in `folder` are of this study file, of one with the same content, or of one that is gone."""
    owner, digest = _noted(folder)
    return owner in ("", str(file.resolve())) or not os.path.lexists(owner) or digest == _digest(file)


def note_owner(folder: Path, file: Path) -> None:
    """Write down that the results in `folder` are of `file`, unless they are of another that is still there: a copy of
    it with the same content may use them, and must not take them over."""
    owner, digest = _noted(folder)
    is_owner = owner == str(file.resolve())
    if (is_owner and digest != _digest(file)) or (not is_owner and not os.path.lexists(owner)):
        with replacing(folder / NOTE) as note:
            path = os.path.relpath(file.resolve(), folder.resolve())
            note.write(f"{path}\n{_digest(file)}\n".encode(errors="surrogateescape"))


def _noted(folder: Path) -> tuple[str, str]:
    """The absolute path of the study file that the results are of, and its digest; '' for what is not noted."""
    note = or_none(read_bytes, folder / NOTE, most=MOST_NOTE_BYTES) or b""
    path, digest, *_ = *note.decode(errors="surrogateescape").splitlines(), "", ""
    return os.path.normpath(folder.resolve() / path) if path else "", digest


def _digest(file: Path) -> str:
    content = or_none(read_bytes, file, most=MOST_STUDY_BYTES, follow=True)
    return "" if content is None else hashlib.sha256(content).hexdigest()
