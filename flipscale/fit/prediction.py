"""Predictions of a law for a run that is larger than all finished runs.

The rule: the largest rung is held out first, the law is fitted to the rest, and its intervals must hold that rung's
results. A law that misses known runs is not trusted for unknown ones (grade.py).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from flipscale.errors import ResultsError
from flipscale.fit.fitted import Fit, Forecast
from flipscale.fit.fitting import Options, fit, held_out_error
from flipscale.fit.laws import law_named
from flipscale.fit.rows import column, in_groups
from flipscale.stats import Array

OTHER_FORMS: dict[str, tuple[tuple[str, Mapping[str, float]], ...]] = {
    "odds": (("odds", {"c": 1.0}), ("odds-product", {}), ("chinchilla", {})),
    "odds-product": (("odds", {"c": 1.0}), ("product", {}), ("chinchilla", {})),
    "odds-power": (("power", {}), ("power+floor", {})),
    "power": (("power+floor", {}),),
    "power+floor": (("power", {}), ("power+floor", {"E": 0.0}), ("shifted", {})),
    "chinchilla": (("chinchilla", {"E": 0.0}), ("product", {})),
    "product": (("chinchilla", {"E": 0.0}), ("chinchilla", {})),
    "data-limited": (("data-limited", {"E": 0.0}),),
    "growth": (),
}
"""Law -> other forms that the runs might follow, each with its fixed parameters: their spread is model uncertainty."""

_AS_GOOD = 1.25  # most residuals of a form that fits as well, as a multiple of the law's own

_ERROR = "error"  # the column of 1 - accuracy in a table of our own


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

    `grade.graded` says how far it can be trusted. Raises ResultsError as `fit` does, and if `at` lacks a variable or
    has a value that the law cannot take.
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
    options = options or Options()
    found = fit(table, law, x=x, y=y, group=group, options=options)
    held_out = held_out_error(found.law, found.rows, options, interval=True)
    asked = [_columns_of(found.x, at) for at in points]
    values = [float(found.predict(at)[0]) for at in asked]
    others = _forms(table, found, options)
    as_good = tuple(name for name, other in others.items() if _misfit(other, found) < _AS_GOOD * _misfit(None, found))
    forecasts = []
    for at, value in zip(asked, values, strict=True):
        low = high = None
        if found.stretch is not None:
            ends = found.band(at, one_run=True)
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
                forms={name: other(at) for name, other in others.items()},
                as_good=as_good,
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


# Two steps: from size to loss, and from loss to a score


@dataclass(frozen=True)
class TwoStep:
    """Two laws in a row: the loss falls smoothly where a score is still at chance (arXiv 2403.08540)."""

    first: Fit
    """Size to loss."""
    second: Fit
    """Loss to score."""

    @property
    def steps(self) -> tuple[Fit, Fit]:
        return self.first, self.second

    def predict(self, values: Mapping[str, ArrayLike]) -> Array:
        """The score [n] at values of the first step's columns."""
        return self.second.predict({self.second.x[0]: self.first.predict(values)})


def two_step(
    table: pd.DataFrame,
    law: str | None = None,
    *,
    x: Sequence[str],
    through: str,
    y: str,
    options: Options | None = None,
) -> TwoStep:
    """Fit `law` to the loss `through`, and `exponential` from that loss to y, each to the rows that have what it needs.

    `fixed`, `tied`, `linear` and `frontier` of the options are the first step's. Raises ResultsError as `fit` does.
    """
    options = options or Options()
    first = fit(table, law, x=x, y=through, options=replace(options, accuracy=False))
    return TwoStep(first, fit(table, "exponential", x=[through], y=y, options=_second(options)))


def forecast_two_step(
    table: pd.DataFrame,
    law: str | None = None,
    *,
    x: Sequence[str],
    through: str,
    y: str,
    points: Sequence[Mapping[str, float]],
    options: Options | None = None,
) -> list[Forecast]:
    """Forecasts of the loss `through` at each point and then of y at that loss: two for each point.

    The interval of y covers those at the loss and at both ends of the loss's interval.
    """
    options = options or Options()
    found = []
    first = replace(options, accuracy=False)
    for loss in forecast_points(table, law, x=x, y=through, points=points, options=first):
        asked = [{through: end} for end in (loss.value, loss.low, loss.high) if end is not None]
        scores = forecast_points(table, "exponential", x=[through], y=y, points=asked, options=_second(options))
        found += [loss, _over(scores)]
    return found


def _second(options: Options) -> Options:
    return replace(options, fixed=None, tied=None, linear=False, frontier=None)


def _over(scores: Sequence[Forecast]) -> Forecast:
    """The first of these forecasts, with an interval that covers all of theirs; none if one of the three has none."""
    lows = [score.low for score in scores if score.low is not None]
    highs = [score.high for score in scores if score.high is not None]
    known = len(lows) == len(highs) == 3
    return replace(scores[0], low=min(lows) if known else None, high=max(highs) if known else None)


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


def _forms(table: pd.DataFrame, fitted: Fit, options: Options) -> dict[str, Callable[[Mapping[str, float]], float]]:
    """Predictions of other forms for a point, by their names, without those that cannot be fitted."""
    found: dict[str, Callable[[Mapping[str, float]], float]] = {}
    for name, fixed in OTHER_FORMS.get(fitted.law.name, ()):
        if set(fixed) & set(fitted.fixed):
            continue
        # A law of losses is fitted to the error of an accuracy.
        flip = fitted.rows.response.accuracy and fitted.law.link == "logit" and law_named(name).link == "log"
        whole = 100 if fitted.rows.response.percent else 1
        other_table = table.assign(**{_ERROR: whole - column(table, fitted.y)}) if flip else table
        try:
            other = fit(
                other_table,
                name,
                x=fitted.x,
                y=_ERROR if flip else fitted.y,
                options=replace(options, draws=0, fixed=fixed, tied=None, accuracy=None if flip else options.accuracy),
            )
        except ResultsError:
            continue
        label = name + "".join(f", {key} = {held:g}" for key, held in fixed.items())
        found[label] = partial(_says, other, whole if flip else None)
    return found


def _misfit(other: Callable[[Mapping[str, float]], float] | None, found: Fit) -> float:
    """Root mean square distance of the rows from another form, or None: from the law itself, in the units of y."""
    rows = [dict(zip(found.x, row, strict=True)) for row in found.rows.x]
    said = found.predict(dict(zip(found.x, found.rows.x.T, strict=True))) if other is None else [*map(other, rows)]
    return float(np.sqrt(np.mean((np.asarray(said) - found.rows.y) ** 2)))


def _says(fitted: Fit, whole: float | None, at: Mapping[str, float]) -> float:
    """The value of a fit at a point; with `whole`, that of an error turned into an accuracy, whole - error."""
    value = float(fitted.predict(at)[0])
    return value if whole is None else whole - value
