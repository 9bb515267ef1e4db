"""How the steps speak: on stderr, as stdout is for data."""

import shutil
import sys
import time
from collections.abc import Callable
from typing import Self, TextIO

from flipscale.errors import printable
from flipscale.launch import rewritable

EVERY_SECONDS = 5.0
"""Where lines cannot be rewritten, long work says how far it is this often."""

REWRITE_SECONDS = 0.1
"""Where they can, this often."""

CLEAR = "\r\x1b[K"
"""Back to the start of a terminal's line, and erase it."""


def say(sentence: str) -> None:
    print(printable(sentence), file=sys.stderr, flush=True)


class Steps:
    """Says how far a step is while it works: on a terminal in one line, which vanishes when the step is done, elsewhere
    in a line every few seconds.

        with Steps("drawing figures") as steps:
            plot_all(data, out, progress=steps)
    """

    def __init__(self, what: str, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic):
        self.what = what
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._terminal = rewritable(self._stream)
        self._every = REWRITE_SECONDS if self._terminal else EVERY_SECONDS
        self._said_at = clock()

    def __enter__(self) -> Self:
        if self._terminal:
            self._write(f"{CLEAR}{self.what} ...")
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            self._write(CLEAR)

    def __call__(self, done: int, total: int, name: str = "") -> None:
        """Say how much is done, and what comes next."""
        if self._clock() - self._said_at < self._every:
            return
        self._said_at = self._clock()
        line = printable(f"{self.what}: {done} of {total}{f' ({name})' if name else ''}")
        if self._terminal:
            columns = shutil.get_terminal_size().columns
            self._write(CLEAR + line[: columns - 1])
        else:
            self._write(f"{line}\n")

    def _write(self, text: str) -> None:
        print(text, end="", file=self._stream, flush=True)
