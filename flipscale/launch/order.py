"""The order in which runs go out, and their wall time in it: twins side by side, so that arms meet the same load.

Ordered by cost alone, the unmasked runs of a study would all come first. Whatever else happens on the machine meanwhile
would then fall on one arm, and look like an effect of the mask: in the icons study the wall time was 2.19 times the CPU
time without a mask and 1.07 times with one.
"""

import hashlib
import heapq
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flipscale.errors import LaunchError
from flipscale.launch.local.launcher import slots_for
from flipscale.launch.states import run_folder
from flipscale.planning.runs import Plan, Run
from flipscale.words import count, duration

_TwinGroup = tuple[str, int]
"""Runs that go out together: those of a cell, at 0, or the parents that are trained for a cell, at 1 and so on."""


def in_turn(runs: Mapping[str, Run]) -> list[Run]:
    """The runs cell by cell, the costliest cell first, so that no long run is left to one worker at the end.

    Within a cell the seeds follow each other, each with all of its arms, in an order drawn from cell, seed and ids: it
    is the same each time, and no arm is always first. A parent comes before its children. `runs` has parents before
    children.
    """
    ahead = _flops_ahead(runs)
    groups: dict[_TwinGroup, list[Run]] = {}
    for run_id, group in _groups_of(runs).items():
        groups.setdefault(group, []).append(runs[run_id])
    by_cost = sorted(groups, key=lambda group: -max(ahead[run.id] for run in groups[group]))
    return _parents_first((run for group in by_cost for run in _drawn(group, groups[group])), runs)


def _flops_ahead(runs: Mapping[str, Run]) -> dict[str, float]:
    """The FLOPs from the start of each run to the end of the longest chain of runs that start from it.

    A parent therefore comes before its children, and as early as its longest chain needs.
    """
    ahead: dict[str, float] = {}
    for run in reversed(list(runs.values())):
        # An evaluation costs no training, yet its parent is to come before it.
        ahead[run.id] = ahead.get(run.id, 0) + run.cost.train_flops + 1
        for parent in run.after:
            ahead[parent] = max(ahead.get(parent, 0), ahead[run.id])
    return ahead


def _groups_of(runs: Mapping[str, Run]) -> dict[str, _TwinGroup]:
    """The group of each run, by id. A run without a cell belongs to its first child's, else it stands alone."""
    groups: dict[str, _TwinGroup] = {}
    for run in reversed(list(runs.values())):
        if run.cell is not None:
            groups[run.id] = repr(run.cell), 0
        cell, generation = groups.setdefault(run.id, (run.id, 0))
        for parent in run.parents:
            if parent in runs and runs[parent].cell is None:
                groups.setdefault(parent, (cell, generation + 1))
    return {run_id: groups[run_id] for run_id in runs}


def _drawn(group: _TwinGroup, runs: list[Run]) -> list[Run]:
    if len(runs) == 1:
        return runs
    return sorted(runs, key=lambda run: (_draw(group[0], run.settings.seed), _draw(run.id)))


def _draw(*purpose: str | int) -> str:
    # flipscale.randomness would do, but it loads numpy, which submitting does without.
    return hashlib.sha256(repr(purpose).encode()).hexdigest()


def _parents_first(ordered: Iterable[Run], runs: Mapping[str, Run]) -> list[Run]:
    """The runs in this order, but each after its parents."""
    ordered_runs: dict[str, Run] = {}

    def add(run: Run) -> None:
        for parent in run.after:
            if parent in runs and parent not in ordered_runs:
                add(runs[parent])
        ordered_runs.setdefault(run.id, run)

    for run in ordered:
        add(run)
    return list(ordered_runs.values())


# Wall time

NARROW = 1.5
"""A range within this factor is given by its middle."""


@dataclass(frozen=True)
class WallClock:
    """How much of a plan is done, and how long the rest takes on this machine."""

    done: int
    """Finished runs."""
    runs: int
    workers: int
    """How many runs this machine does at once; 0 where it cannot do them."""
    seconds: float
    """Seconds for the others."""
    low: float
    high: float
    timed: bool
    """Whether a probe has timed all of them. Else the times are of training alone, as it is predicted."""

    def __str__(self) -> str:
        """'about 3 min on 2 workers, 24 of 36 done'."""
        done = f"{self.done} of {self.runs} done" if self.done else ""
        if not (self.workers and self.seconds) or self.done == self.runs:
            return done
        what = "" if self.timed else " of training"
        return ", ".join(filter(None, [f"{_about(self)}{what} on {count(self.workers, 'worker')}", done]))


def wall_clock(plan: Plan, results: Path, finished: Collection[str] | None = None) -> WallClock:
    """The time of the plan's remaining runs on this machine, by the times of a probe or else by predicted hours.

    finished: the ids of its finished runs, if a caller has looked at their folders already.
    """
    if finished is None:
        finished = {run.id for run in plan.runs if run_folder(results, run.id).is_trained}
    left = [run for run in plan.runs if run.id not in finished and run.cost.train_flops]
    workers = min(workers_here(plan.runs), max(1, len(left)))
    about, low, high = (clock_seconds(left if workers else [], workers, end) for end in ("about", "low", "high"))
    timed = all(run.timed for run in left)
    return WallClock(len(finished), len(plan.runs), workers, about, low, high, timed)


def workers_here(runs: Collection[Run]) -> int:
    """How many of these runs this machine does at once; 0 where it has too few GPUs for one."""
    try:
        return len(slots_for(max(run.resources.gpus for run in runs)))
    except LaunchError:
        return 0


def clock_seconds(runs: Collection[Run], workers: int, end: str = "about") -> float:
    """Wall time until `workers` have done these runs, in the order in which they go out and children after parents.

    end: of the range of predicted hours 'about', 'low' or 'high'.
    """
    start = max((run.timed.program_seconds for run in runs if run.timed), default=0.0)
    free = [start] * workers
    ended: dict[str, float] = {}
    for run in in_turn({run.id: run for run in runs}):
        begins = max([free[0], *(ended[parent] for parent in run.after if parent in ended)])
        ended[run.id] = begins + seconds_of_run(run, end)
        heapq.heapreplace(free, ended[run.id])
    return max(ended.values(), default=0.0)


def seconds_of_run(run: Run, end: str = "about") -> float:
    """Wall time of a run: with its evaluations if a probe has timed it, else its predicted training hours alone."""
    if run.timed is None:
        hours: float = getattr(run.cost.hours, end)
        return 3600 * hours / run.resources.devices
    factor = {"about": 1.0, "low": 1 / run.timed.spread, "high": run.timed.spread}[end]
    return factor * run.timed.seconds


def _about(clock: WallClock) -> str:
    """'about 3 min'; a range where the prediction is wide, and words below a second."""
    if round(clock.high) < 1:
        return "under a second"
    if round(clock.low) < 1:
        return f"under {duration(math.ceil(clock.high))}"
    if clock.high <= NARROW * clock.low:
        return f"about {duration(clock.seconds)}"
    return f"{duration(clock.low)} to {duration(clock.high)}"
