"""How fits and forecasts read: a table of parameters, and the checklist that should accompany every fit.

The checklist is that of a survey of misfitted scaling laws (arXiv 2502.18969): form, loss, starts, optimiser,
exclusions, definitions, conditioning, and the error on what was held out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from flipscale.fit.allocation import Allocation
from flipscale.fit.fitted import Fit, Forecast, HeldOutRuns, HeldOutSetting
from flipscale.fit.grade import Doubt, graded
from flipscale.fit.rows import group_name, meaning
from flipscale.fit.search import TOLERANCE
from flipscale.tables import PrintedTable

_NOTE = "note: "

_REASONS = 3  # reasons that fit a readable line


def number(value: float | None, digits: int = 4) -> str:
    """A number as a person reads it, with that many digits; '-' for none."""
    return "-" if value is None else f"{value:.{digits}g}"


def title(fit: Fit) -> str:
    """'top1 against hours at dataset=c4: power'."""
    group = f" at {group_name(fit.group)}" if fit.group else ""
    return f"{fit.y} against {', '.join(fit.x)}{group}: {fit.law.name}"


def fits_table(fits: Sequence[Mapping[str, Any]]) -> PrintedTable:
    """A law a row: exponents, floor, error on the largest runs, and scatter. `fits` are as fits.json has them."""
    rows = []
    for fit in fits:
        said = {name: _determined(fit, name) for name in fit["parameters"]}
        exponents = [f"{name} {words}" for name, words in said.items() if name.islower() and name != "c"]
        held, seeds = fit["held_out"], fit["seed_effect"] or {}
        larger = "" if held["rms_error"] is None else f" at {number(held['extrapolation'], 2)}x"
        rows.append(
            (
                f"{group_name(fit['group'])}: {fit['law']}",
                "; ".join(exponents),
                said.get("E", "-"),
                f"{number(held['rms_error'], 2)}{larger}",
                number(fit["spread"], 2),
                number(seeds.get("sd") or None, 2),
            )
        )
    columns = ("", "exponent (95 % CI)", "floor", "held out", "scatter", "of seeds")
    notes = [f"{law}: {formula}" for law, formula in dict.fromkeys((fit["law"], fit["formula"]) for fit in fits)]
    notes.append(
        "? is not determined. Held out is the root mean square error on the largest runs, so many times larger than "
        "the rest; scatter is of residuals, and that of seeds moves whole curves."
    )
    return PrintedTable("", columns, tuple(rows), tuple(notes), wraps=True).without_empty()


def _determined(fit: Mapping[str, Any], name: str) -> str:
    """'0.34 (0.31, 0.37)', '?' if not determined, or '0 to 0.02' for a floor that may be 0."""
    value, ends = number(fit["parameters"][name], 2), fit["intervals"].get(name)
    if name in fit["not_determined"]:
        return "?"
    if not ends or None in ends or name in fit["fixed"]:
        return value
    low, high = (number(end, 2) for end in ends)
    return f"0 to {high}" if name == "E" and ends[0] <= 0 else f"{value} ({low}, {high})"


def fit_text(fit: Fit) -> str:
    """A fit for a terminal: its title, notes, parameters with intervals, and its checklist."""
    lines = [title(fit), f"  {fit.law.formula}", *(f"  NOTE: {note}" for note in fit.notes)]
    width = max(map(len, fit.parameters))
    for name in fit.parameters:
        value, ends = parameter_words(fit, name)
        lines.append(f"  {name:<{width}}  {value:>12}  {ends}".rstrip())
    lines += [f"  - {line}" for line in checklist(fit) if not line.startswith(_NOTE)]
    return "\n".join(lines)


def parameter_words(fit: Fit, name: str) -> tuple[str, str]:
    """A parameter's value and its interval, or why there is none; a floor that may be 0 is '0 to x'."""
    value, ends = number(fit.parameters[name], 6), fit.intervals[name]
    if name in fit.fixed:
        return value, "fixed"
    tied = f"tied to {fit.tied[name]} " if name in fit.tied else ""
    if name in fit.not_determined:
        return value, f"{tied}not determined: {fit.not_determined[name]}"
    if name == "E" and fit.reaches_0 and ends:
        return f"0 to {number(ends[1])}", f"{tied}not told from 0"
    return value, f"{tied}({number(ends[0])}, {number(ends[1])})" if ends else tied.strip()


