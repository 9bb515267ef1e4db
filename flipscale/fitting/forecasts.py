"""Predictions of a law for runs that are larger than all finished runs, and how far to trust them.

The rule: the largest rung is held out first, the law is fitted to the rest, and its intervals must hold that rung's
results. A law that misses known runs is not trusted for unknown ones. The test says nothing where its interval is as
wide as the range of all measurements, and little about a run that is many times farther from the data than the rung
was. Other forms that fit the same runs say how much the choice of the form matters there.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import pandas as pd

from flipscale.errors import ResultsError
from flipscale.fitting.fitted import Fit, HeldOutRuns, Options
from flipscale.fitting.laws import law_named
from flipscale.fitting.rows import Response, column, in_groups
from flipscale.fitting.table import fit, fit_rows, held_out_error
from flipscale.scores import lower_is_better
from flipscale.stats import Array

OTHER_FORMS: dict[str, tuple[tuple[str, Mapping[str, float]], ...]] = {
    "odds": (("odds", {"c": 1.0}), ("odds-product", {}), ("chinchilla", {})),
    "odds-product": (("odds", {"c": 1.0}), ("product", {}), ("chinchilla", {})),
    "odds-power": (("power", {}), ("power+floor", {})),
    "power": (("power+floor", {}),),
    "power+floor": (("power", {}), ("power+floor", {"E": 0.0})),
    "chinchilla": (("chinchilla", {"E": 0.0}), ("product", {})),
    "product": (("chinchilla", {"E": 0.0}), ("chinchilla", {})),
}
"""Law -> other forms that the runs might follow, each with its fixed parameters: their spread is model uncertainty."""

_AS_GOOD = 1.25  # most residuals of a form that fits as well, as a multiple of the law's own

NEXT = 2.0
"""The next rung has this many times the samples, or the last variable of the law, of the largest run."""

FARTHEST = 3.0
"""A forecast may reach this many times as far as its law was tested, in the logarithm of size."""

BLUNT = 1.0
"""A test whose interval is wider than this share of the range of all that was measured tests nothing. At half of it,
runs of which a tenth went wrong had 34 % of the forecasts refused that held the truth; so, 9 %."""

FORMS_APART = 3.0
"""Other forms may lie apart by this many widths of the forecast's interval."""


class Grade(StrEnum):
    """How far a forecast can be trusted."""

    GOOD = "good"
    FAIR = "fair"
    POOR = "poor"


class Doubt(StrEnum):
    """Objections to a forecast."""

    UNTESTED = "untested"
    MISSED = "missed"
    BLUNT = "blunt"
    TOO_FAR = "too far"
    FORMS_APART = "forms apart"
    FARTHER = "farther than tested"
    FORMS_OUTSIDE = "forms outside"


_POOR = (Doubt.UNTESTED, Doubt.MISSED, Doubt.BLUNT, Doubt.TOO_FAR, Doubt.FORMS_APART)


@dataclass(frozen=True)
class Forecast:
    """A run that was not made, as a law sees it."""

    fit: Fit
    at: Mapping[str, float]
    """The variables of that run."""
    value: float
    low: float | None
    """Lower end of the 95 % interval of one run there: of the law, and of runs about it."""
    high: float | None
    extrapolation: float
    """How many times larger it is than the largest run that was fitted."""
    held_out: HeldOutRuns
    forms: Mapping[str, float]
    """The predictions of other forms, fitted to the same rows."""
    as_good: tuple[str, ...] = ()
    """The forms among them whose residuals are about as small as the law's own."""

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest of all forms."""
        values = [self.value, *self.forms.values()]
        return min(values), max(values)


def forecast(
    table: pd.DataFrame,
    law: str | None = None,
    *,
    x: Sequence[str],
    y: str,
    at: Mapping[str, float],
    group: Mapping[str, object] | None = None,
    options: Options | None = None,
) -> Forecast:
    """The prediction of a law fitted to this table for the run `at`: column -> value, for every column of x.

    `graded` says how far it can be trusted. Raises ResultsError as `fit` does, and if `at` lacks a variable or has a
    value that the law cannot take.
    """
    return forecast_points(table, law, x=x, y=y, points=[at], group=group, options=options)[0]


def forecast_points(
    table: pd.DataFrame,
    law: str | None = None,
    *,
    x: Sequence[str],
    y: str,
    points: Sequence[Mapping[str, float]],
    group: Mapping[str, object] | None = None,
    options: Options | None = None,
) -> list[Forecast]:
    """The same for several runs, from one fit."""
    found = fit(table, law, x=x, y=y, group=group, options=options)
    held_out = held_out_error(found.law, found.rows, found.options, interval=True)
    return forecasts_of(found, [_columns_of(found.x, at) for at in points], held_out)


def forecast_groups(
    table: pd.DataFrame,
    law: str | None = None,
    *,
    x: Sequence[str],
    y: str,
    points: Sequence[Mapping[str, float]],
    group: Sequence[str],
    options: Options | None = None,
) -> list[Forecast]:
    """The forecasts of every point for every value of the columns `group`."""
    return [
        forecast
        for values, part in in_groups(table, group)
        for forecast in forecast_points(part, law, x=x, y=y, points=points, group=values, options=options)
    ]


def next_rung(found: Fit) -> Forecast:
    """The law's prediction for the next rung: the largest run with NEXT times its last variable."""
    largest = found.rows.x[int(np.argmax(found.rows.size))]
    times = 1 / NEXT if lower_is_better(found.x[-1]) else NEXT
    at = dict(zip(found.x, map(float, (*largest[:-1], times * largest[-1])), strict=True))
    return forecasts_of(found, [at], found.held_out)[0]


