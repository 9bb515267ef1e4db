"""Reading what has changed, and writing the tables whole: rows and points of the other runs are taken from before."""

import csv
import gc
import io
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from flipscale.collect import before
from flipscale.collect.before import Entry, Finished, Summary
from flipscale.collect.columns import COLUMNS
from flipscale.collect.curves import Curves, open_curves, write_curves
from flipscale.collect.points import Points, read_points
from flipscale.collect.rows import PlannedRun, row_of, why_unreadable
from flipscale.errors import RunFolderError
from flipscale.run import RunFolder, replacing
from flipscale.workspace import Workspace


def update(
    planned: Mapping[str, PlannedRun], results_root: Path, files: tuple[Path, Path], finished: Mapping[str, Finished]
) -> tuple[Summary, int]:
    """Write both tables of these finished runs; what is to be said of them, and how many folders were read."""
    out = files[0].parent
    out.mkdir(parents=True, exist_ok=True)
    now = before.file_system_now(out)
    summary, old = before.read_entries(out)
    with ExitStack() as stack:
        # Records are in no circle of references: looking for circles among them takes a seventh of the time.
        stack.enter_context(_no_garbage_collection())
        curves = None
        if summary is not None and summary.tables[1] == before.stat_key(str(files[1])):
            curves = stack.enter_context(open_curves(files[1]))
        reader = _Reader(planned, results_root, finished, old, curves, now)
        write_curves(files[1], reader.runs())
    with replacing(files[0]) as file:
        _write_rows(file, [entry.row for entry in reader.entries.values() if entry.row is not None])
    entries = reader.entries
    summary = Summary(
        digest=before.digest(finished) if all(entry.key is not None for entry in entries.values()) else None,
        tables=before.table_keys(files),
        rows=sum(entry.row is not None for entry in entries.values()),
        finished=sum(entry.problem is None for entry in entries.values()),
        torn=sum(entry.torn for entry in entries.values()),
        problems={run_id: entry.problem for run_id, entry in entries.items() if entry.problem is not None},
        unknown=sorted({name for entry in entries.values() for name in entry.unknown}),
    )
    before.write_entries(out, summary, entries)
    return summary, reader.read


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class _Reader:
    """Goes through finished runs in their order, and reads those that have changed."""

    def __init__(
        self,
        planned: Mapping[str, PlannedRun],
        results_root: Path,
        finished: Mapping[str, Finished],
        old: Mapping[str, Entry],
        curves: Curves | None,
        now: int,
    ):
        self.planned, self.results_root, self.finished, self.now = planned, results_root, finished, now
        self.old, self.curves = old, curves
        self.entries: dict[str, Entry] = {}
        """What is known of the runs gone through so far."""
        self.read = 0

    def runs(self) -> Iterator[tuple[str, Points]]:
        """The runs that have a row, and their points."""
        for run_id, look in self.finished.items():
            entry = self.old.get(run_id)
            if entry is not None and (entry.key, entry.asked) == (look.key, look.asked):
                if entry.row is None:
                    self.entries[run_id] = entry
                    continue
                points = self.curves.points(run_id) if self.curves is not None else None
                if points is not None and len(points) == entry.points:
                    self.entries[run_id] = entry
                    yield run_id, points
                    continue
            self.entries[run_id], points = self._read(run_id, look)
            if points is not None:
                yield run_id, points

    def _read(self, run_id: str, look: Finished) -> tuple[Entry, Points | None]:
        """The run's row and points, from its folder."""
        self.read += 1
        run = self.planned[run_id]
        folder = RunFolder(Workspace(self.results_root).run(run_id))
        # The key was taken before the files are read: what is written to them meanwhile shows the next time.
        key = look.key if before.is_settled(look.key, self.now) else None
        entry = Entry(look.asked, key, row=None, unknown=[], points=0, torn=0, problem=None)
        try:
            row, unknown = row_of(run, folder, self.planned)
            # A parent that is no cell of the study is no row of its own: it is counted in its children's.
            if run["cell"] is None:
                return entry, None
            points, torn = read_points(folder)
        except (RunFolderError, OSError, OverflowError, RecursionError) as error:
            return Entry(**vars(entry) | {"problem": why_unreadable(folder, error)}), None
        return Entry(look.asked, key, row, list(unknown), len(points), torn, None), points


def _write_rows(file: Any, rows: list[dict[str, Any]]) -> None:
    """results.csv: the columns of COLUMNS, then those of evaluation sets by name; what is missing is empty."""
    of_sets = sorted({name for row in rows for name in row if name not in COLUMNS})
    names = [*COLUMNS, *of_sets]
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([row.get(name) for name in names] for row in rows)
    text.detach()
