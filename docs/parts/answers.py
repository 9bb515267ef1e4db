"""The keys of what `compare --json` prints, for docs/compare.md: all that any committed comparison has."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from docs.parts.studies import committed

OF_NAMES = {
    "arm",
    "baseline",
    "costs",
    "failed",
    "families",
    "gate",
    "left",
    "left_out",
    "ratios",
    "right",
    "score",
    "scores",
    "than_score",
    "unfinished",
    "unpaired",
    "what",
}
"""Keys whose objects have names of the data as keys: of settings, costs, runs or scores."""

WITH_KEYS_BELOW = {"costs", "ratios"}
"""Those of them whose values have keys of their own."""

ESTIMATE = {"value", "interval", "comparisons"}
"""What the object of an estimate has among its keys."""


def of_studies() -> str:
    """What `compare` of a study has."""
    answers = [json.loads(path.read_text(encoding="utf-8")) for path in committed("results/*/comparison*.json")]
    estimates = [each for answer in answers for each in _estimates(answer)]
    return block([*_lines(answers), f"ESTIMATE: {', '.join(_by_key(estimates))}"])


def of(answer: dict[str, Any]) -> str:
    return block(_lines([answer]))


def block(lines: list[str]) -> str:
    wrapped = [
        part
        for line in lines
        for part in textwrap.wrap(line, 100, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    ]
    return "\n".join(["```", *wrapped, "```", ""])


def _lines(answers: list[dict[str, Any]]) -> list[str]:
    """The keys of the first level in a line, then a line for each that has keys below it."""
    below = {key: _below(key, values) for key, values in _by_key(answers).items()}
    plain = [f"{key}{rest}" for key, rest in below.items() if "{" not in rest]
    return [", ".join(plain), *(f"{key}{rest}" for key, rest in below.items() if "{" in rest)]


def _below(key: str, values: list[Any]) -> str:
    """': {...}', ': [{...}]' or ' [...]' of an object or a list; '' of a plain value."""
    objects = [value for value in values if isinstance(value, dict)]
    items = [item for value in values if isinstance(value, list) for item in value]
    inner = [item for item in items if isinstance(item, dict)]
    if objects:
        return f": {_object(key, objects)}"
    if inner:
        return f": [{_object(key, inner)}]"
    return " [...]" if items else ""


def _object(key: str, objects: list[dict[str, Any]]) -> str:
    if any(set(each) >= ESTIMATE for each in objects):
        return "ESTIMATE"
    if key in OF_NAMES:
        inner = [value for each in objects for value in each.values()]
        return f"{{NAME{_below('', inner) if key in WITH_KEYS_BELOW else ': ...'}}}"
    return "{" + ", ".join(f"{name}{_below(name, values)}" for name, values in _by_key(objects).items()) + "}"


def _estimates(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict) and set(value) >= ESTIMATE:
        yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        yield from _estimates(each)


def _by_key(objects: list[dict[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for each in objects:
        for name, value in each.items():
            found.setdefault(name, []).append(value)
    return found
