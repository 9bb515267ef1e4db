"""Sources of shards: a local disk, or a URL or a command's output by way of a bounded folder of fetched shards.

    laion/{00000..00041}.tar                        on a disk; a path that is not absolute starts from FLIPSCALE_DATA
    https://host/laion/{00000..00041}.tar           by curl, as sftp://, scp:// and ftps:// are
    s3://bucket/laion/{00000..00041}.tar            by `aws s3 cp`; gs:// by `gsutil cat`, ais:// by `ais get`
    pipe:ssh host cat /laion/{00000..00041}.tar     the output of a command

A fetched shard is checked to be whole and kept in FLIPSCALE_SHARDS (else beside the decoded shards), a folder of this
machine or of several. Beyond FLIPSCALE_SHARDS_GB in all, the least recently used shards are deleted. The
index of every shard, local or fetched, is made once and kept.
"""

import contextlib
import errno
import os
import re
import shlex
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np

from flipscale.data.shards import Index, ShardSource, scan
from flipscale.errors import DamagedFile, DataError
from flipscale.guard import check_folder, locked, make_folder
from flipscale.plain_files import open_file, open_plain, replacing
from flipscale.run import show_life

SHARDS_GB = 100.0
"""Room for fetched shards if FLIPSCALE_SHARDS_GB is not set. With LAION at 256 px (10,000 pairs of 25 kB a shard), the
pairs mixed at a time lie in 42 GB of shards, and nearly as much is fetched ahead."""

FETCHERS = 8
"""Shards fetched or scanned at a time: one connection seldom fills a network."""

RETRY_SECONDS = (1.0, 5.0, 30.0)
"""Pauses before fetching again a shard that could not be fetched, or not whole."""

LEFT_SECONDS = 600.0
"""Seconds without a write after which a half-fetched shard counts as abandoned."""

# gopen's own curl waits forever on a connection that has died, and says nothing.
_CURL = "curl -f -s -S -L --connect-timeout 30 --speed-limit 1024 --speed-time 60 {}"
_COMMANDS = {
    "s3": "aws s3 cp --quiet {} -",
    "ais": "ais get {} -",
    **dict.fromkeys(("ftps", "http", "https"), _CURL),
    "gs": "gsutil cat {}",
    "htgs": _CURL,
    **dict.fromkeys(("scp", "sftp"), _CURL),
}
"""The command that fetches a URL of each scheme. gopen adds single quotes, which a quote in the URL would end."""


def check_count(shard: ShardSource, pairs: int, expected: int) -> None:
    """Raise DataError for a shard that does not hold what was declared: other pairs would be seen than were meant."""
    if pairs != expected:
        raise DataError(
            f"{shard.url}: holds {pairs} pairs, but sizes.json says {expected}; correct or delete sizes.json: then "
            f"every shard is scanned at the start."
        )


_READING = threading.Lock()
"""numpy reads the header of a file with `ast`, which fails in several threads at once (CPython's issue 106905)."""


