"""Stops a submission whose first runs all fail at once. All of its jobs share its folder, and there

instant.jsonl    the failures soon after a start
stopped.json     why the submission stopped, if it did
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from flipscale.errors import DamagedFile, printable
from flipscale.guard import plain_file
from flipscale.plain_files import parsed, read_bytes, read_json
from flipscale.run import FailureKind, RunFolder, write_json
from flipscale.settings import JsonObject

INSTANT_SECONDS = 60.0
"""A failure so soon after a worker's start is an instant one: importing torch and opening data take most of it."""

INSTANT_FAILURES = 3
"""If this number of runs fail instantly before any has finished, they share a cause: the whole submission stops."""

_SHARED_KINDS = (FailureKind.CODE, FailureKind.DATA, FailureKind.OOM)
"""Failures that runs of one submission may share."""


class Breaker:
    """Stops a submission whose first runs all fail at once: what they share is wrong, and the rest would fail too."""

    def __init__(self, folder: Path, stop: Callable[[], None], runs: Callable[[], Iterable[RunFolder]]):
        """stop: calls off what has not begun. runs: all runs of the submission."""
        self.folder, self.stop, self.runs = folder, stop, runs

    def note(self, run: RunFolder, kind: FailureKind, reason: str, took: float | None) -> None:
        """Note that a run was given up, `took` seconds after its start if known."""
        if took is None or took >= INSTANT_SECONDS or kind not in _SHARED_KINDS:
            return
        with open(self.folder / "instant.jsonl", "a", encoding="utf-8", opener=plain_file) as file:
            file.write(json.dumps({"run": run.id, "kind": kind, "reason": reason}) + "\n")
        if len(failed := self._failed()) < INSTANT_FAILURES or self.tripped:
            return
        if any((run.path / "result.json").exists() for run in self.runs()):
            return
        why = f"its first {len(failed)} runs failed within a minute of their start"
        last = {"run": run.id, "kind": kind, "reason": reason}
        write_json(self.folder / "stopped.json", {"schema": 1, "reason": why, "last": last, "time": time.time()})
        self.stop()

    def _failed(self) -> set[str]:
        """The runs that failed instantly, as noted by all jobs of the submission."""
        failed = set()
        for line in read_bytes(self.folder / "instant.jsonl").splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError):  # another job may be writing the line
                failed.add(str(parsed(line)["run"]))
        return failed

    @property
    def tripped(self) -> bool:
        return (self.folder / "stopped.json").exists()


def why_stopped(folder: Path) -> str | None:
    """The reason that a Breaker wrote into its folder; None if it has not stopped the submission."""
    try:
        reason = read_json(folder / "stopped.json", JsonObject).get("reason")
    except FileNotFoundError:
        return None
    except DamagedFile as error:
        return f"its submission was stopped, for an unknown reason: {error}"
    return f"its submission was stopped, as {printable(str(reason))}"
