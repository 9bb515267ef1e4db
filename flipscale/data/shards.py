"""Tar shards by the pattern that declares them: their names, their declared pairs, their content.

    laion/{00000..00041}.tar                        on a disk; a path that is not absolute starts from FLIPSCALE_DATA
    https://host/laion/{00000..00041}.tar           a URL
    pipe:ssh host cat /laion/{00000..00041}.tar     the output of a command

A sample is the files of a shard in a row that share a name up to the first dot. Shards are scanned once for where the
files of each pair lie, then read pair by pair. A damaged shard is an error; a pair that cannot be decoded comes with
the reason. Shards are read with tarfile, because the webdataset package takes a shard that was cut off between two
files for a whole one.
"""

import contextlib
import hashlib
import io
import itertools
import json
import math
import os
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, Any
from urllib.request import url2pathname

import numpy as np
from braceexpand import braceexpand
from PIL import Image, UnidentifiedImageError

from flipscale.data.decode import NO_IMAGE
from flipscale.data.labelled import check_labels
from flipscale.data.pairs import EXTENSIONS, Integers, located
from flipscale.data.views import open_image
from flipscale.errors import DataError
from flipscale.kinds import Whole, record_of
from flipscale.plain_files import parsed, read_bytes

SCHEMES = ["pipe", "s3", "ais", "ftps", "gs", "htgs", "http", "https", "scp", "sftp"]
"""Schemes of a shard's URL: pipe, s3, and those that webdataset's gopen knows."""

_INDEX_FORMAT = 1
"""Part of an index's name, raised when the content of an index changes, so that older ones are not found."""

_TAR_BLOCK = 512
"""Tar files are made of blocks of this many bytes, and end with blocks of zeros."""

_NEAR = 2**16
"""Bytes between two files of a sample that are read along with them."""

_FIRST_SAMPLES = 256
"""How many samples of a shard are looked at before it counts as one without any of the right kind."""

MOST_DECLARED_SHARDS = 1_000_000
"""The most shards of a data set: LAION-5B has a quarter of that."""

MOST_COUNTED_FILES = 50_000
"""The most files in shards that are looked at to count pairs before a run starts: seconds on a local disk."""

Extent = tuple[int, int]
"""The offset of a file's content in a shard, and its length."""


# The pattern


@dataclass(frozen=True)
class ShardSource:
    """A shard, by the place that its data set declares."""

    url: str
    """A path, a URL, or pipe: with a command."""

    @property
    def local(self) -> bool:
        return not re.match(r"[a-z0-9]+:", self.url)

    @property
    def stem(self) -> str:
        """A short name: the last word with .tar behind it."""
        names = re.findall(r"[\w.-]+(?=\.tar)", self.url)
        return names[-1][-64:] if names else "shard"

    @property
    def key(self) -> str:
        """A digest that changes with the content, as far as can be told from outside: 16 hex digits."""
        what: list[Any] = [_INDEX_FORMAT, self.url]
        if self.local:
            stat = Path(self.url).stat()
            what = [_INDEX_FORMAT, str(Path(self.url).resolve()), stat.st_size, stat.st_mtime_ns]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def sources(urls: str) -> list[ShardSource]:
    """The shards that a pattern stands for, in order; several patterns are joined by '::', as in open_clip.

    Raises DataError for a pattern that cannot be read or fetched, and for shards on a disk that are not there.
    """
    shards: list[ShardSource] = []
    for pattern in urls.split("::"):
        names = _expanded(pattern, MOST_DECLARED_SHARDS - len(shards))
        for name in names:
            source = ShardSource(
                url2pathname(re.sub(r"^file:(//(?=/))?", "", name)) if name.startswith("file:") else name
            )
            if not source.local and name.partition(":")[0] not in SCHEMES:
                raise DataError(f"{name}: cannot be fetched; write a path or {', '.join(f'{s}:' for s in SCHEMES)}.")
            shards.append(ShardSource(str(located(source.url))) if source.local else source)
    missing = _missing([source.url for source in shards if source.local])
    if missing:
        raise DataError(
            f"{Path(missing[0]).absolute()}: there is no such shard; {len(missing)} of the {len(shards)} that {urls} "
            f"stands for are missing. Correct urls, fetch them, or set FLIPSCALE_DATA to the folder that urls start "
            f"from."
        )
    return shards


