"""The ledger of one study, of some, or of all that are in the results folder."""

from collections.abc import Sequence

from flipscale.collecting.ledger import LedgerEntry, PlannedStudy, entries_of, probes_of
from flipscale.errors import FlipscaleError
from flipscale.launch import StateReader
from flipscale.run import RunFolder, RunRequest, probes_in
from flipscale.settings.declarations import plain
from flipscale.workflow.messages import say
from flipscale.workflow.study import open_study
from flipscale.workflow.submitted_plans import readable_plans
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
    names = {study.name for study in studies}
    probes = [(folder, probe) for folder, probe in probes_in(workspace.runs) if probe.study in names]
    folders = {run.id: RunFolder(workspace.run(run.id)) for study in studies for run in study.asked}
    looks = StateReader(workspace.results).read([*folders.values(), *(folder for folder, _ in probes)])
    states = {run_id: look.state for run_id, look in looks.items()}
    entries = [entry for study in studies for entry in entries_of(study, workspace.runs, states, _say_left_out)]
    return [*entries, *probes_of(probes, states, _say_left_out)]


def _say_left_out(why: str) -> None:
    say(f"A run is left out: {why}")


def _planned(workspace: Workspace, files: Sequence[str]) -> list[PlannedStudy]:
    if files:
        opened = [open_study(file, workspace) for file in files]
        return [
            PlannedStudy(
                each.study.name, list(map(RunRequest.of, each.plan.runs)), plain(each.study.baseline), each.study.labels
            )
            for each in opened
        ]
    return [PlannedStudy(plan.study, plan.runs, plan.baseline) for plan in readable_plans(workspace)]
