"""Bringing the tables of a study up to date with its run folders.

    .collected   beside results.csv: the time stamps of the files whose points are in curves.parquet, by run

Rows are always made anew; points, which take most of the time, are read again only of files that have changed. The
file may be deleted at any time. A damaged one counts as missing: then everything is read again.
"""

import csv
import functools
import io
import os
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flipscale.collecting.columns import COLUMNS, ResultRow, is_left_out
from flipscale.collecting.rows import row_of, why_unreadable
from flipscale.errors import DamagedFile, RunFolderError
from flipscale.plain_files import file_system_now, or_none, read_bytes, read_json
from flipscale.planning import Plan, Run
from flipscale.run import RunFolder, State, replacing, write_json
from flipscale.workspace import CURVES_TABLE, RESULTS_TABLE, RUNS_FOLDER

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

STAMPS_FILE = ".collected"

_TICK_NS, _COARSE_NS = 50_000_000, 2_000_000_000
"""A file system gives two writes the same time within a tick of its clock, which is 1 to 10 ms; or keeps whole
seconds."""

_FILES_READ = ("run.json", "result.json", "metrics.jsonl", "scores.json")

Stamp = list[int]
"""Size, times and inode of a file; empty if missing. ctime differs even if size and mtime were made to look alike."""


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
    read: int
    """Finished runs that have changed since the last time."""
    new: int
    """How many of them were not read before."""
    written: bool
    """Whether the files were written; else they are unchanged."""

    @functools.cached_property
    def results(self) -> "pd.DataFrame":
        """results.csv, one row per finished run, columns as COLUMNS."""
        from flipscale.collecting.tables import read_results

        return read_results(self.files[0])

    @functools.cached_property
    def curves(self) -> "pd.DataFrame":
        """curves.parquet, one row per point: id, step, samples, seconds (of training so far), metric, value, time."""
        from flipscale.collecting.tables import read_curves

        return read_curves(self.files[1])


class _RunStamp(NamedTuple):
    """The files of a finished run as they were when they were read, in the order of curves.parquet."""

    files: list[Stamp]
    """Empty if they were so new that a later write might not show."""
    torn: int = 0
    """Lines of metrics.jsonl left out."""
    problem: str = ""
    """Why metrics.jsonl could not be read."""


