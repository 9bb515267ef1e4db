"""A folder of labelled images, as torchvision's ImageFolder reads them: a folder for each class, sorted by name."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from flipscale.errors import DataError, did_you_mean, printable
from flipscale.train.data.decode import EXTENSIONS, decode_paths, located, reason_of
from flipscale.train.data.labelled import Labelled, subset


def read(path: str, count: int, image_size: int) -> Labelled:
    """At most `count` images with even classes. The classes are the folders' names."""
    root = located(path)
    if not root.is_dir():
        raise DataError(
            f"{root.resolve()}: there is no such folder. Correct its path, or set FLIPSCALE_DATA to the folder that "
            f"paths start from; in it is a folder of images for each class."
        )
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    if not folders:
        raise DataError(f"{root}: has no folders; put the images of each class into a folder of its own.")
    files = [_images(folder) for folder in folders]
    for folder, found in zip(folders, files, strict=True):
        if not found:
            raise DataError(
                f"{folder}: this class folder has no images ({', '.join(sorted(EXTENSIONS))}); "
                f"put some there or remove it."
            )
    paths = [path for found in files for path in found]
    labels = np.repeat(np.arange(len(folders)), [len(found) for found in files])
    chosen = subset(labels, count)
    images, good = decode_paths([paths[i] for i in chosen], image_size, str(root))
    names = tuple(folder.name for folder in folders)
    return Labelled(images, labels[chosen[good]], names, corrupt=len(chosen) - len(good))


def named(found: Labelled, classes: str | list[str] | None, where: str) -> Labelled:
    """The same with the names of the classes in place of their folders'.

    classes: names in the sorted order of the folders, a JSON file {folder: name}, or None: then a folder's name is that
        of its class, with _ for a blank.
    """
    folders = found.classes
    if classes is None:
        if odd := next((folder for folder in folders if printable(folder) != folder), None):
            raise DataError(
                f"{where}: the name of the class folder {odd} is not UTF-8, so it is no text to score images by; "
                f"rename it, or give the names of all {len(folders)} with classes."
            )
        return replace(found, classes=tuple(folder.replace("_", " ") for folder in folders))
    if isinstance(classes, str):
        return replace(found, classes=_by_folder(folders, classes, where))
    if len(classes) != len(folders):
        raise DataError(
            f"{where}: has {len(folders)} class folders, from {folders[0]!r} on, but classes names {len(classes)}; "
            f"give one name for each folder in sorted order, or a JSON file {{folder: name}}."
        )
    return replace(found, classes=tuple(classes))


def _by_folder(folders: tuple[str, ...], file: str, where: str) -> tuple[str, ...]:
    path = located(file)
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read as the class names of {where} ({reason_of(error)}). "
            f"Write a JSON file {{folder: name}}."
        ) from error
    if not isinstance(names, dict):
        raise DataError(f"{path}: is no mapping; write {{folder: name}} for the class folders of {where}.")
    unnamed = [folder for folder in folders if not isinstance(names.get(folder), str)]
    if unnamed:
        raise DataError(
            f"{path}: names no class for {len(unnamed)} of the {len(folders)} folders of {where}, the first of them "
            f"{unnamed[0]!r}; {did_you_mean(unnamed[0], names)}"
        )
    return tuple(names[folder] for folder in folders)


def _images(folder: Path) -> list[Path]:
    """The image files in a folder, at any depth, sorted: the same on every file system."""
    return sorted(path for path in folder.rglob("*") if path.suffix[1:].lower() in EXTENSIONS and path.is_file())
