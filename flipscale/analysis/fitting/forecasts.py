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
from functools import cached_property

import numpy as np
import pandas as pd

from flipscale.analysis.fitting.chosen_rows import Response, in_groups
from flipscale.analysis.fitting.fitted_law import Fit, HeldOutRuns, Options
from flipscale.analysis.fitting.laws import law_named
from flipscale.analysis.fitting.table import fit, fit_rows, held_out_error
from flipscale.analysis.stats import Array, Interval
from flipscale.errors import ResultsError
from flipscale.scores import lower_is_better

OTHER_FORMS: dict[str, tuple[tuple[str, Mapping[str, float]], ...]] = {
    "odds": (("odds", {"c": 1.0}), ("odds-product", {}), ("chinchilla", {})),
    "odds-product": (("odds", {"c": 1.0}), ("product", {}), ("chinchilla", {})),
    "odds-power": (("power", {}), ("power+floor", {})),
    "power": (("power+floor", {}),),
    "power+floor": (("power", {}), ("power+floor", {"E": 0.0})),
    "chinchilla": (("chinchilla", {"E": 0.0}), ("product", {})),
    "chinchilla-k": (("chinchilla", {}), ("product", {})),
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
    interval: Interval | None
    """95 % interval of one run there: of the law, and of runs about it."""
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

    @property
    def distance(self) -> float | None:
        """How far it reaches over how far its law was tested, in log size; 0 inside the data; None: no test."""
        tested = self.held_out.extrapolation
        if tested is None or tested <= 1:
            return None
        return max(math.log(self.extrapolation), 0.0) / math.log(tested)

    @cached_property
    def doubts(self) -> tuple[Doubt, ...]:
        """The objections to it."""
        held = self.held_out
        far = self.distance
        if held.inside is None:
            doubts = [Doubt.UNTESTED]
        else:
            objections = {
                Doubt.MISSED: not held.inside,
                Doubt.BLUNT: held.sharpness is not None and held.sharpness > BLUNT,
                Doubt.TOO_FAR: far is None or far > FARTHEST,
                Doubt.FARTHER: far is not None and 1 < far <= FARTHEST,
            }
            doubts = [doubt for doubt, applies in objections.items() if applies]
        if self.as_good and self.interval:
            values = [self.value, *(self.forms[name] for name in self.as_good)]
            low, high = self.interval
            least = min(values)
            most = max(values)
            if most - least > FORMS_APART * (high - low):
                doubts.append(Doubt.FORMS_APART)
            elif not low <= least <= most <= high:
                doubts.append(Doubt.FORMS_OUTSIDE)
        return tuple(doubts)

    @property
    def grade(self) -> Grade:
        """Good without doubts, poor with one of _POOR, else fair."""
        if any(doubt in _POOR for doubt in self.doubts):
            return Grade.POOR
        return Grade.FAIR if self.doubts else Grade.GOOD

    @property
    def refused(self) -> bool:
        """Whether it should not be used."""
        return self.grade is Grade.POOR


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

    Its grade says how far it can be trusted. Raises ResultsError as `fit` does, and if `at` lacks a variable or has a
    value that the law cannot take.
    """
    return _tested_forecasts(fit(table, law, x=x, y=y, group=group, options=options), [at])[0]


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
    """The forecasts of every point for every value of the columns `group`; one fit each, one in all without columns."""
    return [
        forecast
        for values, part in in_groups(table, group)
        for forecast in _tested_forecasts(fit(part, law, x=x, y=y, group=values, options=options), points)
    ]


def _tested_forecasts(fitted: Fit, points: Sequence[Mapping[str, float]]) -> list[Forecast]:
    held_out = held_out_error(fitted.law, fitted.rows, fitted.options, interval=True)
    variables = [{name: at[name] for name in fitted.x if name in at} for at in points]
    return forecasts_of(fitted, variables, held_out)


def next_rung(fitted: Fit) -> Forecast:
    """The law's prediction for the next rung: the largest run with NEXT times its last variable."""
    largest = fitted.rows.x[int(np.argmax(fitted.rows.size))]
    times = 1 / NEXT if lower_is_better(fitted.x[-1]) else NEXT
    at = dict(zip(fitted.x, map(float, (*largest[:-1], times * largest[-1])), strict=True))
    return forecasts_of(fitted, [at], fitted.held_out)[0]


def forecasts_of(fitted: Fit, points: Sequence[Mapping[str, float]], held_out: HeldOutRuns) -> list[Forecast]:
    """Forecasts of a fitted law."""
    values = [float(fitted.predict(at)[0]) for at in points]
    others = _forms(fitted)
    misfits = {name: _misfit(form.predict(fitted.rows.x), fitted) for name, form in others.items()}
    limit = _AS_GOOD * _misfit(fitted.predict(dict(zip(fitted.x, fitted.rows.x.T, strict=True))), fitted)
    forecasts = []
    for at, value in zip(points, values, strict=True):
        ends = None if fitted.stretch is None else fitted.band(at, one_run=not fitted.optima)
        point = np.array([[at[name] for name in fitted.x]])
        forecasts.append(
            Forecast(
                fit=fitted,
                at=at,
                value=value,
                interval=ends and Interval(float(ends[0][0]), float(ends[1][0])),
                extrapolation=float(fitted.rows.size_of(point)[0] / fitted.rows.size.max()),
                held_out=held_out,
                forms={name: float(form.predict(point)[0]) for name, form in others.items()},
                as_good=tuple(name for name, misfit in misfits.items() if misfit < limit),
            )
        )
    return forecasts


@dataclass(frozen=True)
class _Form:
    """Another form, fitted to the same rows."""

    fit: Fit
    of_error: bool
    """Whether it is fitted to the error of an accuracy."""

    def predict(self, x: Array) -> Array:
        """y [n] at x [n, roles]."""
        y = self.fit.predict(dict(zip(self.fit.x, x.T, strict=True)))
        return 1 - y if self.of_error else y


def _forms(fitted: Fit) -> dict[str, _Form]:
    """Other forms by their names, without those that cannot be fitted."""
    forms: dict[str, _Form] = {}
    for name, fixed in OTHER_FORMS.get(fitted.law.name, ()):
        if set(fixed) & set(fitted.options.fixed):
            continue
        law = law_named(name)
        rows = fitted.rows
        # A law of losses is fitted to the error of an accuracy.
        of_error = fitted.law.link == "logit" and law.link == "log"
        if of_error:
            error = 1 - rows.y if rows.response.accuracy else rows.y
            rows = replace(rows, response=Response("error", "log", accuracy=False), y=error, z=np.log(error))
        options = replace(fitted.options, draws=0, fixed=fixed, tied={})
        with suppress(ResultsError):
            label = name + "".join(f", {key} = {held:g}" for key, held in fixed.items())
            forms[label] = _Form(
                fit_rows(law, rows, options, {}, hold_out=False), of_error and bool(fitted.rows.response.accuracy)
            )
    return forms


def _misfit(predicted: Array, fitted: Fit) -> float:
    """Root mean square distance of predictions from the rows, in the units of y."""
    return float(np.sqrt(np.mean((predicted - fitted.rows.y) ** 2)))
