"""The ledger of one study, of some, or of all that are in the results folder."""

from collections.abc import Sequence

from flipscale.errors import DamagedFile, FlipscaleError
from flipscale.ledger import LedgerEntry, PlannedStudy, entries_of, probes_of
from flipscale.plain_files import read_json_object
from flipscale.run import Asked, asked_from_json
from flipscale.settings import plain
from flipscale.workflow.opened import open_study
from flipscale.workflow.talk import say
from flipscale.workspace import Workspace


def ledger_of(workspace: Workspace, files: Sequence[str]) -> list[LedgerEntry]:
    """The entries of these studies, or of all that were planned in the results folder, and of their probes.

    FlipscaleError where no study was planned there, or a plan.json cannot be read.
    """
    studies = _planned(workspace, files)
    if not studies:
        raise FlipscaleError(
            f"No study was planned in {workspace.results}; plan or submit one, or name another folder with --results."
        )
    entries = [entry for study in studies for entry in entries_of(study, workspace.runs, _say_left_out)]
    return [*entries, *probes_of(workspace.runs, [study.name for study in studies], _say_left_out)]


def _say_left_out(why: str) -> None:
    say(f"A run is left out: {why}")


def _planned(workspace: Workspace, files: Sequence[str]) -> list[PlannedStudy]:
    if files:
        plans = [open_study(file, workspace).plan for file in files]
        return [PlannedStudy(each.study, list(map(Asked.of, each.runs)), plain(each.baseline)) for each in plans]
    found = []
    for path in workspace.plans():
        try:
            plan = read_json_object(path)
            asked = [asked_from_json(run) for run in plan["runs"]]
            found.append(PlannedStudy(str(plan["study"]), asked, dict(plan["baseline"])))
        except (DamagedFile, ValueError, KeyError, TypeError, AttributeError) as error:
            say(f"{path} is left out: it is not a flipscale plan ({error}); plan the study again.")
    return found
