"""Tar shards of images and captions on a local disk, as img2dataset writes them and the webdataset package names them.

A sample is the files of a shard that share a name up to the first dot: an image (.jpg, .png, .webp, ...) and a caption
(.txt, or "caption" in a .json). Pairs are counted in the order of the shards. Each shard is decoded once, to
the middle square resized to image_size, as CLIP evaluates; the random crops of FLIP's training are not made.

What that needs: 3 image_size**2 bytes of disk a pair, 150 kB at 224 px, so 150 GB a million. That is right for subsets
of some million pairs, which epochs and runs go over again and again, and far from right for LAION-400M in one piece.
"""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from braceexpand import braceexpand

from flipscale.errors import DataError
from flipscale.train.data import cache as cached
from flipscale.train.data.pairs import Data, HeldOut, Images, Integers, Tokenize

CORRUPT_SHARE, CORRUPT_COUNT = 0.01, 10
"""So many samples, the larger of the two, may be unreadable and are passed over. More is a fault of the shards."""

DISTINCT_SHARE = 0.95
"""With a smaller share of distinct captions among the held-out pairs retrieval is not scored: right answers would not
count."""


def training(
    options: dict[str, Any],
    *,
    data_size: int | None,
    image_size: int,
    text_length: int,
    cache: Path | None,
    tokenize: Tokenize,
) -> Data:
    """The first `data_size` good pairs in the order of the shards, or all."""
    pairs = _Pairs(options["urls"], data_size, image_size, text_length, cache, tokenize)
    if data_size is not None and pairs.size < data_size:
        raise DataError(
            f"{options['urls']}: data_size is {data_size}, but its {len(pairs.shards)} shards hold {pairs.size} good "
            f"pairs and {pairs.corrupt} corrupt samples; lower data_size or add shards."
        )
    return Data(size=pairs.size, batch=pairs.batch, corrupt=pairs.corrupt)


def held_out(
    options: dict[str, Any], *, images: int, image_size: int, text_length: int, cache: Path | None, tokenize: Tokenize
) -> HeldOut:
    """The first `images` pairs, for the held-out loss and for retrieval; there are no classes."""
    pairs = _Pairs(options["urls"], images, image_size, text_length, cache, tokenize)
    found, tokens = pairs.batch(np.arange(pairs.size))
    distinct = len(np.unique(tokens, axis=0))
    return HeldOut(pairs=(found, tokens), retrieval=distinct >= DISTINCT_SHARE * len(tokens))


class _Pairs:
    """The first `wanted` good pairs of the shards, or all, in as many decoded shards as that takes."""

    def __init__(
        self, urls: str, wanted: int | None, image_size: int, text_length: int, cache: Path | None, tokenize: Tokenize
    ):
        if cache is None:
            raise DataError(f"{urls}: a webdataset is decoded once into a cache, and no folder was given for it.")
        paths = shard_paths(urls)
        self.size = self.corrupt = seen = 0
        self.shards: list[cached.Shard] = []
        folders = [cached.folder_of(cache, path, image_size, text_length) for path in paths]
        for number, (path, folder) in enumerate(zip(paths, folders, strict=True)):
            left = None if wanted is None else wanted - self.size
            if left == 0:
                break
            shard = cached.load(folder, image_size, text_length)
            if shard is None:
                unbuilt = sum(not folder.exists() for folder in folders[number:])
                shard = cached.build(folder, path, image_size, text_length, tokenize, shards=unbuilt, pairs=left)
            self.shards.append(shard)
            good = shard.size if left is None else min(left, shard.size)
            # Corrupt samples after the last pair wanted are none of this run's.
            corrupt = [flaw for flaw in shard.corrupt if flaw.after < good or good == shard.size]
            self.size += good
            self.corrupt += len(corrupt)
            seen += good + len(corrupt)
            if self.corrupt > max(CORRUPT_COUNT, CORRUPT_SHARE * seen):
                flaw = corrupt[-1]
                raise DataError(
                    f"{path}: {self.corrupt} of the first {seen} samples cannot be read, the last of them "
                    f"{flaw.sample} ({flaw.reason}); {CORRUPT_COUNT}, or {CORRUPT_SHARE:.0%}, are passed over. "
                    f"Write the shards again, or leave the bad ones out of urls."
                )
        if not self.size:
            raise DataError(f"{urls}: its {len(paths)} shards hold no pair of an image and a caption.")
        self._ends = np.cumsum([shard.size for shard in self.shards])

    def batch(self, indices: Integers) -> tuple[Images, Integers]:
        which = np.searchsorted(self._ends, indices, side="right")
        images = np.empty((len(indices), *self.shards[0].images.shape[1:]), np.uint8)
        tokens = np.empty((len(indices), self.shards[0].tokens.shape[1]), np.int64)
        for number in np.unique(which):
            shard, rows = self.shards[number], which == number
            within = indices[rows] - (self._ends[number] - shard.size)
            images[rows], tokens[rows] = shard.images[within], shard.tokens[within]
        return images, tokens


def shard_paths(urls: str) -> list[Path]:
    """The files that a pattern stands for, in order; several patterns are joined by '::', as open_clip has it.

    A path that is not absolute starts from the folder in FLIPSCALE_DATA, else from the current one.
    """
    paths = []
    for pattern in urls.split("::"):
        if re.match(r"[a-z0-9]+:", pattern):
            raise DataError(f"{pattern}: only shards on a local disk are read; fetch them and give their path.")
        try:
            names = list(braceexpand(pattern))
        except ValueError as error:
            raise DataError(f"{pattern}: {error}; write shards as in laion400m/{{00000..00041}}.tar.") from None
        paths += [Path(os.environ.get("FLIPSCALE_DATA", ""), name) for name in names]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"{missing[0].resolve()}: there is no such shard; {len(missing)} of the {len(paths)} that {urls} stands "
            f"for are missing. Correct urls, fetch them, or set FLIPSCALE_DATA to the folder that urls start from."
        )
    return paths
