"""A signal that asks a process to end is noted, and the run in hand stops at its next step, with a checkpoint."""

import contextlib
import faulthandler
import os
import signal
from collections.abc import Iterator
from types import FrameType

from flipscale.run import JOB, STACKS_SIGNAL, RunFolder

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that a scheduler sends ahead of a time limit or a preemption, and Ctrl-C."""


class Stop:
    """The signal that asks this process to end, or None."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def name(self) -> str:
        return signal.Signals(self.signal).name if self.signal else ""

    def note(self, signum: int, frame: FrameType | None = None) -> None:
        if signum == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = self.signal or signum


@contextlib.contextmanager
def noting_signals() -> Iterator[Stop]:
    """Note the first signal instead of ending on it: the run in hand stops at its next step. Ctrl-C twice ends at once.

    A handler takes the signal in the main thread only, so `train` is called there.
    """
    stop = Stop()
    handlers = {signum: signal.signal(signum, stop.note) for signum in STOP_SIGNALS}
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield stop
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def stacks_in_log(run: RunFolder) -> Iterator[None]:
    """While the block runs, STACKS_SIGNAL has the stacks of all threads written to the run's log.txt, in C calls too.

    Without a launcher the signal has its usual effect: Ctrl-\\ ends a training at a terminal.
    """
    if JOB not in os.environ:
        yield
        return
    with run.open_log() as log:
        faulthandler.register(STACKS_SIGNAL, file=log, all_threads=True)
        try:
            yield
        finally:
            faulthandler.unregister(STACKS_SIGNAL)
