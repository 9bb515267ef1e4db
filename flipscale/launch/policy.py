"""The answer to a failure, by its kind alone: one table for every launcher.

A failure after which the run starts again goes to its failures.jsonl; one at which it is given up is its error.json.
Counting begins anew if a run was given up and submitted again.
"""

import contextlib
import enum
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from flipscale.errors import DamagedFile
from flipscale.launch.launcher import Attempt
from flipscale.planning.identity import stage
from flipscale.run import FailedAttempt, FailureKind, RunFolder, RunRequest
from flipscale.settings.declarations import Resources
from flipscale.words import count

STUCK = 3
"""A run that was stopped by its time limit this often in a row without progress would never finish."""

LONGER = "write time and time_limit: site into the site file"
"""What gives jobs more time than a probe predicts."""


class Action(enum.Enum):
    RESUME = "resumed"
    HALVE = "again with half the micro-batch"
    MOVE = "resumed, on another node if one takes it"
    STOP = "given up"


@dataclass(frozen=True)
class Policy:
    action: Action
    most: int | None = None
    """The most times; None is without a limit."""
    why: str = ""
    """Why nothing else is done, or why this does no harm."""
    then: str = ""
    """Advice for a person when the limit is reached."""
    progress_counts: bool = False
    """Whether a failure further on than any like it before is a first one again: a run of months loses many nodes."""


POLICIES: Mapping[FailureKind, Policy] = {
    FailureKind.OOM: Policy(
        Action.HALVE,
        3,
        "the global batch does not change, so the result means the same",
        "; give it more memory (memory_per_process in a site file), or a smaller batch",
    ),
    FailureKind.TIMEOUT: Policy(Action.RESUME, None, f"unless it made no progress {STUCK} times in a row"),
    FailureKind.PREEMPTED: Policy(Action.RESUME, None, "it is nobody's fault"),
    FailureKind.NODE: Policy(
        Action.MOVE, 3, "the node is avoided from then on; counted without progress in between", progress_counts=True
    ),
    FailureKind.GPU: Policy(
        Action.MOVE,
        1,
        "an illegal memory access or a failed launch may be the GPU's fault; elsewhere it shows",
        "; it failed on another GPU too, so its code is to blame",
    ),
    FailureKind.STALLED: Policy(
        Action.RESUME,
        3,
        "a hang often passes, and the checkpoint is kept; counted without progress in between",
        "; its log (flipscale logs ID) has the stacks of each hang. If it was only slow, set stalled to more in "
        "resources or the site file",
        progress_counts=True,
    ),
    FailureKind.DISK: Policy(Action.STOP, why="somebody has to free space"),
    FailureKind.DATA: Policy(Action.STOP, why="it would fail again"),
    FailureKind.CODE: Policy(Action.STOP, why="it would fail again"),
    FailureKind.DIVERGED: Policy(Action.STOP, why="it would diverge again"),
    FailureKind.PARENT: Policy(Action.STOP, why="its parent comes first"),
}


@dataclass(frozen=True)
class Decision:
    """The answer to one failure."""

    again: bool
    """Whether the run continues. Otherwise it is given up."""
    says: str
    """For a person: 'again with accumulate 4 (1 of 3)'."""
    resources: Resources
    """The resources of the next attempt."""
    away: bool = False
    """Whether it must not start on this node again."""


def decide(
    kind: FailureKind,
    earlier: Sequence[FailedAttempt],
    asked: RunRequest,
    samples_seen: int = 0,
    *,
    elsewhere: bool = True,
    from_start: bool = False,
) -> Decision:
    """The answer to a failure of this kind, of a run that was `asked` for and had `earlier` failures.

    `samples_seen` is its progress, by its record; `elsewhere` is whether there are other nodes for it; `from_start`
    whether it has no checkpoint to be resumed from.
    """
    policy = POLICIES[kind]
    seen = [failed.samples_seen for failed in since_given_up(earlier) if failed.kind is kind]
    before = _since_progress([*seen, samples_seen]) if policy.progress_counts else len(seen)
    times = f" ({before + 1} of {policy.most})" if policy.most else ""
    if policy.most is not None and before >= policy.most:
        return Decision(False, f"given up after {count(policy.most, 'time')}{policy.then}", asked.resources)
    match policy.action:
        case Action.STOP:
            return Decision(False, f"given up: {policy.why}", asked.resources)
        case Action.HALVE:
            return _halve(asked, times)
        case Action.MOVE if elsewhere:
            return Decision(True, f"{_words(Action.MOVE, from_start)}{times}", asked.resources, away=True)
    says = f"{_words(Action.RESUME, from_start)}{times}"
    if kind is FailureKind.TIMEOUT:
        before_it = _in_a_row(kind, earlier)
        if _is_stuck([*before_it, samples_seen]):
            says = f"given up: it made no progress in {STUCK} jobs, so the limit is too short; {LONGER}"
            return Decision(False, says, asked.resources)
        if samples_seen <= max(before_it, default=0):
            says += f"; it made no progress: {LONGER}"
    return Decision(True, says, asked.resources)


