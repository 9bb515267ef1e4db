"""Tar shards of samples: scanned once for where the files of each pair lie, then read pair by pair.

A damaged shard is an error; a pair that cannot be decoded comes with the reason. flipscale.inputs.shards tells the
files of a shard apart.
"""

import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

from flipscale.inputs.paths import EXTENSIONS
from flipscale.inputs.shards import caption_of, label_of, members, named, pair_of
from flipscale.train.data.decode import NO_IMAGE
from flipscale.train.data.pairs import Integers
from flipscale.train.data.views import open_image

_HEADER = 512
"""Tar files are made of blocks of this many bytes, and end with blocks of zeros."""

Sample = dict[str, bytes]
"""The files of a sample by extension."""


@dataclass(frozen=True)
class Index:
    """The places of a shard's pairs in it. A sample without an image, or without a .txt or .json, is not a pair."""

    pairs: Integers
    """[n, 5]: where the image begins, its length, where the caption begins, its length, whether it is a .json."""

    length: int
    """Of the shard, in bytes."""


class Unreadable(Exception):
    """Why a pair cannot be decoded."""


def scan(file: IO[bytes], shard: str) -> Index:
    """The index of a shard, from its headers alone. Raises DataError for one that is not whole, by the name given."""
    pairs = []
    for _, places in members(file, shard):
        if pair := pair_of(places):
            image, caption, is_json = pair
            pairs.append((*image, *caption, int(is_json)))
    return Index(np.array(pairs, np.int64).reshape(-1, 5), os.fstat(file.fileno()).st_size)


def labelled_images(file: IO[bytes], shard: str) -> Integers:
    """The places of a shard's images and their classes: [n, 3], offset, length, label.

    Raises DataError, with the name given, for an incomplete shard and for an image without a class.
    """
    found = []
    for name, places in members(file, shard):
        image = next((places[extension] for extension in places if extension in EXTENSIONS), None)
        if image is not None:
            sample = {
                extension: os.pread(file.fileno(), size if extension == "cls" else 0, start)
                for extension, (start, size) in places.items()
            }
            found.append((*image, label_of(f"{shard}: {name}", sample)))
    return np.array(found, np.int64).reshape(-1, 3)


def samples(path: Path, *only: str) -> Iterator[tuple[str, Sample]]:
    """The samples of a shard by name, in order. Raises DataError for a shard that is not whole.

    only: the extensions of the files of each sample that are read; the others are there and empty. None given: all.
    """
    with open(path, "rb") as file:
        for name, places in members(file, str(path)):
            yield (
                name,
                {
                    extension: os.pread(file.fileno(), size if not only or extension in only else 0, start)
                    for extension, (start, size) in places.items()
                },
            )


def read(file: IO[bytes], place: Integers) -> tuple[Image.Image, str]:
    """The image of a pair, whole, and its caption. Raises Unreadable.

    place: the pair's row in the index of the shard that `file` is.
    """
    image, size, caption, length, is_json = place.tolist()
    try:
        found = caption_of(os.pread(file.fileno(), length, caption), bool(is_json))
        if found is None:
            raise Unreadable("it has no caption")
        return open_image(io.BytesIO(os.pread(file.fileno(), size, image))).convert("RGB"), found
    except (MemoryError, Unreadable):
        raise
    except UnidentifiedImageError as error:  # It names an object in memory.
        raise Unreadable(NO_IMAGE) from error
    except Exception as error:  # On damaged bytes decoders raise anything: OSError, SyntaxError, struct.error, ...
        raise Unreadable(str(error) or type(error).__name__) from error


def name_of(file: IO[bytes], place: Integers) -> str:
    """The name of a pair in a complaint: that of its image without the extension."""
    header = os.pread(file.fileno(), _HEADER, int(place[0]) - _HEADER)
    return named(tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").name)[0]
