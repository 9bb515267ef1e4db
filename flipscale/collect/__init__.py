"""One row per finished run: run folders in, results.csv and curves.parquet out.

    results.csv      one row per finished run, in the order of the plan; its columns are COLUMNS, missing is empty
    curves.parquet   every point of every finished run's metrics.jsonl: id, step, samples, seconds, metric, value, time

The same run folders give byte-identical files, whether all are read or only those that have changed since the last
time: nothing here reads a clock, and floats are written as their shortest decimal that reads back the same. A folder
that cannot be read is left out by name, never in silence.

columns.py   what results.csv has
rows.py      a run folder's row
points.py    a run folder's points
curves.py    curves.parquet, a few hundred runs at a time
before.py    what was read before and has not changed
update.py    reading what has changed, and writing the tables
tables.py    the tables as DataFrames
"""

import functools
import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flipscale.collect import before
from flipscale.collect.before import Finished
from flipscale.collect.columns import (
    COLUMNS,
    DTYPES,
    SETTINGS,
    Column,
    Kind,
    columns_as_markdown,
    is_table,
    setting_value,
)
from flipscale.collect.rows import PlannedRun, why_unreadable
from flipscale.errors import RunFolderError
from flipscale.run import RunFolder, State
from flipscale.workspace import CURVES_TABLE, RESULTS_TABLE, RUNS_FOLDER

if TYPE_CHECKING:
    import pandas as pd

    from flipscale.collect.tables import read_curves, read_results, read_table, results

__all__ = [
    "COLUMNS",
    "DTYPES",
    "SETTINGS",
    "Collected",
    "Column",
    "Kind",
    "collect",
    "columns_as_markdown",
    "is_table",
    "read_curves",
    "read_results",
    "read_table",
    "results",
    "setting_value",
]

_HOMES = {
    "read_curves": "flipscale.collect.tables",
    "read_results": "flipscale.collect.tables",
    "read_table": "flipscale.collect.tables",
    "results": "flipscale.collect.tables",
}
"""Loaded on first use: pandas takes longer to import than 10,000 folders to look at where nothing has changed."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'flipscale.collect' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


@dataclass(frozen=True)
class Collected:
    """What was found, and what was not."""

    files: tuple[Path, Path]
    """results.csv and curves.parquet."""
    rows: int
    """Rows of results.csv."""
    states: dict[str, int]
    """Runs of the plan by state, `unreadable` among them; the counts add up to the plan."""
    torn_lines: int
    """Lines of metrics.jsonl left out because they were cut off."""
    problems: dict[str, str]
    """Run id -> the sentence that says why its folder could not be read."""
    unknown_scores: tuple[str, ...]
    """Scores in some result.json that have no column; their points are in the curves."""
    read: int
    """Finished runs whose folders were read; those of the others have not changed since the last time."""
    written: bool
    """Whether the files were written; else they are as they were."""

    @functools.cached_property
    def results(self) -> "pd.DataFrame":
        """results.csv, one row per finished run, columns as COLUMNS."""
        from flipscale.collect.tables import read_results

        return read_results(self.files[0])

    @functools.cached_property
    def curves(self) -> "pd.DataFrame":
        """curves.parquet, one row per point: id, step, samples, seconds (of training so far), metric, value, time."""
        from flipscale.collect.tables import read_curves

        return read_curves(self.files[1])


def collect(runs: Sequence[PlannedRun], results_root: Path, out: Path) -> Collected:
    """Bring out/results.csv and out/curves.parquet up to date with the folders of these runs.

    Folders that have not changed since the last time are not opened. A folder that is torn or foreign is named in
    `problems`. Raises RunFolderError for one written by a newer flipscale: its row would be silently missing from every
    later collect as well.
    """
    planned = {run["id"]: run for run in runs}
    files = (out / RESULTS_TABLE, out / CURVES_TABLE)
    looks = _look(planned, results_root)
    finished = {run_id: look for run_id, look in looks.items() if isinstance(look, Finished)}
    states = dict.fromkeys((*map(str, State), "unreadable"), 0)
    problems: dict[str, str] = {}
    for run_id, look in looks.items():
        if isinstance(look, State):
            states[look] += 1
        elif isinstance(look, str):
            problems[run_id] = look

    digest = before.digest(finished)
    summary = before.read_summary(out)
    read = 0
    changed = summary is None or summary.digest != digest or summary.tables != before.table_keys(files)
    if changed or summary is None:
        from flipscale.collect.update import update

        summary, read = update(planned, results_root, files, finished)
    states[State.FINISHED] = summary.finished
    problems = {run_id: found for run_id in planned if (found := (problems | summary.problems).get(run_id))}
    states["unreadable"] = len(problems)
    return Collected(files, summary.rows, states, summary.torn, problems, tuple(summary.unknown), read, written=changed)


# What there is


def _look(planned: Mapping[str, PlannedRun], results_root: Path) -> dict[str, Finished | State | str]:
    """What each run's folder shows without reading it, a result or else its state; or why it cannot be looked at."""
    root = os.path.join(results_root, RUNS_FOLDER)  # noqa: PTH118  a Path for each of 10,000 runs takes longer than its stat
    results = {run_id: before.stat_key(f"{root}/{run_id}/result.json") for run_id in planned}
    found: dict[str, Finished | State | str] = {}
    for run_id, run in planned.items():
        try:
            if results[run_id] is None:
                # No launcher is asked here, so a job nobody works on counts as waiting; `status` finds the lost ones.
                found[run_id] = RunFolder(f"{root}/{run_id}").state(State.WAITING)
                continue
        except (RunFolderError, OSError, RecursionError) as error:
            found[run_id] = why_unreadable(RunFolder(f"{root}/{run_id}"), error)
            continue
        key = [before.stat_key(f"{root}/{run_id}/{name}") for name in before.FILES]
        waiting = list(run["parents"])
        while waiting:
            parent = waiting.pop()
            key.append(results.get(parent) or before.stat_key(f"{root}/{parent}/result.json"))
            waiting += planned[parent]["parents"] if parent in planned else []
        found[run_id] = Finished(before.asked_of(run, planned), key)
    return found
