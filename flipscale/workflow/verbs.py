"""What the command line does, as functions: `from flipscale import plan, submit, results, fit, compare, plot, report`.

Each takes a study as a file or as `read_study` gives it, does what the command of its name does, and returns data.
A `Workspace` says where results and figures are; without one, in results/ (or FLIPSCALE_RESULTS) and plots/.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flipscale.launch import Launcher, launcher_named
from flipscale.planning.runs import Plan
from flipscale.study import Study
from flipscale.workflow.opened import OpenStudy, open_study
from flipscale.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from flipscale.analysis.comparing import Comparison
    from flipscale.analysis.fitting.study_laws import StudyFits
    from flipscale.analysis.plotting import Plotted
    from flipscale.launch import StudyProgress

AnyStudy = str | os.PathLike[str] | Study
"""A study: its YAML file, or what `read_study` made of it."""


def plan(study: AnyStudy, workspace: Workspace | None = None) -> Plan:
    """Every run of a study with its cost; nothing is trained, and nothing is written.

        planned = flipscale.plan("studies/quickstart.yaml")
        len(planned.runs), planned.total.gpu_hours

    Times are those of a probe, if one was made in this workspace.
    """
    return _opened(study, workspace).plan


def submit(
    study: AnyStudy,
    workspace: Workspace | None = None,
    *,
    launcher: str | Launcher = "local",
    wait: bool = True,
    check: bool = True,
) -> "StudyProgress":
    """Start every run of a study that is not finished yet. Returns how far the study is.

        ended = flipscale.submit("studies/quickstart.yaml")
        print(ended)                                # 48 of 48 finished, 100% of the FLOPs

    launcher: "local", "slurm", "ray", or a launcher for this workspace's results.
    wait: return when no run waits or runs. If False, return at once; the runs continue.
    check: first check the data, checkpoints and programs that local runs read.

    Raises FlipscaleError where nothing can be started. The result counts failed runs.
    """
    from flipscale import launch
    from flipscale.workflow.submitted import Guards, train_study

    workspace = workspace or Workspace()
    if isinstance(launcher, str):
        launcher = launcher_named(launcher, workspace.results)
    opened = _opened(study, workspace, launcher.site_name)
    opened, _ = train_study(opened, launcher, guards=Guards(inputs=check), wait=wait)
    return next(launch.watch(opened.plan.runs, workspace.results))


def collect(study: AnyStudy, workspace: Workspace | None = None) -> "pd.DataFrame":
    """Bring results.csv and curves.parquet up to date with the finished runs of a study. Returns the table.

        flipscale.collect("studies/quickstart.yaml")

    The folders of all finished runs are read.
    """
    from flipscale.workflow.collected import collect_study

    return collect_study(_opened(study, workspace)).results


def results(study: AnyStudy, root: str | os.PathLike[str] | None = None) -> "pd.DataFrame":
    """The table of a study, one row per finished run. What was not measured is missing, never 0.

        flipscale.results("studies/quickstart.yaml")
        flipscale.results("results/quickstart")     # a folder or file of results

    root: where results are, for a study; FLIPSCALE_RESULTS or results/ if left out.

    Finished runs are collected first; a table without run folders counts for the runs that the study asks for.

    Raises ResultsError where no run has finished.
    """
    from flipscale.collecting import results as table_of
    from flipscale.workflow.results import study_results

    if isinstance(study, Study) or Path(study).suffix in (".yaml", ".yml"):
        workspace = Workspace() if root is None else Workspace(Path(root))
        return study_results(_opened(study, workspace)).table
    return table_of(study)


def fit(study: AnyStudy, workspace: Workspace | None = None, *, law: str | None = None) -> "StudyFits":
    """Fit scaling laws to the results of a study, and write them to fits.json.

        fits = flipscale.fit("studies/quickstart.yaml")
        print(fits.text())
        fits.table                                  # a DataFrame: a row for each parameter of each law, with its CI

    law: its name (docs/fits.md); by the kind of score if left out. Raises ResultsError where nothing can be fitted.
    """
    from flipscale.workflow.fitted import fit_study, write_fits
    from flipscale.workflow.results import study_results

    opened = _opened(study, workspace)
    results = study_results(opened)
    fits = fit_study(opened, results, law=law)
    write_fits(opened.files.fits, fits, {"study": opened.study.name}, results)
    return fits


def compare(study: AnyStudy, workspace: Workspace | None = None, *, score: str | None = None) -> "Comparison":
    """Compare the arms of a study with its baseline, and write comparison.json and comparison.md.

        comparison = flipscale.compare("studies/quickstart.yaml")
        print(flipscale.analysis.comparing.comparison_text(comparison))

    score: the study's own if left out. Raises ResultsError where the results allow no comparison.
    """
    from flipscale.workflow.compared import compare_study
    from flipscale.workflow.to_score import say_other_data

    opened = _opened(study, workspace)
    say_other_data(opened)
    return compare_study(opened, score)


def plot(
    study: AnyStudy,
    workspace: Workspace | None = None,
    *,
    references: Path | None = None,
    formats: Sequence[str] = (),
) -> "Plotted":
    """Draw the figures of a study as SVG.

        flipscale.plot("studies/quickstart.yaml").files

    references: a table of published results to show beside. To draw on an Axes of your own, see docs/figures.md.
    formats: "png" and "pdf", to draw beside SVG.
    Raises ResultsError where the results allow no figure.
    """
    from flipscale.workflow.drawn import draw_study

    return draw_study(_opened(study, workspace), references, formats)


def report(study: AnyStudy, workspace: Workspace | None = None) -> Path:
    """Write a study as one HTML page that opens offline. Returns its path.

        flipscale.report("studies/quickstart.yaml")

    It shows the tables, figures and fits that exist, and says what is missing.
    """
    from flipscale.workflow.drawn import report_study

    return report_study(_opened(study, workspace)).path


def _opened(study: AnyStudy, workspace: Workspace | None, site: str | None = None) -> OpenStudy:
    file = study.place().file if isinstance(study, Study) else study
    return open_study(Path(file), workspace or Workspace(), site)
