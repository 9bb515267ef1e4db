"""Pairs read from tar shards as they are needed, for sets that do not fit on a disk decoded.

Memory holds the index of each shard in use, 40 bytes a pair. Every pair of a batch is read from its shard and decoded,
by a thread for each core, and its caption put into tokens. Shards from a network are fetched ahead.

A pair that turns out not to be readable is counted, and the next readable one is seen in its place, always the same.
"""

import contextlib
import functools
import itertools
import math
import os
import queue
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

import numpy as np
from PIL import Image

from flipscale.data import shuffle
from flipscale.data.decode import CORRUPT_COUNT, CORRUPT_SHARE
from flipscale.data.library import FETCHERS, Library, check_count
from flipscale.data.pairs import Form, Images, Integers
from flipscale.data.shards import Index, ShardSource, Unreadable, name_of, read
from flipscale.data.shuffle import Shuffle, taken
from flipscale.data.views import Views, view
from flipscale.errors import DataError

THREADS: int | None = None
"""Threads that read and decode; None: one for each core."""

_THREAD_ROWS = 32
"""Pairs of a shard that a thread reads at a time: few enough to keep all threads busy with a small batch."""


class Stream:
    """The first `size` pairs of shards, by number. Memory holds the batches in the making, and indices in use."""

    def __init__(
        self,
        library: Library,
        shards: Sequence[ShardSource],
        counts: Sequence[int],
        size: int,
        form: Form,
    ):
        """counts: how many pairs each shard holds."""
        self.size = size
        self._library = library
        self._shards = shards
        self._counts = counts
        self._ends = np.cumsum(np.array(counts, np.int64))
        self._image_size = form.view_size
        self._tokenize = form.tokenize
        self._shuffle = Shuffle(taken(counts, size))
        self._asked: tuple[int, int, int] | None = None
        self.flaws: dict[int, str] = {}
        self._read = 0
        self._lock = threading.Lock()
        # The indices of several times the shards that are mixed at a time.
        kept = 64 + int(4 * shuffle.WINDOW * len(shards) / size)
        self._index = functools.lru_cache(maxsize=kept)(self._index_of)
        self._decoders = ThreadPoolExecutor(THREADS or _cores())
        self._ahead = None if all(shard.local for shard in shards) else _Ahead(library)

    def order(self, seed: int, step: int, batch_size: int, rows: range | None = None) -> Integers:
        """The indices of the pairs in the global batch of step `step`, or in these rows of it."""
        self._asked = seed, step, batch_size
        return self._shuffle(seed, step, batch_size, rows)

    def corrupt(self) -> int:
        """How many pairs were found so far that cannot be read."""
        return len(self.flaws)

    def batch(self, indices: Integers, views: Views | None = None) -> tuple[Images, Integers]:
        """The images and tokens of these pairs."""
        shards = np.searchsorted(self._ends, indices, side="right")
        if self._ahead is not None:
            self._fetch(np.unique(shards), self._ahead)
        images = np.empty((len(indices), 3, self._image_size, self._image_size), np.uint8)
        captions = [""] * len(indices)

        def see(rows: Integers) -> None:
            with self._open(int(shards[rows[0]])) as file:
                for row in rows.tolist():
                    image, captions[row] = self._pair(int(indices[row]), file)
                    images[row] = np.asarray(view(image, self._image_size, views, row)).transpose(2, 0, 1)

        by_shard = np.argsort(shards, kind="stable")
        edges = np.flatnonzero(np.diff(shards[by_shard])) + 1
        tasks = [
            rows[at : at + _THREAD_ROWS]
            for rows in np.split(by_shard, edges)
            for at in range(0, len(rows), _THREAD_ROWS)
        ]
        list(self._decoders.map(see, tasks))
        self.note({}, len(indices))
        # A caption that occurs several times is put into tokens once.
        distinct = {caption: number for number, caption in enumerate(dict.fromkeys(captions))}
        return images, self._tokenize(list(distinct))[[distinct[caption] for caption in captions]]

    def _pair(self, number: int, file: IO[bytes]) -> tuple[Image.Image, str]:
        """The image and caption of a pair of the shard that `file` is, or of the next pair that can be read."""
        wanted = self._shard_of(number)
        for candidate in itertools.chain(range(number, self.size), range(number)):
            if candidate in self.flaws:
                continue
            shard = self._shard_of(candidate)
            place = self._index(shard).pairs[candidate - self._ends[shard] + self._counts[shard]]
            with contextlib.nullcontext(file) if shard == wanted else self._open(shard) as opened:
                try:
                    return read(opened, place)
                except Unreadable as error:
                    self.note({candidate: f"{self._shards[shard].url}: {name_of(opened, place)} ({error})"}, 0)
        raise DataError(f"{self._shards[wanted].url}: none of {self.size} pairs can be read; write the shards again.")

    def note(self, flaws: Mapping[int, str], rows: int) -> None:
        """Count pairs that cannot be read, and how many were read in all. DataError for too many."""
        with self._lock:
            self._read += rows
            self.flaws |= flaws
            seen = min(max(self._read, 1), self.size)
            if flaws and len(self.flaws) > max(CORRUPT_COUNT, CORRUPT_SHARE * seen):
                raise DataError(
                    f"{list(flaws.values())[-1]} is the last of {len(self.flaws)} pairs that cannot be read, of {seen} "
                    f"seen; at most {CORRUPT_COUNT}, or {CORRUPT_SHARE:.0%}, are skipped. Write the shards again, or "
                    "leave the bad ones out of urls."
                )

    def _shard_of(self, number: int) -> int:
        return int(np.searchsorted(self._ends, number, side="right"))

    def _index_of(self, shard: int) -> Index:
        index = self._library.index(self._shards[shard])
        check_count(self._shards[shard], len(index.pairs), self._counts[shard])
        if self._shards[shard].local and self._shuffle.mixed(shuffle.LANES) * index.length <= _room_ahead():
            with self._open(shard) as file:
                read_ahead(file)
        return index

    def _open(self, shard: int) -> IO[bytes]:
        return self._library.open(self._shards[shard])

    def _fetch(self, shards: Integers, ahead: "_Ahead") -> None:
        """Fetch the missing shards of a batch, and request those that come next, as far as there is room."""
        missing = [shard for shard in shards.tolist() if not self._library.has(self._shards[shard])]
        if missing:
            with ThreadPoolExecutor(FETCHERS) as pool:
                list(pool.map(lambda shard: self._library.path(self._shards[shard]), missing))
        if self._asked is None:
            return
        length = float(np.mean([self._index(shard).length for shard in shards.tolist()]))
        mixed = self._shuffle.mixed(self._asked[2])
        room = int(self._library.limit / length) - mixed
        if room < 0:
            raise DataError(
                f"{self._shards[int(shards[0])].url}: shards of {length / 1e9:.2g} GB, of which {mixed} are read at a "
                f"time, need FLIPSCALE_SHARDS_GB of {math.ceil(mixed * length / 1e6) / 1e3:g} or more, and it is "
                f"{self._library.limit / 1e9:g}."
            )
        following = self._shuffle.following(shards, *self._asked)[:room]
        ahead.request([self._shards[shard] for shard in following])


class _Ahead:
    """Threads that fetch shards before they are needed, and end with the process."""

    def __init__(self, library: Library):
        self._library = library
        self._waiting: queue.SimpleQueue[ShardSource] = queue.SimpleQueue()
        self._requested: set[ShardSource] = set()
        for _ in range(FETCHERS):
            threading.Thread(target=self._work, daemon=True).start()

    def request(self, shards: Sequence[ShardSource]) -> None:
        for shard in shards:
            if shard not in self._requested and not self._library.has(shard):
                self._requested.add(shard)
                self._waiting.put(shard)

    def _work(self) -> None:
        while True:
            shard = self._waiting.get()
            # A shard that cannot be fetched is tried again, with a complaint, when it is needed.
            with contextlib.suppress(DataError, OSError):
                self._library.path(shard)
            self._requested.discard(shard)


def read_ahead(file: IO[bytes]) -> None:
    """Have the system read all of a file in a row: a shard that comes into use is read pair by pair, in any order."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def _room_ahead() -> int:
    """The bytes of shards in use that memory holds: half of it. What is read ahead of more would be dropped again."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _cores() -> int:
    """How many cores this process may use; where the system does not say, how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
