"""The plan of a study on disk, and which runs plans before it had.

results/NAME/plan.json           the plan as it was last written
results/NAME/.earlier_runs.json   ids of runs that were begun for a plan before it and that it does not have
"""

import contextlib
import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path

from flipscale.errors import DamagedFile
from flipscale.plain_files import read_bytes, read_json, read_text
from flipscale.plan import Plan
from flipscale.run import as_json, replacing, write_json
from flipscale.workspace import StudyFiles, Workspace


def write_plan_file(plan: Plan, files: StudyFiles, runs: Path) -> None:
    """Write plan.json if it has changed, and note the runs that it loses.

    runs: the folder of run folders.
    """
    text = as_json(plan.to_dict(lazily=True), rows="runs").encode() + b"\n"
    with contextlib.suppress(FileNotFoundError, DamagedFile):
        if read_bytes(files.plan) == text:
            return
    _note_replaced(files, runs, (run.id for run in plan.runs))
    with replacing(files.plan) as file:
        file.write(text)


def ids_of(files: StudyFiles) -> set[str]:
    """The ids of all runs that a study's files name: its plan as last written, those before it, and its table."""
    return {*_noted(files), *planned_ids(files.plan), *ids_in_table(files.results)}


def planned_ids(plan: Path) -> set[str]:
    """The ids of the runs of a plan.json; none where it cannot be read."""
    try:
        return {str(run["id"]) for run in read_json(plan)["runs"]}
    except (OSError, DamagedFile, TypeError, KeyError):
        return set()


def _note_replaced(files: StudyFiles, runs: Path, now: Iterable[str]) -> None:
    known = _noted(files)
    begun = {run_id for run_id in planned_ids(files.plan) - known if (runs / run_id / "run.json").exists()}
    gone = (known | begun) - set(now)
    if gone != known:
        write_json(files.earlier, {"ids": sorted(gone)})


def _noted(files: StudyFiles) -> set[str]:
    try:
        return {str(run_id) for run_id in read_json(files.earlier)["ids"]}
    except (OSError, DamagedFile, TypeError, KeyError):
        return set()


def finished_here(workspace: Workspace, ids: Iterable[str]) -> set[str]:
    """Those of these runs that have finished and whose folders are here."""
    return {run_id for run_id in ids if os.path.exists(f"{workspace.runs}/{run_id}/result.json")}  # noqa: PTH110


def ids_in_table(table: Path) -> set[str]:
    """The ids of the rows of a results.csv; none where it cannot be read."""
    try:
        rows = csv.reader(io.StringIO(read_text(table), newline=""))
        place = next(rows, []).index("id")
        return {row[place] for row in rows if len(row) > place}
    except (OSError, DamagedFile, ValueError, csv.Error):
        return set()
