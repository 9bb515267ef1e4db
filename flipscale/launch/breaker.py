"""Stops a submission whose first runs all fail at once: what they share is wrong, and the rest would fail too.

All jobs of a submission share its folder, where stopped.json says why it stopped.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from flipscale.errors import DamagedFile, printable
from flipscale.kinds import JsonObject
from flipscale.plain_files import read_json
from flipscale.run import FailureKind, RunFolder, write_json

INSTANT_SECONDS = 60.0
"""A failure so soon after a worker's start is an instant one: importing torch and opening data take most of it."""

INSTANT_FAILURES = 3
"""If this number of runs fail instantly before any has finished, they share a cause: the whole submission stops."""

_SHARED_KINDS = (FailureKind.CODE, FailureKind.DATA, FailureKind.OOM)
"""Failures that runs of one submission may share."""


class Breaker:
    """Stops the submission of this folder if its first runs all fail at once."""

    def __init__(
        self, folder: Path, runs: Callable[[], Iterable[RunFolder]], *, stop: Callable[[], None] = lambda: None
    ):
        """runs: all runs of the submission. stop: calls off what has not begun."""
        self.folder = folder
        self.runs = runs
        self.stop = stop

    def look(self, last: RunFolder) -> None:
        """Stop the submission if enough of its runs have failed instantly, `last` among them."""
        if self.tripped or not _failed_instantly(last):
            return
        runs = list(self.runs())
        failed = sum(map(_failed_instantly, runs))
        if failed < INSTANT_FAILURES or any(run.is_trained for run in runs):
            return
        why = f"its first {failed} runs failed within a minute of their start"
        write_json(self.folder / "stopped.json", {"schema": 1, "reason": why, "last": last.id, "time": time.time()})
        self.stop()

    @property
    def tripped(self) -> bool:
        return (self.folder / "stopped.json").exists()


def _failed_instantly(run: RunFolder) -> bool:
    error = run.error()
    if error is None or not error.noted or error.seconds is None:
        return False
    return error.seconds < INSTANT_SECONDS and error.kind in _SHARED_KINDS


def why_stopped(folder: Path) -> str | None:
    """The reason that a Breaker wrote into its folder; None if it has not stopped the submission."""
    try:
        reason = read_json(folder / "stopped.json", JsonObject).get("reason")
    except FileNotFoundError:
        return None
    except DamagedFile as error:
        return f"its submission was stopped, for an unknown reason: {error}"
    return f"its submission was stopped, as {printable(str(reason))}"
