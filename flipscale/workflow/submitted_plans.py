"""The studies that a results folder knows by their plans, and those whose files are given."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from flipscale.errors import FlipscaleError
from flipscale.plain_files import read_json
from flipscale.planning.runs import plan
from flipscale.run import PlanFile, RunRequest
from flipscale.storage import StudyRuns
from flipscale.study import read_study
from flipscale.workflow.messages import say
from flipscale.workflow.owner import may_own
from flipscale.workflow.tuned import with_sweep
from flipscale.workspace import Workspace


def known_studies(workspace: Workspace, files: Iterable[Path], *, only: bool = False) -> list[StudyRuns]:
    """The runs of these study files and, without `only`, of every other study that was planned in the results folder.

    A study counts as its plan.json is, unless its file is among those given.
    """
    given = [runs_of(file, workspace) for file in files]
    if only:
        return given
    return given + [
        StudyRuns(path.parent.name, path, read_plan(path))
        for path in workspace.plans()
        if not _is_among(given, path.parent)
    ]


def _is_among(given: Sequence[StudyRuns], folder: Path) -> bool:
    """Whether the results in a folder belong to one of these studies, and not to another file of the same name."""
    return any(study.name == folder.name and may_own(folder, study.source) for study in given)


def runs_of(file: Path, workspace: Workspace) -> StudyRuns:
    """The runs of a study file. FlipscaleError where it cannot be read."""
    study, _ = with_sweep(read_study(file), workspace)
    return StudyRuns(study.name, file, {run.id: RunRequest.of(run) for run in plan(study).runs})


def readable_plans(workspace: Workspace) -> Iterator[PlanFile]:
    """Every plan in the results folder that can be read; says which cannot."""
    for path in workspace.plans():
        try:
            yield read_json(path, PlanFile)
        except FlipscaleError as error:
            say(f"{error} The study is left out; plan it again.")


def read_plan(planned: Path) -> dict[str, RunRequest]:
    """The runs that plan.json asks for, by id. FlipscaleError if it is not a plan."""
    plan_file: PlanFile = read_json(planned, PlanFile)
    return {asked.id: asked for asked in plan_file.runs}
