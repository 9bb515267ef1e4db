"""The wall-clock time of a study's runs on a number of workers."""

import heapq
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from flipscale.errors import LaunchError
from flipscale.launch.local.machine import slots_for
from flipscale.launch.look import run_folder
from flipscale.launch.order import in_turn
from flipscale.plan import Plan, Run
from flipscale.run import State
from flipscale.words import count, duration

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
        if not self.workers or not self.seconds:
            return done
        what = "" if self.timed else " of training"
        return ", ".join(filter(None, [f"{_about(self)}{what} on {count(self.workers, 'worker')}", done]))


def wall_clock(plan: Plan, results: Path, finished: Collection[str] | None = None) -> WallClock:
    """The time of the plan's remaining runs on this machine, by the times of a probe or else by predicted hours.

    finished: the ids of its finished runs, if a caller has looked at their folders already.
    """
    if finished is None:
        finished = {run.id for run in plan.runs if run_folder(results, run.id).glance().state() is State.FINISHED}
    left = [run for run in plan.runs if run.id not in finished and run.cost.steps]
    workers = min(workers_here(plan.runs), max(1, len(left)))
    ordered = _in_turn(left) if workers else []
    about, low, high = (_simulated(ordered, workers, end) for end in ("about", "low", "high"))
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
    return _simulated(_in_turn(runs), workers, end)


def _in_turn(runs: Collection[Run]) -> list[Run]:
    return in_turn({run.id: run for run in runs})


def _simulated(runs: Collection[Run], workers: int, end: str) -> float:
    """Wall time of these runs, in their order."""
    start = max((run.timed.program_seconds for run in runs if run.timed), default=0.0)
    free = [start] * workers
    ended: dict[str, float] = {}
    for run in runs:
        begins = max([free[0], *(ended[parent] for parent in run.parents if parent in ended)])
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
