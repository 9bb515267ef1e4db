"""The order in which pairs are seen: a function of the seed and the step, and of how many pairs each shard holds.

Up to WINDOW pairs, an epoch is one permutation of all. Larger sets come in shards that are best read in one go: an
epoch permutes the shards and deals their pairs out to LANES lanes in equal parts; each lane goes along its part and
permutes its pairs within windows that span some shards. The rows of a batch belong to the lanes in turn, so a process,
which takes some consecutive rows, reads the shards of its lanes and no others.

The order depends neither on the number of processes nor on interruptions. After any number of samples the same pairs
have been seen for all batches that are multiples of LANES, each pair once an epoch.
"""

import functools
import math
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from flipscale import randomness
from flipscale.data.pairs import Integers

WINDOW = 2**20
"""Pairs mixed with each other. At 25 kB a pair, as LAION's at 256 px, they are 26 GB of shards."""

LANES = 64
"""Shards read at a time, and the most processes that read no shard in common. A power of two, as batches are multiples
of small ones. A batch that is not a multiple of it has as many lanes as their largest common divisor."""


class Shuffle:
    """The order of the pairs of some shards. The same for the same numbers of pairs, in any process."""

    def __init__(self, counts: Sequence[int]):
        """counts: how many pairs each shard holds; pairs are numbered in the order of the shards."""
        self._counts = np.array(counts, np.int64)
        self._starts = np.cumsum(self._counts) - self._counts
        self.size = int(self._counts.sum())
        self._windows: OrderedDict[tuple[int, ...], Integers] = OrderedDict()
        self._lock = threading.Lock()
        self._epoch = functools.lru_cache(maxsize=2)(self._epoch_of)

    def __call__(self, seed: int, step: int, batch_size: int, rows: range | None = None) -> Integers:
        """The indices [batch_size] of the pairs in the global batch of step `step`, or in these rows of it."""
        rows = range(batch_size) if rows is None else rows
        if self.size <= WINDOW:
            return order(seed, self.size, step * batch_size + rows.start, len(rows))
        lanes = math.gcd(batch_size, LANES)
        lane, within = np.divmod(np.arange(rows.start, rows.stop, dtype=np.int64), batch_size // lanes)
        epochs, positions = np.divmod((step * (batch_size // lanes) + within) * lanes + lane, self.size)
        indices = np.empty(len(rows), np.int64)
        for epoch in np.unique(epochs):
            of_epoch = epochs == epoch
            places = self._places(positions[of_epoch], seed, int(epoch), lanes)
            indices[of_epoch] = self._pairs(places, seed, int(epoch))
        return indices

    def following(self, shards: Integers, seed: int, step: int, batch_size: int) -> list[int]:
        """The shards that come after any of `shards` in the epoch of step `step` and will be needed within a window.

        The nearest come first. Empty if there is only one window: then every batch needs all shards.
        """
        if self.size <= WINDOW:
            return []
        sequence, ends = self._epoch(seed, step * batch_size // self.size)
        window = WINDOW // math.gcd(batch_size, LANES)
        at = np.flatnonzero(np.isin(sequence, shards))
        until = np.searchsorted(ends, ends[at] + window, side="left")
        ahead: dict[int, int] = {}
        for first, last in zip(at.tolist(), until.tolist(), strict=True):
            for number in range(first + 1, min(last + 1, len(sequence))):
                ahead[number] = min(number - first, ahead.get(number, number))
        for number in at.tolist():
            ahead.pop(number, None)
        return [int(sequence[number]) for number in sorted(ahead, key=lambda number: (ahead[number], number))]

    def mixed(self, batch_size: int) -> int:
        """How many shards of mean size the windows of all lanes lie in: that many are read at a time."""
        shards = len(self._counts)
        if self.size <= WINDOW:
            return shards
        lanes = math.gcd(batch_size, LANES)
        return min(shards, math.ceil(WINDOW * shards / self.size) + lanes)

    def _places(self, positions: Integers, seed: int, epoch: int, lanes: int) -> Integers:
        """Positions in an epoch to places in the row of its pairs, the shards in their order."""
        along, part = np.divmod(positions, lanes)
        least, more = divmod(self.size, lanes)
        starts = part * least + np.minimum(part, more)
        # Lanes come to the ends of their windows one after the other, not all at once, so that shards are fetched
        # steadily.
        window = WINDOW // lanes
        shift = part * window // lanes
        number = (along + shift) // window
        first = np.maximum(0, number * window - shift)
        length = np.minimum(least + (part < more), (number + 1) * window - shift) - first
        places = np.empty_like(positions)
        _, rows = np.unique(part * (self.size + window) + number, return_inverse=True)
        for which in np.split(np.argsort(rows, kind="stable"), np.cumsum(np.bincount(rows))[:-1]):
            row = which[0]
            key = (seed, epoch, lanes, int(part[row]), int(number[row]), int(length[row]))
            places[which] = starts[row] + first[row] + self._window(key)[along[which] - first[row]]
        return places

    def _window(self, key: tuple[int, ...]) -> Integers:
        *purpose, length = key
        with self._lock:
            if key not in self._windows:
                self._windows[key] = permutation(randomness.key("window", *purpose), length)
            self._windows.move_to_end(key)
            # Two for each lane: the batch at the end of a window takes from the next one too.
            while len(self._windows) > max(2 * purpose[2], 4):
                self._windows.popitem(last=False)
            return self._windows[key]

    def _pairs(self, places: Integers, seed: int, epoch: int) -> Integers:
        """Places in the row of an epoch's pairs to the numbers of the pairs."""
        sequence, ends = self._epoch(seed, epoch)
        at = np.searchsorted(ends, places, side="right")
        shards = sequence[at]
        pairs: Integers = self._starts[shards] + places - (ends[at] - self._counts[shards])
        return pairs

    def _epoch_of(self, seed: int, epoch: int) -> tuple[Integers, Integers]:
        """The order of the shards in an epoch, and where each ends in the row of all pairs."""
        sequence = permutation(randomness.key("shards", seed, epoch), len(self._counts))
        return sequence, np.cumsum(self._counts[sequence])


def taken(counts: Sequence[int], size: int) -> list[int]:
    """How many pairs of each shard are among the first `size`; shards without any at the end are left out."""
    starts = np.cumsum([0, *counts])
    return [min(count, size - int(start)) for count, start in zip(counts, starts[:-1], strict=True) if start < size]


def order(seed: int, size: int, start: int, count: int) -> Integers:
    """The indices of the pairs seen at positions start .. start + count - 1 of the run with this seed: int64 [count].

    Each epoch is a different permutation of the `size` pairs.
    """
    epochs, within = np.divmod(np.arange(start, start + count, dtype=np.int64), size)
    indices = np.empty(count, np.int64)
    for epoch in np.unique(epochs):
        of_epoch = epochs == epoch
        indices[of_epoch] = _of_epoch(seed, int(epoch), size)[within[of_epoch]]
    return indices


@functools.lru_cache(maxsize=2)
def _of_epoch(seed: int, epoch: int, size: int) -> Integers:
    return permutation(randomness.key("order", seed, epoch), size)


def permutation(key: int, size: int) -> Integers:
    """Sorting by random words: unlike numpy's own shuffles, the order stays the same from version to version."""
    return np.argsort(randomness.bits(key, np.arange(size, dtype=np.int64), 1)[:, 0], kind="stable")
