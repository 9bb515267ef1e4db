"""Folders of labelled images, as torchvision's ImageFolder reads them: a folder for each class, sorted by name."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flipscale.data.decode import decode_paths
from flipscale.data.digest import hashed, names_content
from flipscale.data.inspection import Look
from flipscale.data.labelled import (
    IMAGENET_CLASSES,
    MOST_NAMES_BYTES,
    ClassifiedSet,
    Labelled,
    check_choice,
    count_class_file,
    images_in_files,
    labelled_items,
    subset,
)
from flipscale.data.pairs import EXTENSIONS, Form, HeldOutItems, Integers, Scoring, located
from flipscale.errors import DamagedFile, DataError, did_you_mean, printable, reason_of
from flipscale.plain_files import parsed, read_bytes
from flipscale.settings.declarations import FolderSet, LabelledFolders


def check(data: FolderSet | LabelledFolders, look: Look, probe: bool) -> None:
    """Look for class folders and one image in each, and for a name of each class."""
    if isinstance(data, FolderSet):
        look.once(_check_set, data, probe, look)
    else:
        look.once(_check_pair, data)


def _check_set(data: FolderSet, probe: bool, look: Look) -> None:
    folders = _classes_with_images(data.path)
    classes = [""] * IMAGENET_CLASSES if data.classes == "imagenet" else data.classes
    check_choice(names_of_folders(folders, classes, data.path), data.path, data.metric)
    if probe and data.train is not None:
        same_folders(data.path, folders, data.train, _classes_with_images(data.train))
    count_class_file(data.classes, look)


def _check_pair(data: LabelledFolders) -> None:
    classes = _classes_with_images(data.train)
    check_choice(classes, data.train)
    same_folders(data.test, _classes_with_images(data.test), data.train, classes)


def _classes_with_images(path: str) -> tuple[str, ...]:
    folders = class_folders(path)
    for folder in folders:
        if not any(map(_is_image, folder.rglob("*"))):  # Listing stops at the first.
            raise _no_images(folder)
    return tuple(folder.name for folder in folders)


def count(data: FolderSet | LabelledFolders, most: int) -> int:
    path = data.test if isinstance(data, LabelledFolders) else data.path
    return sum(len(files) for _, _, files in os.walk(located(path)))


def content(data: FolderSet | LabelledFolders, probe: bool) -> Any:
    """Names and sizes of all images, and the bytes of the first of each class."""
    if isinstance(data, LabelledFolders):
        return _images(data.test)
    return names_content(data.classes), _images(data.path), data.train and probe and _images(data.train)


def _images(path: str) -> list[Any]:
    """Each class folder with its images, and the bytes of the first: two folders that were exchanged may differ in
    nothing else."""
    return [
        (folder.name, [(str(path.relative_to(folder)), path.stat().st_size) for path in images], hashed(images[:1]))
        for folder in class_folders(path)
        if (images := images_in(folder))
    ]


def held_out(data: FolderSet, form: Form, scoring: Scoring) -> HeldOutItems:
    """A subset with even classes."""
    where = data.path
    scored = read_folder(data.path, scoring.images, form.image_size)
    examples: Labelled | None = None
    if scoring.probe and data.train is not None:
        examples = read_folder(data.train, scoring.probe, form.image_size)
        same_folders(where, scored.classes, data.train, examples.classes)
    scored = replace(scored, classes=names_of_folders(scored.classes, data.classes, where))
    return labelled_items(data, scored, form, scoring, where, examples)


def classified(data: LabelledFolders, form: Form, *, images: int, samples: int) -> ClassifiedSet:
    """Training images are decoded as they are needed."""
    paths, labels, classes = labelled_files(data.train)
    check_choice(classes, data.train)
    test = read_folder(data.test, images, form.image_size)
    same_folders(data.test, test.classes, data.train, classes)
    return ClassifiedSet(images_in_files(paths.__getitem__, labels, form.image_size, data.train), test)


def class_folders(path: str) -> list[Path]:
    """The folder of each class in a folder, sorted by name. Raises DataError where there are none."""
    root = located(path)
    if not root.is_dir():
        raise DataError(
            f"{root.absolute()}: there is no such folder. Correct its path, or set FLIPSCALE_DATA to the folder that "
            f"paths start from; in it is a folder of images for each class."
        )
    try:
        folders = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    except OSError as error:
        raise DataError(f"{root}: cannot be listed ({reason_of(error)}); fix its permissions.") from error
    if not folders:
        raise DataError(f"{root}: has no folders; put the images of each class into a folder of its own.")
    return folders


def images_in(folder: Path) -> list[Path]:
    """The image files in a folder, at any depth, sorted: the same on every file system."""
    return sorted(filter(_is_image, folder.rglob("*")))


def _is_image(path: Path) -> bool:
    return path.suffix[1:].lower() in EXTENSIONS and path.is_file()


def _no_images(folder: Path) -> DataError:
    return DataError(
        f"{folder}: this class folder has no images ({', '.join(sorted(EXTENSIONS))}); put some there or remove it."
    )


def same_folders(path: str, classes: tuple[str, ...], train: str, examples: tuple[str, ...]) -> None:
    """Raise DataError unless the images to learn from, in `train`, have the same class folders as those in `path`."""
    one_sided = sorted(set(classes) ^ set(examples))
    if one_sided:
        raise DataError(
            f"{train}: its class folders are not those of {path}; {one_sided[0]!r} is in one of them only. "
            f"Give both the same folders."
        )


def names_of_folders(folders: tuple[str, ...], classes: str | Sequence[str] | None, where: str) -> tuple[str, ...]:
    """The name of the class of each folder.

    classes: names in the sorted order of the folders, a JSON file {folder: name}, or None: then a folder's name is that
        of its class, with _ for a space.
    """
    if classes is None:
        if odd := next((folder for folder in folders if printable(folder) != folder), None):
            raise DataError(
                f"{where}: the name of the class folder {odd} is not UTF-8, so it is not text to score images by; "
                f"rename it, or give the names of all {len(folders)} with classes."
            )
        return tuple(folder.replace("_", " ") for folder in folders)
    if isinstance(classes, str):
        return _by_folder(folders, classes, where)
    if len(classes) != len(folders):
        raise DataError(
            f"{where}: has {len(folders)} class folders, from {folders[0]!r} on, but classes names {len(classes)}; "
            f"give one name for each folder in sorted order, or a JSON file {{folder: name}}."
        )
    return tuple(classes)


def _by_folder(folders: tuple[str, ...], file: str, where: str) -> tuple[str, ...]:
    path = located(file)
    try:
        names = parsed(read_bytes(path, most=MOST_NAMES_BYTES, follow=True))
    except (OSError, ValueError, DamagedFile) as error:
        raise DataError(
            f"{path}: cannot be read as the class names of {where} ({reason_of(error)}). "
            f"Write a JSON file {{folder: name}}."
        ) from error
    if not isinstance(names, dict):
        raise DataError(f"{path}: is not a mapping; write {{folder: name}} for the class folders of {where}.")
    unnamed = [folder for folder in folders if not isinstance(names.get(folder), str)]
    if unnamed:
        raise DataError(
            f"{path}: names no class for {len(unnamed)} of the {len(folders)} folders of {where}, the first of them "
            f"{unnamed[0]!r}; {did_you_mean(unnamed[0], names)}"
        )
    return tuple(names[folder] for folder in folders)


def read_folder(path: str, count: int, image_size: int) -> Labelled:
    """At most `count` images with even classes. The classes are the folders' names."""
    paths, labels, names = labelled_files(path)
    chosen = subset(labels, count)
    images, good = decode_paths([paths[i] for i in chosen], image_size, str(located(path)))
    return Labelled(images, labels[chosen[good]], names, corrupt=len(chosen) - len(good))


def labelled_files(path: str) -> tuple[list[Path], Integers, tuple[str, ...]]:
    """All image files of a folder with the class of each, int64 [n], and the names of the classes' folders."""
    folders = class_folders(path)
    files = [images_in(folder) for folder in folders]
    for folder, images in zip(folders, files, strict=True):
        if not images:
            raise _no_images(folder)
    labels = np.repeat(np.arange(len(folders)), [len(images) for images in files])
    return [path for images in files for path in images], labels, tuple(folder.name for folder in folders)
