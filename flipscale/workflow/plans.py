"""The plan of a study on disk: results/NAME/plan.json, and which of its runs are here."""

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path

from flipscale.plain_files import or_none, read_bytes, read_text
from flipscale.planning import Plan
from flipscale.run import as_json, replacing
from flipscale.workspace import StudyFiles, Workspace


def write_plan_file(plan: Plan, files: StudyFiles) -> None:
    """Write plan.json if it has changed."""
    text = as_json(plan.to_dict(), rows="runs").encode() + b"\n"
    if or_none(read_bytes, files.plan) != text:
        with replacing(files.plan) as file:
            file.write(text)


def finished_here(workspace: Workspace, ids: Iterable[str]) -> set[str]:
    """Those of these runs that have finished and whose folders are here."""
    return {run_id for run_id in ids if os.path.exists(f"{workspace.runs}/{run_id}/result.json")}  # noqa: PTH110


def ids_in_table(table: Path) -> set[str]:
    """The ids of the rows of a results.csv; none where it cannot be read."""
    try:
        rows = csv.reader(io.StringIO(or_none(read_text, table) or "", newline=""))
        place = next(rows, []).index("id")
        return {row[place] for row in rows if len(row) > place}
    except (ValueError, csv.Error):
        return set()
