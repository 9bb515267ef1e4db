"""Laws through the rows of a table: fits with intervals and a checklist, and forecasts with a grade.

    fit(table, "chinchilla", x=["N", "D"], y="loss")      one law through all rows
    fit_groups(table, "power", x=["flops"], y="error", group=["dataset"])
    isoflop(table, x="N", y="loss", budget="flops")       the best size of each budget, and the law through them
    frontier(table, x="flops", y="error", kind="pareto")  the rows that are best for their cost
    two_step(table, x=["N", "D"], through="loss", y="error")
    allocate(fit(table, "chinchilla", x=["N", "D"], y="loss"), flops=1e21)
    forecast(table, "odds", x=[...], y="top1", at={...})  graded by its predictions of the largest runs

law.py           a law, as data
laws.py          sums of powers, and all laws by name
other_laws.py    forms other than sums of powers
rows.py          the rows that a law is fitted to, and why the others are left out
where.py         conditions that choose among them
unnamed.py       settings in which these rows differ although no option names them
problem.py       a law, its points, and the parameters held fixed
descent.py       many searches at once
solver.py        one law through points: the best of many starts
uncertainty.py   resamples and intervals
seeds.py         the effect that runs of one seed share
resampling.py    resamples of settings and seeds
budget_noise.py  the scatter of runs about the curve of their budget
fitting.py       all of it, from a table to a Fit
fitted.py        a Fit and a Forecast, as data
held_out.py      the largest runs, as the smaller ones predict them
grade.py         how far a forecast can be trusted
checks.py        objections to a fit
best.py          the best runs for their cost: fronts, and the best size of a budget
frontiers.py     fits through them
two_step.py      from size to loss, and from loss to error
of_study.py      the laws of a study's own results
prediction.py    forecasts beyond the data
allocation.py    the best use of a budget
as_json.py       fits and forecasts for programs
words.py         fits and forecasts for people
exponents.py     the exponents of two studies

Data in, data out: nothing here touches a disk.
"""

from flipscale.fit.allocation import Allocation, allocate
from flipscale.fit.as_json import allocation_json, fit_json, forecast_json
from flipscale.fit.best import evened, is_isoflop
from flipscale.fit.exponents import (
    ExponentDifference,
    FitPair,
    LawInBoth,
    StudyOfFits,
    compare_exponents,
    constants_of,
    exponent_rows,
    fit_pair_json,
    fit_pair_notes,
)
from flipscale.fit.fitted import Fit, Forecast
from flipscale.fit.fitting import Options, default_law, fit, fit_groups
from flipscale.fit.frontiers import frontier, isoflop
from flipscale.fit.grade import Doubt, Grade, Graded, graded
from flipscale.fit.held_out import HeldOutRuns, HeldOutSetting
from flipscale.fit.law import Law
from flipscale.fit.laws import LAWS, law_named
from flipscale.fit.prediction import forecast, forecast_groups, forecast_points, forecast_two_step
from flipscale.fit.rows import column, group_name, in_groups
from flipscale.fit.two_step import TwoStep, two_step
from flipscale.fit.unnamed import unnamed_settings
from flipscale.fit.where import where
from flipscale.fit.words import allocation_text, fit_text, forecast_text

__all__ = [
    "LAWS",
    "Allocation",
    "Doubt",
    "ExponentDifference",
    "Fit",
    "FitPair",
    "Forecast",
    "Grade",
    "Graded",
    "HeldOutRuns",
    "HeldOutSetting",
    "Law",
    "LawInBoth",
    "Options",
    "StudyOfFits",
    "TwoStep",
    "allocate",
    "allocation_json",
    "allocation_text",
    "column",
    "compare_exponents",
    "constants_of",
    "default_law",
    "evened",
    "exponent_rows",
    "fit",
    "fit_groups",
    "fit_json",
    "fit_pair_json",
    "fit_pair_notes",
    "fit_text",
    "forecast",
    "forecast_groups",
    "forecast_json",
    "forecast_points",
    "forecast_text",
    "forecast_two_step",
    "frontier",
    "graded",
    "group_name",
    "in_groups",
    "is_isoflop",
    "isoflop",
    "law_named",
    "two_step",
    "unnamed_settings",
    "where",
]
