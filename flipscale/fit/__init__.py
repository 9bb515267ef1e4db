"""Laws through the rows of a table: fits with intervals and a checklist, and forecasts that were held to account.

    fit(table, "chinchilla", x=["N", "D"], y="loss")      one law through all rows
    fit_groups(table, "power", x=["flops"], y="error", group=["dataset"])
    isoflop(table, x="N", y="loss", budget="flops")       the best size of each budget, and the law through those
    frontier(table, x="flops", y="error", kind="pareto")  the rows that are best for their cost
    two_step(table, x=["N", "D"], through="loss", y="error")
    forecast(table, "odds", x=[...], y="top1", at={...})  refused where it would have missed the largest runs

law.py           what a law is
laws.py          sums of powers, and all laws by name
other_laws.py    forms that are no sum of powers
rows.py          which rows take part, and why the others do not
unnamed.py       settings in which these rows differ although nobody names them
solver.py        one law through points: the best of many starts
uncertainty.py   resamples and intervals
fitting.py       all of it, from a table to a Fit
fitted.py        a Fit and a Forecast, as data
checks.py        what speaks against a fit
best.py          what is best for its cost: fronts, and the best size of a budget
frontiers.py     fits through those
two_step.py      from size to loss, and from loss to error
of_study.py      the laws of a study's own results
prediction.py    beyond the data
as_json.py       fits and forecasts for programs
words.py         fits and forecasts for people

Data in, data out: nothing here touches a disk.
"""

from flipscale.fit.as_json import fit_json, forecast_json
from flipscale.fit.best import evened, is_isoflop
from flipscale.fit.fitted import Fit, Forecast, HeldOutRuns
from flipscale.fit.fitting import Options, default_law, fit, fit_groups
from flipscale.fit.frontiers import frontier, isoflop
from flipscale.fit.law import Law
from flipscale.fit.laws import LAWS, law_named
from flipscale.fit.prediction import forecast, forecast_groups
from flipscale.fit.rows import column, group_name, in_groups, where
from flipscale.fit.two_step import TwoStep, two_step
from flipscale.fit.unnamed import unnamed_settings
from flipscale.fit.words import fit_text, forecast_text

__all__ = [
    "LAWS",
    "Fit",
    "Forecast",
    "HeldOutRuns",
    "Law",
    "Options",
    "TwoStep",
    "column",
    "default_law",
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
    "isoflop",
    "law_named",
    "two_step",
    "unnamed_settings",
    "where",
]
