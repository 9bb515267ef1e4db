"""A cell of a study: the axes that tell its runs from others, and how results.csv writes them.

'model=ViT-B-16, tuning=(samples=1.6k, lr=0.0001)' is the cell (("model", "ViT-B-16"), ("tuning", "(samples=1.6k,
lr=0.0001)")): a comma inside parentheses belongs to a value.
"""

import functools
import re

Cell = tuple[tuple[str, str], ...]
"""(axis, value as a person writes it) in the order of the study's axes; empty where a study has one cell."""

_SEPARATOR = re.compile(r", |[()]")


def write_cell(cell: Cell) -> str:
    """The cell as results.csv writes it."""
    return ", ".join(f"{axis}={value}" if axis else value for axis, value in cell)


@functools.lru_cache(maxsize=65536)
def read_cell(text: str) -> Cell:
    """The cell that `write_cell` wrote. A part that names no axis, as in other people's tables, gets the axis ''."""
    return tuple(
        (axis, value) if equals else ("", part)
        for part in _parts(text)
        for axis, equals, value in [part.partition("=")]
        if part
    )


def without(cell: Cell, axis: str) -> Cell:
    """The cell without one axis."""
    return tuple(part for part in cell if part[0] != axis)


def _parts(text: str) -> list[str]:
    """The text between commas that stand outside of all parentheses; between all commas where one never closes."""
    parts, start, depth = [], 0, 0
    for found in _SEPARATOR.finditer(text):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if found[0] == ", " and depth == 0:
            parts.append(text[start : found.start()])
            start = found.end()
    return text.split(", ") if depth else [*parts, text[start:]]
