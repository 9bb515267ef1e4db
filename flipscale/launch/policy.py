"""What is done about a failure, by its kind alone: one table for every launcher.

A failure that a policy starts again after goes to the run's failures.jsonl, one that it gives up at is its error.json.
Counting begins anew where a run was given up and somebody submitted it again.
"""

import enum
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flipscale.cost import devices_of
from flipscale.identity import stage
from flipscale.run import FailureKind
from flipscale.study.settings import read_settings

STUCK = 3
"""A run that was stopped by its time limit so often in a row without coming any further would never finish."""

INSTANT_SECONDS = 60.0
"""A failure so soon after a worker's start is an instant one: importing torch and opening data take most of it."""

INSTANT_FAILURES = 3
"""So many runs that fail instantly, where none has finished, share what is wrong: the whole submission stops."""


class Action(enum.Enum):
    RESUME = "resumed"
    HALVE = "again with half the micro-batch"
    MOVE = "resumed on another node"
    STOP = "given up"


@dataclass(frozen=True)
class Policy:
    action: Action
    most: int | None = None
    """So often at most; None is as often as it comes."""
    why: str = ""
    """Why nothing else is done, or why this does no harm."""
    then: str = ""
    """What a person may do when it has been done often enough."""


POLICIES: Mapping[FailureKind, Policy] = {
    FailureKind.OOM: Policy(
        Action.HALVE,
        3,
        "the global batch stays as it is, and so does what the result means",
        "; give it more memory (memory_per_process in a site file), or a smaller batch",
    ),
    FailureKind.TIMEOUT: Policy(Action.RESUME, None, f"unless it came no further {STUCK} times in a row"),
    FailureKind.PREEMPTED: Policy(Action.RESUME, None, "it is nobody's fault"),
    FailureKind.NODE: Policy(Action.MOVE, 3, "the node is avoided from then on"),
    FailureKind.STALLED: Policy(
        Action.RESUME,
        3,
        "a hang often passes, and the checkpoint is kept",
        "; log.txt has the stacks of each hang. If it was only slow, set stalled to more in resources or the site file",
    ),
    FailureKind.DISK: Policy(Action.STOP, why="somebody has to make room"),
    FailureKind.DATA: Policy(Action.STOP, why="it would be the same again"),
    FailureKind.CODE: Policy(Action.STOP, why="it would be the same again"),
    FailureKind.DIVERGED: Policy(Action.STOP, why="it would diverge again"),
    FailureKind.PARENT: Policy(Action.STOP, why="its parent comes first"),
}


@dataclass(frozen=True)
class Decision:
    """What is done about one failure."""

    again: bool
    says: str
    """For a person: 'again with accumulate 4 (1 of 3)'."""
    resources: Mapping[str, Any]
    """What the next attempt may use."""
    away: bool = False
    """Whether it must not start on this node again."""


def decide(
    kind: FailureKind,
    earlier: Sequence[Mapping[str, Any]],
    asked: Mapping[str, Any],
    samples: int = 0,
    *,
    elsewhere: bool = True,
) -> Decision:
    """What is done about a failure of this kind, of a run that was `asked` for and had `earlier` failures.

    `samples` is how far it came, by its record; `elsewhere` is whether there are other nodes for it.
    """
    policy, resources = POLICIES[kind], dict(asked.get("resources") or {})
    counted = [failure for failure in since_given_up(earlier) if failure["kind"] == kind]
    times = f" ({len(counted) + 1} of {policy.most})" if policy.most else ""
    if policy.most is not None and len(counted) >= policy.most:
        return Decision(False, f"given up after {policy.most} times{policy.then}", resources)
    match policy.action:
        case Action.STOP:
            return Decision(False, f"given up: {policy.why}", resources)
        case Action.HALVE:
            parts = resources.get("accumulate") or 1
            halved = _parts_of(_rows(asked), at_least=2 * parts)
            if halved is None:
                return Decision(False, "given up: its micro-batch cannot be made smaller", resources)
            return Decision(True, f"again with accumulate {halved}{times}", {**resources, "accumulate": halved})
        case Action.MOVE if elsewhere:
            return Decision(True, f"{policy.action.value}{times}", resources, away=True)
    if kind is FailureKind.TIMEOUT and _is_stuck([*_in_a_row(kind, earlier), samples]):
        return Decision(False, f"given up: it came no further in {STUCK} jobs, so the limit is short", resources)
    return Decision(True, f"{Action.RESUME.value}{times}", resources)


def _is_stuck(samples: Sequence[int]) -> bool:
    """Whether the last attempts came no further than those before. How far one is when it is cut off differs a little,
    also of a run that has no checkpoint and starts from nothing each time."""
    last, before = samples[-STUCK + 1 :], samples[: -STUCK + 1]
    return bool(before) and max(last) <= max(before)


def _in_a_row(kind: FailureKind, failures: Sequence[Mapping[str, Any]]) -> list[int]:
    """How far the run was at its last failures, as far back as they are of this kind."""
    found = itertools.takewhile(lambda failure: failure["kind"] == kind, reversed(since_given_up(failures)))
    return [failure.get("samples") or 0 for failure in found][::-1]


def since_given_up(failures: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The failures after the last one that ended the run for the time being."""
    ended = [at for at, failure in enumerate(failures) if str(failure.get("then", "")).startswith("given up")]
    return list(failures[ended[-1] + 1 if ended else 0 :])


def nodes_to_avoid(failures: Sequence[Mapping[str, Any]]) -> list[str]:
    """The nodes that failed under the run, of late."""
    of_nodes = [failure for failure in since_given_up(failures) if failure["kind"] == FailureKind.NODE]
    return sorted({failure["node"] for failure in of_nodes if failure.get("node")})


def resources_after(asked: Mapping[str, Any], failures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a run may use that was asked for anew: what made it fit into memory before stays."""
    resources = dict(asked.get("resources") or {})
    needed = max((failure.get("accumulate") or 1 for failure in failures), default=1)
    if needed > (resources.get("accumulate") or 1):
        resources["accumulate"] = _parts_of(_rows(asked), at_least=needed) or resources.get("accumulate") or 1
    return resources


def _rows(asked: Mapping[str, Any]) -> int | None:
    """The pairs of a batch that each process of the run computes; None where nothing says how large a batch is."""
    batch = stage(read_settings(asked["settings"])).batch_size
    return None if batch is None else batch // devices_of(asked.get("resources") or {})


def _parts_of(rows: int | None, at_least: int) -> int | None:
    """The smallest number of equal parts, `at_least` so many, that the rows can be split into; None if there is none.

    `rows` of None can be split into any.
    """
    if rows is None:
        return at_least
    return next((parts for parts in range(at_least, rows + 1) if rows % parts == 0), None)
