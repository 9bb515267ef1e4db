"""Tar shards of images and captions, as img2dataset writes them and the webdataset package names them.

A sample is the files of a shard that share a name up to the first dot: an image (.jpg, .png, .webp, ...) and a caption
(.txt, or "caption" in a .json). Pairs are counted in the order of the shards; samples that lack one are not pairs.
Shards lie on a disk, or are fetched, see library.py. Decoded once or always, the same pairs are seen in the same order:

    once      each shard is decoded into files, to the middle square resized to image_size: 3 image_size**2 bytes of
              disk a pair, 150 kB at 224 px, so 150 GB a million. For sets that many runs and epochs go over.
    always    pairs are decoded as they are needed, see stream.py. For LAION, and for random crops, which are crops of
              the image as it was found.
    null      once for up to DECODED_GB without random crops, else always.

Sets to score or to fine-tune on are as clip_benchmark writes them, with captions or a .cls that holds the number of the
class, from 0 on; if an image may show several classes it holds them all, or a .npy has a number above 0 for each class
that is shown. A .txt holds a caption a line, as an image may have several; a "caption" in a .json may be a list. Shards
are read at the first evaluation of a process, and decoded images stay in memory. All labels of labelled shards are read
first, as they decide which images are taken.
"""

import functools
import io
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from flipscale.data import cache as cached
from flipscale.data.decode import CORRUPT_COUNT, CORRUPT_SHARE, File, decode, tolerated
from flipscale.data.digest import hashed, names_content
from flipscale.data.inspection import Look, check_batch
from flipscale.data.labelled import (
    IMAGENET_CLASSES,
    ClassifiedSet,
    Labelled,
    check_choice,
    check_labels,
    count_class_file,
    images_in_files,
    labelled_items,
    names_in_order,
    numbered_classes,
    subset,
)
from flipscale.data.library import FETCHERS, Library, check_count
from flipscale.data.pairs import (
    EXTENSIONS,
    Captioned,
    Data,
    Form,
    HeldOutItems,
    Images,
    Integers,
    Scoring,
    captioned_items,
    paired_items,
)
from flipscale.data.shards import (
    MOST_COUNTED_FILES,
    Sample,
    ShardSource,
    captions_of,
    check_captioned,
    check_data_size,
    check_labelled,
    check_pairs,
    counted,
    declared_counts,
    labelled_images,
    labels_of,
    samples,
    sources,
)
from flipscale.data.shuffle import Shuffle, taken
from flipscale.data.stream import Stream
from flipscale.data.views import Views, view_stored
from flipscale.errors import DataError
from flipscale.run import show_life
from flipscale.settings.declarations import LabelledShards, ShardSet, WebDataset

DECODED_GB = 64
"""The most that `decode: null` decodes once: as much as the page cache of a machine with a GPU holds. Beyond that,
decoded images come from the disk at 150 kB each, six times the size of the JPEG, and decoding anew is no slower."""


def check(data: WebDataset | ShardSet | LabelledShards, look: Look, probe: bool) -> None:
    """Open the first and the last of the shards that are on this machine's disks."""
    if isinstance(data, WebDataset):
        look.once(_check_pairs, data, look)
    elif isinstance(data, LabelledShards):
        look.once(_check_labelled, data, look)
    else:
        named = data.classes not in (None, "imagenet")
        names = look.at(*look.path, "classes").once(_check_names, data, look) if named else None
        look.once(_check_set, data, len(names or ()), look)


def _check_pairs(data: WebDataset, look: Look) -> tuple[list[ShardSource], dict[ShardSource, int]]:
    """The shards, and the declared counts of their pairs."""
    shards = sources(data.urls)
    declared = declared_counts(shards, data.sizes)
    _check_ends(shards, look, check_pairs)
    look.count("data_sets", data.urls)
    return shards, declared


def _check_labelled(data: LabelledShards, look: Look) -> None:
    for urls in (data.train, data.test):
        _check_ends(sources(urls), look, check_labelled, sys.maxsize)


