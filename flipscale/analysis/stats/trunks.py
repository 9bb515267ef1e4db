"""Lengths on one trunk share its luck: they are one unit of what intervals rest on, seeds."""

from collections.abc import Collection, Hashable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Places = NDArray[np.intp]

Key = TypeVar("Key", bound=Hashable)


def linked(groups: Places, trunks: Places | None) -> Places:
    """Groups of rows [n], those that trunks link as one: numbered from 0. A row of no trunk has -1."""
    if trunks is None:
        return groups
    first = int(groups.max(initial=-1)) + 1
    rows = trunks >= 0
    many = first + int(trunks.max(initial=-1)) + 1
    links = coo_array((np.ones(rows.sum()), (groups[rows], first + trunks[rows])), shape=(many, many))
    parts = connected_components(links, directed=False)[1]
    return np.unique(parts[groups], return_inverse=True)[1].reshape(-1).astype(np.intp)


def units_of(trunks: Mapping[Key, Collection[int]]) -> dict[Key, int]:
    """The unit of each cell, by the trunks of its runs: cells of one trunk are one unit."""
    keys = list(trunks)
    rows = [(i, trunk) for i, key in enumerate(keys) for trunk in trunks[key] or (-1,)]
    cells, numbers = np.array(rows, dtype=np.intp).reshape(-1, 2).T
    return {keys[i]: int(unit) for i, unit in zip(cells, linked(cells, numbers), strict=True)}
