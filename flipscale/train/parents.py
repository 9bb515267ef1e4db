"""Whether what a run starts from is there: a parent's weights now, later or never; a trunk now or later."""

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass

from flipscale.run import TRUNK_FILE, Failure, RunFolder, lacking_for
from flipscale.settings import CommandTrainer
from flipscale.train.requests import parent_of, request_of, trunk_run

ATTENDANT_SECONDS = 10.0
"""Seconds within which a living attendant answers a failure."""


class When(enum.Enum):
    """When a parent's weights are there."""

    NOW = enum.auto()
    LATER = enum.auto()
    NEVER = enum.auto()


@dataclass(frozen=True)
class ParentWeights:
    """When the weights that a run starts from are there."""

    when: When
    why: str = ""
    """Why never: a sentence that says what to do about it."""


def weights_for(run: RunFolder, still_to_come: Callable[[RunFolder], bool]) -> ParentWeights:
    """Whether the run's parent can give it weights, now or later. A run without a parent needs none.

    A run waits for its trunk as long as somebody trains it. It goes on without one, and then trains that part itself.

    still_to_come: whether this process will do that run itself.
    """
    parent = None if run.is_trained else parent_of(run)
    if parent is None:
        trunk = None if run.is_trained or (run.path / "checkpoint.pt").exists() else trunk_run(run)
        if trunk is None or (trunk.path / TRUNK_FILE).exists() or trunk.is_over():
            return ParentWeights(When.NOW)
        return ParentWeights(When.LATER if _is_held(trunk) or still_to_come(trunk) else When.NOW)
    if not (parent.result() or parent.error()) and (_is_held(parent) or still_to_come(parent)):
        return ParentWeights(When.LATER)
    # Looked at again: the process that held it above may have finished it since.
    if parent.result():
        return _finished(parent, run)
    return _unfinished(parent)


def _unfinished(parent: RunFolder) -> ParentWeights:
    """A parent that nobody is training: it may be resumed after a failure, or else somebody must submit it again."""
    if error := parent.error():
        if _may_be_resumed(error):
            return ParentWeights(When.LATER)
        why = f"Its parent {parent.id} failed ({error.kind}): {error.reason} Submit both again."
    elif parent.is_cancelled:
        why = f"Its parent {parent.id} was cancelled; `flipscale submit` of the study starts both again."
    else:
        why = (
            f"Its parent {parent.id} is not finished, and no process is training it; run flipscale train "
            f"{parent.path}, then submit this run again."
        )
    return ParentWeights(When.NEVER, why)


def _is_held(run: RunFolder) -> bool:
    holder = run.holder()
    return holder is not None and holder.alive


def _may_be_resumed(error: Failure) -> bool:
    """Whether an attendant may still answer the failure."""
    return bool(error.job) and not error.noted and time.time() - (error.time or 0) < ATTENDANT_SECONDS


def _finished(parent: RunFolder, run: RunFolder) -> ParentWeights:
    """A finished parent has weights, unless a program trained it and wrote none, or somebody deleted them."""
    asked = run.asked()
    assert asked is not None
    if not (lacking := lacking_for(asked.settled, parent)):
        return ParentWeights(When.NOW)
    again = f"delete its result.json, run flipscale train {parent.path}, then submit this run again"
    if isinstance(request_of(run)[0].trainer, CommandTrainer):
        why = (
            f"Its parent {parent.id} is trained by a command, which wrote no model.pt, but a tuning, a "
            f"fine-tuning or another evaluation needs it. Have it write one (docs/trainers.md), then {again}."
        )
    else:
        why = (
            f"Its parent {parent.id} has no {lacking} to start from: archives and keep_weights leave weights out. "
            f"Put its {lacking} there, or {again}."
        )
    return ParentWeights(When.NEVER, why)
