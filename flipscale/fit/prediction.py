"""What a law says of a run that is larger than all runs there are, and whether it should be believed.

The rule: the largest rung is held out first, the law is fitted to the rest, and its 95 % interval must hold what that
rung came to. A law that misses what is known is not believed about what is not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from flipscale.errors import ResultsError
from flipscale.fit.fitted import Fit, Forecast, HeldOutRuns
from flipscale.fit.fitting import Options, fit, held_out_error
from flipscale.fit.laws import law_named
from flipscale.fit.rows import column, in_groups
from flipscale.fit.words import number

OTHER_FORMS: dict[str, tuple[tuple[str, Mapping[str, float]], ...]] = {
    "odds": (("odds", {"c": 1.0}), ("odds-product", {}), ("chinchilla", {})),
    "odds-product": (("odds", {"c": 1.0}), ("product", {}), ("chinchilla", {})),
    "odds-power": (("power", {}), ("power+floor", {})),
    "mask": (("mask", {"c": 1.0}), ("mask+floor", {})),
    "power": (("power+floor", {}),),
    "power+floor": (("power", {}), ("power+floor", {"E": 0.0}), ("shifted", {})),
    "chinchilla": (("chinchilla", {"E": 0.0}), ("product", {})),
    "product": (("chinchilla", {"E": 0.0}), ("chinchilla", {})),
    "data-limited": (("data-limited", {"E": 0.0}),),
    "growth": (),
}
"""Law -> other forms that the runs might follow, each with what is held fast: their spread is model uncertainty."""

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
    """What a law fitted to this table says of the run `at`: column -> value, for every column of x.

    The answer carries `refused` where the law missed the largest runs, or could not be asked about them. Raises
    ResultsError as `fit` does, and where `at` lacks a variable.
    """
    options = options or Options()
    found = fit(table, law, x=x, y=y, group=group, options=options)
    variables = {name: float(at[name]) for name in found.x if name in at}
    value = float(found.predict(variables)[0])
    low = high = None
    if found.stretch is not None:
        ends = found.band(variables, one_run=True)
        low, high = float(ends[0][0]), float(ends[1][0])
    held_out = held_out_error(found.law, found.rows, options, interval=True)
    point = np.array([[variables[name] for name in found.x]])
    return Forecast(
        fit=found,
        at=variables,
        value=value,
        low=low,
        high=high,
        extrapolation=float(found.rows.size_of(point)[0] / found.rows.size.max()),
        held_out=held_out,
        forms=_forms(table, found, variables, options),
        refused=_refused(held_out),
    )


def forecast_groups(
    table: pd.DataFrame,
    law: str | None = None,
    *,
    x: Sequence[str],
    y: str,
    at: Mapping[str, float],
    group: Sequence[str],
    options: Options | None = None,
) -> list[Forecast]:
    """A forecast for every value of the columns `group`."""
    return [
        forecast(part, law, x=x, y=y, at=at, group=values, options=options) for values, part in in_groups(table, group)
    ]


def _refused(held_out: HeldOutRuns) -> str | None:
    if held_out.error is None:
        return f"the law cannot be held to account: {held_out.why}"
    if held_out.inside is None:
        return "too few runs are left for an interval, so the law cannot be held to account"
    if held_out.inside:
        return None
    return (
        f"fitted to all smaller runs, the law says {number(held_out.predicted)} ({number(held_out.low)} to "
        f"{number(held_out.high)}) of the largest, which came to {number(held_out.measured)}"
    )


def _forms(table: pd.DataFrame, fitted: Fit, at: Mapping[str, float], options: Options) -> dict[str, float]:
    """The forecasts of other forms, by their names; one that cannot be fitted is not among them."""
    found: dict[str, float] = {}
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
        value = float(other.predict(at)[0])
        label = name + "".join(f", {key} = {held:g}" for key, held in fixed.items())
        found[label] = whole - value if flip else value
    return found
