"""Laws for people, from their records (fit_records.py): a screen that answers, and all of it, as parts of a page."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flipscale.analysis.fitting.allocation import Allocation
from flipscale.analysis.fitting.chosen_rows import group_name
from flipscale.analysis.fitting.fit_records import doubt_words, fit_json, held_out_words, notes, number
from flipscale.analysis.fitting.fitted_law import Fit
from flipscale.analysis.fitting.forecasts import NEXT, Forecast
from flipscale.analysis.fitting.laws import LAWS, PowerSum
from flipscale.scores import is_fraction
from flipscale.tables import Listing, Part, PrintedTable, as_text
from flipscale.words import count, joined, rounded

SCREEN_LINES = 20
"""The most lines of the screen."""

SPELLED_OUT = 3
"""The sentence that answers gives the exponents of up to this many laws; of more, the smallest and the largest."""

QUANTITIES = {
    "flops_per_sample": "FLOPs a sample",
    "samples_seen": "samples",
    "unique_pairs": "unique pairs",
    "train_flops": "FLOPs",
    "gpu_hours": "device-hours",
}
"""Columns of results.csv with their units."""

LawRecord = Mapping[str, Any]
Naming = Callable[[Mapping[str, object]], str]


def law_screen(records: Sequence[LawRecord], question: str = "", name_of: Naming = group_name, width: int = 80) -> str:
    """At most SCREEN_LINES lines: the question, and the laws that answer. `name_of` names the settings of a law."""
    family = kinds_of(records)[0]
    text = ""
    for shown in range(len(family), 0, -1):
        left = len(records) - shown
        parts: list[Part] = [
            *filter(None, [question]),
            *kind_parts(family, records, name_of, shown),
            *([f"and {count(left, 'other law')}: --full"] if left else []),
        ]
        text = as_text(parts, width, "\n")
        if len(text.splitlines()) <= SCREEN_LINES:
            break
    return text


def kinds_of(records: Sequence[LawRecord]) -> list[list[LawRecord]]:
    """The laws by their form and columns, the kind that answers first: the best size of a budget where there is one."""
    kinds: dict[tuple[str, ...], list[LawRecord]] = {}
    for record in records:
        kinds.setdefault((record["law"], record["y"], *record["x"]), []).append(record)
    return sorted(kinds.values(), key=lambda kind: not kind[0]["optima"])


def kind_parts(
    family: Sequence[LawRecord], records: Sequence[LawRecord], name_of: Naming, shown: int | None = None
) -> list[Part]:
    """A sentence that answers, the laws and their tests a law a row, and what the columns are.

    records: all laws, from which the name of each says in which settings it differs; some have no law of this kind.
    """
    groups = [record["group"] for record in records]
    keys = [key for key in family[0]["group"] if len({str(group[key]) for group in groups if key in group}) > 1]
    names = [name_of({key: record["group"][key] for key in keys}) if keys else "" for record in family]
    tables = [_laws_table(family[:shown], names), _tests_table(family[:shown], names)]
    return [_sentence(family, names), *tables, _note(family)]


def _exponents(record: LawRecord) -> dict[str, str]:
    """Exponent -> the quantity whose power it is."""
    law = LAWS[record["law"]]
    roles = (
        {"g": 0} if not isinstance(law, PowerSum) else {n: i for term in law.terms for i, n in term.exponents.items()}
    )
    quantities = [QUANTITIES.get(column, column) for column in record["x"]]
    if record["optima"] and record["x"] == ["train_flops"]:
        quantities = ["compute"]
    return {name: quantities[role] for name, role in roles.items()}


def _sentence(family: Sequence[LawRecord], names: Sequence[str]) -> str:
    """The answer: how fast what falls or grows, and to which floor."""
    record = family[0]
    law = LAWS[family[0]["law"]]
    rises = "-" if not (isinstance(law, PowerSum) and law.rising) else ""
    if record["optima"]:
        subject = "The compute-optimal model grows" if record["y"] in QUANTITIES else f"The best {record['y']} grows"
    elif law.link == "logit":
        subject = "The odds of an error fall"
    else:
        subject = f"{record['y']} {'grows' if not rises else 'falls'}"
    powers: list[str] = []
    values: list[str] = []
    for name, quantity in _exponents(record).items():
        base = f"({quantity})" if " " in quantity else quantity
        alone = len(family) == 1 and name not in record["not_determined"] and record["parameters"][name] > 0
        powers.append(f"{base}^{rises}{_value(record, name, ' to ') if alone else name}")
        if not alone:
            values.append(f"{name} = {_over(family, names, name)}")
    if record["law"] == "exponential":
        said = f"{subject} exponentially with {record['x'][0]}, at the rate g"
        values = values or [f"g = {_over(family, names, 'g')}"]
    else:
        said = f"{subject} as {joined(powers)}"
    if law.outer and law.floor:
        said = f"{subject} as the sum of {joined(powers)}, to the power {_over(family, names, law.outer)}"
    if len(family) == 1 and names[0]:
        said += f" for {names[0]}"
    if record["x"] == ["train_flops"] and record["y"] == "flops_per_sample" and record["optima"]:
        said += ", and its samples as " + (
            f"compute^{number(1 - record['parameters']['a'], 2)}" if not values else "compute^(1-a)"
        )
    floor = f", to a floor of {_over(family, names, 'E')}" if "E" in record["parameters"] and law.link == "log" else ""
    unknown = any(_holds_0(record, name) for record in family for name in _exponents(record))
    doubt = " Where an interval holds 0, the runs do not say that there is an effect." if unknown else ""
    return f"{said}{floor}{': ' if values else ''}{'; '.join(values)}.{doubt}"


def _holds_0(record: LawRecord, name: str) -> bool:
    ends = record["intervals"].get(name)
    return bool(ends and None not in ends and ends[0] < 0 < ends[1])


def _over(family: Sequence[LawRecord], names: Sequence[str], name: str) -> str:
    """A parameter of each law, or its smallest and its largest of many: '0.36 (-0.1 to 1.2) for no mask and ...'."""
    if len(family) == 1:
        return _value(family[0], name, " to ")
    if all(name in record["not_determined"] for record in family):
        return "not determined"
    each = list(zip(family, names, strict=True))
    if len(family) > SPELLED_OUT:
        known = [law for law in each if name not in law[0]["not_determined"]] or each
        known.sort(key=lambda law: law[0]["parameters"][name])
        each = [known[0], known[-1]] if len(known) > 1 else known
    said = [f"{_value(record, name, ' to ')} for {words}" for record, words in each]
    return joined(said) if len(family) <= SPELLED_OUT else " to ".join(said)


def _value(record: LawRecord, name: str, between: str = ", ") -> str:
    """'0.34 (0.31, 0.37)', 'not determined', or '0 to 0.02' for a floor that may be 0."""
    digits = 3 if name == "E" else 2
    value = number(record["parameters"][name], digits)
    ends = record["intervals"].get(name)
    if name in record["not_determined"]:
        return "not determined"
    if not ends or None in ends or name in record["fixed"]:
        return value
    low, high = (number(end, digits) for end in ends)
    return f"0 to {high}" if name == "E" and ends[0] <= 0 else f"{value} ({low}{between}{high})"


def _laws_table(family: Sequence[LawRecord], names: Sequence[str]) -> PrintedTable:
    """Exponents and floor of each law; of laws of the best size, that of the largest budget."""
    rows = []
    law = LAWS[family[0]["law"]]
    for record, name in zip(family, names, strict=False):
        cells = [_value(record, exponent) for exponent in _exponents(record)]
        cells.append(_value(record, "k") if law.floor else "-")
        cells.append(_value(record, "E") if "E" in record["parameters"] else "-")
        best = record["optima"][-1] if record["optima"] else None
        fits = best is not None and record["x"] == ["train_flops"] and record["y"] == "flops_per_sample"
        samples = rounded(best["budget"] / best["size"]) if best and fits else "-"
        cells += [_amount(record["x"][0], best["budget"]), _amount(record["y"], best["size"])] if best else ["-", "-"]
        rows.append((name, *cells, samples))
    exponents = [f"{name}, power of {quantity}" for name, quantity in _exponents(family[0]).items()]
    columns = ("", *exponents, "k, of the sum", "floor E", "largest budget", "its best model", "samples")
    return PrintedTable("", columns, tuple(rows), wraps=True).without_empty()


def _tests_table(family: Sequence[LawRecord], names: Sequence[str]) -> PrintedTable:
    """The error of each law on the largest runs, its next rung by it and by other forms, and scatter."""
    rows = []
    for record, name in zip(family, names, strict=False):
        y = record["y"]
        ahead = record["next_rung"]
        held = record["held_out"]["rms_error"]
        values = [ahead["value"], *ahead["forms"].values()]
        ends = f" ({_in(y, ahead['interval'][0])}, {_in(y, ahead['interval'][1])})" if ahead["interval"] else ""
        forms = f"{_in(y, min(values))} to {_in(y, max(values))}" if ahead["forms"] else "-"
        seeds = f" / {number(record['seed_effect']['sd'], 2)}" if record["seed_effect"] else ""
        error = "-" if held is None else _in(y, held)
        rows.append((name, error, f"{_in(y, ahead['value'])}{ends}", forms, f"{number(record['spread'], 2)}{seeds}"))
    scatter = "runs / seeds" if any(record["seed_effect"] for record in family) else "scatter"
    columns = ("", "error held out", "next rung", "all forms", scatter)
    return PrintedTable("", columns, tuple(rows), wraps=True).without_empty()


def _note(family: Sequence[LawRecord]) -> str:
    """What the columns are."""
    record = family[0]
    law = LAWS[family[0]["law"]]
    y = record["y"]
    x = [QUANTITIES.get(column, column) for column in record["x"]]
    unit = "%" if _percent(y) else QUANTITIES.get(y, "")
    roles = [f"{role} {quantity}" for role, quantity in zip(law.roles, x, strict=True) if role != quantity]
    roles += [f"y the best {QUANTITIES.get(y, y)}"] if record["optima"] else []
    err = [f"err = {y.removeprefix('1 - ') if y.startswith('1 - ') else f'1 - {y}'}"] if law.link == "logit" else []
    err = [] if y == "err" else err
    reach = [held for each in family if (held := each["held_out"]["extrapolation"])]
    ends = list(dict.fromkeys(number(end, 2) for end in (min(reach), max(reach)))) if reach else []
    none = ", or - where those cannot be fitted" if len(reach) < len(family) else ""
    test = f" Error held out: on the largest runs, {' to '.join(ends)} times the rest{none}." if ends else ""
    scale = {"log": "log y", "logit": "the logit of err", "linear": "y"}[record["residuals"]]
    scatter = "Runs / seeds: their scatter" if any(each["seed_effect"] for each in family) else "Scatter of runs"
    forms = "; all forms: with other laws through the same runs" if record["next_rung"]["forms"] else ""
    return (
        f"{', '.join([law.formula, *roles, *err])}; parentheses: 95 % CIs.{test} Next rung: {NEXT:g} times the {x[-1]} "
        f"of the largest run{f', in {unit}' if unit else ''}{forms}. {scatter} in {scale}."
    )


def _amount(column: str, value: float) -> str:
    """'4.1 MFLOPs a sample', '366k samples', '0.34'."""
    unit = QUANTITIES.get(column, "")
    text = rounded(value)
    if unit.startswith("FLOPs") and text[-1].isalpha():
        return f"{text[:-1]} {text[-1].replace('B', 'G')}{unit}"
    return f"{text} {unit}".strip()


def _percent(column: str) -> bool:
    return is_fraction(column.removeprefix("1 - "))


def _in(column: str, value: float) -> str:
    """A value of y, in the unit that the note names."""
    return f"{100 * value:.3g}" if _percent(column) else rounded(value)


# All of it


def fit_parts(record: LawRecord) -> list[Part]:
    """A law: cautions, parameters with their intervals, and its checklist."""
    rows = []
    for name, value in record["parameters"].items():
        ends = record["intervals"][name]
        words = number(value, 6)
        tied = f"tied to {record['tied'][name]} " if name in record["tied"] else ""
        if name in record["fixed"]:
            about = "fixed"
        elif name in record["not_determined"]:
            about = f"{tied}not determined: {record['not_determined'][name]}"
        elif ends and name == "E" and ends[0] == 0:
            words = f"0 to {number(ends[1])}"
            about = f"{tied}not told from 0"
        else:
            about = tied + (f"({number(ends[0])}, {number(ends[1])})" if ends else "")
        rows.append((name, words, about))
    table = PrintedTable(record["title"], ("parameter", "value", "95 % CI"), tuple(rows), (record["formula"],))
    cautions = [f"NOTE: {note}" for note in record["notes"]]
    items = [line for line in record["checklist"] if not line.startswith("note: ")]
    return [*cautions, table, Listing("", tuple(items))]


def fit_text(fit: Fit) -> str:
    """A law for a terminal, with all that is known of it."""
    return as_text(fit_parts(fit_json(fit)), between="\n")


def forecast_text(forecast: Forecast, *, forced: bool = False) -> str:
    """For a terminal; a forecast that is refused shows its number only if forced."""
    y = forecast.fit.y
    items = [f"NOTE: {note}" for note in notes(forecast.fit)]
    if not forecast.refused or forced:
        ends = f", 95 % CI of one run {' to '.join(map(number, forecast.interval))}" if forecast.interval else ""
        others = "; ".join(f"{name} {number(value)}" for name, value in forecast.forms.items())
        low, high = forecast.spread
        items += [
            f"forecast: {y} {number(forecast.value)}{ends}",
            f"between forms: {number(low)} to {number(high)}{f' ({others})' if others else ''}",
        ]
    items += [
        f"extrapolation: {number(forecast.extrapolation, 3)} times the largest run",
        f"held out: {held_out_words(forecast.held_out)}",
        f"grade: {forecast.grade}{', forced' if forced and forecast.refused else ''}",
        *(doubt_words(doubt, forecast) for doubt in forecast.doubts),
    ]
    at = ", ".join(f"{name}={rounded(value, 4)}" for name, value in forecast.at.items())
    title = f"{y} at {at}{_of_group(forecast.fit)}, by {forecast.fit.law.name}"
    return as_text([Listing(title, tuple(items))])


def _of_group(fit: Fit) -> str:
    return f" ({group_name(fit.group)})" if fit.group else ""


def allocation_text(best: Allocation, fit: Fit) -> str:
    """How a budget is best spent, for a terminal."""
    size, samples = fit.x

    def ends(pair: tuple[float, float] | None) -> str:
        return f" (95 % CI {rounded(pair[0])} to {rounded(pair[1])})" if pair else ""

    flops = f"{rounded(best.flops)} FLOPs ({number(best.flops_per)} x {size} x {samples})"
    title = f"Best use of {flops}{_of_group(fit)}, by {fit.law.name}"
    items = (
        f"{size} {rounded(best.size)}{ends(best.size_interval)}",
        f"{samples} {rounded(best.samples)}{ends(best.samples_interval)}",
        f"{fit.y} {number(best.y)} there; the run is {number(best.extrapolation, 3)} times the largest fitted",
        f"the best {size} grows as FLOPs to the power {number(best.exponent, 3)}{ends(best.exponent_interval)}",
    )
    return as_text([Listing(title, items)])
