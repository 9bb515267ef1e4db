"""The request for a run, and the cost of the chain of runs that it starts from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flipscale.cost.arithmetic import scored_steps, steps_of, trunk_steps
from flipscale.errors import RunFolderError
from flipscale.planning.identity import RECIPE, Course, course_of, goes_on, lineage, scored, stage
from flipscale.run import TRUNK_FILE, WEIGHTS_FILE, Result, RunFolder, RunRequest, Spent
from flipscale.settings.declarations import Resources, Settings


def asked_of(run: RunFolder) -> RunRequest:
    """What the run was asked for; `train` has seen that its run.json is there."""
    asked = run.asked()
    assert asked is not None
    return asked


def request_of(run: RunFolder) -> tuple[Settings, Resources]:
    """The settings of what the run itself trains, and the resources it may use.

    Raises RunFolderError for a run of another recipe: its result would be of this one, under an id of that one.
    """
    asked = asked_of(run)
    if asked.recipe not in (None, RECIPE):
        raise RunFolderError(
            f"{run.path}: was asked for under recipe {asked.recipe}, and this flipscale trains by recipe {RECIPE} "
            f"(docs/recipes.md), so the result would differ. Submit its study again, which makes it a new run."
        )
    return stage(asked.settled), asked.resources


def scored_settings(run: RunFolder) -> Settings:
    """The settings by which its scores are measured while it trains."""
    return scored(asked_of(run).settled)


def steps_before(run: RunFolder, batch_size: int) -> int:
    """How many whole steps of this batch size the runs that this one goes on from have seen.

    A tuning takes up the order of pairs, their views and the masks where its parent left them, give or take a part of a
    batch where the two batch sizes differ. Otherwise it would begin with the pairs that its parent began with.
    """
    *before, _ = map(stage, lineage(asked_of(run).settled))
    return sum(steps_of(settings) * settings.batch_size for settings in before) // batch_size


def course(run: RunFolder) -> Course:
    """The schedule of which the run itself trains a part."""
    return course_of(asked_of(run).settled)


def kept_step(run: RunFolder) -> int:
    """The step after which the run's state is kept for those that go on from it: where a constant rate ends, or at its
    end where its schedule goes on. 0: none."""
    whole = asked_of(run).settled
    staged = stage(whole)
    part = course_of(whole)
    is_open = staged.schedule == "constant" and not staged.cooldown and staged.fine_tuning is None
    if part.end is not None:
        is_open |= part.before + staged.samples < part.end
    return trunk_steps(whole) or (steps_of(staged) if is_open else 0)


def parent_of(run: RunFolder) -> RunFolder | None:
    """The run whose weights this one starts from: its folder is beside this one."""
    asked = run.asked()
    return RunFolder(run.path.parent / asked.parents[0]) if asked and asked.parents else None


def trunk_run(run: RunFolder) -> RunFolder | None:
    """The run whose schedule is this one's up to the end of its constant rate."""
    asked = run.asked()
    return RunFolder(run.path.parent / asked.trunk.run) if asked and asked.trunk else None


def kept_trunk(run: RunFolder) -> RunFolder | None:
    """The nearest of the runs before it on its trunk from which it can go on: that run has kept where its constant rate
    ends, and was scored wherever this one is up to there."""
    asked = run.asked()
    before = trunk_run(run)
    while asked is not None and before is not None:
        given = before.asked()
        if given is not None and (before.path / TRUNK_FILE).is_file():
            scored_on_it = {step for step in scored_steps(asked.settled) if step <= trunk_steps(given.settled)}
            if scored_on_it <= scored_steps(given.settled):
                return before
        before = trunk_run(before)
    return None


@dataclass(frozen=True)
class TrainedWeights:
    """The weights of a finished run, from which another starts."""

    path: Path
    settings: Settings
    """Of the stage that trained them: the weights have its model, image size and text length."""


def start_of(run: RunFolder) -> TrainedWeights | None:
    """The weights of the run's parent, if it has one."""
    parent = parent_of(run)
    if parent is None:
        return None
    *_, before, _ = lineage(asked_of(run).settled)
    return TrainedWeights(parent.path / WEIGHTS_FILE, stage(before))


def gone_on_with(run: RunFolder) -> TrainedWeights | None:
    """The weights of the run's parent, where the run goes on with its schedule and optimizer too."""
    return start_of(run) if goes_on(asked_of(run).settled) else None


def spent_before(parent: RunFolder | None, unique_pairs: int | None) -> Spent | None:
    """The cost before the run began: its parent's, and that of the parent's own parents.

    unique_pairs: the number of different pairs they saw that the run itself did not; None if unknown.
    """
    if parent is None:
        return None
    result = parent.result() or Result()
    grandparents = result.parent or Spent(parent.id, 0, 0.0, 0.0, 0.0)

    def both(name: str) -> Any:
        # A number that one of them did not measure is unknown for the chain, too.
        spent = getattr(result, name)
        theirs = getattr(grandparents, name)
        return None if spent is None or theirs is None else spent + theirs

    costs = {name: both(name) for name in ("samples_seen", "train_seconds", "cpu_seconds", "gpu_hours")}
    return Spent(id=parent.id, unique_pairs=unique_pairs, **costs)


def unique_pairs_of(run: RunFolder | None) -> int | None:
    """How many different pairs a finished run and its parents saw; None if that is unknown."""
    result = run.result() if run is not None else None
    if result is None or result.unique_pairs is None:
        return None
    if result.parent is None:
        return result.unique_pairs
    others = result.parent.unique_pairs
    return None if others is None else result.unique_pairs + others
