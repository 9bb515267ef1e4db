"""Laws through the rows of a table: fits with intervals and a checklist, and forecasts with a grade.

    fit(table, "chinchilla", x=["N", "D"], y="loss")      one law through all rows
    fit_groups(table, "power", x=["flops"], y="error", group=["dataset"])
    isoflop(table, x="N", y="loss", budget="flops")       the best size of each budget, and the law through them
    frontier(table, x="flops", y="error")                 the rows that are best for their cost
    allocate(fit(table, "chinchilla", x=["N", "D"], y="loss"), flops=1e21)
    forecast(table, "odds", x=[...], y="top1", at={...})  graded by its predictions of the largest runs

laws.py          the forms of laws, by name
chosen_rows.py   the rows that a law is fitted to, and why the others are left out; columns that a user computes
search.py        many searches at once, the best of many starts, refits of resamples
uncertainty.py   resamples of settings, intervals, and the effect that runs of one seed share
fronts.py        the best runs for their cost: fronts, bins, and the best size of a budget
fitted_law.py    a Fit and its Options, as data
table.py         all of it, from a table to a Fit
isoflop.py       the law through the best sizes
optimum.py       the law of the best value of a setting
forecasts.py     forecasts beyond the data, and how far they can be trusted
allocation.py    the best use of a budget
study_laws.py    the laws of a study's own results
fit_records.py   fits and forecasts as plain data: fits.json
law_words.py     the same for people

Data in, data out: nothing here touches a disk.
"""

from flipscale.analysis.fitting.allocation import allocate
from flipscale.analysis.fitting.chosen_rows import (
    column,
    group_name,
    in_groups,
    is_lower_better,
    point_with_columns,
    where,
    with_columns,
)
from flipscale.analysis.fitting.fit_records import allocation_json, fit_json, forecast_json
from flipscale.analysis.fitting.fitted_law import Fit, Options
from flipscale.analysis.fitting.forecasts import (
    Doubt,
    Forecast,
    Grade,
    forecast,
    forecast_groups,
    next_rung,
)
from flipscale.analysis.fitting.fronts import best_rows, evened, frontier, is_isoflop
from flipscale.analysis.fitting.isoflop import isoflop
from flipscale.analysis.fitting.law_words import (
    allocation_text,
    fit_text,
    forecast_text,
    kind_parts,
    kinds_of,
    law_screen,
)
from flipscale.analysis.fitting.laws import LAWS, law_named
from flipscale.analysis.fitting.optimum import joint_optimum, optimum_law
from flipscale.analysis.fitting.table import fit, fit_groups

__all__ = [
    "LAWS",
    "Doubt",
    "Fit",
    "Forecast",
    "Grade",
    "Options",
    "allocate",
    "allocation_json",
    "allocation_text",
    "best_rows",
    "column",
    "evened",
    "fit",
    "fit_groups",
    "fit_json",
    "fit_text",
    "forecast",
    "forecast_groups",
    "forecast_json",
    "forecast_text",
    "frontier",
    "group_name",
    "in_groups",
    "is_isoflop",
    "is_lower_better",
    "isoflop",
    "joint_optimum",
    "kind_parts",
    "kinds_of",
    "law_named",
    "law_screen",
    "next_rung",
    "optimum_law",
    "point_with_columns",
    "where",
    "with_columns",
]
