"""Stops a submission whose first runs all fail at once: what they share is wrong, and the rest would fail too.

All jobs of the submission share its folder:

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
from flipscale.launch.policy import INSTANT_FAILURES
from flipscale.plain_files import parsed, read_bytes, read_json_object
from flipscale.run import FailureKind, RunFolder, write_json


class Breaker:
    """Watches for instant failures on behalf of one job of the submission."""

    def __init__(self, folder: Path, stop: Callable[[], None], runs: Callable[[], Iterable[RunFolder]]):
        """stop: calls off what has not begun. runs: all runs of the submission."""
        self.folder, self.stop, self.runs = folder, stop, runs

    def note(self, run: RunFolder, kind: FailureKind, reason: str) -> None:
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
        found = set()
        for line in read_bytes(self.folder / "instant.jsonl").splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError):  # another job may be writing the line
                found.add(str(parsed(line)["run"]))
        return found

    @property
    def tripped(self) -> bool:
        return (self.folder / "stopped.json").exists()


def why_stopped(folder: Path) -> str | None:
    """The reason that a Breaker wrote into its folder; None if it has not stopped the submission."""
    try:
        reason = read_json_object(folder / "stopped.json").get("reason")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except DamagedFile as error:
        return f"its submission was stopped, for an unknown reason: {error}"
    return f"its submission was stopped, as {printable(str(reason))}"
