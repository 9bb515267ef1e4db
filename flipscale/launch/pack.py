"""Which runs belong together: lines of a parent and its children, how long they take, how many share a device."""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from flipscale.launch.launcher import Request, by_resources
from flipscale.launch.site import Site

USABLE = 0.8
"""The share of a GPU's memory that predicted tensors may take: CUDA and the allocator need some too."""

LIMIT_ROOM, LIMIT_LEAST = 2.0, 900
"""A time limit is this multiple of a probe's prediction, plus this number of seconds: nodes differ, file systems are
slow at times, and a job that is ended early has to wait in the queue again."""


def lines_of(requests: Sequence[Request]) -> list[list[Request]]:
    """The requests, each root with all that start from it, in the order of the roots."""
    ids = {request.id for request in requests}
    roots: dict[str, str] = {}
    lines: dict[str, list[Request]] = {}
    waiting = list(requests)
    while waiting:
        for request in waiting:
            parent = next((name for name in request.parents if name in ids), None)
            if parent is None or parent in roots:
                roots[request.id] = roots[parent] if parent else request.id
                lines.setdefault(roots[request.id], []).append(request)
        left = [request for request in waiting if request.id not in roots]
        assert len(left) < len(waiting), "a run is not an ancestor of its own"
        waiting = left
    return list(lines.values())


SCORING_SECONDS = 1800.0
"""About how long a task scores finished weights: a worker opens the sets once for all of its runs."""


def filled(
    lines: Iterable[Sequence[Request]],
    key: Callable[[Sequence[Request]], Hashable],
    has_room: Callable[[Sequence[Request], Sequence[Request]], bool],
) -> dict[Any, list[list[Request]]]:
    """Tasks of lines that have the same key, by it: each line joins the last task if that has room for it."""
    tasks: dict[Any, list[list[Request]]] = {}
    for line in lines:
        alike = tasks.setdefault(key(line), [[]])
        if alike[-1] and not has_room(alike[-1], line):
            alike.append([])
        alike[-1] += line
    return tasks


def scoring_tasks(requests: Iterable[Request]) -> list[list[Request]]:
    """Those requests that only score, many a task, with equal resources."""
    groups = filled(
        ([request] for request in requests if request.only_scores),
        lambda line: by_resources(line[0]),
        lambda task, line: not SCORING_SECONDS < seconds_of([*task, *line]) < math.inf,
    )
    return [task for tasks in groups.values() for task in tasks]


def seconds_of(line: Sequence[Request]) -> float:
    """Seconds that the runs of a chain take one after another, as timed or predicted; infinite if unknown."""
    return sum(map(_seconds, line))


def _seconds(request: Request) -> float:
    asked = request.asked
    if asked.seconds is not None:
        return asked.seconds
    return math.inf if asked.cost is None else 3600 * asked.cost.gpu_hours / request.resources.devices


def limit_of(tasks: Iterable[Sequence[Request]], lanes: int) -> int | None:
    """A time limit in seconds for jobs that each do the runs of one of these tasks; None unless a probe has timed them
    all: a limit from a prediction would end runs that are only slower than predicted.

    Each of the `lanes` of a job takes up the next run, so the longest run may come last.
    """
    longest = 0.0
    for task in tasks:
        seconds = [request.asked.seconds for request in task]
        timed = [each for each in seconds if each is not None]
        if not timed or len(timed) < len(seconds):
            return None
        longest = max(longest, sum(timed) / lanes + (max(timed) if lanes > 1 else 0))
    return 60 * math.ceil((LIMIT_ROOM * longest + LIMIT_LEAST) / 60)


def share_of(line: Sequence[Request], site: Site) -> int:
    """How many runs like these may be on the devices of one at once."""
    pack = site["pack"]
    if not line[0].resources.gpus or pack["device_memory"] is None:
        return int(pack["share"])
    memory = bytes_of(pack["device_memory"])
    needed = max((request.asked.cost and request.asked.cost.memory_bytes) or memory for request in line)
    return max(1, min(int(pack["share"]), int(USABLE * memory / needed)))


def bytes_of(memory: str) -> int:
    """An amount of memory as a site file has it, 32G."""
    return int(int(memory[:-1]) * 1024 ** ("KMGT".index(memory[-1]) + 1))
