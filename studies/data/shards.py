"""The folder, tar shards and IDX files that a builder of a data set writes: equal samples give equal bytes."""

import argparse
import gzip
import io
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flipscale.errors import DataError, FlipscaleError

PAIRS_PER_SHARD = 10_000

TRAINING_PAIRS = 30_000
TEST_IMAGES = 2_048
"""The sizes of a drawn set; every class has the same number of test images."""

Samples = Iterable[tuple[str, Mapping[str, bytes]]]
"""The key of each sample, and its files by extension."""


@dataclass(frozen=True)
class Built:
    """A labelled data set that was built."""

    folder: Path
    train: int
    """Training pairs."""
    test: int
    """Test images."""

    def __str__(self) -> str:
        return f"{self.train:,} training and {self.test:,} test images to {self.folder}"


def write_set(
    out: Path, pairs: int, training: Callable[[range], Samples], test: Samples, classes: Sequence[str]
) -> Built:
    """Write a data set into the folder `out`, which appears when all is in it: training shards, whose pairs
    `training` gives by number, a test shard, and classes.txt. DataError where `out` holds something."""
    unfinished = unfinished_folder(out)
    for shard, first in enumerate(range(0, pairs, PAIRS_PER_SHARD)):
        numbers = range(first, min(pairs, first + PAIRS_PER_SHARD))
        write_tar(unfinished / f"train-{shard:05}.tar", training(numbers))
    images = write_tar(unfinished / "test-00000.tar", test)
    (unfinished / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    unfinished.rename(out)
    return Built(out, pairs, images)


def unfinished_folder(out: Path) -> Path:
    """A new folder beside `out` to build in; renamed to it when all is there. DataError where `out` holds something."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: exists already; remove it or name another folder.")
    unfinished = out.with_name(f"{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    return unfinished


def write_tar(path: Path, samples: Samples) -> int:
    """Write samples and count them. Times and owners are zero."""
    written = 0
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, files in samples:
            for kind, content in files.items():
                member = tarfile.TarInfo(f"{key}.{kind}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            written += 1
    return written


def write_idx(path: Path, numbers: npt.NDArray[np.uint8]) -> None:
    """Write an IDX file, compressed. The time in the gzip header is 0."""
    head = bytes([0, 0, 8, numbers.ndim]) + np.array(numbers.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(head + numbers.tobytes(), mtime=0))


def write_labelled(folder: Path, part: str, pictures: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> None:
    """Write PART-images.gz and PART-labels.gz."""
    write_idx(folder / f"{part}-images.gz", pictures)
    write_idx(folder / f"{part}-labels.gz", labels)


@contextmanager
def end_on_error() -> Iterator[None]:
    """End the script with the sentence of an error, without a traceback."""
    try:
        yield
    except FlipscaleError as error:
        sys.exit(f"error: {error}")


def run(build: Callable[[Path], Built], about: str | None) -> None:
    """Build a set into the folder that the command line names, and say what was written."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="DIR", type=Path, help="where the files go")
    folder = parser.parse_args().folder
    with end_on_error():
        print(f"wrote {build(folder)}")
