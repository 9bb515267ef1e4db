"""Fits and forecasts as records of plain data: what fits.json holds, and what law_words.py puts into words.

Their checklist is that of a survey of misfitted scaling laws (arXiv 2502.18969): form, loss, starts, optimiser,
exclusions, definitions, conditioning, and the error on what was held out. docs/fits.md lists the keys.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from flipscale.analysis.fitting.allocation import Allocation
from flipscale.analysis.fitting.chosen_rows import group_name
from flipscale.analysis.fitting.fitted_law import Fit, HeldOutRuns, HeldOutSetting
from flipscale.analysis.fitting.forecasts import Doubt, Forecast, next_rung
from flipscale.analysis.fitting.search import TOLERANCE
from flipscale.analysis.fitting.table import FEW
from flipscale.analysis.fitting.uncertainty import LARGE
from flipscale.door.columns import MEASURED_COLUMNS
from flipscale.scores import lower_is_better
from flipscale.words import listed, names_by_reason, short

MOST_REASONS = 3
"""The most reasons, or settings, that a sentence lists."""


def number(value: float | None, digits: int = 4) -> str:
    """A number as a person reads it, with that many digits; '-' for none."""
    return "-" if value is None else f"{value:.{digits}g}"


def fit_json(fit: Fit) -> dict[str, Any]:
    """A law, in JSON's types."""
    return {
        "law": fit.law.name,
        "title": _title(fit),
        "formula": fit.law.formula,
        "group": _group(fit),
        "x": list(fit.x),
        "y": fit.y,
        "parameters": {name: _finite(value) for name, value in fit.parameters.items()},
        "intervals": {name: None if ends is None else [*map(_finite, ends)] for name, ends in fit.intervals.items()},
        "not_determined": dict(fit.not_determined),
        "n": len(fit.rows),
        "points": fit.rows.points,
        "loss": fit.options.loss,
        "delta": fit.delta,
        "residuals": "linear" if fit.options.linear else fit.law.link,
        "spread": fit.spread,
        "objective": fit.solution.objective,
        "starts": fit.solution.starts,
        "agree": fit.solution.agree,
        "at_bounds": list(fit.solution.at_bounds),
        "condition": _finite(fit.solution.condition),
        "draws": len(fit.draws),
        "frontier": fit.frontier,
        "seed_effect": None if fit.seeds is None else {"sd": fit.seeds.sd, "seeds": fit.seeds.seeds},
        "weights": fit.options.weights,
        "fixed": dict(fit.options.fixed),
        "tied": dict(fit.options.tied),
        "optima": [vars(optimum) for optimum in fit.optima],
        "held_out": _held_out(fit.held_out),
        "next_rung": _prediction(next_rung(fit)),
        "used": list(fit.used),
        "left_out": dict(fit.left_out),
        "notes": notes(fit),
        "checklist": checklist(fit),
    }


def forecast_json(forecast: Forecast) -> dict[str, Any]:
    """A forecast, in JSON's types."""
    return {
        "group": _group(forecast.fit),
        "law": forecast.fit.law.name,
        "y": forecast.fit.y,
        **_prediction(forecast),
        "extrapolation": forecast.extrapolation,
        "held_out": _held_out(forecast.held_out),
        "spread": list(forecast.spread),
        "grade": str(forecast.grade),
        "doubts": {str(doubt): doubt_words(doubt, forecast) for doubt in forecast.doubts},
        "refused": forecast.refused,
        "fit": fit_json(forecast.fit),
    }


