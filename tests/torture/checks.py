"""Whether runs came out as in an undisturbed study: finished once, with the same losses, and without a traceback."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from flipscale.run import RunFolder
from tests.torture.counts import Counts


def following(state: str) -> str:
    """The state of a training after its next step. It depends on all steps before it, and so does each loss."""
    return hashlib.sha256(state.encode()).hexdigest()


def loss_of(state: str) -> float:
    return int(following(state)[:8], 16) / 2**32


def undisturbed(run_id: str, steps: int) -> list[tuple[int, float]]:
    """The losses of a run that nothing disturbs."""
    found, state = [], run_id
    for step in range(1, steps + 1):
        state = following(state)
        found.append((step, loss_of(state)))
    return found


def losses(run: RunFolder) -> list[tuple[int, float]]:
    return [(record["step"], record["loss"]) for record in run.records()[0] if "loss" in record]


def writers(run: RunFolder) -> list[str]:
    """The trainings that wrote the run's records, in order; one that wrote in several turns is named once per turn."""
    found: list[str] = []
    for line in run.tail("metrics.jsonl", 2**24).splitlines():
        try:
            writer = json.loads(line)["by"]
        except (ValueError, TypeError, KeyError):
            continue  # a torn line, which a kill may leave
        if found[-1:] != [writer]:
            found.append(writer)
    return found


def check(results: Path, steps: dict[str, int], where: str) -> Counts:
    """Check each run of trainer.py; `steps` gives the number of steps by id."""
    counts = Counts()
    for run_id, number in steps.items():
        run = RunFolder(results / "runs" / run_id)
        turns = writers(run)
        if len(set(turns)) < len(turns):
            counts.report("doubled", f"{where}: {run_id} was written by {len(set(turns))} trainings in turns")
        ends = sum(b'"finished"' in line for line in run.tail("metrics.jsonl", 2**24).splitlines())
        if ends > 1:
            counts.report("doubled", f"{where}: {run_id} was finished {ends} times")
        if run.result() is None:
            error = run.error()
            counts.report("lost", f"{where}: {run_id} is {run.state()}{f', {error.reason}' if error else ''}")
        elif losses(run) != undisturbed(run_id, number):
            counts.report("differing", f"{where}: {run_id} has other losses than the undisturbed run")
    return counts


def check_logs(results: Path, where: str, known: Sequence[str] = ()) -> Counts:
    """Check that no job or trainer printed a traceback."""
    counts = Counts()
    for log in sorted(results.glob("**/*.log")) + sorted(results.glob("runs/*/log.txt")):
        text = log.read_text(errors="replace")
        if "Traceback (most recent call last)" in text and not any(word in text for word in known):
            at = text.index("Traceback")
            counts.report("tracebacks", f"{where}: {log.name}: {' / '.join(text[at:].split())[-500:]}")
    return counts
