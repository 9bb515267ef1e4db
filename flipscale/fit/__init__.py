"""Laws through the rows of a table: fits with intervals and a checklist, and forecasts that were held to account.

    fit(table, "chinchilla", x=["N", "D"], y="loss")      one law through all rows
    fit_groups(table, "power", x=["flops"], y="error", group=["dataset"])
    isoflop(table, x="N", y="loss", budget="flops")       the best size of each budget, and the law through those
    frontier(table, x="flops", y="error", kind="pareto")  the rows that are best for their cost
    two_step(table, x=["N", "D"], through="loss", y="error")
    forecast(table, "odds", x=[...], y="top1", at={...})  refused where it would have missed the largest runs

law.py           what a law is
laws.py          sums of powers, and all laws by name
bends.py         forms that are no sum of powers
rows.py          which rows take part, and why the others do not
solver.py        one law through points: the best of many starts
uncertainty.py   resamples and intervals
fitting.py       all of it, from a table to a Fit
fitted.py        a Fit
doubts.py        what speaks against one
best.py          what is best for its cost: fronts, and the best size of a budget
fronts.py        fits through those
two_step.py      from size to loss, and from loss to error
of_study.py      the laws of a study's own results
prediction.py    beyond the data
words.py         how all of it reads

Data in, data out: nothing here touches a disk.
"""

from flipscale.fit.best import evened, is_isoflop
from flipscale.fit.fitted import Fit, HeldOut
from flipscale.fit.fitting import Options, default_law, fit, fit_groups
from flipscale.fit.fronts import frontier, isoflop
from flipscale.fit.law import Law
from flipscale.fit.laws import LAWS, law_named
from flipscale.fit.prediction import Forecast, forecast, forecast_groups
from flipscale.fit.rows import column, group_name, in_groups, where
from flipscale.fit.two_step import TwoStep, two_step

__all__ = [
    "LAWS",
    "Fit",
    "Forecast",
    "HeldOut",
    "Law",
    "Options",
    "TwoStep",
    "column",
    "default_law",
    "evened",
    "fit",
    "fit_groups",
    "forecast",
    "forecast_groups",
    "frontier",
    "group_name",
    "in_groups",
    "is_isoflop",
    "isoflop",
    "law_named",
    "two_step",
    "where",
]
