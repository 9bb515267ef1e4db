"""Tar shards of samples: scanned once for where the files of each pair lie, then read pair by pair.

A sample is the files in a row that share a name up to the first dot. A damaged shard is an error; a pair that cannot be
decoded comes with the reason. Shards are scanned with tarfile, because the webdataset package takes a shard that was
cut off between two files for a whole one.
"""

import io
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

from flipscale.errors import DataError
from flipscale.train.data.decode import EXTENSIONS, NO_IMAGE
from flipscale.train.data.pairs import Integers

_BLOCK = 512
"""Tar files are made of blocks of this many bytes, and end with blocks of zeros."""

Sample = dict[str, bytes]
"""The files of a sample by extension."""


@dataclass(frozen=True)
class Index:
    """Where the pairs of a shard lie in it. A sample without an image, or without a .txt or .json, is no pair."""

    pairs: Integers
    """[n, 5]: where the image begins, its length, where the caption begins, its length, whether it is a .json."""

    length: int
    """Of the shard, in bytes."""


class Unreadable(Exception):
    """Why a pair cannot be decoded."""


def scan(file: IO[bytes], shard: str) -> Index:
    """The index of a shard, from its headers alone. Raises DataError for one that is not whole, by the name given."""
    pairs = []
    for _, files in groupby(_files(file, shard), key=lambda found: found[0]):
        places = {extension: (start, size) for _, extension, start, size in files if size}
        image = next((places[extension] for extension in places if extension in EXTENSIONS), None)
        caption = places.get("txt") or places.get("json")
        if image and caption:
            pairs.append((*image, *caption, int("txt" not in places)))
    return Index(np.array(pairs, np.int64).reshape(-1, 5), os.fstat(file.fileno()).st_size)


def samples(path: Path, only: str | None = None) -> Iterator[tuple[str, Sample]]:
    """The samples of a shard by name, in order. Raises DataError for a shard that is not whole.

    only: the extension of the one file of each sample that is read; the others are there and empty. None reads all.
    """
    with open(path, "rb") as file:
        for name, files in groupby(_files(file, str(path)), key=lambda found: found[0]):
            yield (
                name,
                {
                    extension: os.pread(file.fileno(), size if only in (None, extension) else 0, start)
                    for _, extension, start, size in files
                },
            )


def read(file: IO[bytes], place: Integers) -> tuple[Image.Image, str]:
    """The image of a pair, whole, and its caption. Raises Unreadable.

    place: the pair's row in the index of the shard that `file` is.
    """
    image, size, caption, length, is_json = place.tolist()
    try:
        text = os.pread(file.fileno(), length, caption).decode()
        found = json.loads(text).get("caption") if is_json else text
        if not isinstance(found, str) or not found.strip():
            raise Unreadable("it has no caption")
        return Image.open(io.BytesIO(os.pread(file.fileno(), size, image))).convert("RGB"), found.strip()
    except (MemoryError, Unreadable):
        raise
    except UnidentifiedImageError as error:  # It names an object in memory.
        raise Unreadable(NO_IMAGE) from error
    except Exception as error:  # On damaged bytes decoders raise anything: OSError, SyntaxError, struct.error, ...
        raise Unreadable(str(error) or type(error).__name__) from error


def name_of(file: IO[bytes], place: Integers) -> str:
    """What a pair is called, for a complaint: the name of its image without the extension."""
    header = os.pread(file.fileno(), _BLOCK, int(place[0]) - _BLOCK)
    return _named(tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").name)[0]


def _files(file: IO[bytes], shard: str) -> Iterator[tuple[str, str, int, int]]:
    """The files of a shard, in order: the sample's name, the extension, where the content begins, its length."""
    name = "none"
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                sample, extension = _named(member.name)
                if member.isreg() and extension:
                    name = sample
                    yield name, extension, member.offset_data, member.size
            end = tar.offset
    except tarfile.ReadError as error:
        raise DataError(
            f"{shard}: not a whole tar file ({error}; the last sample read is {name}). "
            f"Shards are plain .tar files; fetch or write this one again."
        ) from error
    # tarfile takes any header it cannot read for the end. A whole file ends in zeros.
    if os.pread(file.fileno(), _BLOCK, end) != bytes(_BLOCK):
        raise DataError(
            f"{shard}: cut off or damaged at byte {end}, after sample {name}; fetch or write this shard again."
        )


def _named(path: str) -> tuple[str, str]:
    """The name of a file's sample, and its extension: what follows the first dot, in small letters."""
    folder, slash, name = path.rpartition("/")
    stem, _, extension = name.partition(".")
    return folder + slash + stem, extension.lower()
