"""The content of the sets that a run is scored on, as a digest: one that only moved keeps it."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flipscale import settings as declared
from flipscale.data import captions, fashion, idx, shards
from flipscale.data.classes import FASHION_CLASSES
from flipscale.data.labelled import class_folders, images_in
from flipscale.data.paths import located
from flipscale.errors import FlipscaleError
from flipscale.identity import labelled_set, scored_sets
from flipscale.plain_files import open_plain

MOST_WHOLE_BYTES = 10**9
"""Up to this size, files of many items are hashed whole: 1.5 s a set."""

END_BYTES = 10**6
"""In a larger set, this much of the beginning and of the end of each file is hashed."""


def digests(settings: declared.Settings) -> dict[str, str]:
    """The digest of each set that a run is scored on, by name, where it is known; "" is the study's own data."""
    if settings.fine_tuning is not None:
        each = {"": digest(labelled_set(settings))}
    else:
        probe = settings.evaluation.linear_probe
        each = {name: digest(data, probe) for name, data in scored_sets(settings).items()}
    return {name: known for name, known in each.items() if known is not None}


def digest(data: declared.DataSet | declared.EvaluationSet | declared.FineTuningSet, probe: bool = False) -> str | None:
    """16 hex digits that change with what is scored; None where that is unknown: a program's data, shards behind a URL,
    and files that cannot be read.

    They are of the class names; of files that hold many items (IDX, shards, a table of captions) by their bytes; and of
    image files by their names and sizes, with the bytes of the first image of each class folder.
    probe: whether the images that a linear probe learns from count too.
    """
    try:
        content = _content(data, probe)
    except (FlipscaleError, OSError):
        return None
    return None if content is None else hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _content(data: declared.DataSet | declared.EvaluationSet | declared.FineTuningSet, probe: bool) -> Any:
    match data:
        case declared.CommandSet():
            return None
        case declared.Shapes():
            return declared.plain(data)
        case declared.Fashion():
            splits = [fashion.files_of(fashion.folder_of(data), split) for split in ("t10k", "train")[: 1 + probe]]
            return FASHION_CLASSES, _bytes(idx.file_of(path) for split in splits for path in split)
        case declared.IdxSet():
            return data.classes, _idx(data.images, data.labels), probe and _idx(data.train_images, data.train_labels)
        case declared.LabelledIdx():
            return _idx(data.test_images, data.test_labels)
        case declared.FolderSet():
            return _names(data.classes), _images(data.path), data.train and probe and _images(data.train)
        case declared.LabelledFolders():
            return _images(data.test)
        case declared.ShardSet():
            return _names(data.classes), _shards(data.urls)
        case declared.WebDataset():
            return _shards(data.urls)
        case declared.LabelledShards():
            return _shards(data.test)
        case declared.CaptionSet():
            file, images = captions.image_files(data)
            return _bytes([file]), [path.is_file() and path.stat().st_size for path in images]


def _names(classes: str | Sequence[str] | None) -> Any:
    """Class names as they are declared, or the file of them."""
    return _bytes([located(classes)]) if isinstance(classes, str) and classes != "imagenet" else classes


def _idx(*files: str | None) -> list[Any]:
    return _bytes(idx.file_of(located(file)) for file in files if file)


def _images(path: str) -> list[Any]:
    """Each class folder with its images, and the bytes of the first: two folders that were exchanged may differ in
    nothing else."""
    return [
        (folder.name, [(str(path.relative_to(folder)), path.stat().st_size) for path in images], _bytes(images[:1]))
        for folder in class_folders(path)[1]
        if (images := images_in(folder))
    ]


def _shards(urls: str) -> list[Any]:
    return _bytes(Path(shard.url) for shard in shards.sources(urls))


def _bytes(files: Iterable[Path]) -> list[Any]:
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
