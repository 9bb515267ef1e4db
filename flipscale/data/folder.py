"""A folder of labelled images, as torchvision's ImageFolder reads them: a folder for each class, sorted by name."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from flipscale.data.decode import decode_paths
from flipscale.data.labelled import Labelled, class_folders, images_in, names_of_folders, no_images, subset
from flipscale.data.pairs import Integers
from flipscale.data.paths import located


def read(path: str, count: int, image_size: int) -> Labelled:
    """At most `count` images with even classes. The classes are the folders' names."""
    paths, labels, names = listed(path)
    chosen = subset(labels, count)
    images, good = decode_paths([paths[i] for i in chosen], image_size, str(located(path)))
    return Labelled(images, labels[chosen[good]], names, corrupt=len(chosen) - len(good))


def listed(path: str) -> tuple[list[Path], Integers, tuple[str, ...]]:
    """All image files of a folder with the class of each, int64 [n], and the names of the classes' folders."""
    _, folders = class_folders(path)
    files = [images_in(folder) for folder in folders]
    for folder, found in zip(folders, files, strict=True):
        if not found:
            raise no_images(folder)
    labels = np.repeat(np.arange(len(folders)), [len(found) for found in files])
    return [path for found in files for path in found], labels, tuple(folder.name for folder in folders)


def named(found: Labelled, classes: str | Sequence[str] | None, where: str) -> Labelled:
    """The same with the names of the classes in place of their folders'."""
    return replace(found, classes=names_of_folders(found.classes, classes, where))
