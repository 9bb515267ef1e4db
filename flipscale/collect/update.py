"""Reading the runs that have changed, and writing the tables whole: the other runs come from the cache."""

import csv
import gc
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from flipscale.collect import cache
from flipscale.collect.cache import CachedRun, CachedSummary, FinishedRun
from flipscale.collect.columns import COLUMNS
from flipscale.collect.curves import Curves, open_curves, write_curves
from flipscale.collect.points import CurvePoints
from flipscale.collect.reading import ReadRun, RunReader
from flipscale.plain_files import file_system_now
from flipscale.plan import Plan
from flipscale.run import replacing


class ReadCount(NamedTuple):
    """Folders read to bring the tables up to date."""

    read: int
    new: int
    """The number of them that were not read before."""


def update(
    planned: Plan,
    results_root: Path,
    files: tuple[Path, Path],
    finished: Mapping[str, FinishedRun],
    progress: Callable[[int, int], None] = lambda *_: None,
) -> tuple[CachedSummary, ReadCount]:
    """Write both tables of these finished runs; returns remarks on them, and the number of folders read.

    progress: called with the number of runs done, and their total.
    """
    out = files[0].parent
    out.mkdir(parents=True, exist_ok=True)
    now = file_system_now(out)
    last, cached = cache.read_all(out)
    with ExitStack() as stack:
        # Records are in no reference cycle: looking for cycles among them takes a seventh of the time.
        stack.enter_context(_no_garbage_collection())
        curves = None
        if last is not None and last.tables[1] == cache.stat_key(str(files[1])):
            curves = stack.enter_context(open_curves(files[1]))
        reader = _ChangedRuns(RunReader.of(planned, results_root, now), finished, _Cached(cached, curves))
        write_curves(files[1], reader.runs(progress))
    with replacing(files[0]) as file:
        _write_rows(file, [run.row for run in reader.known.values() if run.row is not None])
    digest = cache.digest_of(finished) if all(run.key is not None for run in reader.known.values()) else None
    summary = _summary(reader.known, digest, files)
    cache.write_all(out, summary, reader.known)
    return summary, ReadCount(reader.read, len(reader.new))


def _summary(runs: Mapping[str, CachedRun], digest: str | None, files: tuple[Path, Path]) -> CachedSummary:
    return CachedSummary(
        digest=digest,
        tables=cache.table_keys(files),
        rows=sum(run.row is not None for run in runs.values()),
        finished=sum(run.problem is None for run in runs.values()),
        torn=sum(run.torn for run in runs.values()),
        problems={run_id: run.problem for run_id, run in runs.items() if run.problem is not None},
        unknown=sorted({name for run in runs.values() for name in run.unknown}),
    )


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class _Cached:
    """The content that was read the last time."""

    def __init__(self, runs: Mapping[str, CachedRun], curves: Curves | None):
        self._runs, self._curves = runs, curves

    def knows(self, run_id: str) -> bool:
        """Whether the run was read before."""
        return run_id in self._runs

    def has(self, run_id: str, look: FinishedRun) -> bool:
        """Whether the run is as it was, and its points are there if it has a row."""
        run = self._runs.get(run_id)
        if run is None or (run.key, run.asked) != (look.key, look.asked):
            return False
        return run.row is None or self._curves is not None

    def find(self, run_id: str) -> ReadRun | None:
        """The run and its points, none for one without a row; None if its points are lost."""
        run = self._runs[run_id]
        if run.row is None or self._curves is None:
            return run, None
        points = self._curves.points(run_id)
        return None if len(points) != run.points else (run, points)


class _ChangedRuns:
    """Goes through finished runs in their order, and reads those that have changed."""

    def __init__(self, reader: RunReader, finished: Mapping[str, FinishedRun], cached: _Cached):
        self._reader, self._finished, self._cached = reader, finished, cached
        self.known: dict[str, CachedRun] = {}
        """The known content of the runs handled so far."""
        self.read = 0
        """Folders read."""
        self.new = {run_id for run_id in finished if not cached.knows(run_id)}
        """Runs of which nothing was known."""

    def runs(self, progress: Callable[[int, int], None]) -> Iterator[tuple[str, CurvePoints]]:
        """The runs that have a row, and their points."""
        changed = {run_id: look for run_id, look in self._finished.items() if not self._cached.has(run_id, look)}
        read = self._reader.read_all(list(changed.items()))
        for run_id, look in self._finished.items():
            found = next(read) if run_id in changed else self._cached.find(run_id)
            self.read += run_id in changed or found is None
            self.known[run_id], points = found or self._reader.read([(run_id, look)])[0]
            progress(len(self.known), len(self._finished))
            if points is not None:
                yield run_id, points


def _write_rows(file: IO[bytes], rows: list[dict[str, str]]) -> None:
    """results.csv: the columns of COLUMNS, then those of evaluation sets by name; missing values are empty."""
    of_sets = sorted({name for row in rows for name in row if name not in COLUMNS})
    names = [*COLUMNS, *of_sets]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([names, *([row.get(name, "") for name in names] for row in rows)])
    file.write(text.getvalue().encode())
