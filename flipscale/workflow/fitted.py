"""The scaling laws of a study that has been run."""

from pathlib import Path

from flipscale.comparing import pick_score
from flipscale.errors import ResultsError
from flipscale.fitting.of_study import StudyFits
from flipscale.fitting.of_study import fit_study as fit_results
from flipscale.words import count
from flipscale.workflow.messages import Steps
from flipscale.workflow.results import StudyResults, study_results, write_analysis
from flipscale.workflow.study import OpenStudy


def fit_study(opened: OpenStudy) -> Path | None:
    """Write the laws of a study that has just been run; None if its runs allow none, which is not a fault."""
    study, out, results = opened.study, opened.files.fits, study_results(opened)
    table = results.table
    try:
        with Steps("fitting laws") as steps:
            found = fit_results(table, axes=opened.axes, y=pick_score(table, study.score), progress=steps)
    except ResultsError:
        out.unlink(missing_ok=True)  # old fits would be taken for those of these runs
        return None
    write_fits(out, found, {"study": study.name}, results)
    return out


def write_fits(out: Path, found: StudyFits, source: dict[str, str], results: StudyResults | None) -> None:
    """Write fits, and say how many. `source` is the study or table that they are of."""
    out.parent.mkdir(parents=True, exist_ok=True)
    used = {row for fit in found.fits for row in fit.used}
    left_out = {row for fit in found.fits for row in fit.left_out} - used
    about = f" ({count(len(found.fits), 'fit')}, {count(len(used), 'run')} used, {len(left_out)} left out)"
    write_analysis(out, found.to_dict(source), results, about=about)
