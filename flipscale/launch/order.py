"""The order in which runs go out: twins side by side, so that the arms of a study meet the same load.

Ordered by cost alone, the unmasked runs of a study would all come first. Whatever else happens on the machine meanwhile
would then fall on one arm, and look like an effect of the mask: in the icons study the wall time was 2.19 times the CPU
time without a mask and 1.07 times with one.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from flipscale.plan import Run


class _TwinGroup(NamedTuple):
    """Runs that go out together: those of a cell, or the parents that are trained for a cell."""

    cell: str
    generation: int
    """0 for the runs of the cell, 1 for their parents, and so on."""


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
        for parent in run.parents:
            ahead[parent] = max(ahead.get(parent, 0), ahead[run.id])
    return ahead


def _groups_of(runs: Mapping[str, Run]) -> dict[str, _TwinGroup]:
    """The group of each run, by id. A run without a cell belongs to its first child's, else it stands alone."""
    found: dict[str, _TwinGroup] = {}
    for run in reversed(list(runs.values())):
        if run.cell is not None:
            found[run.id] = _TwinGroup(repr(run.cell), 0)
        group = found.setdefault(run.id, _TwinGroup(run.id, 0))
        for parent in run.parents:
            if parent in runs and runs[parent].cell is None:
                found.setdefault(parent, _TwinGroup(group.cell, group.generation + 1))
    return {run_id: found[run_id] for run_id in runs}


def _drawn(group: _TwinGroup, runs: list[Run]) -> list[Run]:
    if len(runs) == 1:
        return runs
    return sorted(runs, key=lambda run: (_draw(group.cell, run.settings.seed), _draw(run.id)))


def _draw(*purpose: str | int) -> str:
    # flipscale.randomness would do, but it loads numpy, which submitting does without.
    return hashlib.sha256(repr(purpose).encode()).hexdigest()


def _parents_first(ordered: Iterable[Run], runs: Mapping[str, Run]) -> list[Run]:
    """The runs in this order, but each after its parents."""
    found: dict[str, Run] = {}

    def add(run: Run) -> None:
        for parent in run.parents:
            if parent in runs and parent not in found:
                add(runs[parent])
        found.setdefault(run.id, run)

    for run in ordered:
        add(run)
    return list(found.values())