def forecast_text(forecast: Forecast, *, forced: bool = False) -> str:
    """For a terminal; a forecast that is refused shows its number only if forced."""
    found = graded(forecast)
    lines = [title(forecast.fit), f"  at {_at(forecast.at)}", *(f"  NOTE: {note}" for note in forecast.fit.notes)]
    if not found.refused or forced:
        interval = (
            f", 95 % CI of one run {number(forecast.low)} to {number(forecast.high)}"
            if forecast.low is not None
            else ""
        )
        lines.append(f"  forecast: {forecast.fit.y} {number(forecast.value)}{interval}")
        low, high = forecast.spread
        others = "; ".join(f"{name} {number(value)}" for name, value in forecast.forms.items())
        lines.append(f"  between forms: {number(low)} to {number(high)}" + (f" ({others})" if others else ""))
    lines.append(f"  extrapolation: {number(forecast.extrapolation, 3)} times the largest run")
    lines.append(f"  held out: {held_out_words(forecast.held_out)}")
    lines.append(f"  grade: {found.grade}" + (", forced" if forced and found.refused else ""))
    lines += [f"  - {doubt_words(doubt, forecast)}" for doubt in found.doubts]
    return "\n".join(lines)


def allocation_text(found: Allocation, fit: Fit) -> str:
    """How a budget is best spent, for a terminal."""
    size, samples = fit.x
    lines = [
        f"best use of {number(found.flops)} FLOPs ({number(found.flops_per)} x {size} x {samples}), by {fit.law.name}",
        f"  {size} {number(found.size)}{_ends(found.size_interval)}",
        f"  {samples} {number(found.samples)}{_ends(found.samples_interval)}",
        f"  {fit.y} {number(found.y)} there; the run is {number(found.extrapolation, 3)} times the largest fitted",
        f"  the best {size} grows as FLOPs to the power {number(found.exponent, 3)}{_ends(found.exponent_interval)}",
    ]
    return "\n".join(lines)


def _ends(ends: tuple[float, float] | None) -> str:
    return f" (95 % CI {number(ends[0])} to {number(ends[1])})" if ends else ""


def doubt_words(doubt: Doubt, forecast: Forecast) -> str:
    """The objection to a forecast, as a sentence."""
    held = forecast.held_out
    asked, tested = number(forecast.extrapolation, 3), number(held.extrapolation, 2)
    match doubt:
        case Doubt.UNTESTED:
            return f"the law is not tested: {held.why or 'too few runs are left for an interval'}"
        case Doubt.MISSED:
            missed = [setting for setting in held.settings if setting.inside is False]
            return f"fitted to all smaller runs, the law misses the largest: {_setting(missed[0])}"
        case Doubt.BLUNT:
            return (
                f"the test says little: its 95 % CI is {number(100 * (held.sharpness or 0), 2)} % as wide as the range "
                f"of all runs"
            )
        case Doubt.TOO_FAR:
            return f"too far: {asked} times the largest run, tested at {tested} times"
        case Doubt.FARTHER:
            return f"farther than tested: {asked} times the largest run, tested at {tested} times"
        case Doubt.FORMS_APART:
            return "other forms that fit the same runs lie farther apart than three widths of the 95 % CI"
        case Doubt.FORMS_OUTSIDE:
            return "other forms that fit the same runs lie outside the 95 % CI"


def checklist(fit: Fit) -> list[str]:
    """What a reader needs to know before using a fit, one sentence each."""
    s = fit.solution
    scale = (
        fit.y
        if fit.linear or fit.law.link == "linear"
        else f"{'log' if fit.law.link == 'log' else 'logit'} of {_response(fit)}"
    )
    loss = f"Huber loss (delta {number(fit.delta, 3)}), summed," if fit.loss == "huber" else "squares"
    lines = [
        f"form: {fit.law.formula}, {fit.law.about}",
        f"loss: {loss} of residuals in the {scale}; their spread is {number(fit.spread, 2)}"
        + (f", weighted by {fit.weights}" if fit.weights else ""),
        f"optimiser: damped Newton from every start, scipy least_squares from the best end, with the exact Jacobian, "
        f"tolerances {TOLERANCE:g}; {s.agree} of {s.starts} starts agree",
        f"rows: {_rows(fit)}",
        f"definitions: {_definitions(fit)}",
        f"conditioning: {number(s.condition, 2)}"
        + (f"; at the end of their range: {', '.join(s.at_bounds)}" if s.at_bounds else ""),
        f"intervals: {_intervals(fit)}",
        f"held out: {held_out_words(fit.held_out)}",
    ]
    if fit.reaches_0:
        lines.append("floor: the 95 % CI of E reaches 0, so the data does not determine a floor")
    if "c" in fit.parameters and fit.law.link == "logit":
        lines.append(_outer_words(fit))
    return lines + [f"{_NOTE}{note}" for note in fit.notes]


