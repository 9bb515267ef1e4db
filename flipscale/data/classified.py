"""Labelled images to fine-tune on, and those to score on, by the declaration of their set.

    Shapes           drawn on the spot, each of one object, all 80 classes in turn
    Fashion          Fashion-MNIST's training images, and its test images
    LabelledFolders  a folder of images for each class, decoded as they are needed
    LabelledShards   tar shards of images with a .cls, indexed at the start and decoded as they are needed
    LabelledIdx      IDX files, as MNIST's, in memory

Training images come as `Data` do, with the number of their class in place of a caption's tokens: int64 [B]. Classes
without names are numbered: those of shards and IDX files run from 0 to the largest label of a training image.
"""

import io
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from flipscale.data import fashion, idx, shapes, tar_sets
from flipscale.data.decode import CORRUPT_COUNT, CORRUPT_SHARE
from flipscale.data.labelled import Labelled, check, check_choice, listed, read_folder, same_folders
from flipscale.data.library import FETCHERS, Library
from flipscale.data.pairs import Data, Form, Images, Integers
from flipscale.data.paths import reason_of
from flipscale.data.shards import ShardSource, labelled_images, sources
from flipscale.data.shuffle import Shuffle
from flipscale.data.views import Views, open_image, view, view_stored
from flipscale.errors import DataError
from flipscale.run import show_life
from flipscale.settings import Fashion, FineTuningSet, LabelledFolders, LabelledIdx, LabelledShards, Shapes

_NO_WORDS = np.empty(0, np.int64)
"""The vocabulary of data in memory: a CPU then makes batches without threads."""


@dataclass(frozen=True)
class ClassifiedSet:
    """A labelled set, opened."""

    training: Data
    """Its batches have the number of the class, int64 [B], in place of tokens."""
    test: Labelled
    """The items to score on, and the names of the classes."""


def open_classified(data: FineTuningSet, form: Form, *, images: int, samples: int) -> ClassifiedSet:
    """The images to fine-tune on, and at most `images` to score on: a subset with even classes, the same for every run.

    samples: images that the schedule sees; a drawn set has exactly that number and repeats none.
    Raises DataError for files that are missing or corrupt, and for two parts with different classes.
    """
    size = form.image_size
    match data:
        case Shapes():
            return ClassifiedSet(*shapes.classified(data, size, size=samples, images=images))
        case Fashion():
            where = fashion.folder_of(data)
            grey, labels = fashion.split(where, "train")
            return ClassifiedSet(_in_memory(grey, labels, size), fashion.test_images(where, images, size))
        case LabelledIdx():
            grey, labels = idx.labelled(data.train_images, data.train_labels)
            classes = _numbered(labels, data.train_labels)
            test = idx.read(data.test_images, data.test_labels, classes, images, size)
            return ClassifiedSet(_in_memory(grey, labels, size), test)
        case LabelledFolders():
            paths, labels, classes = listed(data.train)
            check_choice(classes, data.train)
            test = read_folder(data.test, images, size)
            same_folders(data.test, test.classes, data.train, classes)
            return ClassifiedSet(_Files(paths.__getitem__, labels, size, data.train).data(), test)
        case LabelledShards():
            shards = _LabelledShards(data.train, form.cache)
            classes = _numbered(shards.labels, data.train)
            test = tar_sets.read_labelled(data.test, classes, images, size, form.cache)
            return ClassifiedSet(_Files(shards.content, shards.labels, size, data.train).data(), test)


def _numbered(labels: Integers, where: str) -> tuple[str, ...]:
    """The names of classes that have numbers only. Raises DataError for a label below 0, and for a single class."""
    classes = tuple(map(str, range(int(labels.max(initial=0)) + 1)))
    check(labels, classes, where)
    check_choice(classes, where)
    return classes


def _in_memory(grey: npt.NDArray[np.uint8], labels: Integers, image_size: int) -> Data:
    """Grey images [n, height, width], each seen in three channels."""

    def batch(indices: Integers, views: Views | None = None) -> tuple[Images, Integers]:
        seen = view_stored(grey[indices][:, None], image_size, views)
        return np.repeat(seen, 3, axis=1), labels[indices]

    return Data(size=len(labels), batch=batch, order=Shuffle([len(labels)]), vocabulary=_NO_WORDS)


class _Files:
    """Image files that are decoded as they are needed. The next readable one replaces one that cannot be decoded."""

    def __init__(self, content: Callable[[int], Path | bytes], labels: Integers, image_size: int, where: str):
        self._content, self._labels, self._image_size, self._where = content, labels, image_size, where
        self._bad: set[int] = set()
        self._lock = threading.Lock()

    def data(self) -> Data:
        size = len(self._labels)
        return Data(size=size, batch=self._batch, order=Shuffle([size]), corrupt=lambda: len(self._bad))

    def _batch(self, indices: Integers, views: Views | None = None) -> tuple[Images, Integers]:
        images = np.empty((len(indices), 3, self._image_size, self._image_size), np.uint8)
        labels = np.empty(len(indices), np.int64)
        for row, number in enumerate(indices.tolist()):
            image, seen = self._image(number)
            labels[row] = self._labels[seen]
            images[row] = np.asarray(view(image, self._image_size, views, row)).transpose(2, 0, 1)
        return images, labels

    def _image(self, number: int) -> tuple[Image.Image, int]:
        """An image, and which one it is: that of this number, or of the next one that can be decoded."""
        size = len(self._labels)
        for candidate in ((number + further) % size for further in range(size)):
            if candidate in self._bad:
                continue
            try:
                content = self._content(candidate)
                with open_image(io.BytesIO(content) if isinstance(content, bytes) else content) as image:
                    return image.convert("RGB"), candidate
            except MemoryError:
                raise
            except Exception as error:  # On damaged bytes decoders raise anything: OSError, SyntaxError, struct.error.
                self._note(candidate, reason_of(error))
        raise DataError(f"{self._where}: none of {size} training images can be read; write these files again.")

    def _note(self, number: int, reason: str) -> None:
        size = len(self._labels)
        with self._lock:
            self._bad.add(number)
            if len(self._bad) > max(CORRUPT_COUNT, CORRUPT_SHARE * size):
                raise DataError(
                    f"{self._where}: {len(self._bad)} of {size} training images cannot be read, the last of them "
                    f"number {number} ({reason}). Write these files again, or remove them."
                )


class _LabelledShards:
    """The images of tar shards by number, and their labels. Headers and labels are read once, at the start."""

    def __init__(self, urls: str, cache: Path):
        self._shards, self._library = sources(urls), Library(cache)
        with ThreadPoolExecutor(FETCHERS) as pool:
            places: Sequence[Integers] = list(pool.map(self._index, self._shards))
        self._ends = np.cumsum([len(of_shard) for of_shard in places])
        self._places = np.concatenate(places)
        if not len(self._places):
            raise DataError(f"{urls}: its {len(self._shards)} shards hold no image; name shards that have some.")
        self.labels = self._places[:, 2]

    def content(self, number: int) -> bytes:
        """The bytes of an image file."""
        start, size, _ = self._places[number].tolist()
        with self._library.open(self._shards[int(np.searchsorted(self._ends, number, side="right"))]) as file:
            return os.pread(file.fileno(), size, start)

    def _index(self, shard: ShardSource) -> Integers:
        show_life()
        with self._library.open(shard) as file:
            return labelled_images(file, shard.url)
