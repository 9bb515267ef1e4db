"""The studies that a results folder knows: their files where these still are, else their plans."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from flipscale.errors import DamagedFile, FlipscaleError
from flipscale.identity import RECIPE
from flipscale.plain_files import read_json_object
from flipscale.plan import plan
from flipscale.run import Asked, asked_from_json
from flipscale.storage import StudyRuns
from flipscale.study import read_study
from flipscale.workflow.owner import owner_of
from flipscale.workflow.talk import say
from flipscale.workspace import Workspace


def readable_studies(workspace: Workspace) -> list[StudyRuns]:
    """The runs of every study that was planned in the results folder, except those that cannot be read."""
    found = []
    for path in workspace.plans():
        try:
            found.append(_known(path))
        except FlipscaleError as error:
            say(f"{error} It is left out.")
    return found


def known_studies(workspace: Workspace, files: Iterable[Path], *, only: bool = False) -> list[StudyRuns]:
    """The runs of these study files and, without `only`, of every other study that was planned in the results folder.

    A study counts as its file is now. If the file is gone or cannot be read, its plan.json counts. A file that is
    given replaces one of the same name that is gone, for example after a move, and no other.
    """
    given = [runs_of(file) for file in files]
    if only:
        return given
    return given + [_known(path) for path in workspace.plans() if not _is_among(given, path.parent)]


def _is_among(given: Sequence[StudyRuns], folder: Path) -> bool:
    """Whether the results in a folder belong to one of these studies, and not to another file of the same name."""
    owner = owner_of(folder)
    return any(
        study.name == folder.name and (owner is None or not owner.exists() or owner == study.source.resolve())
        for study in given
    )


def check_recipes(studies: Sequence[StudyRuns]) -> None:
    """Raise FlipscaleError for a plan of another recipe: it asks for none of the runs that its study asks for now."""
    for study in studies:
        recipes = {asked.recipe for asked in study.runs.values()} - {RECIPE}
        if recipes:
            raise FlipscaleError(
                f"{study.source}: was planned under another recipe than today's {RECIPE}, so it does not list "
                f"the runs that {study.name} needs now. Give its study file: flipscale gc STUDY.yaml; or plan it "
                "again."
            )


def runs_of(file: Path) -> StudyRuns:
    """The runs of a study file. FlipscaleError where it cannot be read."""
    study = read_study(file)
    return StudyRuns(study.name, file, {run.id: Asked.of(run) for run in plan(study).runs})


def _known(planned: Path) -> StudyRuns:
    file = owner_of(planned.parent)
    if file is not None and file.exists():
        try:
            return runs_of(file)
        except FlipscaleError as error:
            say(f"{file} cannot be read, so {planned} counts as it was written: {str(error).splitlines()[0]}")
    return StudyRuns(planned.parent.name, planned, read_plan(planned))


def read_plan(planned: Path) -> dict[str, Asked]:
    """The runs that plan.json asks for, by id. FlipscaleError if it is not a plan."""
    try:
        listed = read_json_object(planned)["runs"]
        return {asked.id: asked for asked in map(asked_from_json, listed)}
    except DamagedFile as error:
        raise FlipscaleError(f"{error} Delete it; `flipscale plan` writes it again.") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FlipscaleError(f"{planned}: is not a plan. Delete it; `flipscale plan` writes it again.") from error


def names_asking(studies: Sequence[StudyRuns]) -> dict[str, frozenset[str]]:
    """The names of the studies that ask for each run, by its id."""
    ids = {run_id for study in studies for run_id in study.runs}
    return {run_id: frozenset(study.name for study in studies if run_id in study.runs) for run_id in ids}
