"""Tar shards declared for evaluation alone, as clip_benchmark writes them: images with a .cls each, or with captions.

A .cls holds the number of the class, from 0 on; if an image may show several classes it holds them all, or a .npy has a
number above 0 for each class that is shown. A .txt holds a caption a line, as an image may have several; a "caption" in
a .json may be a list. Shards are read at the first evaluation of a process, and decoded images stay in memory. All
labels of labelled shards are read first, as they decide which images are taken.
"""

import functools
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from flipscale.data.captions import Captioned, gather
from flipscale.data.decode import File, decode
from flipscale.data.labelled import Labelled, check, subset
from flipscale.data.library import Library
from flipscale.data.paths import EXTENSIONS
from flipscale.data.shards import Sample, captions_of, labels_of, samples, sources
from flipscale.errors import DataError


def read_labelled(
    urls: str, classes: tuple[str, ...], count: int, image_size: int, cache: Path, metric: str = "top1"
) -> Labelled:
    """At most `count` images with even classes. By the metric of the set, each may show several."""
    return _read_labelled(urls, _versions(urls), classes, count, image_size, cache, metric == "map11")


def read_captioned(urls: str, count: int, image_size: int, cache: Path) -> Captioned:
    """The first `count` images, each with all its captions."""
    return _read_captioned(urls, _versions(urls), count, image_size, cache)


def _versions(urls: str) -> tuple[str, ...]:
    """A value that differs when a shard has changed: the process's next run on the same set shares the images."""
    return tuple(shard.key for shard in sources(urls))


@functools.lru_cache(maxsize=16)
def _read_labelled(
    urls: str,
    versions: tuple[str, ...],
    classes: tuple[str, ...],
    count: int,
    image_size: int,
    cache: Path,
    several: bool,
) -> Labelled:
    if several:
        listed = [_labels(where, sample, len(classes)) for where, sample in _samples(urls, cache, "cls", "npy")]
    else:
        listed = [labels_of(where, sample) for where, sample in _samples(urls, cache, "cls")]
    check(np.array([label for labels in listed for label in labels], np.int64), classes, urls)
    first = np.array([labels[0] for labels in listed], np.int64)
    chosen = subset(first, count)
    wanted = set(chosen.tolist())
    files = ((where, _image(sample)) for n, (where, sample) in enumerate(_samples(urls, cache)) if n in wanted)
    images, good = decode(files, len(chosen), image_size, urls)
    kept, shown = chosen[good], None
    if several:
        shown = np.zeros((len(kept), len(classes)), np.bool_)
        for row, number in zip(shown, kept.tolist(), strict=True):
            row[listed[number]] = True
    return Labelled(images, first[kept], classes, len(chosen) - len(good), shown)


def _labels(where: str, sample: Sample, classes: int) -> list[int]:
    """The classes that a sample shows: of its .cls, or of a .npy, as clip_benchmark writes it for VOC2007: one number a
    class, 1 where it is shown."""
    if "npy" not in sample:
        return labels_of(where, sample, several=True)
    try:
        marks = np.load(io.BytesIO(sample["npy"]), allow_pickle=False)
        labels = np.flatnonzero(marks).tolist()
    except (ValueError, OSError, EOFError, TypeError) as error:
        raise DataError(f"{where}: its .npy is not an array of numbers ({error}); write one number a class.") from error
    if marks.shape != (classes,) or not labels:
        raise DataError(
            f"{where}: its .npy has the shape {marks.shape} and {len(labels)} numbers other than 0; write one for "
            f"each of the {classes} classes, and 1 for those that are shown."
        )
    return labels


@functools.lru_cache(maxsize=16)
def _read_captioned(urls: str, versions: tuple[str, ...], count: int, image_size: int, cache: Path) -> Captioned:
    files: list[File] = []
    captions: list[list[str]] = []
    bad = 0
    for where, sample in _samples(urls, cache):
        texts = captions_of(sample)
        if not texts:
            bad += 1
            continue
        files.append((where, _image(sample)))
        captions.append(texts)
        if len(files) == count:
            break
    if not files:
        raise DataError(
            f"{urls}: no sample has a caption (.txt, or caption in a .json). If they have a .cls, give classes."
        )
    images, good = decode(files, len(files), image_size, urls)
    return gather(images, [captions[i] for i in good], corrupt=bad + len(files) - len(good))


def _samples(urls: str, cache: Path, *only: str) -> Iterator[tuple[str, Sample]]:
    """Each sample with its shard and name. Shards that are not on a disk are fetched into the cache."""
    for shard in sources(urls):
        for name, sample in samples(Library(cache).path(shard), *only):
            yield f"{shard.url}: {name}", sample


def _image(sample: Sample) -> bytes | None:
    return next((data for extension, data in sample.items() if extension in EXTENSIONS), None)
