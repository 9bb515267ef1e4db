"""What was asked of a run, and what was spent on the line of runs that it goes on from."""

from typing import Any

from flipscale.identity import stage
from flipscale.run import Result, RunFolder, Spent
from flipscale.settings import Resources, Settings


def asked_of(run: RunFolder) -> tuple[Settings, Resources]:
    """The settings of what the run itself trains, and the resources it may use."""
    asked = run.asked()
    assert asked is not None
    return stage(asked.settled), asked.resources


def parent_of(run: RunFolder) -> RunFolder | None:
    """The run whose weights this one starts from: its folder is beside this one."""
    asked = run.asked()
    return RunFolder(run.path.parent / asked.parents[0]) if asked and asked.parents else None


def spent_before(parent: RunFolder | None) -> Spent | None:
    """What was spent before the run began: by its parent, and by the parent's own."""
    if parent is None:
        return None
    result = parent.result() or Result()
    grandparents = result.parent or Spent(parent.id)

    def both(spent: float | None, theirs: float | None) -> Any:
        # What the parent did not measure is not known of the line either.
        return None if spent is None else spent + (theirs or 0)

    return Spent(
        id=parent.id,
        samples_seen=both(result.samples_seen, grandparents.samples_seen),
        train_seconds=both(result.train_seconds, grandparents.train_seconds),
        cpu_seconds=both(result.cpu_seconds, grandparents.cpu_seconds),
        gpu_hours=both(result.gpu_hours, grandparents.gpu_hours),
    )
