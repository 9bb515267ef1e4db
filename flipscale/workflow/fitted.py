"""The scaling laws of a study that has been run."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from flipscale.analysis.comparing import pick_score
from flipscale.analysis.comparing.roles import settings_named
from flipscale.analysis.fitting import Options
from flipscale.analysis.fitting.study_laws import StudyFits
from flipscale.analysis.fitting.study_laws import fit_study as fit_results
from flipscale.next_runs.proposal import variables_of_run
from flipscale.planning.runs import plan_at
from flipscale.words import count
from flipscale.workflow.messages import Steps
from flipscale.workflow.opened import OpenStudy
from flipscale.workflow.results import StudyResults, write_analysis


def fit_study(
    opened: OpenStudy,
    results: StudyResults,
    *,
    y: str | None = None,
    law: str | None = None,
    options: Options | None = None,
) -> StudyFits:
    """The laws of a study's results. ResultsError where nothing can be fitted.

    y: the study's score if left out. law: its name; by the kind of score if left out.
    """
    table = results.table
    with Steps("fitting laws") as steps:
        y = y or pick_score(table, opened.study.score)
        fits = fit_results(table, axes=opened.axes, y=y, law=law, options=options, progress=steps)
    return named(opened, fits)


def named(opened: OpenStudy, fits: StudyFits) -> StudyFits:
    """The same with the study's question, and its words for settings."""
    return replace(fits, question=opened.study.question, name_of=settings_named(opened.study.labels))


def variables_at(opened: OpenStudy, settings: Mapping[str, object]) -> dict[str, float]:
    """The variables of laws at a run of these settings that the study might have."""
    planned = plan_at(opened.study, settings)
    return variables_of_run(planned.cells[0], {run.id: run for run in planned.runs})


def write_fits(out: Path, fits: StudyFits, source: dict[str, str], results: StudyResults | None) -> None:
    """Write fits, and say how many. `source` is the study or table that they are of."""
    out.parent.mkdir(parents=True, exist_ok=True)
    used = {row for fit in fits.fits for row in fit.used}
    left_out = {row for fit in fits.fits for row in fit.left_out} - used
    about = f" ({count(len(fits.fits), 'fit')}, {count(len(used), 'run')} used, {len(left_out)} left out)"
    write_analysis(out, fits.to_dict(source), results, about=about)
