"""Bringing the tables of a study up to date with its run folders."""

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flipscale.collect import cache
from flipscale.collect.cache import FinishedRun
from flipscale.collect.rows import why_unreadable
from flipscale.errors import RunFolderError
from flipscale.plan import Plan
from flipscale.run import RunFolder, State
from flipscale.workspace import CURVES_TABLE, RESULTS_TABLE, RUNS_FOLDER

if TYPE_CHECKING:
    import pandas as pd


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
    """Finished runs whose folders were read; those of the others have not changed since the last time."""
    new: int
    """How many of them were not read before."""
    written: bool
    """Whether the files were written; else they are unchanged."""

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


def collect(
    planned: Plan,
    results_root: Path,
    out: Path,
    *,
    kept_rows: int | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Collected:
    """Bring out/results.csv and out/curves.parquet up to date with the folders of the plan's runs.

    Folders that have not changed since the last time are not opened. A folder that is torn or foreign is named in
    `problems`. Raises RunFolderError for one written by a newer flipscale: its row would be silently missing from every
    later collect as well.

    kept_rows: leave the tables as they are, with this many rows.
    progress: called with the number of finished runs done, and their total.
    """
    files = (out / RESULTS_TABLE, out / CURVES_TABLE)
    folders = _look(planned, results_root)
    if kept_rows is not None:
        states = folders.count_states(len(folders.finished), len(folders.problems))
        return Collected(files, kept_rows, states, 0, folders.problems, (), 0, 0, written=False)
    digest = cache.digest_of(folders.finished)
    summary = cache.read_summary(out)
    changed = summary is None or summary.digest != digest or summary.tables != cache.table_keys(files)
    read = new = 0
    if changed or summary is None:
        from flipscale.collect.update import update

        summary, (read, new) = update(planned, results_root, files, folders.finished, progress)
    unreadable = {**folders.problems, **summary.problems}
    problems = {run.id: unreadable[run.id] for run in planned.runs if run.id in unreadable}
    return Collected(
        files,
        summary.rows,
        folders.count_states(summary.finished, len(problems)),
        summary.torn,
        problems,
        tuple(summary.unknown),
        read,
        new,
        written=changed,
    )


@dataclass(frozen=True)
class _Folders:
    """A look at the plan's run folders without reading results, by run id."""

    finished: dict[str, FinishedRun]
    states: dict[str, State]
    """States of runs that have no result."""
    problems: dict[str, str]
    """Why a folder could not even be looked at."""

    def count_states(self, finished: int, unreadable: int) -> dict[str, int]:
        counts = dict.fromkeys(map(str, State), 0)
        for state in self.states.values():
            counts[state] += 1
        return {**counts, State.FINISHED: finished, "unreadable": unreadable}


def _look(planned: Plan, results_root: Path) -> _Folders:
    root = os.path.join(results_root, RUNS_FOLDER)  # noqa: PTH118  a Path for each of 10,000 runs takes longer than its stat
    results = {run.id: cache.stat_key(f"{root}/{run.id}/result.json") for run in planned.runs}
    runs = {run.id: run for run in planned.runs}
    folders = _Folders({}, {}, {})
    for run in planned.runs:
        if results[run.id] is not None:
            key = [
                results[run.id] if name == "result.json" else cache.stat_key(f"{root}/{run.id}/{name}")
                for name in cache.FILES_READ
            ]
            folders.finished[run.id] = FinishedRun(cache.asked_of(run, planned.study, runs), key)
            continue
        try:
            # No launcher is asked here, so a job nobody works on counts as waiting; `status` finds the lost ones.
            glance = RunFolder(f"{root}/{run.id}").glance()
            if glance.problem:
                raise RunFolderError(glance.problem)
            folders.states[run.id] = glance.state(State.WAITING)
        except (RunFolderError, OSError) as error:
            folders.problems[run.id] = why_unreadable(RunFolder(f"{root}/{run.id}"), error)
    return folders
