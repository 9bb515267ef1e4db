"""A shard, decoded once for all runs: uint8 images and tokens in files that are mapped into memory.

    <cache>/<shard>-<hash>/images     [pairs, 3, image_size, image_size] uint8, zeros where a pair cannot be read
                           tokens     [pairs, text_length] int64, zeros likewise
                           vocabulary [distinct tokens] int64
                           index.json how many pairs, and which of them cannot be read

The hash is over what the content follows from: the shard's path, length and time of change (of a fetched one the URL),
image_size, text_length. One process builds a shard under a lock while others wait for it; it builds in a folder of
another name and renames that when all is on the disk, so a half-built one is never used. The cache may be deleted at
any time between runs.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flipscale.data.library import Library, lock
from flipscale.data.pairs import Form, Images, Integers
from flipscale.data.shards import Index, ShardSource, Unreadable, name_of, read
from flipscale.data.views import view
from flipscale.errors import DamagedFile, DataError
from flipscale.guard import make_folder
from flipscale.plain_files import open_file, or_none, read_json, replacing
from flipscale.run import show_life, write_json

_DECODED_FORMAT = 2
"""Goes into the hash: a change to how images or captions are read must not find what was read before it."""


@dataclass(frozen=True)
class Flaw:
    """A pair that cannot be read."""

    sample: str
    reason: str
    row: int
    """Which pair of the shard it is."""


@dataclass(frozen=True)
class _DecodedIndex:
    """What index.json holds."""

    pairs: int
    corrupt: tuple[Flaw, ...]


@dataclass(frozen=True)
class Shard:
    """The pairs of a shard, in its order."""

    images: Images
    tokens: Integers
    vocabulary: Integers
    """The tokens that occur, ascending."""
    corrupt: tuple[Flaw, ...]

    @property
    def size(self) -> int:
        return len(self.images)


def folder_of(cache: Path, shard: ShardSource, form: Form) -> Path:
    """The path that the decoded shard has or will have."""
    what = json.dumps([_DECODED_FORMAT, shard.key, form.image_size, form.text_length])
    return cache / f"{shard.stem}-{hashlib.sha256(what.encode()).hexdigest()[:16]}"


def load(folder: Path, form: Form) -> Shard | None:
    """The decoded shard, mapped into memory; None if it is not there or not whole."""
    image_size = form.image_size
    text_length = form.text_length
    index: _DecodedIndex | None = or_none(read_json, folder / "index.json", _DecodedIndex)
    if index is None:
        return None
    count = index.pairs
    try:
        with open_file(folder / "vocabulary") as file:
            vocabulary = np.fromfile(file, np.int64)
        if not count:
            images = np.empty((0, 3, image_size, image_size), np.uint8)
            tokens = np.empty((0, text_length), np.int64)
        else:
            with open_file(folder / "images") as file:
                images = np.memmap(file, np.uint8, "r", shape=(count, 3, image_size, image_size))
            with open_file(folder / "tokens") as file:
                tokens = np.memmap(file, np.int64, "r", shape=(count, text_length))
    except (DamagedFile, OSError, ValueError):  # ValueError: a file is shorter than the index says.
        return None
    return Shard(images, tokens, vocabulary, index.corrupt)


def build(folder: Path, library: Library, source: ShardSource, form: Form, *, pairs: int) -> Shard:
    """Decode a shard into `folder`, unless another process does so meanwhile.

    pairs: how many are still to be decoded, those of this shard included. If the disk has no room for that much, it
        fails now, not hours later.
    """
    with lock(folder.with_name(f"{folder.name}.lock")):
        shard = load(folder, form)
        if shard is None:
            index = library.index(source)
            _check_room(folder.parent, 3 * form.image_size**2 + 8 * form.text_length, pairs)
            _decode(folder, library, source, index, form)
            shard = load(folder, form)
            assert shard is not None
    return shard


def _decode(folder: Path, library: Library, source: ShardSource, index: Index, form: Form) -> None:
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    for leftover in (unfinished, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    make_folder(unfinished)
    captions: list[str] = []
    corrupt: list[Flaw] = []
    blank = np.zeros((3, form.image_size, form.image_size), np.uint8)
    # Images are written, not stored into a mapped file: on a full disk that is an error and not the process's death.
    with replacing(unfinished / "images") as file:
        for row, (name, image, text) in enumerate(_read_all(library, source, index, form.image_size)):
            if image is None:
                corrupt.append(Flaw(name, text, row))
            file.write((blank if image is None else image).tobytes())
            captions.append("" if image is None else text)
    good = [row for row, caption in enumerate(captions) if caption]
    tokens = np.zeros((len(captions), form.text_length), np.int64)
    if good:
        distinct, which = np.unique([captions[row] for row in good], return_inverse=True)
        tokens[good] = form.tokenize(distinct.tolist())[which]
    for name, numbers in (("tokens", tokens), ("vocabulary", np.unique(tokens[good]))):
        with replacing(unfinished / name) as file:
            file.write(numbers.astype(np.int64).tobytes())
    write_json(unfinished / "index.json", {"pairs": len(captions), "corrupt": list(map(vars, corrupt))})
    unfinished.rename(folder)


def _read_all(
    library: Library, source: ShardSource, index: Index, image_size: int
) -> Iterator[tuple[str, npt.NDArray[np.uint8] | None, str]]:
    """Every pair of a shard: its name, image and caption; or its name, None, and why it cannot be read."""
    with library.open(source) as file, ThreadPoolExecutor() as pool:  # Decoding releases the interpreter.

        def decode(place: Integers) -> tuple[str, npt.NDArray[np.uint8] | None, str]:
            try:
                image, caption = read(file, place)
            except Unreadable as error:
                return name_of(file, place), None, str(error)
            return "", np.asarray(view(image, image_size)).transpose(2, 0, 1), caption

        for start in range(0, len(index.pairs), 256):
            show_life()
            yield from pool.map(decode, index.pairs[start : start + 256])


def _check_room(cache: Path, pair_bytes: int, pairs: int) -> None:
    free = shutil.disk_usage(cache).free
    if pairs * pair_bytes > free:
        raise DataError(
            f"{cache}: decoding {pairs} pairs takes {pairs * pair_bytes / 1e9:.1f} GB and the disk has "
            f"{free / 1e9:.1f} GB free; make room, put the results on a larger disk, set a smaller data_size, or "
            f"set decode: always."
        )
