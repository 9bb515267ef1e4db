"""Cells as a figure writes them, one axis at a time."""

import math

import pandas as pd

from flipscale.cell import cell_words, read_cell, setting_words
from flipscale.kinds import number_in

AXIS_WORDS = {"model": "model size", "data_size": "unique pairs", "samples": "samples seen"}


def axis_values(cell: str) -> dict[str, str]:
    """The values of a cell by the names of its axes."""
    return {axis: value for axis, value in read_cell(cell) if axis}


def cell_order(cell: str) -> list[tuple[float, str]]:
    """The key by which cells are sorted: numbers by their size, 8k before 16k, and before words."""
    values = [(value, number_in(value)) for value in axis_values(cell).values()]
    return [(math.inf, text) if number is None else (number, "") for text, number in values]


def value_on_axis(cell: str, axis: str) -> str:
    """The value of a cell on one axis, in words."""
    return setting_words(axis, axis_values(cell).get(axis, "null"))


def at_words(cell: str) -> str:
    """The second line of a title: where the other axes are held."""
    return f"\nat {cell_words(cell)}" if cell else ""


def reference_words(references: pd.DataFrame) -> str:
    """Their line in the small print."""
    sets = map(str, references["evaluated_on"].dropna().unique()) if "evaluated_on" in references else ()
    on = f", evaluated on {names}" if (names := ", ".join(sets)) else ""
    return f"hollow grey: published by others{on}; neither fitted nor compared"
