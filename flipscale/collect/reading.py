"""Finished runs read from their folders; many of them by two processes."""

import itertools
import multiprocessing
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from flipscale.collect import cache
from flipscale.collect.cache import CachedRun, FinishedRun
from flipscale.collect.points import CurvePoints, read_points
from flipscale.collect.rows import as_texts, row_of, why_unreadable
from flipscale.errors import DamagedFile
from flipscale.plan import Plan, Run
from flipscale.run import RunFolder
from flipscale.workspace import RUNS_FOLDER

MANY_TO_READ = 1000
"""From this number of folders on two processes read them: starting these takes as long as reading 50."""

READERS = 2

_RUNS_A_TASK = 25
"""Folders that a process reads for one answer: 1 MB."""

_TASKS_AHEAD = 8
"""Answers that may wait for the one before them: not everything need fit into memory."""

ReadRun = tuple[CachedRun, CurvePoints | None]
"""The known content of a run, and its points; None for a run without a row."""


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

    def read(self, run_id: str, look: FinishedRun) -> ReadRun:
        """The run's row and points, from its folder."""
        run = self.runs[run_id]
        folder = RunFolder(f"{self.results_root}/{RUNS_FOLDER}/{run_id}")
        # The key was taken before the files are read: later writes show the next time.
        key = look.key if cache.is_settled(look.key, self.now) else None
        without_row = CachedRun(look.asked, key, row=None, unknown=[], points=0, torn=0, problem=None)
        try:
            row, unknown = row_of(run, self.study, folder, self.runs)
            # A parent that is not a cell of the study has no row of its own: it is counted in its children's.
            if run.cell is None:
                return without_row, None
            points, torn = read_points(folder)
        except (DamagedFile, OSError, OverflowError) as error:
            return replace(without_row, problem=why_unreadable(folder, error)), None
        return CachedRun(look.asked, key, as_texts(row), list(unknown), len(points), torn, None), points

    def read_all(self, looks: Sequence[tuple[str, FinishedRun]]) -> Iterator[ReadRun]:
        """All of these runs, in their order."""
        if len(looks) < MANY_TO_READ or not sys.platform.startswith("linux"):
            return (self.read(run_id, look) for run_id, look in looks)
        return self._read_by_two(looks)

    def _read_by_two(self, looks: Sequence[tuple[str, FinishedRun]]) -> Iterator[ReadRun]:
        # A forked reader has the plan already; a new process would have to make it.
        fork = multiprocessing.get_context("fork")
        tasks = iter(range(0, len(looks), _RUNS_A_TASK))
        with ProcessPoolExecutor(READERS, fork, initializer=_in_reader.append, initargs=((self, looks),)) as readers:
            answers = deque(readers.submit(_read_in_reader, first) for first in itertools.islice(tasks, _TASKS_AHEAD))
            while answers:
                yield from answers.popleft().result()
                answers.extend(readers.submit(_read_in_reader, first) for first in itertools.islice(tasks, 1))


_in_reader: list[tuple[RunReader, Sequence[tuple[str, FinishedRun]]]] = []
"""In a reading process: what it reads, and how."""


def _read_in_reader(first: int) -> list[ReadRun]:
    reader, looks = _in_reader[-1]
    return [reader.read(run_id, look) for run_id, look in looks[first : first + _RUNS_A_TASK]]