class Library:
    """Shards and their indices, for all threads, and for all processes that share the folders."""

    def __init__(self, cache: Path):
        self.cache = cache
        self._indices = cache / "index"
        self._shards = Path(os.environ.get("FLIPSCALE_SHARDS") or cache / "shards")
        for folder in (cache, self._indices, cache / "shards"):
            check_folder(folder)
        self.limit = _limit()
        """How many bytes fetched shards may take; more while a shard of unknown length is fetched."""
        self._known: dict[str, int] = {}

    def counts(self, shards: Sequence[ShardSource], wanted: int | None, declared: dict[ShardSource, int]) -> list[int]:
        """How many pairs each shard holds: all shards, or the first ones that together hold `wanted` pairs.

        Shards that are neither in `declared` nor indexed are scanned, and fetched for it if need be. Several processes
        that do so at the same time share the work.
        """
        self._look()
        counts: list[int] = []
        while len(counts) < len(shards) and (wanted is None or sum(counts) < wanted):
            several = shards[len(counts) :]
            if wanted is not None:
                each = max(1.0, sum(counts) / len(counts)) if counts else float(wanted)
                several = several[: max(1, int((wanted - sum(counts)) / each))]
            new = [shard for shard in several if shard not in declared and shard.key not in self._known]
            # Each process begins somewhere else: what another has scanned meanwhile is found when its turn comes.
            turn = os.getpid() * 7919 % len(new) if new else 0
            with ThreadPoolExecutor(FETCHERS) as pool:
                list(pool.map(self.index, [*new[turn:], *new[:turn]]))
            counts += [declared[shard] if shard in declared else self._known[shard.key] for shard in several]
        return counts

    def index(self, shard: ShardSource) -> Index:
        """The index of a shard, made if it is not there."""
        key = shard.key
        if key not in self._known:
            show_life()
            with lock(self._indices / f"{key[:2]}.lock"):  # Some shards share one.
                self._look(f"{shard.stem}-{key}.*.npz")
                if key not in self._known:
                    # A fetched shard is indexed as it comes, and may be deleted at once to make room for others.
                    self.path(shard)
                if key not in self._known:
                    with self.open(shard) as file:
                        self._add(shard, key, scan(file, shard.url))
        return self._load(shard, key)

    def path(self, shard: ShardSource) -> Path:
        """The file of a shard, fetched if it is not there. Unless it is opened at once, it may be gone again."""
        if shard.local:
            return Path(shard.url)
        key = shard.key
        path = self._shards / f"{shard.stem}-{key}.tar"
        # The time of the last change is that of the last use.
        with contextlib.suppress(FileNotFoundError):
            os.utime(path)
            return path
        with lock(self._shards / f"{key[:2]}.lock"):
            if not path.exists():
                self._fetch(shard, key, path)
        return path

    def open(self, shard: ShardSource) -> IO[bytes]:
        """The file of a shard, open. A shard that is deleted to make room stays readable for those who have it open."""
        for _ in range(5):
            with contextlib.suppress(FileNotFoundError):
                return open(self.path(shard), "rb")
        raise DataError(
            f"{shard.url}: is gone. If it was fetched, several runs need more shards at a time than there is room for: "
            f"set FLIPSCALE_SHARDS_GB to more than {self.limit / 1e9:g}, or give each its own FLIPSCALE_SHARDS."
        )

    def has(self, shard: ShardSource) -> bool:
        """Whether a shard need not be fetched."""
        return shard.local or (self._shards / f"{shard.stem}-{shard.key}.tar").exists()

    def _fetch(self, shard: ShardSource, key: str, path: Path) -> None:
        show_life()
        index = self._load(shard, key) if key in self._known else None
        part = path.with_suffix(".part")
        for pause in (*RETRY_SECONDS, None):
            self._make_room(index.length if index else 0)
            try:
                with open(part, "w+b", opener=open_plain) as file:
                    _copy(shard.url, file)
                    length = file.tell()
                    if index is None:
                        file.seek(0)
                        self._add(shard, key, scan(file, shard.url))
                if index is not None and length != index.length:
                    raise DataError(
                        f"{shard.url}: has {length} bytes, and had {index.length} when it was indexed. Fetch it again, "
                        f"or, if the shards were written anew, give them another name or delete {self._indices}."
                    )
                part.rename(path)
                break
            except DataError:
                if pause is None:
                    raise
            except OSError as error:
                _raise_if_full(error)
                if pause is None:
                    reason = re.search(r"exit -?\d+", str(error))
                    raise DataError(
                        f"{shard.url}: cannot be fetched ({reason[0] if reason else error}), not even in "
                        f"{len(RETRY_SECONDS)} more tries. See the log, and correct urls or the network."
                    ) from error
            finally:
                part.unlink(missing_ok=True)
            time.sleep(pause)
        self._make_room(0, path)

    def _make_room(self, expected: int, keep: Path | None = None) -> None:
        """Delete the shards whose last use is longest ago, until `expected` bytes more are within the limit."""
        files = []
        for path in (*self._shards.glob("*.tar"), *self._shards.glob("*.part")):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                files.append((stat.st_mtime, stat.st_size, path))
        taken = expected + sum(size for _, size, _ in files)
        for used, size, path in sorted(files):
            if taken <= self.limit:
                break
            # What is being fetched was written to just now; what a killed process left was not.
            if path != keep and (path.suffix == ".tar" or time.time() - used > LEFT_SECONDS):
                path.unlink(missing_ok=True)
                taken -= size

    def _look(self, pattern: str = "*.npz") -> None:
        """Note what was indexed: NAME-KEY.COUNT.npz, so that counts are known without opening files."""
        for path in self._indices.glob(pattern):
            name, _, count = path.stem.rpartition(".")
            self._known[name[-16:]] = int(count)

    def _add(self, shard: ShardSource, key: str, index: Index) -> None:
        make_folder(self._indices)
        with replacing(self._indices / f"{shard.stem}-{key}.{len(index.pairs)}.npz", flush=False) as file:
            np.savez(file, pairs=index.pairs, length=index.length)
        self._known[key] = len(index.pairs)

    def _load(self, shard: ShardSource, key: str) -> Index:
        path = self._indices / f"{shard.stem}-{key}.{self._known[key]}.npz"
        try:
            with _READING, open_file(path) as file, np.load(file) as arrays:
                return Index(arrays["pairs"], int(arrays["length"]))
        except (DamagedFile, OSError, ValueError, KeyError) as error:
            raise DataError(f"{path}: cannot be read ({error}); delete it, and it is rebuilt.") from error


def _copy(url: str, file: IO[bytes]) -> None:
    from webdataset.gopen import gopen, rewrite_url  # It loads torch, and a check of inputs fetches nothing.

    stream = gopen(_piped(rewrite_url(url)), "rb")
    try:
        shutil.copyfileobj(stream, file, 1 << 20)
    finally:
        stream.close()


def _piped(url: str) -> str:
    """The command that writes a shard to its output, as gopen takes it; anything but a URL is left as it is."""
    scheme = url.partition(":")[0]
    if scheme not in _COMMANDS:
        return url
    # htgs is gs over HTTP, as webdataset has it.
    return f"pipe:{_COMMANDS[scheme].format(shlex.quote(re.sub('^htgs:', 'gs:', url)))}"


def _raise_if_full(error: OSError) -> None:
    """A full disk is not the network's fault. A command whose output nobody takes any more also ends in an error."""
    for cause in (error, error.__context__):
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise cause


def _limit() -> int:
    written = os.environ.get("FLIPSCALE_SHARDS_GB") or str(SHARDS_GB)
    try:
        return int(float(written) * 1e9)
    except ValueError:
        raise DataError(f"FLIPSCALE_SHARDS_GB: {written!r} is not a number; write how many GB, as in 250.") from None


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Held by one thread of all processes of the cluster at a time, and by none that has died."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
        yield
