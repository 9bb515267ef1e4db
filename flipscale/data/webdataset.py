"""Tar shards of images and captions, as img2dataset writes them and the webdataset package names them.

A sample is the files of a shard that share a name up to the first dot: an image (.jpg, .png, .webp, ...) and a caption
(.txt, or "caption" in a .json). Pairs are counted in the order of the shards; samples that lack one are not pairs.
Shards lie on a disk, or are fetched, see library.py. Decoded once or always, the same pairs are seen in the same order:

    once      each shard is decoded into files, to the middle square resized to image_size: 3 image_size**2 bytes of
              disk a pair, 150 kB at 224 px, so 150 GB a million. For sets that many runs and epochs go over.
    always    pairs are decoded as they are needed, see stream.py. For LAION, and for random crops, which are crops of
              the image as it was found.
    null      once for up to DECODED_GB without random crops, else always.
"""

from pathlib import Path

import numpy as np

from flipscale.data import cache as cached
from flipscale.data.decode import CORRUPT_COUNT, CORRUPT_SHARE, tolerated
from flipscale.data.library import Library, check_count
from flipscale.data.pairs import Data, Form, Images, Integers
from flipscale.data.shards import ShardSource, check_data_size, declared_counts, sources
from flipscale.data.shuffle import Shuffle, taken
from flipscale.data.stream import Stream
from flipscale.data.views import Views, view_stored
from flipscale.errors import DataError
from flipscale.settings import WebDataset

DECODED_GB = 64
"""The most that `decode: null` decodes once: as much as the page cache of a machine with a GPU holds. Beyond that,
decoded images come from the disk at 150 kB each, six times the size of the JPEG, and decoding anew is no slower."""


def training(data: WebDataset, form: Form, data_size: int | None, crop: float | None) -> Data:
    """The first `data_size` pairs in the order of the shards, or all."""
    urls, decode = data.urls, data.decode
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
        return Data(size=size, batch=stream.batch, order=stream.order, corrupt=stream.corrupt)
    pairs = _Decoded(library, shards, counts, size, form)
    return Data(
        size=size,
        batch=pairs.batch,
        order=Shuffle(taken(counts, size)),
        corrupt=lambda: len(pairs.bad),
        vocabulary=pairs.vocabulary,
    )


def held_out(data: WebDataset, form: Form, images: int) -> tuple[Images, Integers, int]:
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
    library, shards = Library(cache), sources(data.urls)
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
            shard, rows = self._shards[number], which == number
            within = indices[rows] - self._starts[number]
            images[rows], tokens[rows] = shard.images[within], shard.tokens[within]
        return view_stored(images, self._view_size, views), tokens


def _instead(bad: list[int], size: int) -> dict[int, int]:
    """The replacement of each unreadable pair: the next readable one, and after the last pair the first."""
    unreadable, instead = set(bad), {}
    for number in bad:
        other = number
        while other in unreadable:
            other = (other + 1) % size
        instead[number] = other
    return instead
