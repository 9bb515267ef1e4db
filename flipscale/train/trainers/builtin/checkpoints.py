"""Checkpoints that do not stop training, and how often one is due.

Training waits while its state is copied in memory. A thread writes the copy, and the next steps are taken meanwhile.
Until the new file is on the disk the one before stands, so a process that is killed at any time leaves a whole one.
"""

import math
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor
from torch.serialization import set_crc32_options

from flipscale.run import Lease

CHECKPOINT_FILE = "checkpoint.pt"

TrainingState = dict[str, Any]
"""What a checkpoint holds, as torch.save takes it."""

FIRST_SECONDS = 30.0
"""Training before the first checkpoint of an attempt, which shows what one costs."""

MOST_APART_SECONDS = 600.0
"""The most training, in seconds, that a killed run loses, unless its study asks for more."""

DEVICE_HOURS = 49_000.0
"""Hours until a device fails or its node does: a failure in 3 h at 16,384 GPUs (Llama 3, arXiv 2407.21783)."""

KILLED_HOURS = 24.0
"""Hours until a run is killed for another reason, such as pre-emption without a warning: a judgement."""


def interval(cost: float, devices: int) -> float:
    """The seconds of training between two checkpoints that cost `cost` seconds each.

    With sqrt(2 * cost * mean time between failures) checkpoints and lost work together take the least time (Young 1974,
    Daly 2006).
    """
    failures_an_hour = 1 / KILLED_HOURS + devices / DEVICE_HOURS
    return min(MOST_APART_SECONDS, math.sqrt(2 * cost * 3600 / failures_an_hour))


class CheckpointWriter:
    """Writes states of a training into the folder of its lease, one at a time."""

    def __init__(self, lease: Lease):
        self.lease = lease
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self._copies: list[Tensor] = []

    @property
    def is_writing(self) -> bool:
        return self._writing is not None and not self._writing.done()

    @property
    def has_failed(self) -> bool:
        """Whether the last state could not be written; `wait` raises the reason."""
        return self._writing is not None and self._writing.done() and self._writing.exception() is not None

    def write(self, state: TrainingState, name: str) -> None:
        """Copy the state and have it written. First waits for the one before, as `wait` does."""
        self.wait()
        copy = self._copied(state)
        self._writing = self._thread.submit(write_state, self.lease, copy, name)

    def wait(self) -> None:
        """Wait for the state in the making. Raises what made it fail."""
        writing = self._writing
        self._writing = None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def _copied(self, state: TrainingState) -> Any:
        """The state, with its tensors copied into the memory of the last copy: new memory takes eight times as long."""
        kept = iter(self._copies)
        self._copies = []

        def copied(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: copied(inner) for name, inner in value.items()}
            if isinstance(value, list):
                return [copied(inner) for inner in value]
            if not isinstance(value, Tensor):
                return value
            copy = next(kept, None)
            if copy is None or (copy.shape, copy.dtype) != (value.shape, value.dtype):
                copy = torch.empty_like(value, device="cpu")
            self._copies.append(copy)
            return copy.copy_(value)

        with torch.no_grad():
            return copied(state)


def write_state(lease: Lease, state: TrainingState, name: str) -> None:
    """Write a training's state. It has no checksums, which take as long as all else and which torch.load ignores."""
    set_crc32_options(False)
    try:
        with lease.replace(name) as file:
            torch.save(state, file)
    finally:
        set_crc32_options(True)