def _expanded(pattern: str, most: int) -> list[str]:
    """The names that a pattern stands for. DataError if it cannot be read, or stands for more than `most`."""
    ranges = re.findall(r"\{(-?\d{1,18})\.\.(-?\d{1,18})(?:\.\.(-?\d{1,18}))?\}", pattern)
    names: list[str] = []
    # braceexpand makes a whole range a list before it yields the first name.
    number = math.prod(abs(int(last) - int(first)) // max(1, abs(int(step or 1))) + 1 for first, last, step in ranges)
    if number <= most:
        try:
            names = list(itertools.islice(braceexpand(pattern), most + 1))
        except ValueError as error:
            raise DataError(f"{pattern}: {error}; write shards as in laion400m/{{00000..00041}}.tar.") from None
    if max(number, len(names)) > most:
        raise DataError(
            f"{pattern}: stands for more than {MOST_DECLARED_SHARDS:,} shards, as many as a data set may have; correct "
            f"the numbers in braces, or make larger shards."
        )
    return names


def _missing(paths: Sequence[str]) -> list[str]:
    """Those of the paths that are not files.

    Each folder is listed once: to ask for 41,456 files one by one takes minutes on a network disk.
    """
    listed: set[str] = set()
    for folder in {os.path.dirname(path) for path in paths}:  # noqa: PTH120
        # A user who may not list a folder may still be allowed to read its files.
        with contextlib.suppress(OSError), os.scandir(folder or ".") as entries:
            listed |= {os.path.join(folder, entry.name) for entry in entries if entry.is_file()}  # noqa: PTH118
    return [path for path in paths if path not in listed and not os.path.isfile(path)]  # noqa: PTH113


def check_data_size(urls: str, shards: int, data_size: int, pairs: int) -> None:
    """Raise DataError for more pairs than there are."""
    if data_size > pairs:
        raise DataError(
            f"{urls}: data_size is {data_size}, but its {shards} shards hold {pairs} pairs; lower data_size or "
            f"add shards."
        )


def declared_counts(shards: Sequence[ShardSource], file: str | None) -> dict[ShardSource, int]:
    """The number of pairs in shards as written down: in `file`, or in a sizes.json beside shards on a disk.

    The file is open_clip's and webdataset's: {"00000.tar": 9987, ...}. Each count is checked when its shard is read.
    """
    if file is not None:
        return _counts_of_all(shards, Path(file))
    counts: dict[ShardSource, int] = {}
    local = [shard for shard in shards if shard.local]
    for folder in sorted({Path(shard.url).parent for shard in local}):
        if sizes := _read_sizes(folder / "sizes.json"):
            counts |= _counts(sizes, [shard for shard in local if Path(shard.url).parent == folder])
    return counts


def counted(shards: Sequence[ShardSource], declared: Mapping[ShardSource, int], enough: int) -> int | None:
    """How many pairs the shards hold, counted in those that are not declared until there are `enough`.

    None where a shard is not on this machine, or too many files would have to be looked at. DataError for a torn shard.
    """
    pairs = sum(declared.values())
    uncounted = [shard for shard in shards if shard not in declared]
    if pairs < enough and (2 * (enough - pairs) > MOST_COUNTED_FILES or not all(shard.local for shard in uncounted)):
        return None
    for shard in uncounted:
        if pairs < enough:
            with open(shard.url, "rb") as file:
                pairs += sum(pair_of(places) is not None for _, places in members(file, shard.url))
    return pairs


def _counts_of_all(shards: Sequence[ShardSource], file: Path) -> dict[ShardSource, int]:
    sizes = _read_sizes(file)
    if sizes is None:
        raise DataError(f"{file}: there is no such file; correct sizes, or leave it out.")
    # In one file for all folders, a name that several of them have is ambiguous.
    names = Counter(_file_name(shard) for shard in shards)
    return _counts(sizes, [shard for shard in shards if names[_file_name(shard)] == 1])


def _file_name(shard: ShardSource) -> str:
    return f"{shard.stem}.tar"


def _counts(sizes: Mapping[str, int], shards: Iterable[ShardSource]) -> dict[ShardSource, int]:
    return {shard: sizes[_file_name(shard)] for shard in shards if _file_name(shard) in sizes}


def _read_sizes(path: Path) -> dict[str, int] | None:
    """The counts in a file, by the names of shards; None if there is no such file."""
    try:
        return record_of(dict[str, Whole], parsed(read_bytes(path, follow=True)))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(f'{path}: cannot be read ({error}); write {{"00000.tar": 9987, ...}} or delete it.') from error


# What is in a shard


def members(file: IO[bytes], shard: str) -> Iterator[tuple[str, dict[str, Extent]]]:
    """The samples of a shard in order: the name, and where each file that is not empty lies, by extension.

    Raises DataError for a shard that is not whole, once all of it has been read; `shard` is its name in the error.
    """
    for name, files in groupby(_files(file, shard), key=lambda file: file[0]):
        yield name, {extension: place for _, extension, place in files}


def pair_of(places: dict[str, Extent]) -> tuple[Extent, Extent, bool] | None:
    """A sample's image and caption, and whether the caption is a .json for lack of a .txt; None if one is missing."""
    places = {extension: place for extension, place in places.items() if place[1]}
    image = next((places[extension] for extension in places if extension in EXTENSIONS), None)
    caption = places.get("txt") or places.get("json")
    return (image, caption, "txt" not in places) if image and caption else None


def caption_of(text: bytes, is_json: bool) -> str | None:
    """The caption in a pair's .txt or .json; None if there is none.

    Raises ValueError or AttributeError for content that is neither UTF-8 text nor a JSON object.
    """
    caption = parsed(text).get("caption") if is_json else text.decode()
    return caption.strip() or None if isinstance(caption, str) else None


def captions_of(sample: dict[str, bytes]) -> list[str]:
    """The readable captions of a sample of an evaluation set: a .txt holds one a line, a .json one or a list."""
    try:
        if "txt" in sample:
            content = sample["txt"].decode().splitlines()
        else:
            content = parsed(sample.get("json", b"{}")).get("caption")
    except (ValueError, AttributeError):
        return []
    texts = content if isinstance(content, list) else [content]
    return [text.strip() for text in texts if isinstance(text, str) and text.strip()]


def labels_of(where: str, sample: dict[str, bytes], several: bool = False) -> list[int]:
    """The number of a sample's class; or `several` that it shows, one or more. Raises DataError."""
    if "cls" not in sample:
        raise DataError(
            f"{where}: has no .cls, only {', '.join(sample)}; write the number of its class into one. If the samples "
            f"have captions, leave classes out."
        )
    words = sample["cls"].replace(b",", b" ").split()
    if not (words and all(word.isdigit() and len(word) < 10 for word in words) and (several or len(words) == 1)):
        right = "numbers of its classes, from 0 on, for example 3 14" if several else "number of the class, from 0 on"
        raise DataError(f"{where}: its .cls holds {sample['cls'][:40]!r}; write the {right}.")
    return [int(word) for word in words]


def named(path: str) -> tuple[str, str]:
    """The name of a file's sample, and its extension: what follows the first dot, in lower case."""
    folder, slash, name = path.rpartition("/")
    stem, _, extension = name.partition(".")
    return folder + slash + stem, extension.lower()


def _files(file: IO[bytes], shard: str) -> Iterator[tuple[str, str, Extent]]:
    """The files of a shard, in order: the sample's name, the extension, where the content lies."""
    name = "none"
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                sample, extension = named(member.name)
                if member.isreg() and extension:
                    name = sample
                    if member.issparse():  # It may claim any size, and its bytes do not lie in a row.
                        raise DataError(f"{shard}: {member.name} is stored as a sparse file; write it whole.")
                    yield name, extension, (member.offset_data, member.size)
            end = tar.offset
    except tarfile.ReadError as error:
        raise DataError(
            f"{shard}: not a whole tar file ({error}; the last sample read is {name}). "
            f"Shards are plain .tar files; fetch or write this one again."
        ) from error
    # tarfile takes any header it cannot read for the end. A whole file ends in zeros.
    if os.pread(file.fileno(), _TAR_BLOCK, end) != bytes(_TAR_BLOCK):
        raise DataError(
            f"{shard}: cut off or damaged at byte {end}, after sample {name}; fetch or write this shard again."
        )


# The first samples of a shard


def check_pairs(path: str) -> None:
    """Raise DataError for a shard that is torn, or whose first samples are not pairs of an image and a caption."""

    def is_pair(file: int, places: dict[str, Extent]) -> bool:
        pair = pair_of(places)
        with contextlib.suppress(ValueError, AttributeError):
            return pair is not None and caption_of(os.pread(file, *reversed(pair[1])), pair[2]) is not None
        return False

    if (first := _first(path, is_pair)) is not None:
        raise DataError(
            f"{path}: none of its first samples is a pair of an image and a caption: {first}. Name shards whose "
            f'samples have a .jpg, .png, ... and a .txt, or "caption" in a .json.'
        )


def check_labelled(path: str, classes: int, several: bool = False) -> None:
    """Raise DataError for a shard that is torn, or whose first samples are not images with the number of a class.

    several: whether an image may show several classes.
    """

    def is_labelled(file: int, places: dict[str, Extent]) -> bool:
        if not (several and "npy" in places):
            labels = labels_of(path, _contents(file, places, "cls"), several)
            check_labels(labels, classes, path)
        return not EXTENSIONS.isdisjoint(places)

    if (first := _first(path, is_labelled)) is not None:
        raise DataError(f"{path}: none of its first samples has an image: {first}. Name shards of images.")


def check_captioned(path: str) -> None:
    """Raise DataError for a shard that is torn, or whose first samples are not images with captions."""

    def is_captioned(file: int, places: dict[str, Extent]) -> bool:
        return bool(captions_of(_contents(file, places, "txt", "json"))) and not EXTENSIONS.isdisjoint(places)

    if (first := _first(path, is_captioned)) is not None:
        raise DataError(
            f"{path}: none of its first samples is an image with captions (.txt, or caption in a .json): {first}. "
            f"If they have a .cls, give classes."
        )


def check_own(path: str) -> None:
    """Raise DataError for a shard if open_clip's program can read none of its first samples.

    Shards that hold nothing for it make an epoch of the program that never ends.
    """

    def is_read(file: int, places: dict[str, Extent]) -> bool:
        return "txt" in places and not {"jpg", "png", "jpeg", "webp"}.isdisjoint(places)

    if _first(path, is_read) is not None:
        raise DataError(
            f"{path}: none of its first samples is one that open_clip's program reads: it takes those with "
            f"a .txt and a .jpg, .png, .jpeg or .webp; write the captions into .txt files, or set crop: null, so "
            f"that flipscale writes the shards."
        )


def _first(path: str, is_good: Callable[[int, dict[str, Extent]], bool]) -> str | None:
    """None if one of the first samples is good, else what the first of them holds. DataError for a torn shard."""
    with open(path, "rb") as file:
        first: str | None = None
        for name, places in itertools.islice(members(file, path), _FIRST_SAMPLES):
            if is_good(file.fileno(), places):
                first = ""
                break
            first = first or f"{name} has {', '.join(f'.{extension}' for extension in places)}"
        # A truncated file seldom ends in zeros, as a whole one does. Only then all of it is read.
        if os.pread(file.fileno(), _TAR_BLOCK, os.fstat(file.fileno()).st_size - _TAR_BLOCK) != bytes(_TAR_BLOCK):
            file.seek(0)
            for _ in members(file, path):
                pass
        return "it has none" if first is None else first or None


def _contents(file: int, places: dict[str, Extent], *only: str) -> "Sample":
    """The files of a sample. only: the extensions of those that are read; the others are there and empty. None: all."""
    return {
        extension: os.pread(file, size if not only or extension in only else 0, start)
        for extension, (start, size) in places.items()
    }


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
    images = []
    for name, places in members(file, shard):
        image = next((places[extension] for extension in places if extension in EXTENSIONS), None)
        if image is not None:
            (label,) = labels_of(f"{shard}: {name}", _contents(file.fileno(), places, "cls"))
            images.append((*image, label))
    return np.array(images, np.int64).reshape(-1, 3)


def samples(path: Path, *only: str) -> Iterator[tuple[str, Sample]]:
    """The samples of a shard by name, in order. Raises DataError for a shard that is not whole.

    only: the extensions of the files of each sample that are read; the others are there and empty. None given: all.
    """
    with open(path, "rb") as file:
        for name, places in members(file, str(path)):
            yield name, _contents(file.fileno(), places, *only)


def read(file: IO[bytes], place: Integers) -> tuple[Image.Image, str]:
    """The image of a pair, whole, and its caption. Raises Unreadable.

    place: the pair's row in the index of the shard that `file` is.
    """
    image, size, caption, length, is_json = place.tolist()
    start = min(image, caption)
    together = max(image + size, caption + length) - start
    try:
        # Files of a sample lie in a row, and one read costs a file server less than two.
        if together <= size + length + _NEAR:
            content = os.pread(file.fileno(), together, start)
            pixels = content[image - start :][:size]
            words = content[caption - start :][:length]
        else:
            pixels = os.pread(file.fileno(), size, image)
            words = os.pread(file.fileno(), length, caption)
        text = caption_of(words, bool(is_json))
        if text is None:
            raise Unreadable("it has no caption")
        return open_image(io.BytesIO(pixels)).convert("RGB"), text
    except (MemoryError, Unreadable):
        raise
    except UnidentifiedImageError as error:  # It names an object in memory.
        raise Unreadable(NO_IMAGE) from error
    except Exception as error:  # On damaged bytes decoders raise anything: OSError, SyntaxError, struct.error, ...
        raise Unreadable(str(error) or type(error).__name__) from error


def name_of(file: IO[bytes], place: Integers) -> str:
    """The name of a pair in a complaint: that of its image without the extension."""
    header = os.pread(file.fileno(), _TAR_BLOCK, int(place[0]) - _TAR_BLOCK)
    return named(tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").name)[0]
