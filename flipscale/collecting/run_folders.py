"""Bringing the tables of a study up to date with its run folders.

Rows are always made anew. Points, which take most of the time, are left alone on request where no run has written any
since curves.parquet.
"""

import contextlib
import csv
import functools
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flipscale.collecting.columns import COLUMNS, ResultRow, kept_columns
from flipscale.collecting.rows import row_of, why_unreadable
from flipscale.errors import DamagedFile, RunFolderError
from flipscale.guard import make_folder
from flipscale.plain_files import or_none, read_bytes, replacing
from flipscale.planning.runs import Plan, Run
from flipscale.run import RunFolder, State
from flipscale.workspace import CURVES_TABLE, RESULTS_TABLE, RUNS_FOLDER

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True)
class Collected:
    """The outcome of `collect`: the rows that it found, and the runs without one."""

    files: tuple[Path, Path]
    """results.csv and curves.parquet."""
    rows: int
    """Rows of results.csv."""
    states: Mapping[str, int]
    """Runs of the plan by state, `unreadable` among them; the counts add up to the plan."""
    torn_lines: int
    """Lines of metrics.jsonl left out because they were cut off."""
    problems: Mapping[str, str]
    """Run id -> the sentence that says why its folder could not be read."""
    unknown_scores: tuple[str, ...]
    """Scores in some result.json that have no column; their points are in the curves."""
    changed: int
    """Rows that are new, or other than they were in results.csv."""
    new: int
    written: bool
    """Whether the files were written; else they are unchanged."""

    @functools.cached_property
    def results(self) -> "pd.DataFrame":
        """results.csv, one row per finished run, columns as COLUMNS."""
        from flipscale.collecting.study_table import read_results

        return read_results(self.files[0])

    @functools.cached_property
    def curves(self) -> "pd.DataFrame":
        """curves.parquet, one row per point: id, step, samples, seconds (of training so far), metric, value, time."""
        from flipscale.collecting.points import read_curves

        return read_curves(self.files[1])


def collect(
    planned: Plan,
    results_root: Path,
    out: Path,
    *,
    kept_rows: int | None = None,
    trust_curves: bool = False,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Collected:
    """Bring out/results.csv and out/curves.parquet up to date with the folders of the plan's runs.

    A folder that is torn or foreign is named in `problems`. Raises RunFolderError for one written by a newer flipscale:
    its row would be silently missing from every later collect as well.

    kept_rows: leave the tables as they are, with this many rows.
    trust_curves: leave curves.parquet as it is, and count no torn lines, where it is younger than the metrics of the
    runs and results.csv has them all.
    progress: called with the number of finished runs done, and their total.
    """
    files = (out / RESULTS_TABLE, out / CURVES_TABLE)
    folders = {run.id: RunFolder(f"{results_root}/{RUNS_FOLDER}/{run.id}") for run in planned.runs}
    finished, states, problems = _look(planned, folders)
    if kept_rows is not None:
        states |= {State.FINISHED: len(finished), "unreadable": len(problems)}
        return Collected(files, kept_rows, states, 0, problems, (), 0, 0, written=False)
    by_id = {run.id: run for run in planned.runs}
    rows: dict[str, ResultRow] = {}
    unknown: set[str] = set()
    for run in finished:
        try:
            row, without_column = row_of(run, planned.study, folders[run.id], by_id)
        except (DamagedFile, OSError, OverflowError) as error:
            problems[run.id] = why_unreadable(folders[run.id], error)
            continue
        # A parent that is not a cell of the study has no row of its own: it is counted in its children's.
        if run.cell is not None:
            rows[run.id] = row
            unknown.update(without_column)
    make_folder(out)
    before = or_none(read_bytes, files[0]) or b""
    known = _by_id(before)
    written = False
    torn = 0
    if not (trust_curves and list(known) == list(rows) and _are_older(map(folders.__getitem__, rows), than=files[1])):
        # pyarrow takes longer to load than the rest of the package.
        from flipscale.collecting.points import read_points, write_curves

        def points() -> "Iterator[tuple[str, pa.Table]]":
            nonlocal torn
            for number, name in enumerate(list(rows)):
                progress(number + 1, len(rows))
                try:
                    of_run, torn_lines = read_points(folders[name])
                except (DamagedFile, OSError, OverflowError) as error:
                    problems[name] = why_unreadable(folders[name], error)
                    del rows[name]
                    continue
                torn += torn_lines
                yield name, of_run

        written = write_curves(files[1], points())
    table = _table_of(list(rows.values()))
    changed = new = 0
    if table != before:
        written = True
        changed = sum(known.get(name) != row for name, row in _by_id(table).items())
        new = sum(name not in known for name in rows)
        with replacing(files[0]) as file:
            file.write(table)
    problems = {run.id: problems[run.id] for run in planned.runs if run.id in problems}
    states |= {State.FINISHED: len(finished) - sum(run.id in problems for run in finished), "unreadable": len(problems)}
    return Collected(files, len(rows), states, torn, problems, tuple(sorted(unknown)), changed, new, written)


def _look(planned: Plan, folders: Mapping[str, RunFolder]) -> tuple[list[Run], dict[str, int], dict[str, str]]:
    """The runs that have a result, the number of others by state, and why some folders cannot even be looked at."""
    finished = []
    states = dict.fromkeys(map(str, State), 0)
    problems = {}
    for run in planned.runs:
        folder = folders[run.id]
        if os.path.lexists(f"{os.fspath(folder)}/result.json"):
            finished.append(run)
            continue
        try:
            # No launcher is asked here, so a job nobody works on counts as waiting; `status` finds the lost ones.
            glance = folder.glance()
            if glance.problem:
                raise RunFolderError(glance.problem)
            states[glance.state(State.WAITING)] += 1
        except (RunFolderError, OSError) as error:
            problems[run.id] = why_unreadable(folder, error)
    return finished, states, problems


def _are_older(folders: Iterable[RunFolder], than: Path) -> bool:
    """Whether this file is there, and younger than the points of all these runs."""
    written = than.stat().st_mtime_ns if than.exists() else 0
    metrics = filter(Path.exists, (run.path / "metrics.jsonl" for run in folders))
    return all(path.stat().st_ctime_ns < written for path in metrics)  # A ctime, unlike an mtime, cannot be given.


def _table_of(rows: list[ResultRow]) -> bytes:
    """results.csv: the columns of COLUMNS, then those of evaluation sets and trunks by name; missing values are
    empty."""
    of_sets = sorted({name for row in rows for name in row if name not in COLUMNS})
    names = kept_columns({name: [row.get(name) for row in rows] for name in (*COLUMNS, *of_sets)})
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([names, *([row.get(name) for name in names] for row in rows)])
    return text.getvalue().encode()


def _by_id(table: bytes) -> dict[str | None, dict[str, str]]:
    """The rows of a results.csv as text; those before the first fault of a damaged one."""
    rows: dict[str | None, dict[str, str]] = {}
    with contextlib.suppress(csv.Error):
        for row in csv.DictReader(io.StringIO(table.decode(errors="replace"), newline="")):
            rows[row.get("id")] = row
    return rows