def collect(
    planned: Plan,
    results_root: Path,
    out: Path,
    *,
    kept_rows: int | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Collected:
    """Bring out/results.csv and out/curves.parquet up to date with the folders of the plan's runs.

    A folder that is torn or foreign is named in `problems`. Raises RunFolderError for one written by a newer flipscale:
    its row would be silently missing from every later collect as well.

    kept_rows: leave the tables as they are, with this many rows.
    progress: called with the number of finished runs done, and their total.
    """
    files = (out / RESULTS_TABLE, out / CURVES_TABLE)
    folders = {run.id: RunFolder(f"{results_root}/{RUNS_FOLDER}/{run.id}") for run in planned.runs}
    finished, states, problems = _look(planned, folders)
    if kept_rows is not None:
        states |= {State.FINISHED: len(finished), "unreadable": len(problems)}
        return Collected(files, kept_rows, states, 0, problems, (), 0, 0, written=False)
    out.mkdir(parents=True, exist_ok=True)
    now, known = file_system_now(out), or_none(read_json, out / STAMPS_FILE, _Stamps) or _Stamps()
    curves, before = known.curves, known.runs
    by_id = {run.id: run for run in planned.runs}
    rows: dict[str, ResultRow] = {}
    stamps: dict[str, _RunStamp] = {}
    unknown: set[str] = set()
    for run in finished:
        path = os.fspath(folders[run.id])
        stamp = _RunStamp([file_stamp(f"{path}/{name}") for name in _FILES_READ])
        try:
            row, without_column = row_of(run, planned.study, folders[run.id], by_id)
        except (DamagedFile, OSError, OverflowError) as error:
            problems[run.id] = why_unreadable(folders[run.id], error)
            continue
        # A parent that is not a cell of the study has no row of its own: it is counted in its children's.
        if run.cell is not None:
            rows[run.id], stamps[run.id] = row, stamp
            unknown.update(without_column)
    changed = {name for name, stamp in stamps.items() if name not in before or before[name].files != stamp.files}
    stays = not changed and list(stamps) == list(before) and curves == file_stamp(files[1])
    if stays:
        stamps = before
    else:
        _write_curves(files[1], folders, stamps, {} if curves != file_stamp(files[1]) else before, changed, progress)
    unreadable = {name: stamp.problem for name, stamp in stamps.items() if stamp.problem}
    problems |= unreadable
    rows = {name: row for name, row in rows.items() if name not in unreadable}
    written = _write_rows(files[0], list(rows.values())) or not stays
    if not stays:
        kept = {name: stamp if _is_settled(stamp, now) else stamp._replace(files=[]) for name, stamp in stamps.items()}
        write_json(out / STAMPS_FILE, {"curves": file_stamp(files[1]), "runs": kept}, flush=False)
    problems = {run.id: problems[run.id] for run in planned.runs if run.id in problems}
    states |= {State.FINISHED: len(finished) - sum(run.id in problems for run in finished), "unreadable": len(problems)}
    torn = sum(stamp.torn for stamp in stamps.values())
    new, names = len(changed - before.keys()), tuple(sorted(unknown))
    return Collected(files, len(rows), states, torn, problems, names, len(changed), new, written)


def _look(planned: Plan, folders: Mapping[str, RunFolder]) -> tuple[list[Run], dict[str, int], dict[str, str]]:
    """The runs that have a result, the number of others by state, and why some folders cannot even be looked at."""
    finished, states, problems = [], dict.fromkeys(map(str, State), 0), {}
    for run in planned.runs:
        folder = folders[run.id]
        if file_stamp(f"{os.fspath(folder)}/result.json"):
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


def _write_rows(path: Path, rows: list[ResultRow]) -> bool:
    """Write results.csv: the columns of COLUMNS, then those of evaluation sets and trunks by name; missing values are
    empty. False if it is so already."""
    of_sets = sorted({name for row in rows for name in row if name not in COLUMNS})
    names = [*(name for name in COLUMNS if not is_left_out(name, (row[name] for row in rows))), *of_sets]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([names, *([row.get(name) for name in names] for row in rows)])
    data = text.getvalue().encode()
    if or_none(read_bytes, path) == data:
        return False
    with replacing(path) as file:
        file.write(data)
    return True


def _write_curves(
    path: Path,
    folders: Mapping[str, RunFolder],
    stamps: dict[str, _RunStamp],
    before: Mapping[str, _RunStamp],
    changed: Container[str],
    progress: Callable[[int, int], None],
) -> None:
    """Write curves.parquet with the points of `stamps`; those of runs that have not changed are taken from it.

    before: what is in curves.parquet. stamps: gets the torn lines and problems of the runs that are read.
    """
    # It takes longer to import than to see that nothing has changed.
    from flipscale.collecting.curves import points_by_run, read_points, write_curves

    known = points_by_run(path) if before and any(name not in changed for name in stamps) else {}

    def points() -> "Iterator[tuple[str, pa.Table]]":
        for number, (name, stamp) in enumerate(list(stamps.items())):
            progress(number + 1, len(stamps))
            if name in before and name not in changed:
                stamps[name] = before[name]
                if name in known:
                    yield name, known[name]
                if name in known or before[name].problem:
                    continue
            try:
                found, torn = read_points(folders[name])
            except (DamagedFile, OSError, OverflowError) as error:
                stamps[name] = stamp._replace(problem=why_unreadable(folders[name], error))
                continue
            stamps[name] = stamp._replace(torn=torn)
            yield name, found

    write_curves(path, points())


# Time stamps


def file_stamp(path: str | Path) -> Stamp:
    try:
        found = os.stat(path)  # noqa: PTH116  a Path costs more than it says where there are 30,000 files
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:  # a link to itself, for example: its reader will say what it is
        found = os.lstat(path)
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _is_settled(stamp: _RunStamp, now_ns: int) -> bool:
    """Whether a write from now on would show. `now_ns` is by the clock of the file system."""
    latest = [max(file[1:3]) for file in stamp.files if file]
    return all(time + (_TICK_NS if time % 1_000_000_000 else _COARSE_NS) <= now_ns for time in latest)


@dataclass(frozen=True)
class _Stamps:
    """The stamp of curves.parquet as it was written, and those of the runs in it."""

    curves: Stamp = field(default_factory=list)
    runs: dict[str, _RunStamp] = field(default_factory=dict)
