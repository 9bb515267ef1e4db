"""The plan of a study on disk: results/NAME/plan.json, and which of its runs are here."""

import contextlib
import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path

from flipscale.errors import DamagedFile
from flipscale.plain_files import read_bytes, read_text
from flipscale.plan import Plan
from flipscale.run import as_json, replacing
from flipscale.workspace import StudyFiles, Workspace


def write_plan_file(plan: Plan, files: StudyFiles) -> None:
    """Write plan.json if it has changed."""
    text = as_json(plan.to_dict(lazily=True), rows="runs").encode() + b"\n"
    with contextlib.suppress(FileNotFoundError, DamagedFile):
        if read_bytes(files.plan) == text:
            return
    with replacing(files.plan) as file:
        file.write(text)


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
