"""A shard, decoded once for all runs: uint8 images and tokens in files that are mapped into memory.

    <cache>/<shard>-<hash>/images     [pairs, 3, image_size, image_size] uint8
                           tokens     [pairs, text_length] int64
                           index.json how many pairs, and which samples were passed over

The hash is over what the content follows from: the shard's path, length and time of change, image_size, text_length.
One process builds a shard under a lock while others wait for it; it builds in a folder of another name and renames
that when all is on the disk, so a half-built one is never used. The cache may be deleted at any time between runs.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import numpy as np

from flipscale.errors import DataError
from flipscale.train.data.pairs import Images, Integers, Tokenize
from flipscale.train.data.shards import count_samples, read_pairs

_FORMAT = 1
"""Goes into the hash: a change to how images or captions are read must not find what was read before it."""


@dataclass(frozen=True)
class Flaw:
    """A sample that could not be read."""

    sample: str
    reason: str
    after: int
    """How many good pairs of the shard come before it."""


@dataclass(frozen=True)
class Shard:
    """The good pairs of a shard, in its order."""

    images: Images
    tokens: Integers
    corrupt: tuple[Flaw, ...]

    @property
    def size(self) -> int:
        return len(self.images)


def folder_of(cache: Path, path: Path, image_size: int, text_length: int) -> Path:
    """Where the decoded shard is or will be."""
    stat = path.stat()
    what = [_FORMAT, str(path.resolve()), stat.st_size, stat.st_mtime_ns, image_size, text_length]
    return cache / f"{path.stem}-{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]}"


def load(folder: Path, image_size: int, text_length: int) -> Shard | None:
    """The decoded shard, mapped into memory; None if it is not there or not whole."""
    try:
        index = json.loads((folder / "index.json").read_text())
        count = index["pairs"]
        if not count:
            images, tokens = np.empty((0, 3, image_size, image_size), np.uint8), np.empty((0, text_length), np.int64)
        else:
            images = np.memmap(folder / "images", np.uint8, "r", shape=(count, 3, image_size, image_size))
            tokens = np.memmap(folder / "tokens", np.int64, "r", shape=(count, text_length))
    except (FileNotFoundError, ValueError):  # ValueError: a file is shorter than the index says, or the index no JSON.
        return None
    return Shard(images, tokens, tuple(Flaw(**flaw) for flaw in index["corrupt"]))


def build(
    folder: Path,
    path: Path,
    image_size: int,
    text_length: int,
    tokenize: Tokenize,
    *,
    shards: int,
    pairs: int | None,
) -> Shard:
    """Decode the shard at `path` into `folder`, unless another process does so meanwhile.

    shards, pairs: how many shards, this one included, are still to be decoded, and how many pairs are wanted of them
        (None: all). If the disk has no room for that much it is said now, not hours later.
    """
    with _lock(folder.with_name(f"{folder.name}.lock")):
        shard = load(folder, image_size, text_length)
        if shard is None:
            _check_room(folder.parent, path, 3 * image_size**2 + 8 * text_length, shards, pairs)
            _decode(folder, path, image_size, tokenize)
            shard = load(folder, image_size, text_length)
            assert shard is not None
    return shard


def _decode(folder: Path, path: Path, image_size: int, tokenize: Tokenize) -> None:
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    for leftover in (unfinished, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished.mkdir()
    captions: list[str] = []
    corrupt: list[Flaw] = []
    # Images are written, not stored into a mapped file: on a full disk that is an error and not the process's death.
    with open(unfinished / "images", "wb") as file:
        for name, image, text in read_pairs(path, image_size):
            if image is None:
                corrupt.append(Flaw(name, text, after=len(captions)))
            else:
                file.write(image.tobytes())
                captions.append(text)
        _to_disk(file)
    distinct, which = np.unique(captions, return_inverse=True)
    with open(unfinished / "tokens", "wb") as file:
        if captions:
            file.write(tokenize(distinct.tolist())[which].tobytes())
        _to_disk(file)
    with open(unfinished / "index.json", "wb") as file:
        file.write(json.dumps({"pairs": len(captions), "corrupt": [asdict(flaw) for flaw in corrupt]}).encode())
        _to_disk(file)
    unfinished.rename(folder)


def _check_room(cache: Path, path: Path, pair_bytes: int, shards: int, pairs: int | None) -> None:
    expected = shards * count_samples(path)
    if pairs is not None:
        # The last shard wanted is decoded to its end.
        expected = min(expected, pairs + count_samples(path))
    free = shutil.disk_usage(cache).free
    if expected * pair_bytes > free:
        raise DataError(
            f"{cache}: decoding about {expected} pairs takes {expected * pair_bytes / 1e9:.1f} GB and the disk has "
            f"{free / 1e9:.1f} GB free; make room, put the results on a larger disk, or set a smaller data_size."
        )


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Held by one process of the cluster at a time, and by none that has died."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _to_disk(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
