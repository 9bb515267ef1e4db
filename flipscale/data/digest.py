"""The content of the sets that a run is scored on, as a digest: one that only moved keeps it."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flipscale.data.formats import format_of
from flipscale.data.pairs import located
from flipscale.errors import FlipscaleError
from flipscale.plain_files import open_plain
from flipscale.planning.identity import labelled_set, scored_sets
from flipscale.settings.declarations import DataSet, EvaluationSet, FineTuningSet, Settings

MOST_WHOLE_BYTES = 10**9
"""Up to this size, files of many items are hashed whole: 1.5 s a set."""

END_BYTES = 10**6
"""In a larger set, this much of the beginning and of the end of each file is hashed."""


def digests(settings: Settings) -> dict[str, str]:
    """The digest of each set that a run is scored on, by name, where it is known; "" is the study's own data."""
    if settings.fine_tuning is not None:
        each = {"": digest(labelled_set(settings))}
    else:
        probe = settings.evaluation.linear_probe
        each = {name: digest(data, probe) for name, data in scored_sets(settings).items()}
    return {name: known for name, known in each.items() if known is not None}


def digest(data: DataSet | EvaluationSet | FineTuningSet, probe: bool = False) -> str | None:
    """16 hex digits that change with what is scored; None where that is unknown: a program's data, shards behind a URL,
    and files that cannot be read.

    They are of the class names; of files that hold many items (IDX, shards, a table of captions) by their bytes; and of
    image files by their names and sizes, with the bytes of the first image of each class folder.
    probe: whether the images that a linear probe learns from count too.
    """
    try:
        content = format_of(data).content(data, probe)
    except (FlipscaleError, OSError):
        return None
    return None if content is None else hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def names_content(classes: str | Sequence[str] | None) -> Any:
    """Class names as they are declared, or the bytes of the file of them."""
    return hashed([located(classes)]) if isinstance(classes, str) and classes != "imagenet" else classes


def hashed(files: Iterable[Path]) -> list[Any]:
    """The size and a hash of each file."""
    sizes = {file: file.stat().st_size for file in files}
    whole = sum(sizes.values()) <= MOST_WHOLE_BYTES
    return [(size, _hash(file, whole or size <= 2 * END_BYTES)) for file, size in sizes.items()]


def _hash(path: Path, whole: bool) -> str:
    with os.fdopen(open_plain(path, follow=True), "rb") as file:
        if whole:
            return hashlib.file_digest(file, "sha256").hexdigest()
        ends = file.read(END_BYTES)
        file.seek(-END_BYTES, os.SEEK_END)
        return hashlib.sha256(ends + file.read()).hexdigest()