def _check_names(data: ShardSet, look: Look) -> tuple[str, ...]:
    assert data.classes is not None
    names = names_in_order(data.classes, data.urls)
    check_choice(names, data.urls, data.metric)
    count_class_file(data.classes, look)
    return names


def _check_set(data: ShardSet, names: int, look: Look) -> None:
    if data.classes is None:
        _check_ends(sources(data.urls), look, check_captioned)
    else:
        classes = IMAGENET_CLASSES if data.classes == "imagenet" else names or sys.maxsize
        _check_ends(sources(data.urls), look, check_labelled, classes, data.metric == "map11")


def _check_ends(shards: list[ShardSource], look: Look, check: Callable[..., object], *given: object) -> None:
    local = [shard.url for shard in shards if shard.local]
    away = [shard.url for shard in shards if not shard.local]
    if away:
        more = f" and {len(away) - 1:,} more" if len(away) > 1 else ""
        look.leave(f"{away[0]}{more}, fetched when a run starts")
    look.count("shards", *local)
    for url in dict.fromkeys((*local[:1], *local[-1:])):
        check(url, *given)
        look.count("shards_opened", url)


def check_training(data: WebDataset, look: Look, *, data_size: int | None, batch_size: int) -> None:
    """Count pairs until there are enough, where that takes no more than seconds."""
    found = look.once(_check_pairs, data, look)
    pairs = look.once(_count, data, data_size or batch_size, look)
    if found is None or pairs is None:
        return
    if data_size is None:
        look.at("batch_size").once(check_batch, data.urls, pairs, batch_size, "add shards, or ")
    else:
        look.at("data_size").once(check_data_size, data.urls, len(found[0]), data_size, pairs)


def _count(data: WebDataset, enough: int, look: Look) -> int | None:
    found = look.once(_check_pairs, data, look)
    return None if found is None else counted(*found, enough)


