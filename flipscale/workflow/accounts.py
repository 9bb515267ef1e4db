"""The ledger of one study, of some, or of all that are in the results folder."""

from collections.abc import Sequence

from flipscale.collecting.ledger import LedgerEntry, entry_of
from flipscale.errors import DamagedFile, FlipscaleError
from flipscale.launch import StateReader
from flipscale.run import RunFolder, RunRequest, probes_in
from flipscale.workflow.messages import say
from flipscale.workflow.opened import open_study
from flipscale.workflow.submitted_plans import readable_plans
from flipscale.workspace import Workspace


def ledger_of(workspace: Workspace, files: Sequence[str]) -> list[LedgerEntry]:
    """The entries of these studies, or of all that were planned in the results folder, and of their probes.

    FlipscaleError where no study was planned there, or a plan.json cannot be read.
    """
    runs = _planned(workspace, files)
    if not runs:
        raise FlipscaleError(
            f"No study was planned in {workspace.results}; plan or submit one, or name another folder with --results."
        )
    listed = [
        (study, asked, RunFolder(workspace.run(asked.id)), False)
        for study, of_study in runs.items()
        for asked in of_study
    ]
    for folder, probe in probes_in(workspace.runs):
        asked = folder.asked() if probe.study in runs else None
        if asked is not None:
            listed.append((probe.study, asked, folder, True))
    looks = StateReader(workspace.results).read([*{folder.id: folder for _, _, folder, _ in listed}.values()])
    entries = []
    for study, asked, folder, is_probe in listed:
        try:
            entries.append(entry_of(study, asked, folder, looks[folder.id].state, is_probe=is_probe))
        except DamagedFile as error:
            say(f"A run is left out: {error}")
    return entries


def _planned(workspace: Workspace, files: Sequence[str]) -> dict[str, list[RunRequest]]:
    """The runs of each study, by its name."""
    if not files:
        return {plan.study: list(plan.runs) for plan in readable_plans(workspace)}
    opened = [open_study(file, workspace) for file in files]
    return {each.study.name: [RunRequest.of(run) for run in each.plan.runs] for each in opened}
