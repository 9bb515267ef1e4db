"""Runs found by their id, its beginning, or its hash, or by their name in a study."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from flipscale.errors import FlipscaleError, nearest
from flipscale.run import RunFolder, RunRequest
from flipscale.workflow.messages import say
from flipscale.workspace import Workspace

MOST_LISTED = 5
"""At most this many of the runs that a name could mean are listed."""


def run_folder(workspace: Workspace, name: str) -> RunFolder:
    runs = workspace.runs
    return RunFolder(runs / matching_id(name, sorted(path.name for path in runs.iterdir()) if runs.is_dir() else []))


def request_of(workspace: Workspace, name: str) -> RunRequest:
    """The request for a run: from its folder, or from the plan of any study that was submitted or planned here."""
    from flipscale.workflow.submitted_plans import read_plan

    known: dict[str, RunRequest] = {}
    damaged: dict[str, FlipscaleError] = {}
    for path in workspace.plans():
        try:
            known |= read_plan(path)
        except FlipscaleError as error:
            say(f"{error} It is left out.")
    for path in sorted(workspace.runs.glob("*/run.json")):
        try:
            if asked := RunFolder(path.parent).asked():
                known[path.parent.name] = asked
        except FlipscaleError as error:
            damaged[path.parent.name] = error
    run_id = matching_id(name, sorted({*known, *damaged}))
    if run_id in damaged:
        raise damaged[run_id]
    return known[run_id]


def matching_run(text: str, names: Mapping[str, str]) -> str:
    """The id of the run with that name, of those by id, or else as `matching_id` has it."""
    return next((run_id for run_id, name in names.items() if name == text), "") or matching_id(text, list(names))


def matching_id(name: str, ids: Sequence[str]) -> str:
    """The one id that is `name`, begins with it, or ends with it (the hash alone is enough)."""
    name = Path(name).name
    found = [run_id for run_id in ids if run_id == name]
    found = found or [run_id for run_id in ids if run_id.startswith(name) or run_id.endswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(found[:MOST_LISTED]) + (", ..." if len(found) > MOST_LISTED else ".")
        raise FlipscaleError(f"'{name}' could be any of {len(found)} runs: {listed} Give more of it.")
    if not ids:
        raise FlipscaleError(f"no run '{name}': there are no runs here yet.")
    near = nearest(name, ids)
    meant = f"did you mean {near!r}? " if near else ""
    raise FlipscaleError(f"no run '{name}'; {meant}`flipscale status STUDY` lists ids.")
