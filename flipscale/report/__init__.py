"""A study as one HTML page that opens offline: the question, the answer, and the evidence for it.

    evidence.py           what there is: tables, states, logs, fits, figures; reads files and writes none
    page.py               from the evidence to the page, a section after the other
    answer.py, fits.py    two of its sections
    charts.py             the data that the page's script draws and lists
    markup.py             HTML of texts, tables and Markdown; everything a user wrote is escaped here
    page.css, page.js     how it looks; interactive figures, sorting, filters
    plotly-basic.min.js   plotly.js 4.1.1, basic bundle, MIT (LICENSE.plotly), as its authors ship it

The page asks for nothing from any network, and says so to the browser (a Content-Security-Policy that allows these
two scripts only). It has no clock and no random id: the same files give the same bytes.
"""

from dataclasses import dataclass
from pathlib import Path

from flipscale.plan import Plan
from flipscale.report.evidence import Evidence, gather
from flipscale.report.page import page
from flipscale.run import replacing
from flipscale.study import Study
from flipscale.workspace import Workspace

__all__ = ["Evidence", "Report", "gather", "page", "write_report"]


@dataclass(frozen=True)
class Report:
    """What was written."""

    path: Path
    size: int
    """Bytes."""
    evidence: Evidence


def write_report(study: Study, planned: Plan, study_file: Path, results: Path, plots: Path) -> Report:
    """Write plots/NAME/report.html from what is in `results` and `plots`; what is not there is said on the page."""
    evidence = gather(study, planned, study_file, results, plots)
    data = page(evidence).encode()
    path = Workspace(results, plots).study(study.name).report
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(data)
    return Report(path, len(data), evidence)
