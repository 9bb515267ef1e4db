"""The fitted laws of fits.json with their checklists; what the file does not have is left out."""

from collections.abc import Mapping
from typing import Any

from flipscale.report.markup import count, details, listed, table, text


def fits(found: Any) -> str:
    """What fits.json holds, whatever it is: known keys in their order, others after them."""
    found = found.get("fits") if isinstance(found, dict) else found
    if not isinstance(found, list) or not found:
        return "<p>No law was fitted to these results.</p>"
    return "\n".join(_fit(fit, number) for number, fit in enumerate(found, 1) if isinstance(fit, dict))


_FIT_KEYS = ("law", "formula", "parameters", "intervals", "used", "left_out", "checklist")


def _fit(fit: Mapping[str, Any], number: int) -> str:
    title, name = text(fit.get("law") or f"Fit {number}"), f" ({text(fit['name'])})" if fit.get("name") else ""
    parts = [f"<h3>{title}{name}</h3>"]
    if fit.get("formula"):
        parts.append(f'<p class="formula"><code>{text(fit["formula"])}</code></p>')
    parameters, intervals = fit.get("parameters"), fit.get("intervals")
    if isinstance(parameters, dict) and parameters:
        spans = intervals if isinstance(intervals, dict) else {}
        rows = [[text(name), _value(value), _value(spans.get(name))] for name, value in parameters.items()]
        parts.append(table(f"Parameters of fit {number}", ["parameter", "value", "interval"], rows))
    for key in ("used", "left_out"):
        if fit.get(key):
            parts.append(_runs_of(key.replace("_", " "), fit[key]))
    checklist = fit.get("checklist")
    if isinstance(checklist, list) and checklist:
        parts.append("<h4>Checklist</h4>\n" + listed([_value(item) for item in checklist]))
    rest = {key: value for key, value in fit.items() if key not in (*_FIT_KEYS, "name") and value not in (None, [], {})}
    if rest:
        rows = [[text(key.replace("_", " ")), _value(value)] for key, value in rest.items()]
        parts.append(details("What else the fit says", table(f"Fit {number}", ["", "value"], rows, words=(0, 1))))
    return "\n".join(parts)


def _runs_of(title: str, runs: Any) -> str:
    if not isinstance(runs, list | dict):
        return f"<p>{text(title.capitalize())}: {_value(runs)}</p>"
    items = [f"{text(k)}: {_value(v)}" for k, v in runs.items()] if isinstance(runs, dict) else list(map(_value, runs))
    return details(f"{text(title.capitalize())}: {count(len(items), 'run')}", listed(items))


def _value(value: Any) -> str:
    """A value of a file of JSON, for a person."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float | list | dict):
        return text(value)
    if isinstance(value, int | float):
        return text(f"{value:.4g}" if isinstance(value, float) else value)
    if isinstance(value, list):
        joined = " to " if len(value) == 2 and all(isinstance(one, int | float) for one in value) else ", "
        return joined.join(map(_value, value))
    return "; ".join(f"{text(key)} {_value(one)}" for key, one in value.items())