def forecasts_of(found: Fit, points: Sequence[Mapping[str, float]], held_out: HeldOutRuns) -> list[Forecast]:
    """Forecasts of a fitted law."""
    values = [float(found.predict(at)[0]) for at in points]
    others = _forms(found)
    misfits = {name: _misfit(form.predict(found.rows.x), found) for name, form in others.items()}
    limit = _AS_GOOD * _misfit(found.predict(dict(zip(found.x, found.rows.x.T, strict=True))), found)
    forecasts = []
    for at, value in zip(points, values, strict=True):
        low = high = None
        if found.stretch is not None:
            ends = found.band(at, one_run=not found.optima)
            low, high = float(ends[0][0]), float(ends[1][0])
        point = np.array([[at[name] for name in found.x]])
        forecasts.append(
            Forecast(
                fit=found,
                at=at,
                value=value,
                low=low,
                high=high,
                extrapolation=float(found.rows.size_of(point)[0] / found.rows.size.max()),
                held_out=held_out,
                forms={name: float(form.predict(point)[0]) for name, form in others.items()},
                as_good=tuple(name for name, misfit in misfits.items() if misfit < limit),
            )
        )
    return forecasts


def _columns_of(names: Sequence[str], at: Mapping[str, float]) -> dict[str, float]:
    """The columns `names` of a run, where its values give them: `gflops*samples` from both."""
    here = pd.DataFrame([at])
    values = {}
    for name in names:
        with suppress(ResultsError):
            values[name] = float(column(here, name)[0])
    return values


@dataclass(frozen=True)
class _Form:
    """Another form, fitted to the same rows."""

    fit: Fit
    of_error: bool
    """Whether it is fitted to the error of an accuracy."""

    def predict(self, x: Array) -> Array:
        """y [n] at x [n, roles]."""
        found = self.fit.predict(dict(zip(self.fit.x, x.T, strict=True)))
        return 1 - found if self.of_error else found


def _forms(found: Fit) -> dict[str, _Form]:
    """Other forms by their names, without those that cannot be fitted."""
    forms: dict[str, _Form] = {}
    for name, fixed in OTHER_FORMS.get(found.law.name, ()):
        if set(fixed) & set(found.fixed):
            continue
        law, rows = law_named(name), found.rows
        # A law of losses is fitted to the error of an accuracy.
        of_error = found.law.link == "logit" and law.link == "log"
        if of_error:
            error = 1 - rows.y if rows.response.accuracy else rows.y
            rows = replace(rows, response=Response("error", "log", accuracy=False), y=error, z=np.log(error))
        options = replace(found.options, draws=0, fixed=fixed, tied=None)
        with suppress(ResultsError):
            label = name + "".join(f", {key} = {held:g}" for key, held in fixed.items())
            forms[label] = _Form(
                fit_rows(law, rows, options, {}, hold_out=False), of_error and bool(found.rows.response.accuracy)
            )
    return forms


def _misfit(predicted: Array, found: Fit) -> float:
    """Root mean square distance of predictions from the rows, in the units of y."""
    return float(np.sqrt(np.mean((predicted - found.rows.y) ** 2)))


# How far to trust them


@dataclass(frozen=True)
class Graded:
    """The grade of a forecast, and the objections to it."""

    grade: Grade
    doubts: tuple[Doubt, ...]

    @property
    def refused(self) -> bool:
        """Whether the forecast should not be used."""
        return self.grade is Grade.POOR


def graded(forecast: Forecast) -> Graded:
    """The grade of a forecast: good without doubts, poor with one of _POOR, else fair."""
    doubts = (*_of_test(forecast), *_of_forms(forecast))
    if any(doubt in _POOR for doubt in doubts):
        return Graded(Grade.POOR, doubts)
    return Graded(Grade.FAIR if doubts else Grade.GOOD, doubts)


def distance(forecast: Forecast) -> float | None:
    """How far a forecast reaches over how far its law was tested, in log size; 0 inside the data; None: no test."""
    tested = forecast.held_out.extrapolation
    if tested is None or tested <= 1:
        return None
    return max(math.log(forecast.extrapolation), 0.0) / math.log(tested)


def _of_test(forecast: Forecast) -> tuple[Doubt, ...]:
    held = forecast.held_out
    if held.inside is None:
        return (Doubt.UNTESTED,)
    far = distance(forecast)
    found = (
        (not held.inside, Doubt.MISSED),
        (held.sharpness is not None and held.sharpness > BLUNT, Doubt.BLUNT),
        (far is None or far > FARTHEST, Doubt.TOO_FAR),
        (far is not None and 1 < far <= FARTHEST, Doubt.FARTHER),
    )
    return tuple(doubt for applies, doubt in found if applies)


def _of_forms(forecast: Forecast) -> tuple[Doubt, ...]:
    if not forecast.as_good or forecast.low is None or forecast.high is None:
        return ()
    values = [forecast.value, *(forecast.forms[name] for name in forecast.as_good)]
    low, high = min(values), max(values)
    if high - low > FORMS_APART * (forecast.high - forecast.low):
        return (Doubt.FORMS_APART,)
    return () if forecast.low <= low and high <= forecast.high else (Doubt.FORMS_OUTSIDE,)
