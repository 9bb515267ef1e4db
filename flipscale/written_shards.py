"""Tar shards as the builders of data sets write them: equal samples give equal bytes."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

PAIRS_PER_SHARD = 10_000


def write_tar(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> None:
    """Write samples, each its key and its files by extension. Times and owners are zero."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, files in samples:
            for kind, content in files.items():
                member = tarfile.TarInfo(f"{key}.{kind}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
