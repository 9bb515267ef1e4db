"""Image files decoded as CLIP evaluates: the middle square, resized. A few that cannot be decoded are skipped."""

import functools
import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import UnidentifiedImageError

from flipscale.data.pairs import Images, Integers
from flipscale.data.views import open_image, view
from flipscale.errors import DataError, reason_of
from flipscale.run import show_life

CORRUPT_SHARE, CORRUPT_COUNT = 0.01, 10
"""The most unreadable images that are skipped: this number, or this share if it is more. More are a fault of the data
set."""

SMALL_SHARE = 0.1
"""At most this share of an evaluation set may be unreadable: in a small one CORRUPT_COUNT would be most images."""

NO_IMAGE = "is not an image that can be read"

File = tuple[str, Path | bytes | None]
"""A name for complaints, and where the file is, or what it holds, or None if there is no image where one should be."""


def decode(files: Iterable[File], count: int, image_size: int, where: str) -> tuple[Images, Integers]:
    """The images [n, 3, S, S] of `count` files, and the numbers [n] of the files that could be decoded, ascending.

    Raises DataError, which begins with `where`, if none can be decoded or more than `tolerated` cannot.
    """
    images = np.empty((count, 3, image_size, image_size), np.uint8)

    def read(numbered: tuple[int, File]) -> str | None:
        number, (_, file) = numbered
        try:
            if file is None:
                return "it has no image"
            with open_image(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
                images[number] = np.asarray(view(image.convert("RGB"), image_size)).transpose(2, 0, 1)
        except MemoryError:
            raise
        except UnidentifiedImageError:  # It names an object in memory.
            return NO_IMAGE
        except Exception as error:  # On damaged bytes decoders raise anything: OSError, SyntaxError, struct.error, ...
            return reason_of(error)
        return None

    good = []
    bad = 0
    first = ""
    numbered = iter(enumerate(files))
    with ThreadPoolExecutor() as pool:  # Decoding releases the interpreter lock.
        while several := list(islice(numbered, 256)):
            show_life()
            for (number, (name, _)), reason in zip(several, pool.map(read, several), strict=True):
                if reason is None:
                    good.append(number)
                else:
                    bad = bad + 1
                    first = first or f"{name} ({reason})"
    if not good or bad > tolerated(count):
        raise DataError(
            f"{where}: {bad} of {count} images cannot be read, the first of them {first}; at most "
            f"{tolerated(count)} may be skipped. Write these files again, or remove them."
            if bad
            else f"{where}: there are no images; name a data set that has some."
        )
    return images if not bad else images[good], np.array(good, np.int64)


def tolerated(count: int) -> int:
    """How many of an evaluation's `count` images may be unreadable: a tenth up to 10, then 10, from 1,000 on 1 %.

    >>> [tolerated(count) for count in (9, 24, 500, 5000)]
    [0, 2, 10, 50]
    """
    return max(min(CORRUPT_COUNT, int(SMALL_SHARE * count)), int(CORRUPT_SHARE * count))


def decode_paths(paths: Sequence[Path], image_size: int, where: str) -> tuple[Images, Integers]:
    """`decode` of files on a disk. The next run of the process that is scored on the same files shares the images."""
    return _decode_paths(tuple(paths), tuple(_version(path) for path in paths), image_size, where)


@functools.lru_cache(maxsize=16)
def _decode_paths(
    paths: tuple[Path, ...], versions: tuple[tuple[int, int] | None, ...], image_size: int, where: str
) -> tuple[Images, Integers]:
    return decode(((str(path), path) for path in paths), len(paths), image_size, where)


def _version(path: Path) -> tuple[int, int] | None:
    """A value that differs when a file has changed; None for a missing file."""
    try:
        stat = path.stat()
    except (OSError, ValueError):  # ValueError: a NUL byte
        return None
    return stat.st_mtime_ns, stat.st_size
