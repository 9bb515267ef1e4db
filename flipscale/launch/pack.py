"""Which runs belong together: lines of a parent and its children, how long they take, how many share a device."""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence

from flipscale.launch.launcher import Request
from flipscale.launch.site import Site

USABLE = 0.8
"""The share of a GPU's memory that predicted tensors may take: CUDA and the allocator need some too."""

LIMIT_ROOM = 2.0
LIMIT_LEAST = 900
"""A time limit is this multiple of a probe's prediction, and this number of seconds more: nodes differ, file systems
are slow at times, and a job that is ended early has to wait in the queue again."""


def lines_of(requests: Sequence[Request]) -> list[list[Request]]:
    """The requests, each root with all that start from it, in the order of the roots. Parents come first."""
    lines: dict[str, list[Request]] = {}
    for request in requests:
        parent = next((name for name in request.parents if name in lines), None)
        line = lines[request.id] = lines[parent] if parent else []
        line.append(request)
    return list({id(line): line for line in lines.values()}.values())


SCORING_SECONDS = 1800.0
"""About how long a task scores finished weights: a worker opens the sets once for all of its runs."""


def shared_tasks(
    requests: Sequence[Request],
    site: Site,
    key: Callable[[Request], Hashable],
    lanes: Callable[[Sequence[Request]], int],
) -> list[tuple[list[Request], int]]:
    """Tasks of several runs, and how many of them are at once in each: runs that only score, many a task, then lines
    that are short or can share a device. The others are left out.

    key: equal for runs that may share a task. lanes: how many runs like those of a line may be at once.
    """
    limit = site["pack"]["time"]

    def may_share(line: Sequence[Request]) -> bool:
        shares = lanes(line) > 1 and len(line) == 1 if limit is None else seconds_of(line) <= limit
        return shares and len(set(map(key, line))) == 1

    def has_room(task: Sequence[Request], line: Sequence[Request]) -> bool:
        """A task that runs one after another is full when the time is; one that only shares, when each lane has one."""
        at_once = lanes(line)
        runs = [*task, *line]
        return len(runs) <= at_once if limit is None else seconds_of(runs) <= limit * at_once

    scored = _filled(
        ([request] for request in requests if request.only_scores),
        lambda line: (key(line[0]), 1),
        lambda task, line: not SCORING_SECONDS < seconds_of([*task, *line]) < math.inf,
    )
    lines = lines_of([request for request in requests if not request.only_scores])
    return scored + _filled(filter(may_share, lines), lambda line: (key(line[0]), lanes(line)), has_room)


def _filled(
    lines: Iterable[Sequence[Request]],
    key: Callable[[Sequence[Request]], tuple[Hashable, int]],
    has_room: Callable[[Sequence[Request], Sequence[Request]], bool],
) -> list[tuple[list[Request], int]]:
    """Tasks of lines that have the same key and lanes: each line joins the last of these tasks if that has room."""
    tasks: dict[tuple[Hashable, int], list[list[Request]]] = {}
    for line in lines:
        alike = tasks.setdefault(key(line), [[]])
        if alike[-1] and not has_room(alike[-1], line):
            alike.append([])
        alike[-1] += line
    return [(task, lanes) for (_, lanes), alike in tasks.items() for task in alike]


def seconds_of(line: Sequence[Request]) -> float:
    """Seconds that the runs of a chain take one after another, as timed or predicted; infinite if unknown."""
    return sum(map(_seconds, line))


def _seconds(request: Request) -> float:
    asked = request.asked
    if asked.seconds is not None:
        return asked.seconds
    return math.inf if asked.cost is None else 3600 * asked.cost.gpu_hours / request.resources.devices


def limit_of(tasks: Iterable[Sequence[Request]]) -> float:
    """A time limit in seconds for jobs that each do the runs of one of these tasks; infinite unless a probe has timed
    all of these."""
    longest = 0.0
    for task in tasks:
        longest = max(longest, sum(math.inf if run.only_scores else run.asked.seconds or math.inf for run in task))
    return LIMIT_ROOM * longest + LIMIT_LEAST


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
