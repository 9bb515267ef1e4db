"""Runs found by their id, its beginning, or its hash, or by their name in a study."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from flipscale.errors import FlipscaleError, nearest
from flipscale.run import RunFolder, RunRequest
from flipscale.workspace import Workspace

MOST_LISTED = 5
"""At most this many of the runs that a name could mean are listed."""


def run_folder(workspace: Workspace, name: str) -> RunFolder:
    return RunFolder(workspace.run(matching_id(name, sorted(path.name for path in workspace.runs.glob("*")))))


def request_of(workspace: Workspace, name: str) -> RunRequest:
    """The request for a run: from its folder, or from the plan of any study that was submitted or planned here."""
    from flipscale.workflow.submitted_plans import readable_plans

    planned = {run.id: run for plan in readable_plans(workspace) for run in plan.runs}
    here = {path.parent.name for path in workspace.runs.glob("*/run.json")}
    run_id = matching_id(name, sorted(here | planned.keys()))
    return RunFolder(workspace.run(run_id)).asked() or planned[run_id]


def matching_run(text: str, names: Mapping[str, str]) -> str:
    """The id of the run with that name, of those by id, or else as `matching_id` has it."""
    return next((run_id for run_id, name in names.items() if name == text), "") or matching_id(text, list(names))


def matching_id(name: str, ids: Sequence[str]) -> str:
    """The one id that is `name`, begins with it, or ends with it (the hash alone is enough)."""
    name = Path(name).name
    if name in ids:
        return name
    matches = [run_id for run_id in ids if run_id.startswith(name) or run_id.endswith(name)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        listed = ", ".join(matches[:MOST_LISTED]) + (", ..." if len(matches) > MOST_LISTED else ".")
        raise FlipscaleError(f"'{name}' could be any of {len(matches)} runs: {listed} Give more of it.")
    if not ids:
        raise FlipscaleError(f"no run '{name}': there are no runs here yet.")
    near = nearest(name, ids)
    meant = f"did you mean {near!r}? " if near else ""
    raise FlipscaleError(f"no run '{name}'; {meant}`flipscale status STUDY` lists ids.")
