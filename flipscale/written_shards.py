"""The folder and the tar shards that a builder of a data set writes: equal samples give equal bytes."""

import io
import shutil
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from flipscale.errors import DataError

PAIRS_PER_SHARD = 10_000


def begun(out: Path) -> Path:
    """A new folder beside `out` to build in; renamed to it when all is there. DataError where `out` holds something."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: is there already; remove it or name another folder.")
    unfinished = out.with_name(f"{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    return unfinished


def write_tar(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> None:
    """Write samples, each its key and its files by extension. Times and owners are zero."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, files in samples:
            for kind, content in files.items():
                member = tarfile.TarInfo(f"{key}.{kind}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