def allocation_json(allocation: Allocation) -> dict[str, Any]:
    """The best use of a budget, in JSON's types."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(allocation).items()}


def _prediction(forecast: Forecast) -> dict[str, Any]:
    return {
        "at": dict(forecast.at),
        "value": forecast.value,
        "interval": forecast.interval and [*forecast.interval],
        "forms": dict(forecast.forms),
    }


def _held_out(held: HeldOutRuns) -> dict[str, Any]:
    return {
        "runs": list(held.runs),
        "settings": [
            {
                "at": dict(setting.at),
                "runs": setting.runs,
                "predicted": setting.predicted,
                "measured": setting.measured,
                "error": setting.error,
                "interval": setting.interval and [*setting.interval],
                "inside": setting.inside,
            }
            for setting in held.settings
        ],
        "rms_error": held.rms,
        "inside": held.inside,
        "sharpness": None if held.sharpness is None else _finite(held.sharpness),
        "extrapolation": held.extrapolation,
        "why": held.why,
    }


def _title(fit: Fit) -> str:
    """'top1 against hours at dataset=c4: power'."""
    group = f" at {group_name(fit.group)}" if fit.group else ""
    return f"{fit.y} against {', '.join(fit.x)}{group}: {fit.law.name}"


def _group(fit: Fit) -> dict[str, object]:
    values = {name: value.item() if isinstance(value, np.generic) else value for name, value in fit.group.items()}
    return {name: None if value != value else value for name, value in values.items()}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


# Sentences


def notes(fit: Fit) -> list[str]:
    """Cautions that a reader needs before believing a fit."""
    rows = fit.rows
    said = list[str]()
    if rows.open_settings:
        named = [f"{name} ({listed([*map(short, values)], 3)})" for name, values in rows.open_settings.items()]
        said.append(
            f"one law goes through rows that differ in {', '.join(named)}, which no option names; --group fits each "
            f"value separately, --where selects some"
        )
    if fit.seeds is not None and fit.seeds.sd > LARGE:
        scale = {"log": "log y", "logit": "the logit of the error", "linear": "y"}[fit.law.link]
        said.append(
            f"a seed moves the whole curve: SD {fit.seeds.sd:.2g} in {scale}, from {fit.seeds.seeds} seeds. The law's "
            f"level is known only as well as so few seeds tell, exponents are not affected"
        )
    if ended := [name for name in fit.solution.at_bounds if name != "E"]:  # a floor of 0 is an answer
        said.append(f"{', '.join(ended)} at the bound of the search: the rows do not determine it")
    if rows.points < FEW and len(fit.law.parameters) > 2:
        said.append(f"{rows.points} points: below {FEW} only a power law is advised")
    if fit.solution.condition > 1e4:
        said.append("parameters trade off against each other: their single values mean little, predictions may still")
    if _rises(fit):
        ends = "has no upper end" if fit.law.is_line else "only falls"
        said.append(f"{fit.y} rises with size, and this law {ends}: for an accuracy fit 1 - y, or odds")
    return said


def _rises(fit: Fit) -> bool:
    """Whether a law that only falls, or a power, is fitted to a score that rises with size."""
    if fit.law.link != "log" or (fit.law.is_line and lower_is_better(fit.y) is not False):
        return False
    size = np.log(np.maximum(fit.rows.size, 1e-300))
    return bool(np.ptp(size) and np.corrcoef(size, fit.rows.z)[0, 1] > 0.5)


def checklist(fit: Fit) -> list[str]:
    """What a reader needs to know before using a fit, one sentence each."""
    s = fit.solution
    law = fit.law
    options = fit.options
    error = f"1 - {fit.y}" if law.link == "logit" and fit.rows.response.accuracy else fit.y
    scale = fit.y if options.linear or law.link == "linear" else f"{law.link} of {error}"
    loss = f"Huber loss (delta {number(fit.delta, 3)}), summed," if options.loss == "huber" else "squares"
    weights = options.weights or options.se
    weighted = f", weighted by {weights}" if weights else ""
    ended = f"; at the end of their range: {', '.join(s.at_bounds)}" if s.at_bounds else ""
    lines = [
        f"form: {law.formula}, {law.about}",
        f"loss: {loss} of residuals in the {scale}; their spread is {number(fit.spread, 2)}{weighted}",
        f"optimiser: damped Newton from every start, scipy least_squares from the best end, with the exact Jacobian, "
        f"tolerances {TOLERANCE:g}; {s.agree} of {s.starts} starts agree",
        f"rows: {_rows(fit)}",
        f"definitions: {'; '.join(_definition(fit, *named) for named in zip(law.roles, fit.x, strict=True))}",
        f"conditioning: {number(s.condition, 2)}{ended}",
        f"intervals: {_intervals(fit)}",
        f"held out: {held_out_words(fit.held_out)}",
    ]
    if fit.reaches_0:
        lines.append("floor: the 95 % CI of E reaches 0, so the data does not determine a floor")
    if fit.law.outer:
        lines.append(_outer(fit, fit.law.outer))
    return lines + [f"note: {note}" for note in notes(fit)]


def _definition(fit: Fit, role: str, name: str) -> str:
    """The meaning of a variable: that of results.csv, or the table's own, as another table may use the same names."""
    known = MEASURED_COLUMNS.get(name)
    if known is None or not fit.rows.collected:
        return f"{role} is {name}: as in the table"
    unit = f" ({known.unit})" if known.unit and known.unit not in known.meaning else ""
    return f"{role} is {name}{unit}: {known.meaning}"


def _rows(fit: Fit) -> str:
    used = f"{len(fit.used)} used, {fit.groups if fit.optima else fit.rows.points} different settings"
    if fit.optima:
        used += f", and the best sizes of {len(fit.optima)} budgets fitted, by {fit.frontier}"
    elif fit.frontier:
        used += f", reduced by {fit.frontier}"
    if not fit.left_out:
        return f"{used}, none left out"
    reasons = [
        f"{names[0] if len(names) == 1 else len(names)}: {why}" for why, names in names_by_reason(fit.left_out).items()
    ]
    more = f"; and {len(reasons) - MOST_REASONS} other reasons" if len(reasons) > MOST_REASONS else ""
    return f"{used}, {len(fit.left_out)} left out ({'; '.join(reasons[:MOST_REASONS])}{more})"