def count(data: WebDataset | ShardSet | LabelledShards, most: int) -> int:
    """As many as there are samples in the shards."""
    shards = sources(data.test if isinstance(data, LabelledShards) else data.urls)
    found = (sample for shard in shards for sample in samples(Path(shard.url), "cls"))
    number = sum(1 for _ in itertools.islice(found, MOST_COUNTED_FILES // 2))
    return number if number < MOST_COUNTED_FILES // 2 else most


def content(data: WebDataset | ShardSet | LabelledShards, probe: bool) -> Any:
    """The bytes of the shards, and the classes that a set names."""
    shards = hashed(Path(shard.url) for shard in sources(data.test if isinstance(data, LabelledShards) else data.urls))
    return (names_content(data.classes), shards) if isinstance(data, ShardSet) else shards


def held_out(data: WebDataset | ShardSet, form: Form, scoring: Scoring) -> HeldOutItems | None:
    """The first pairs or captioned images, or a subset of labelled ones with even classes."""
    urls = data.urls
    images = scoring.images
    if isinstance(data, WebDataset):
        return None if scoring.trained_on else paired_items(*_first_pairs(data, form, images), urls)
    known = urls, _versions(urls), images, form.image_size, form.cache
    if data.classes is None:
        return captioned_items(_captioned(*known), form, urls)
    scored = _labelled(*known, names_in_order(data.classes, urls), data.metric == "map11")
    return labelled_items(data, scored, form, scoring, urls)


def classified(data: LabelledShards, form: Form, *, images: int, samples: int) -> ClassifiedSet:
    """Training images are indexed at the start, and decoded as they are needed. Classes are numbered, from 0 to the
    largest label of a training image."""
    read, labels = _images(data.train, form.cache)
    classes = numbered_classes(labels, data.train)
    test = _labelled(data.test, _versions(data.test), images, form.image_size, form.cache, classes)
    return ClassifiedSet(images_in_files(read, labels, form.image_size, data.train), test)


def training(
    data: WebDataset, form: Form, *, data_size: int | None, samples: int, before: int, crop: float | None
) -> Data:
    """The first `data_size` pairs in the order of the shards, or all."""
    urls = data.urls
    decode = data.decode
    if decode == "once" and crop is not None:
        raise DataError(
            f"{urls}: decode: once keeps only middle squares, and crop: {crop} takes parts of the whole image; "
            "set decode: always, or crop: null."
        )
    library, shards, counts = _open(data, data_size, form.cache)
    size = sum(counts) if data_size is None else data_size
    check_data_size(urls, len(shards), size, sum(counts))
    decoded = size * (3 * form.image_size**2 + 8 * form.text_length)
    if decode == "always" or (decode is None and (crop is not None or decoded > DECODED_GB * 1e9)):
        stream = Stream(library, shards, counts, size, form)
        return Data(
            size=size,
            batch=stream.batch,
            order=stream.order,
            corrupt=stream.corrupt,
            flaws=lambda: stream.flaws,
            note=stream.note,
        )
    pairs = _Decoded(library, shards, counts, size, form)
    return Data(
        size=size,
        batch=pairs.batch,
        order=Shuffle(taken(counts, size)),
        corrupt=lambda: len(pairs.bad),
        vocabulary=pairs.vocabulary,
    )


def _first_pairs(data: WebDataset, form: Form, images: int) -> tuple[Images, Integers, int]:
    """The images and tokens of the first `images` pairs that can be read, and how many cannot be."""
    wanted = images
    while True:
        library, shards, counts = _open(data, wanted, form.cache)
        size = min(wanted, sum(counts))
        pairs = _Decoded(library, shards, counts, size, form)
        good = np.setdiff1d(np.arange(size), pairs.bad)
        if len(good) == images or size < wanted:
            break
        wanted += images - len(good)
    if len(pairs.bad) > tolerated(size):
        raise DataError(
            f"{data.urls}: {len(pairs.bad)} of {size} pairs cannot be read; at most {tolerated(size)} "
            "may be skipped. Write the shards again, or leave the bad ones out of urls."
        )
    return *pairs.batch(good), len(pairs.bad)


def _open(data: WebDataset, wanted: int | None, cache: Path) -> tuple[Library, list[ShardSource], list[int]]:
    """The shards, and how many pairs each of the first holds, as far as `wanted` pairs take."""
    library = Library(cache)
    shards = sources(data.urls)
    counts = library.counts(shards, wanted, declared_counts(shards, data.sizes))
    if not sum(counts):
        raise DataError(f"{data.urls}: its {len(shards)} shards hold no pair of an image and a caption.")
    return library, shards, counts


class _Decoded:
    """The first `size` pairs of shards that are decoded once."""

    def __init__(
        self,
        library: Library,
        shards: list[ShardSource],
        counts: list[int],
        size: int,
        form: Form,
    ):
        self._view_size = form.view_size
        self._shards: list[cached.Shard] = []
        self._starts = np.cumsum([0, *counts])[:-1]
        bad: list[int] = []
        folders = [cached.folder_of(library.cache, shard, form) for shard in shards[: len(counts)]]
        for number, (source, folder, start) in enumerate(zip(shards, folders, self._starts.tolist(), strict=False)):
            shard = cached.load(folder, form)
            if shard is None:
                left = sum(count for count, other in zip(counts, folders, strict=True) if not other.exists())
                shard = cached.build(folder, library, source, form, pairs=left)
            check_count(source, shard.size, counts[number])
            self._shards.append(shard)
            # Flaws after the last pair wanted do not concern this run.
            flaws = [flaw for flaw in shard.corrupt if start + flaw.row < size]
            bad += [start + flaw.row for flaw in flaws]
            seen = min(start + shard.size, size)
            if len(bad) > max(CORRUPT_COUNT, CORRUPT_SHARE * seen):
                raise DataError(
                    f"{source.url}: {len(bad)} of the first {seen} pairs cannot be read, the last of them "
                    f"{flaws[-1].sample} ({flaws[-1].reason}); at most {CORRUPT_COUNT}, or {CORRUPT_SHARE:.0%}, "
                    "are skipped. Write the shards again, or leave the bad ones out of urls."
                )
        if len(bad) == size:
            raise DataError(f"{shards[0].url}: none of {size} pairs can be read; write the shards again.")
        self.bad = bad
        self.vocabulary = np.unique(np.concatenate([shard.vocabulary for shard in self._shards]))
        self._instead = _instead(bad, size)

    def batch(self, indices: Integers, views: Views | None = None) -> tuple[Images, Integers]:
        """The images and tokens of these pairs; the views have no crops."""
        indices = np.array([self._instead.get(number, number) for number in indices.tolist()], np.int64)
        which = np.searchsorted(self._starts, indices, side="right") - 1
        images = np.empty((len(indices), *self._shards[0].images.shape[1:]), np.uint8)
        tokens = np.empty((len(indices), self._shards[0].tokens.shape[1]), np.int64)
        for number in np.unique(which):
            shard = self._shards[number]
            rows = which == number
            within = indices[rows] - self._starts[number]
            images[rows], tokens[rows] = shard.images[within], shard.tokens[within]
        return view_stored(images, self._view_size, views), tokens


def _instead(bad: list[int], size: int) -> dict[int, int]:
    """The replacement of each unreadable pair: the next readable one, and after the last pair the first."""
    unreadable = set(bad)
    instead = {}
    for number in bad:
        other = number
        while other in unreadable:
            other = (other + 1) % size
        instead[number] = other
    return instead


# Sets to score and to fine-tune on


def _versions(urls: str) -> tuple[str, ...]:
    """A value that differs when a shard has changed: the process's next run on the same set shares the images."""
    return tuple(shard.key for shard in sources(urls))


@functools.lru_cache(maxsize=16)
def _labelled(
    urls: str,
    versions: tuple[str, ...],
    count: int,
    image_size: int,
    cache: Path,
    classes: tuple[str, ...],
    several: bool = False,
) -> Labelled:
    """At most `count` images with even classes. several: whether each may show several."""
    if several:
        listed = [_labels(where, sample, len(classes)) for where, sample in _samples(urls, cache, "cls", "npy")]
    else:
        listed = [labels_of(where, sample) for where, sample in _samples(urls, cache, "cls")]
    check_labels([label for labels in listed for label in labels], len(classes), urls)
    first = np.array([labels[0] for labels in listed], np.int64)
    chosen = subset(first, count)
    wanted = set(chosen.tolist())
    files = ((where, _image(sample)) for n, (where, sample) in enumerate(_samples(urls, cache)) if n in wanted)
    images, good = decode(files, len(chosen), image_size, urls)
    kept = chosen[good]
    shown = None
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
def _captioned(urls: str, versions: tuple[str, ...], count: int, image_size: int, cache: Path) -> Captioned:
    """The first `count` images, each with all its captions."""
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
    return images, [captions[i] for i in good], bad + len(files) - len(good)


def _samples(urls: str, cache: Path, *only: str) -> Iterator[tuple[str, Sample]]:
    """Each sample with its shard and name. Shards that are not on a disk are fetched into the cache."""
    for shard in sources(urls):
        for name, sample in samples(Library(cache).path(shard), *only):
            yield f"{shard.url}: {name}", sample


def _image(sample: Sample) -> bytes | None:
    return next((data for extension, data in sample.items() if extension in EXTENSIONS), None)


def _images(urls: str, cache: Path) -> tuple[Callable[[int], bytes], Integers]:
    """What reads an image file of tar shards by its number, and all labels. Headers and labels are read once, here."""
    shards = sources(urls)
    library = Library(cache)

    def index(shard: ShardSource) -> Integers:
        show_life()
        with library.open(shard) as file:
            return labelled_images(file, shard.url)

    with ThreadPoolExecutor(FETCHERS) as pool:
        indices = list(pool.map(index, shards))
    ends = np.cumsum([len(of_shard) for of_shard in indices])
    places = np.concatenate(indices)
    if not len(places):
        raise DataError(f"{urls}: its {len(shards)} shards hold no image; name shards that have some.")

    def read(number: int) -> bytes:
        start, size, _ = places[number].tolist()
        with library.open(shards[int(np.searchsorted(ends, number, side="right"))]) as file:
            return os.pread(file.fileno(), size, start)

    return read, places[:, 2]
