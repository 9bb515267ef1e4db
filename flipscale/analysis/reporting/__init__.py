"""A study as one HTML page that opens offline: the question, the answer, and the evidence for it.

    evidence.py           what there is to show, as workflow/reported.py has gathered it
    page.py, page.html    from the evidence to the page, section by section, by a jinja2 template that escapes all text
    charts.py             the data that the page's script draws and lists
    page.css, page.js     how it looks; interactive figures, sorting, filters
    plotly-basic.min.js   plotly.js 4.1.1, basic bundle, MIT (LICENSE.plotly), as its authors ship it

The page asks for nothing from any network, and says so to the browser (a Content-Security-Policy that allows these
two scripts only). It has no clock and no random id: the same files give the same bytes.
"""

from flipscale.analysis.reporting.evidence import Evidence
from flipscale.analysis.reporting.page import Report, page

__all__ = ["Evidence", "Report", "page"]
