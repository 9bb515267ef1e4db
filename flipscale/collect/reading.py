"""Finished runs read from their folders; many of them by two processes."""

import itertools
import multiprocessing
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from flipscale.collect import cache
from flipscale.collect.cache import FILES_READ, CachedRun, FinishedRun
from flipscale.collect.points import CurvePoints, cut, joined, points_by_records, quick_points, read_metrics
from flipscale.collect.rows import as_texts, row_of, why_unreadable
from flipscale.errors import DamagedFile
from flipscale.plan import Plan, Run
from flipscale.run import RunFolder
from flipscale.workspace import RUNS_FOLDER

MANY_TO_READ = 1000
"""From this number of folders on two processes read them: starting these takes as long as reading 50."""

READERS = 2

_RUNS_A_TASK = 25
"""Folders that are read together, at most."""

_BYTES_A_TASK = 2**22
"""A task has no further folder from this size of metrics.jsonl on, as its files are in memory together."""

_TASKS_AHEAD = 8
"""Answers that may wait for the one before them: not everything need fit into memory."""

ReadRun = tuple[CachedRun, CurvePoints | None]
"""The known content of a run, and its points; None for a run without a row."""

FolderLook = tuple[str, FinishedRun]
"""A run's id, and the look at its folder."""


class _FolderRead(NamedTuple):
    """What was read of a folder, its points still as text."""

    row: dict[str, str] | None = None
    unknown: Sequence[str] = ()
    metrics: bytes | None = None
    problem: str | None = None


@dataclass(frozen=True)
class RunReader:
    """Reads finished runs of a study."""

    study: str
    runs: Mapping[str, Run]
    """All runs of the plan, by id."""
    results_root: Path
    now: int
    """When reading began, by the clock of the file system, in ns."""

    @classmethod
    def of(cls, planned: Plan, results_root: Path, now: int) -> "RunReader":
        return cls(planned.study, {run.id: run for run in planned.runs}, results_root, now)

    def read(self, looks: Sequence[FolderLook]) -> list[ReadRun]:
        """The rows and points of these runs, from their folders. All their metrics.jsonl are in memory at a time."""
        found = [self._read_folder(self._folder(run_id), self.runs[run_id]) for run_id, _ in looks]
        points = iter(quick_points([folder.metrics for folder in found if folder.metrics is not None]))
        return [
            self._with_points(look, folder, None if folder.metrics is None else next(points))
            for look, folder in zip(looks, found, strict=True)
        ]

    def _folder(self, run_id: str) -> RunFolder:
        return RunFolder(f"{self.results_root}/{RUNS_FOLDER}/{run_id}")

    def _read_folder(self, folder: RunFolder, run: Run) -> _FolderRead:
        try:
            row, unknown = row_of(run, self.study, folder, self.runs)
            # A parent that is not a cell of the study has no row of its own: it is counted in its children's.
            return _FolderRead() if run.cell is None else _FolderRead(as_texts(row), unknown, read_metrics(folder))
        except (DamagedFile, OSError, OverflowError) as error:
            return _FolderRead(problem=why_unreadable(folder, error))

    def _with_points(self, look: FolderLook, found: _FolderRead, points: CurvePoints | None) -> ReadRun:
        torn = 0
        if points is None and found.metrics is not None:
            folder = self._folder(look[0])
            try:
                points, torn = points_by_records(folder)
            except (DamagedFile, OSError, OverflowError) as error:
                found = _FolderRead(problem=why_unreadable(folder, error))
        asked, files = look[1]
        # The key was taken before the files are read: later writes show the next time.
        key = files if cache.is_settled(files, self.now) else None
        count = 0 if points is None else len(points)
        return CachedRun(asked, key, found.row, list(found.unknown), count, torn, found.problem), points

    def read_all(self, looks: Sequence[FolderLook]) -> Iterator[ReadRun]:
        """All of these runs, in their order."""
        if len(looks) < MANY_TO_READ or not sys.platform.startswith("linux"):
            return itertools.chain.from_iterable(self.read(looks[task]) for task in _tasks(looks))
        return self._read_by_two(looks)

    def _read_by_two(self, looks: Sequence[FolderLook]) -> Iterator[ReadRun]:
        # A forked reader has the plan already; a new process would have to make it.
        fork = multiprocessing.get_context("fork")
        tasks = _tasks(looks)
        with ProcessPoolExecutor(READERS, fork, initializer=_in_reader.append, initargs=((self, looks),)) as readers:
            answers = deque(readers.submit(_read_in_reader, task) for task in itertools.islice(tasks, _TASKS_AHEAD))
            while answers:
                yield from _unpacked(answers.popleft().result())
                answers.extend(readers.submit(_read_in_reader, task) for task in itertools.islice(tasks, 1))


def _tasks(looks: Sequence[FolderLook]) -> Iterator[slice]:
    """Which runs are read together."""
    first = size = 0
    for place, (_, look) in enumerate(looks):
        metrics = look.key[FILES_READ.index("metrics.jsonl")]
        size += 0 if metrics is None else metrics[0]
        if size >= _BYTES_A_TASK or place + 1 - first == _RUNS_A_TASK:
            yield slice(first, place + 1)
            first, size = place + 1, 0
    if first < len(looks):
        yield slice(first, len(looks))


_in_reader: list[tuple[RunReader, Sequence[FolderLook]]] = []
"""In a reading process: what it reads, and how."""


class _Answer(NamedTuple):
    """Runs as a reading process sends them: the points of all in one, as each array takes time to send."""

    runs: list[CachedRun]
    points: CurvePoints
    records: list[int | None]
    """The number of records of each run in `points`; None for a run without a row."""


def _read_in_reader(task: slice) -> _Answer:
    reader, looks = _in_reader[-1]
    read = reader.read(looks[task])
    return _Answer(
        [run for run, _ in read],
        joined([points for _, points in read if points is not None]),
        [None if points is None else len(points.steps) for _, points in read],
    )


def _unpacked(answer: _Answer) -> Iterator[ReadRun]:
    parts = cut(answer.points, [count for count in answer.records if count is not None])
    for run, count in zip(answer.runs, answer.records, strict=True):
        yield run, None if count is None else next(parts)
