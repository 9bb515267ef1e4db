"""Batches that other processes read and decode: beside a GPU, threads of the training process would hold its lock.

A loader process is given the number of a step. It computes which rows of that batch are its training process's, reads
them, and gives them back in shared memory, with the pairs that it found unreadable. Batches come in order, and hold
what the process itself would have read. Loaders are forked from a server that has neither CUDA nor threads.
"""

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from flipscale.data import stream
from flipscale.data.pairs import Data, Images, Integers
from flipscale.data.views import views
from flipscale.run import NodeFault
from flipscale.settings.declarations import Settings
from flipscale.train.stop import STOP_SIGNALS

AHEAD = 2
"""Batches that a loader makes before they are asked for."""


@dataclass(frozen=True)
class OwnRows:
    """The rows of each global batch that a process trains on."""

    settings: Settings
    first: int
    count: int
    steps_before: int
    """Steps of the runs that this one goes on from, see `Training`."""

    def of(self, data: Data, step: int) -> tuple[Images, Integers]:
        """Images [b, 3, S, S] and tokens [b, T]."""
        settings = self.settings
        drawn_step = self.steps_before + step
        rows = range(self.first, self.first + self.count)
        indices = data.order(settings.seed, drawn_step, settings.batch_size, rows)
        return data.batch(indices, views(settings, drawn_step * settings.batch_size + self.first, self.count))


@dataclass(frozen=True)
class Loaded:
    """A batch, and what a loader process knows of it."""

    images: Tensor
    tokens: Tensor
    flaws: Mapping[int, str]
    """Pairs that this loader found unreadable since its last batch, and why."""
    cpu_seconds: float


class _Batches(Dataset[Loaded | Exception]):
    """The batches of a training, by step, in a loader process."""

    def __init__(self, reopen: Callable[[], Data], rows: OwnRows):
        self.reopen = reopen
        self.rows = rows
        self.data: Data | None = None

    def __getitem__(self, step: int) -> Loaded | Exception:
        try:
            began = time.process_time()
            self.data = self.data or self.reopen()
            known = set(self.data.flaws())
            images, tokens = map(torch.from_numpy, self.rows.of(self.data, step))
            flaws = {number: flaw for number, flaw in self.data.flaws().items() if number not in known}
            return Loaded(images, tokens, flaws, time.process_time() - began)
        except Exception as error:  # torch would raise it with another message.
            return error


def load(
    data: Data, reopen: Callable[[], Data], rows: OwnRows, steps: range, *, loaders: int, pin: bool
) -> Iterator[Loaded]:
    """The batches of these steps, in order. `data` is told which pairs cannot be read."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__])
    loader = DataLoader(
        _Batches(reopen, rows),
        batch_size=None,
        sampler=steps,
        num_workers=loaders,
        prefetch_factor=AHEAD,
        collate_fn=_as_it_is,
        worker_init_fn=_begin,
        multiprocessing_context=server,
        generator=torch.Generator(),  # The global one goes on as without loaders.
    )
    for loaded in _while_loaders_live(loader):
        if isinstance(loaded, Exception):
            raise loaded
        data.note(loaded.flaws, rows.count)
        images = loaded.images
        tokens = loaded.tokens
        if pin:
            images = images.pin_memory()
            tokens = tokens.pin_memory()
        yield Loaded(images, tokens, loaded.flaws, loaded.cpu_seconds)


def _as_it_is(loaded: Any) -> Any:
    return loaded


def _begin(number: int) -> None:
    """In a loader process. It ends with the process that it loads for, which a signal to all of them asks to stop."""
    stream.THREADS = 1
    for signum in STOP_SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


def _while_loaders_live(loader: "DataLoader[Any]") -> Iterator[Loaded | Exception]:
    """What the loaders give. NodeFault if one of them ends."""
    try:
        yield from loader
    except (RuntimeError, EOFError, ConnectionError) as error:
        # One that is killed while it hands a batch over leaves a closed connection, which torch does not name.
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        raise NodeFault(
            f"a process that reads data ended; the system does that when memory is short. {error}".rstrip()
        ) from error