def _words(action: Action, from_start: bool) -> str:
    return action.value.replace("resumed", "started again without a checkpoint") if from_start else action.value


def answer_failure(
    run: RunFolder,
    kind: FailureKind,
    reason: str,
    *,
    at: Attempt | None = None,
    elsewhere: bool = True,
    took: float | None = None,
) -> Decision:
    """Decide the answer to a failure of the run, and write both down, also into its log.

    at: the attempt that failed, if known. took: seconds from its start to the failure, if known.
    """
    asked = run.asked() or RunRequest(run.id, {})
    earlier = run.failures()
    samples_seen = run.reached().progress
    from_start = not has_checkpoint(run, asked)
    decision = decide(kind, earlier, asked, samples_seen, elsewhere=elsewhere, from_start=from_start)
    run.note_failure(
        FailedAttempt(
            kind=kind,
            reason=reason,
            then=decision.says,
            given_up=not decision.again,
            samples_seen=samples_seen,
            job=at.job if at else None,
            attempt=at.number if at else None,
            node=at.node if at else None,
            accumulate=decision.resources.accumulate if kind is FailureKind.OOM and decision.again else None,
            seconds=took,
        )
    )
    where = f" on {at.node}" if at and at.node else ""
    with contextlib.suppress(OSError, DamagedFile):  # The log is for a person; a full disk stops nothing else.
        run.say(f"attempt {len(earlier) + 1}{where} ended ({kind}): {reason.rstrip('.')}; {decision.says}")
    return decision


def has_checkpoint(run: RunFolder, asked: RunRequest) -> bool:
    """Whether another attempt need not begin at the start. A user's own program may keep its state where it likes."""
    return asked.runs_a_command or any((run.path / name).exists() for name in ("checkpoint.pt", "open_clip"))


def _halve(asked: RunRequest, times: str) -> Decision:
    """At most half as large a micro-batch, if there is one."""
    halved = _parts_of(_rows(asked), at_least=2 * asked.resources.accumulate)
    if halved is None:
        return Decision(False, "given up: its micro-batch cannot be made smaller", asked.resources)
    return Decision(True, f"again with accumulate {halved}{times}", replace(asked.resources, accumulate=halved))


def _since_progress(samples: Sequence[int]) -> int:
    """How many failures lie between the last one and the last that was further on than all before it."""
    furthest = max(at for at, here in enumerate(samples) if at == 0 or here > max(samples[:at]))
    return len(samples) - 1 - furthest


def _is_stuck(samples: Sequence[int]) -> bool:
    """Whether the last attempts came no further than those before. How far an attempt is when it is cut off varies a
    little, even for a run without a checkpoint, which starts from scratch each time."""
    last = samples[-STUCK + 1 :]
    before = samples[: -STUCK + 1]
    return bool(before) and max(last) <= max(before)


def _in_a_row(kind: FailureKind, failures: Sequence[FailedAttempt]) -> list[int]:
    """How far the run was at its last failures, as far back as they are of this kind."""
    latest = itertools.takewhile(lambda failed: failed.kind is kind, reversed(since_given_up(failures)))
    return [failed.samples_seen for failed in latest][::-1]


def since_given_up(failures: Sequence[FailedAttempt]) -> list[FailedAttempt]:
    """The failures after the last one that ended the run for the time being."""
    ended = [at for at, failed in enumerate(failures) if failed.given_up]
    return list(failures[ended[-1] + 1 if ended else 0 :])


def nodes_to_avoid(failures: Sequence[FailedAttempt]) -> list[str]:
    """The nodes that have failed under the run since it was last given up."""
    of_nodes = [failed for failed in since_given_up(failures) if failed.kind.may_be_the_nodes]
    return sorted({failed.node for failed in of_nodes if failed.node})


def resources_after(asked: RunRequest, failures: Sequence[FailedAttempt]) -> Resources:
    """The resources of a run that was submitted anew: a change that made it fit into memory before stays."""
    needed = max((failed.accumulate or 1 for failed in failures), default=1)
    parts = asked.resources.accumulate
    if needed <= parts:
        return asked.resources
    return replace(asked.resources, accumulate=_parts_of(_rows(asked), at_least=needed) or parts)


def _rows(asked: RunRequest) -> int | None:
    """The pairs of a batch that each process of the run computes; None where nothing says how large a batch is."""
    if "batch_size" not in asked.settings:
        return None
    return stage(asked.settled).batch_size // asked.resources.devices


def _parts_of(rows: int | None, at_least: int) -> int | None:
    """The smallest number of equal parts, from `at_least` on, that the rows can be split into; None if there is none.

    `rows` of None can be split into any number.
    """
    if rows is None:
        return at_least
    return next((parts for parts in range(at_least, rows + 1) if rows % parts == 0), None)
