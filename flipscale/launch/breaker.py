"""Stops a submission whose first runs all fail at once: what they share is wrong, and the rest would fail too.

All jobs of the submission share its folder:

    instant.jsonl    the failures soon after a start
    stopped.json     why the submission stopped, if it did
"""

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from flipscale.guard import plain_file, read_plain
from flipscale.launch.policy import INSTANT_FAILURES
from flipscale.run import FailureKind, RunFolder, write_json


class Breaker:
    """The watch over instant failures, as one job of the submission has it."""

    def __init__(self, folder: Path, stop: Callable[[], None], runs: Callable[[], Iterable[RunFolder]]):
        """stop: calls off what has not begun. runs: all runs of the submission."""
        self.folder, self.stop, self.runs = folder, stop, runs

    def note(self, run: RunFolder, kind: FailureKind, reason: str) -> None:
        with open(self.folder / "instant.jsonl", "a", encoding="utf-8", opener=plain_file) as file:
            file.write(json.dumps({"run": run.id, "kind": kind, "reason": reason}) + "\n")
        failed = {json.loads(line)["run"] for line in read_plain(self.folder / "instant.jsonl").splitlines()}
        if len(failed) < INSTANT_FAILURES or self.tripped:
            return
        if any((run.path / "result.json").exists() for run in self.runs()):
            return
        why = f"its first {len(failed)} runs failed within a minute of their start"
        last = {"run": run.id, "kind": kind, "reason": reason}
        write_json(self.folder / "stopped.json", {"schema": 1, "reason": why, "last": last, "time": time.time()})
        self.stop()

    @property
    def tripped(self) -> bool:
        return (self.folder / "stopped.json").exists()


def why_stopped(folder: Path) -> str | None:
    """What a Breaker wrote into its folder, for a person; None where it has not stopped the submission."""
    try:
        written = json.loads(read_plain(folder / "stopped.json"))
    except FileNotFoundError:
        return None
    return f"its submission was stopped, as {written['reason']}"
