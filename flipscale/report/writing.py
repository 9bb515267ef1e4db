"""The report of a study as a file."""

from dataclasses import dataclass
from pathlib import Path

from flipscale.guard import check_folder
from flipscale.plan import Plan
from flipscale.report.evidence import Evidence, gather
from flipscale.report.page import page
from flipscale.run import replacing
from flipscale.study import Study
from flipscale.workspace import Workspace


@dataclass(frozen=True)
class Report:
    """The files that were written."""

    path: Path
    size: int
    """Bytes."""
    evidence: Evidence


def write_report(study: Study, planned: Plan, study_file: Path, results: Path, plots: Path) -> Report:
    """Write plots/NAME/report.html from the files in `results` and `plots`; the page names missing ones."""
    evidence = gather(study, planned, study_file, results, plots)
    data = page(evidence).encode()
    path = Workspace(results, plots).study(study.name).report
    check_folder(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(data)
    return Report(path, len(data), evidence)
