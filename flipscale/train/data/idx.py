"""IDX files, the format of MNIST and its kin: grey images [n, height, width] and labels [n], compressed (.gz) or plain.

An IDX file is two zero bytes, the type of a number (8: unsigned byte), how many axes, then their lengths, then the
numbers.
"""

import gzip
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flipscale.errors import DataError
from flipscale.train.data.decode import located, reason_of
from flipscale.train.data.labelled import Labelled, check, subset
from flipscale.train.data.pairs import Images
from flipscale.train.data.views import view_stored

IMAGES, LABELS = 0x0803, 0x0801


def read(images: str, labels: str, classes: tuple[str, ...], count: int, image_size: int) -> Labelled:
    """At most `count` images with even classes."""
    grey, numbers = array(located(images), IMAGES), array(located(labels), LABELS).astype(np.int64)
    if len(grey) != len(numbers):
        raise DataError(
            f"{images}: has {len(grey)} images, but {labels} has {len(numbers)} labels; name two files of one set."
        )
    if not len(grey):
        raise DataError(f"{images}: has no images; name a file that has some.")
    check(numbers, classes, labels)
    chosen = subset(numbers, count)
    return Labelled(pictures(grey[chosen], image_size), numbers[chosen], classes)


def array(path: Path, magic: int) -> npt.NDArray[np.uint8]:
    """The array in a file, compressed or not, whichever is there: its name may end in .gz in either case."""
    zipped = path if path.suffix == ".gz" else path.with_name(path.name + ".gz")
    path = zipped if zipped.exists() else zipped.with_suffix("")
    try:
        data = gzip.decompress(path.read_bytes()) if path is zipped else path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{zipped}: there is no such file, and none without .gz; correct its path.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: not a whole gzip file ({error}); copy it again.") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason_of(error)}); name an idx file.") from error
    found, axes = int.from_bytes(data[:4], "big"), magic & 0xFF
    if found != magic or len(data) < 4 + 4 * axes:
        raise DataError(
            f"{path}: begins with {data[:4].hex() or 'nothing'}, an idx file of this kind with {magic:08x}."
        )
    shape = [int.from_bytes(data[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(axes)]
    body = np.frombuffer(data, np.uint8, offset=4 + 4 * axes)
    if body.size != np.prod(shape):
        raise DataError(
            f"{path}: declares {' x '.join(map(str, shape))} = {np.prod(shape)} bytes but holds {body.size}; "
            f"copy it again."
        )
    return body.reshape(shape)


def pictures(grey: npt.NDArray[np.uint8], image_size: int) -> Images:
    """The middle squares of [n, height, width], resized: [n, 3, image_size, image_size]."""
    return np.repeat(view_stored(grey[:, None], image_size, None), 3, axis=1)
