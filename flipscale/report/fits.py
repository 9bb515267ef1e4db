"""The fitted laws of fits.json: parameters, checklists, and what could not be fitted."""

from collections.abc import Mapping
from typing import Any

from flipscale.fit.words import by_reason
from flipscale.report.markup import details, listed
from flipscale.report.names import readable
from flipscale.tables import escaped as text
from flipscale.tables import html_table as table
from flipscale.words import count


def fits(found: Any) -> str:
    """The content of fits.json; a sentence if it is empty."""
    found = found if isinstance(found, dict) else {}
    parts = [_fit(fit, number) for number, fit in enumerate(found.get("fits") or (), 1)]
    if not parts:
        parts = ["<p>No law was fitted to these results.</p>"]
    if none := found.get("not_fitted"):
        parts.append(details("What could not be fitted", listed(list(map(text, by_reason(none))))))
    return "\n".join(parts)


def _fit(fit: Mapping[str, Any], number: int) -> str:
    parts = [f"<h3>{readable(text(fit.get('title') or fit.get('law') or f'Fit {number}'))}</h3>"]
    if fit.get("formula"):
        parts.append(f'<p class="formula"><code>{text(fit["formula"])}</code></p>')
    if rows := _parameters(fit):
        parts.append(table(f"Parameters of fit {number}", ["parameter", "value", "95 % CI"], rows))
    if fit.get("checklist"):
        parts.append(details("Checklist", listed(list(map(text, fit["checklist"])))))
    if fit.get("used"):
        parts.append(details(f"Used: {count(len(fit['used']), 'run')}", listed(list(map(text, fit["used"])))))
    if fit.get("left_out"):
        out = [f"{text(run)}: {text(why)}" for run, why in fit["left_out"].items()]
        parts.append(details(f"Left out: {count(len(out), 'run')}", listed(out)))
    return "\n".join(parts)


def _parameters(fit: Mapping[str, Any]) -> list[list[str]]:
    """A row for each parameter."""
    intervals, why = fit.get("intervals") or {}, fit.get("not_determined") or {}
    return [
        [text(name), _number(value), _interval(intervals.get(name), why.get(name))]
        for name, value in (fit.get("parameters") or {}).items()
    ]


def _interval(ends: Any, why: Any) -> str:
    if why:
        return text(f"not determined: {why}")
    return f"{_number(ends[0])} to {_number(ends[1])}" if ends else ""


def _number(value: Any) -> str:
    return text(f"{value:.4g}" if isinstance(value, int | float) else "")
