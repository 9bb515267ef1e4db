"""Labelled images: folders of classes, the names of classes, and which images of a set are scored.

A folder of labelled images is as torchvision's ImageFolder reads it: a folder for each class, sorted by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flipscale import randomness
from flipscale.data.classes import IMAGENET_CLASSES
from flipscale.data.decode import decode_paths
from flipscale.data.pairs import Flags, Images, Integers
from flipscale.data.paths import EXTENSIONS, located, reason_of
from flipscale.errors import DamagedFile, DataError, did_you_mean, printable
from flipscale.plain_files import parsed, read_bytes, read_text
from flipscale.settings import FolderSet, LabelledFolders
from flipscale.study.named_sets import unsuited

MOST_NAMES_BYTES = 2**26
"""The most bytes of a file of class names."""


def class_folders(path: str) -> tuple[Path, list[Path]]:
    """The folder, and in it one for each class, sorted by name. Raises DataError where there are none."""
    root = located(path)
    if not root.is_dir():
        raise DataError(
            f"{root.resolve()}: there is no such folder. Correct its path, or set FLIPSCALE_DATA to the folder that "
            f"paths start from; in it is a folder of images for each class."
        )
    try:
        folders = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    except OSError as error:
        raise DataError(f"{root}: cannot be listed ({reason_of(error)}); fix its permissions.") from error
    if not folders:
        raise DataError(f"{root}: has no folders; put the images of each class into a folder of its own.")
    return root, folders


def images_in(folder: Path) -> list[Path]:
    """The image files in a folder, at any depth, sorted: the same on every file system."""
    return sorted(filter(_is_image, folder.rglob("*")))


def _is_image(path: Path) -> bool:
    return path.suffix[1:].lower() in EXTENSIONS and path.is_file()


def _no_images(folder: Path) -> DataError:
    return DataError(
        f"{folder}: this class folder has no images ({', '.join(sorted(EXTENSIONS))}); put some there or remove it."
    )


def check_set(data: FolderSet, probe: bool) -> None:
    """Raise DataError for a set to score on that is not right. probe: whether its training part is read, too."""
    folders = _classes_with_images(data.path)
    classes = [""] * IMAGENET_CLASSES if data.classes == "imagenet" else data.classes
    check_choice(names_of_folders(folders, classes, data.path), data.path, data.metric)
    if probe and data.train is not None:
        same_folders(data.path, folders, data.train, _classes_with_images(data.train))


def check_pair(data: LabelledFolders) -> None:
    """Raise DataError for a set to fine-tune on that is not right."""
    classes = _classes_with_images(data.train)
    check_choice(classes, data.train)
    same_folders(data.test, _classes_with_images(data.test), data.train, classes)


def _classes_with_images(path: str) -> tuple[str, ...]:
    _, folders = class_folders(path)
    for folder in folders:
        if not any(map(_is_image, folder.rglob("*"))):  # Listing stops at the first.
            raise _no_images(folder)
    return tuple(folder.name for folder in folders)


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


def names_in_order(classes: str | Sequence[str], where: str) -> tuple[str, ...]:
    """The class names of a declaration: a list, or a text file with one a line."""
    if not isinstance(classes, str):
        return tuple(classes)
    path = located(classes)
    try:
        text = read_text(path, most=MOST_NAMES_BYTES, follow=True)
        names = tuple(line.strip() for line in text.splitlines() if line.strip())
    except (OSError, DamagedFile) as error:
        raise DataError(
            f"{path}: cannot be read as the class names of {where} ({reason_of(error)}). "
            f"Write a text file with one name a line, or a list of names, or imagenet."
        ) from error
    if not names:
        raise DataError(f"{path}: has no class name; write one a line, in the order of the classes of {where}.")
    return names


def check_labels(low: int, high: int, classes: int, where: str) -> None:
    """Raise DataError unless the labels, from `low` to `high`, all have a class name."""
    if low < 0 or high >= classes:
        raise DataError(
            f"{where}: has a label {low if low < 0 else high}, but classes names {classes}, for the labels 0 to "
            f"{classes - 1}; give a name for every label from 0 on."
        )


def check_choice(classes: tuple[str, ...], where: str, metric: str = "top1") -> None:
    """Raise DataError for a set with a single class, or with a number of classes that does not suit its metric."""
    if wrong := unsuited(metric, len(classes)):
        raise DataError(f"{where}: {wrong}.")
    if len(classes) < 2:
        raise DataError(
            f"{where}: has a single class, {classes[0]!r}, so any model would be right; name a set of two classes or "
            f"more."
        )


SUBSET_STREAM = randomness.key("evaluation", "subset")
"""Which images stand for a set that has more than are wanted: the same for every run."""


@dataclass(frozen=True)
class Labelled:
    """Images [n, 3, S, S] and the class of each [n]."""

    images: Images
    labels: Integers
    classes: tuple[str, ...]
    """The name of each class: of its folder, or as a prompt has it."""
    corrupt: int = 0
    """How many more were chosen and could not be read."""
    shown: Flags | None = None
    """Which classes each image shows [n, classes], where it may show several; `labels` has the first of them."""


def even(labels: Integers, stream: int) -> Integers:
    """All indices in an order whose every beginning is a random subset with classes as even as can be: int64 [n].

    Sorted by each image's random rank in its class, and within a rank at random.
    """
    words = randomness.bits(stream, np.arange(len(labels)), 1)[:, 0]
    order = np.argsort(words)
    rank = np.empty(len(labels), np.int64)
    rank[order] = rank_in_class(labels[order])
    return np.lexsort((words, rank))


def rank_in_class(labels: Integers) -> Integers:
    """How many images of its class come before each image: int64 [n]."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - np.searchsorted(ordered, ordered)
    return rank


def subset(labels: Integers, count: int) -> Integers:
    """The indices of at most `count` images, ascending, with classes as even as can be.

    The first ones would not do: files are often sorted by class.
    """
    return np.sort(even(labels, SUBSET_STREAM)[:count])


def read_folder(path: str, count: int, image_size: int) -> Labelled:
    """At most `count` images with even classes. The classes are the folders' names."""
    paths, labels, names = listed(path)
    chosen = subset(labels, count)
    images, good = decode_paths([paths[i] for i in chosen], image_size, str(located(path)))
    return Labelled(images, labels[chosen[good]], names, corrupt=len(chosen) - len(good))


def listed(path: str) -> tuple[list[Path], Integers, tuple[str, ...]]:
    """All image files of a folder with the class of each, int64 [n], and the names of the classes' folders."""
    _, folders = class_folders(path)
    files = [images_in(folder) for folder in folders]
    for folder, images in zip(folders, files, strict=True):
        if not images:
            raise _no_images(folder)
    labels = np.repeat(np.arange(len(folders)), [len(images) for images in files])
    return [path for images in files for path in images], labels, tuple(folder.name for folder in folders)


def check(labels: Integers, classes: tuple[str, ...], where: str) -> None:
    """Raise DataError for a label that no class name belongs to."""
    check_labels(int(labels.min(initial=0)), int(labels.max(initial=0)), len(classes), where)
