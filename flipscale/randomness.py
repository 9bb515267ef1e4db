"""Random numbers that are hashes of what they are for: no state, so a batch can begin anywhere and comes out the same.

The generator is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), one stream for each (key, index). It takes a few
integer operations, the same on every platform. NumPy may change its own streams between versions; these never change.
"""

import hashlib

import numpy as np
import numpy.typing as npt

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def key(*purpose: str | int) -> int:
    """64 bits that stand for a purpose, such as ("shapes", seed, "train")."""
    return int.from_bytes(hashlib.sha256(repr(purpose).encode()).digest()[:8], "little")


def bits(key: int, indices: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.uint64]:
    """`count` random 64-bit words for every index: [len(indices), count]."""
    start = _mix(indices.astype(np.uint64) + np.full(1, key, np.uint64))
    return _mix(start[:, None] + _GOLDEN * np.arange(1, count + 1, dtype=np.uint64))


def uniform(key: int, indices: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.float32]:
    """`count` random numbers in [0, 1) for every index: [len(indices), count]."""
    # 24 bits are what a float32 holds, so no value rounds up to 1.
    return (bits(key, indices, count) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def _mix(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
