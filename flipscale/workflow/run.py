"""All of a study in one call: plan, check, submit, wait, collect, fit, plot, compare, report, MLflow."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from flipscale.analysis.comparing import Comparison
from flipscale.errors import FlipscaleError, ResultsError
from flipscale.launch import Launcher, launcher_named
from flipscale.settings.devices import Price
from flipscale.workflow.collected import Mirroring, Tracking, collect_study, mirror_study
from flipscale.workflow.compared import compare_study
from flipscale.workflow.drawn import draw_study, report_study
from flipscale.workflow.fitted import fit_study, write_fits
from flipscale.workflow.messages import Steps, say
from flipscale.workflow.opened import OpenStudy, open_study
from flipscale.workflow.results import study_results
from flipscale.workflow.submitted import Guards, train_study
from flipscale.workspace import StudyFiles, Workspace


@dataclass(frozen=True)
class StudyOutcome:
    """The results of `run_study`."""

    opened: OpenStudy
    rows: int
    """Rows of the results table: finished runs."""
    unfinished: int
    """Runs of the plan that have not finished."""
    figures: tuple[Path, ...] | None
    """The files that were drawn; None where these runs allow no figure at all."""
    comparison: Comparison | None
    """None where these runs cannot be compared, as without a baseline among them."""
    fits: Path | None
    """None where no law can be fitted to these runs."""
    mlflow: Mirroring | None
    """None where MLflow was not written."""

    @property
    def files(self) -> StudyFiles:
        """The paths of the study's tables, figures and page."""
        return self.opened.files


def run_study(
    file: str | Path,
    workspace: Workspace | None = None,
    *,
    launcher: str | Launcher = "local",
    guards: Guards = Guards(),  # noqa: B008  it is frozen
    fit: bool = True,
    tracking: Tracking | None = Tracking(),  # noqa: B008  it is frozen
    price: Price | None = None,
) -> StudyOutcome:
    """Do all of a study: plan, submit, wait, collect, fit, plot, compare, report. Finished runs are not retrained.

        import flipscale
        flipscale.run_study("studies/quickstart.yaml").comparison

    workspace: where results and figures go; results/ (or FLIPSCALE_RESULTS) and plots/ if left out.
    launcher: "local", "slurm", "ray", or a launcher for this workspace's results.
    guards: checks that must pass before anything starts.
    fit: fit scaling laws. If False, fits.json stays only if it was fitted to the same results.
    tracking: how to mirror to MLflow; None writes nothing there.
    price: the price of time, for the plan, its budget and the report.

    Raises FlipscaleError if nothing can be started or no run has finished. Failed runs are counted in `unfinished`.
    """
    workspace = workspace or Workspace()
    if isinstance(launcher, str):
        launcher = launcher_named(launcher, workspace.results)
    opened = open_study(file, workspace, launcher.site_name, price=price)
    opened, unfinished = train_study(opened, launcher, guards=guards)
    collected = collect_study(opened)
    if not collected.rows:
        raise FlipscaleError(f"No run of {opened.file} has finished; see flipscale status {opened.arguments}.")
    fits = _fits(opened, anew=fit, changed=collected.written)
    drawn = _unless_impossible(lambda: draw_study(opened), "no figure is drawn")
    with Steps("comparing arms"):
        comparison = _unless_impossible(lambda: compare_study(opened), "nothing is compared")
    if not comparison:
        for suffix in (".json", ".md"):
            opened.files.comparison(suffix).unlink(missing_ok=True)  # an old one would be taken for that of these runs
    report_study(opened)
    mirrored = mirror_study(opened, collected, tracking) if tracking else None
    return StudyOutcome(
        opened,
        rows=collected.rows,
        unfinished=unfinished,
        figures=drawn.files if drawn else None,
        comparison=comparison,
        fits=fits,
        mlflow=mirrored,
    )


def _fits(opened: OpenStudy, *, anew: bool, changed: bool) -> Path | None:
    """The laws of a study that has just been run; None if its runs allow none, which is not a fault."""
    path = opened.files.fits
    try:
        if anew:
            results = study_results(opened)
            write_fits(path, fit_study(opened, results), {"study": opened.study.name}, results)
            return path
    except ResultsError:
        changed = True
    if changed:
        path.unlink(missing_ok=True)  # old fits would be taken for those of these runs
    return path if path.exists() else None


_StepResult = TypeVar("_StepResult")


def _unless_impossible(step: Callable[[], _StepResult], consequence: str) -> _StepResult | None:
    """The result of a step; None if the table does not allow it, with the reason on stderr."""
    try:
        return step()
    except ResultsError as error:
        say(f"{consequence}: {error}")
        return None