def _intervals(fit: Fit) -> str:
    if fit.stretch is None:
        return f"none, as {fit.no_interval}"
    if fit.whole_seeds:
        luck = "as the lengths of each share its luck"
        best = "best sizes" if fit.optima else "front"
        if fit.frontier:
            return f"95 % CI, {len(fit.draws)} draws of the {best} of {fit.whole_seeds} new seeds, {luck}"
        return f"95 % CI by leaving out each of {fit.whole_seeds} seeds in turn, {luck}"
    if fit.optima:
        return f"95 % CI, {len(fit.draws)} draws of the best sizes, {fit.freedom} degrees of freedom"
    if fit.rows.runs is not None:
        return f"95 % CI, {len(fit.draws)} resamples of {fit.groups} runs, by {fit.options.run}"
    linked = ", those that share trunks as one" if fit.rows.trunks is not None else ""
    said = f"95 % CI, {len(fit.draws)} resamples of {fit.groups} settings{linked}"
    if fit.seeds is not None:
        effect = f"(SD {number(fit.seeds.sd, 2)}) by Student's t"
        return f"{said}, and the effect of {fit.seeds.seeds} shared seeds {effect}"
    alone = ", one run each, so the scatter of seeds is seen only as scatter about the law"
    return said + ("" if fit.groups < len(fit.used) else alone)


def _outer(fit: Fit, outer: str) -> str:
    """The test of the exponent around a sum."""
    if outer in fit.options.fixed:
        return f"{outer}: fixed"
    ends = fit.intervals[outer]
    terms = "the odds of both terms" if outer == "c" else "both terms"
    is_sum = f"{outer} = 1 ({terms} add up)"
    if ends is None:
        why = "it is not determined" if outer in fit.not_determined else "there is no CI"
        return f"{is_sum}: not tested, as {why}"
    where = "inside" if ends[0] <= 1 <= ends[1] else "outside"
    return f"{is_sum} is {where} the 95 % CI of {outer}, {number(ends[0])} to {number(ends[1])}"


def held_out_words(held: HeldOutRuns) -> str:
    """'the 2 largest runs, 4 times larger than the rest: N=1e10 predicted 0.71, measured 0.70; ...'."""
    if held.rms is None:
        return f"no error, as {held.why}"
    many = f"the {len(held.runs)} largest runs" if len(held.runs) > 1 else "the largest run"
    settings = "; ".join(map(_setting, held.settings[:MOST_REASONS]))
    more = f"; and {len(held.settings) - MOST_REASONS} other settings" if len(held.settings) > MOST_REASONS else ""
    return (
        f"{many}, {number(held.extrapolation, 2)} times larger than the rest: {settings}{more}; root mean square error "
        f"{number(held.rms, 2)}"
    )


def _setting(setting: HeldOutSetting) -> str:
    """'N=1e10 predicted 0.71 (95 % CI 0.69 to 0.73), measured 0.7'."""
    interval = f" (95 % CI {' to '.join(map(number, setting.interval))})" if setting.interval else ""
    at = values_words(setting.at)
    return f"{at} predicted {number(setting.predicted)}{interval}, measured {number(setting.measured)}"


def values_words(values: Mapping[str, float]) -> str:
    """'N=1e+10, D=3e+11'."""
    return ", ".join(f"{name}={number(value)}" for name, value in values.items())


def doubt_words(doubt: Doubt, forecast: Forecast) -> str:
    """The objection to a forecast, as a sentence."""
    held = forecast.held_out
    asked = number(forecast.extrapolation, 3)
    tested = number(held.extrapolation, 2)
    reach = f"{asked} times the largest run, tested at {tested} times"
    missed = next((setting for setting in held.settings if setting.inside is False), None)
    width = number(100 * (held.sharpness or 0), 2)
    return {
        Doubt.UNTESTED: f"the law is not tested: {held.why or 'too few runs are left for an interval'}",
        Doubt.MISSED: f"fitted to all smaller runs, the law misses the largest: {missed and _setting(missed)}",
        Doubt.BLUNT: f"the test says little: its 95 % CI is {width} % as wide as the range of all runs",
        Doubt.TOO_FAR: f"too far: {reach}",
        Doubt.FARTHER: f"farther than tested: {reach}",
        Doubt.FORMS_APART: "other forms that fit the same runs lie farther apart than three widths of the 95 % CI",
        Doubt.FORMS_OUTSIDE: "other forms that fit the same runs lie outside the 95 % CI",
    }[doubt]