def by_reason(none: Mapping[str, str]) -> list[str]:
    """The laws that could not be fitted, one line per reason: 'data_size=250 and 8 others: all runs have ...'."""
    names_of = _names_by_reason(none)
    more = {1: "", 2: " and another"}
    return [
        f"{names[0]}{more.get(len(names), f' and {len(names) - 1} others')}: {why}" for why, names in names_of.items()
    ]


def held_out_words(held: HeldOutRuns) -> str:
    """'the 2 largest runs, 4 times larger than the rest: N=1e10 predicted 0.71, measured 0.70; root mean square error
    0.01'."""
    if held.rms is None:
        return f"no error, as {held.why}"
    many = f"the {len(held.runs)} largest runs" if len(held.runs) > 1 else "the largest run"
    settings = "; ".join(map(_setting, held.settings[:_REASONS]))
    more = f"; and {len(held.settings) - _REASONS} other settings" if len(held.settings) > _REASONS else ""
    return (
        f"{many}, {number(held.extrapolation, 2)} times larger than the rest: {settings}{more}; root mean square error "
        f"{number(held.rms, 2)}"
    )


def _setting(setting: HeldOutSetting) -> str:
    """'N=1e10 predicted 0.71 (95 % CI 0.69 to 0.73), measured 0.7'."""
    interval = f" (95 % CI {number(setting.low)} to {number(setting.high)})" if setting.low is not None else ""
    return f"{_at(setting.at)} predicted {number(setting.predicted)}{interval}, measured {number(setting.measured)}"


def _at(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={number(value)}" for name, value in values.items())


def _response(fit: Fit) -> str:
    response = fit.rows.response
    if response.link == "log":
        return response.column
    error = f"1 - {response.column}" if response.accuracy else response.column
    return f"{error} (percent)" if response.percent else error


def _definitions(fit: Fit) -> str:
    collected = fit.rows.collected
    return "; ".join(
        f"{role} is {meaning(name, collected=collected)}" for role, name in zip(fit.law.roles, fit.x, strict=True)
    )


def _rows(fit: Fit) -> str:
    used = f"{len(fit.used)} used, {fit.groups if fit.optima else fit.rows.points} different settings"
    if fit.optima:
        used += f", and the best sizes of {len(fit.optima)} budgets fitted, by {fit.frontier}"
    elif fit.frontier:
        used += f", reduced by {fit.frontier}"
    if not fit.left_out:
        return f"{used}, none left out"
    return f"{used}, {len(fit.left_out)} left out ({_reasons(fit.left_out)})"


def _reasons(left_out: Mapping[str, str]) -> str:
    said = [
        f"{names[0]}: {why}" if len(names) == 1 else f"{len(names)}: {why}"
        for why, names in _names_by_reason(left_out).items()
    ]
    return "; ".join(said[:_REASONS]) + (f"; and {len(said) - _REASONS} other reasons" if len(said) > _REASONS else "")


def _names_by_reason(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, why in reasons.items():
        found.setdefault(why, []).append(name)
    return found


def _intervals(fit: Fit) -> str:
    if fit.stretch is None:
        return f"none, as {fit.no_interval}"
    if fit.optima:
        return f"95 % CI, {len(fit.draws)} draws of the best sizes, {fit.freedom} degrees of freedom"
    groups = fit.groups
    said = f"95 % CI, {len(fit.draws)} resamples of {groups} settings"
    if fit.seeds is not None:
        shared = f"the effect of {fit.seeds.seeds} shared seeds (SD {number(fit.seeds.sd, 2)}) by Student's t"
        return f"{said}, and {shared}"
    alone = ", one run each, so the scatter of seeds is seen only as scatter about the law"
    return said + ("" if groups < len(fit.used) else alone)


def _outer_words(fit: Fit) -> str:
    if "c" in fit.fixed:
        return "c: fixed"
    ends = fit.intervals["c"]
    if ends is None:
        why = "it is not determined" if "c" in fit.not_determined else "there is no CI"
        return f"c = 1 (the odds of both terms add up): not tested, as {why}"
    where = "inside" if ends[0] <= 1 <= ends[1] else "outside"
    return f"c = 1 (the odds of both terms add up) is {where} the 95 % CI of c, {number(ends[0])} to {number(ends[1])}"
