"""Tar shards read sample by sample. A damaged shard is an error; a sample that cannot be decoded comes with the reason.

Shards are read with tarfile, because the webdataset package takes a shard that was cut off between two files for a
whole one.
"""

import io
import json
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from flipscale.errors import DataError

_IMAGES = {"jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"}
_BLOCK = 512
"""Tar files are made of blocks of this many bytes, and end with blocks of zeros."""

Read = tuple[str, npt.NDArray[np.uint8], str] | tuple[str, None, str]
"""A sample's name, image [3, S, S] and caption; or its name, None, and why it cannot be read."""

Sample = dict[str, bytes]
"""The files of a sample by extension."""


def samples(path: Path) -> Iterator[tuple[str, Sample]]:
    """The samples of a shard by name, in order. Raises DataError for a shard that is not whole."""
    name, sample = "", Sample()
    with open(path, "rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    content = tar.extractfile(member)
                    folder, slash, file_name = member.name.rpartition("/")
                    stem, _, extension = file_name.partition(".")
                    if content is None or not extension:
                        continue
                    key = folder + slash + stem
                    if key != name and sample:
                        yield name, sample
                        sample = {}
                    name = key
                    sample[extension.lower()] = content.read()
                file.seek(tar.offset)
        except tarfile.ReadError as error:
            raise DataError(
                f"{path}: not a whole tar file ({error}; the last sample read is {name or 'none'}). "
                f"Shards are plain .tar files; fetch or write this one again."
            ) from error
        # tarfile takes any header it cannot read for the end. A whole file ends in zeros.
        if file.read(_BLOCK) != bytes(_BLOCK):
            raise DataError(
                f"{path}: cut off or damaged at byte {tar.offset}, after sample {name or 'none'}; "
                f"fetch or write this shard again."
            )
    if sample:
        yield name, sample


def count_samples(path: Path) -> int:
    """About how many samples a shard has: its images. Only headers are read, and damage is left to be found later."""
    try:
        with tarfile.open(path, "r:") as tar:
            return sum(member.name.rpartition(".")[2].lower() in _IMAGES for member in tar)
    except tarfile.ReadError:
        return 0


def read_pairs(path: Path, image_size: int) -> Iterator[Read]:
    """Every sample of a shard, decoded: the middle square, resized to image_size."""

    def read(named: tuple[str, Sample]) -> Read:
        name, sample = named
        try:
            return name, _image(sample, image_size), _caption(sample)
        except MemoryError:
            raise
        except Exception as error:  # On damaged bytes decoders raise anything: OSError, SyntaxError, struct.error, ...
            return name, None, str(error) or type(error).__name__

    of_shard = samples(path)
    with ThreadPoolExecutor() as pool:  # Decoding releases the interpreter lock.
        while several := list(islice(of_shard, 256)):
            yield from pool.map(read, several)


def _image(sample: Sample, image_size: int) -> npt.NDArray[np.uint8]:
    data = next((data for extension, data in sample.items() if extension in _IMAGES), None)
    if data is None:
        raise ValueError(f"it has no image, only {', '.join(sample)}")
    image = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    image = image.resize((image_size, image_size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    return np.asarray(image).transpose(2, 0, 1)


def _caption(sample: Sample) -> str:
    caption = sample["txt"].decode() if "txt" in sample else json.loads(sample.get("json", b"{}")).get("caption")
    if not isinstance(caption, str) or not caption.strip():
        raise ValueError("it has no caption")
    return caption.strip()
