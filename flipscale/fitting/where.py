"""Which rows of a table are meant: conditions on columns, as a person writes them.

set=c4    set=c4,rw    set!=c4    N>400M    6*N*D<=1e21    mask_ratio=null
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import ge, gt, le, lt

import numpy as np
import pandas as pd

from flipscale.errors import ResultsError
from flipscale.fitting.rows import column
from flipscale.run import is_number
from flipscale.stats import Array
from flipscale.study.expression import plain_value
from flipscale.words import listed

MISSING = {"", "null", "none", "nan", "na", "n/a"}
TRUTHS = {"true": True, "yes": True, "false": False, "no": False}
"""How a command names a value that is missing, true or false, in small letters."""

_ORDERS: Mapping[str, Callable[[Array, float], "np.ndarray[tuple[int], np.dtype[np.bool_]]"]] = {
    "<": lt,
    "<=": le,
    ">": gt,
    ">=": ge,
}

_RELATION = re.compile(r"(!=|<=|>=|=|<|>)")


@dataclass(frozen=True)
class RowCondition:
    """A column, a relation, and values: with =, the column has any of them; with !=, none of them."""

    column: str
    relation: str
    values: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"{self.column}{self.relation}{','.join(self.values)}"


def where(table: pd.DataFrame, conditions: Sequence[str]) -> pd.DataFrame:
    """The rows for which all conditions hold; one text may hold several, separated by commas.

    Numbers are compared by value and texts by text; `null` is a missing value, which is neither above nor below any.
    Raises ResultsError for a condition without a relation, an unknown column, and where no row is left.
    """
    read = [condition for text in conditions for condition in _read(table, text)]
    keep = np.ones(len(table), dtype=bool)
    for condition in read:
        keep &= _holds(table, condition)
    if not keep.any() and len(table):
        said = ", ".join(condition.text for condition in read)
        choices = [_choices(table, condition.column) for condition in read]
        raise ResultsError(f"No row has {said}; {'; '.join(dict.fromkeys(choices))}.")
    return table[keep]


def _read(table: pd.DataFrame, text: str) -> list[RowCondition]:
    """The conditions of a text. A part without a relation is one more value of the condition before it."""
    read: list[RowCondition] = []
    name, relation, value = _parts(text)
    if name in table and (table[name].astype("str") == value).any():
        return [RowCondition(name, relation, (value,))]  # a value that has commas
    for part in filter(None, map(str.strip, text.split(","))):
        name, relation, value = _parts(part)
        if name:
            read.append(RowCondition(name, relation, (value,)))
        elif not relation and read and read[-1].relation in ("=", "!="):
            read[-1] = replace(read[-1], values=(*read[-1].values, part))
        else:
            raise ResultsError(
                f"--where {part}: write COLUMN=VALUE, COLUMN=VALUE,VALUE, COLUMN!=VALUE or COLUMN>VALUE."
            )
    return read


def _parts(text: str) -> tuple[str, str, str]:
    """Column, relation and value of a condition; empty texts where there is no relation."""
    name, *rest = (part.strip() for part in _RELATION.split(text, maxsplit=1))
    return (name, rest[0], rest[1]) if rest else ("", "", "")


def _holds(table: pd.DataFrame, condition: RowCondition) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Whether a condition holds, for each row."""
    if condition.relation not in _ORDERS:
        if condition.column in table:
            values: pd.Series[float] = table[condition.column]
        else:
            values = pd.Series(column(table, condition.column), index=table.index)
        equal = np.zeros(len(table), dtype=bool)
        for wanted in condition.values:
            equal |= np.array([_is(value, wanted) for value in values], dtype=bool)
        return equal if condition.relation == "=" else ~equal
    limit = plain_value(condition.values[0])
    if not is_number(limit):
        raise ResultsError(
            f"--where {condition.text}: {condition.values[0]!r} is not a number. Write 400M, 4e8 or 0.5."
        )
    with np.errstate(invalid="ignore"):
        return _ORDERS[condition.relation](column(table, condition.column), float(limit))


def _is(value: object, wanted: str) -> bool:
    if value is None or value is pd.NA or value != value:
        return wanted.lower() in MISSING
    if isinstance(value, bool | np.bool_) and wanted.lower() in TRUTHS:
        return TRUTHS[wanted.lower()] == bool(value)
    if str(value) == wanted:
        return True
    number = plain_value(wanted)
    return is_number(number) and isinstance(value, int | float | np.number) and float(value) == float(number)


def _choices(table: pd.DataFrame, name: str) -> str:
    """The content of a column: its values, or the range of many numbers."""
    if name not in table:
        values = column(table, name)
        return f"{name} is from {np.nanmin(values):g} to {np.nanmax(values):g}"
    words = list(dict.fromkeys(map(str, table[name])))
    if len(words) > 12 and pd.api.types.is_numeric_dtype(table[name]):
        return f"{name} is from {table[name].min():g} to {table[name].max():g}"
    return f"{name} is one of {listed(words, 12)}"
