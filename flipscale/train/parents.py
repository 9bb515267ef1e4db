"""Whether what a run starts from is there: its parent's weights, and the state that its trunk keeps."""

import time
from collections.abc import Callable

from flipscale.run import TRUNK_FILE, Failure, RunFolder, lacking_for
from flipscale.settings.declarations import CommandTrainer
from flipscale.train.requests import asked_of, parent_of, request_of, trunk_run

ATTENDANT_SECONDS = 10.0
"""Seconds within which a living attendant answers a failure."""


def waits(run: RunFolder, still_to_come: Callable[[RunFolder], bool]) -> bool:
    """Whether the run has to wait: somebody trains its parent or its trunk, or this process will (`still_to_come`).

    Where nobody trains its trunk it goes on without one, and trains that part itself.
    """
    if run.is_trained:
        return False
    before = parent_of(run)
    if before is None:
        before = None if (run.path / "checkpoint.pt").exists() else trunk_run(run)
        if before is None or (before.path / TRUNK_FILE).exists() or before.is_over():
            return False
    elif before.result():
        return False
    elif error := before.error():
        return _may_be_resumed(error)
    return _is_held(before) or still_to_come(before)


def lacks_of_parent(run: RunFolder) -> str:
    """Why the run's parent has no weights for it, and what to do about it; '' where it has, or there is no parent."""
    parent = None if run.is_trained else parent_of(run)
    if parent is None:
        return ""
    # Looked at only now: the process that held it may have finished it meanwhile.
    if parent.result():
        return _lacks_of_finished(parent, run)
    if error := parent.error():
        return f"Its parent {parent.id} failed ({error.kind}): {error.reason} Submit both again."
    if parent.is_cancelled:
        return f"Its parent {parent.id} was cancelled; `flipscale submit` of the study starts both again."
    return (
        f"Its parent {parent.id} is not finished, and no process is training it; run flipscale train "
        f"{parent.path}, then submit this run again."
    )


def _is_held(run: RunFolder) -> bool:
    holder = run.holder()
    return holder is not None and holder.alive


def _may_be_resumed(error: Failure) -> bool:
    """Whether an attendant may still answer the failure."""
    return bool(error.job) and not error.noted and time.time() - (error.time or 0) < ATTENDANT_SECONDS


def _lacks_of_finished(parent: RunFolder, run: RunFolder) -> str:
    """A finished parent has weights, unless a program trained it and wrote none, or somebody deleted them."""
    if not (lacking := lacking_for(asked_of(run).settled, parent)):
        return ""
    again = f"delete its result.json, run flipscale train {parent.path}, then submit this run again"
    if isinstance(request_of(run)[0].trainer, CommandTrainer):
        return (
            f"Its parent {parent.id} is trained by a command, which wrote no model.pt, but a tuning, a "
            f"fine-tuning or another evaluation needs it. Have it write one (docs/trainers.md), then {again}."
        )
    return (
        f"Its parent {parent.id} has no {lacking} to start from: archives and keep_weights leave weights out. "
        f"Put its {lacking} there, or {again}."
    )
