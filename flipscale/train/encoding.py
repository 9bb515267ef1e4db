"""Features of the items that a model is scored on, computed by all processes of a run as by one.

Process 0 has the items and hands them out, a batch to each process in turn, and gets the features back in their order.
Batches are those of one process, so on a CPU the features are too, bit by bit.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from flipscale.data.pairs import Images, Integers
from flipscale.run import show_life
from flipscale.scores import LOSS_BATCH
from flipscale.train.distributed import Group
from flipscale.train.machine import FORWARD_DTYPES

GPU_BATCH = 512
"""Items that a GPU encodes at a time. A CPU takes LOSS_BATCH: with 512 it was seen to be .66 to .73 times as fast."""

SHARE_BYTES = 1 << 31
"""The most that process 0 hands out at a time: it has all of it on its GPU."""

Encode = Callable[[str, Tensor, int], Tensor]
"""Features [b, E], by the name of a way, of a batch that is on the device and whose first item has this number."""


class Encoders:
    """Ways to encode items, each by a name. Process 0 calls `encode`, and `release` at the end; the others `follow`."""

    def __init__(self, encode: Encode, device: torch.device, precision: str, group: Group | None = None):
        """precision: the run's; a GPU's towers compute in it, and features are float32. group: None is one process."""
        self.encode_batch = encode
        self.device = device
        self.group = group if group is not None and group.connected else None
        self.dtype = FORWARD_DTYPES.get(precision) if device.type == "cuda" else None
        self.size = GPU_BATCH if device.type == "cuda" else LOSS_BATCH

    def encode(self, way: str, items: Images | Integers) -> Tensor:
        """The features of all items, [N, E] float32."""
        if self.group is not None:
            rows = self.size
            count = len(items)
            each = items[:1].nbytes * self.group.size
            if self.device.type == "cuda":
                rows = max(1, min(rows, -(-count // self.group.size), SHARE_BYTES // each))
            asked: dict[str, Any] = {
                "way": way,
                "rows": rows,
                "count": count,
                "shape": items.shape[1:],
                "dtype": str(items.dtype),
            }
            self.group.said(json.dumps(asked))
            return self._shared(**asked, items=items)
        firsts = range(0, len(items), self.size)
        return torch.cat([self._features(way, self._loaded(items[at : at + self.size]), at) for at in firsts])

    def follow(self) -> None:
        """Encode what process 0 hands out, until it needs no more."""
        assert self.group is not None
        while asked := json.loads(self.group.said()):
            self._shared(**asked)

    def release(self) -> None:
        """The other processes are needed no more."""
        if self.group is not None:
            self.group.said("null")

    def _loaded(self, batch: Images | Integers) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(batch)).to(self.device)

    def _features(self, way: str, batch: Tensor, first: int) -> Tensor:
        show_life()
        with torch.autocast(self.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            return self.encode_batch(way, batch, first).float()

    def _shared(
        self, way: str, rows: int, count: int, shape: Sequence[int], dtype: str, items: Images | Integers | None = None
    ) -> Tensor:
        """The features of all items on process 0, which has the items; of this process's share on the others.

        Each process has `rows` items a turn; the last ones are filled up, as all send and receive the same amount.
        """
        group = self.group
        assert group is not None
        turns = -(-count // (rows * group.size))
        received = torch.empty((rows, *shape), dtype=getattr(torch, dtype), device=self.device)
        features = []
        for turn in range(turns):
            firsts = [(turn * group.size + rank) * rows for rank in range(group.size)]
            handed = None
            if items is not None:
                handed = [torch.zeros_like(received) for _ in firsts]
                for batch, first in zip(handed, firsts, strict=True):
                    part = self._loaded(items[first : first + rows])
                    batch[: len(part)] = part
            dist.scatter(received, handed)
            here = min(rows, count - firsts[group.rank])
            if here > 0:
                features.append(self._features(way, received[:here], firsts[group.rank]))
        (width,) = group.agree(features[0].shape[1] if features else 0)
        share = torch.zeros((turns * rows, width), device=self.device)
        if features:
            share[: sum(map(len, features))] = torch.cat(features)
        parts = None if items is None else [torch.empty_like(share) for _ in range(group.size)]
        dist.gather(share, parts)
        if parts is None:
            return share
        return torch.stack(parts).view(group.size, turns, rows, width).transpose(0, 1).reshape(-1, width)[:count]
