"""Tables as DataFrames: results.csv, and anybody's."""

import csv
import io
import math
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flipscale.door.columns import (
    COLUMN_DTYPES,
    MAKE_AGAIN,
    MEASURED_COLUMNS,
    MOST_NUMBER,
    TRUNK_COLUMNS,
    Column,
    ColumnKind,
)
from flipscale.errors import DamagedFile, ResultsError, printable
from flipscale.guard import is_name
from flipscale.plain_files import open_plain, read_text
from flipscale.scores import is_fraction, is_own_score, is_score

_AMOUNTS = {name for name, column in MEASURED_COLUMNS.items() if column.unit in ("s", "h", "1/s", "FLOPs")}
"""Columns of what was spent, which is never below 0."""

LARGEST_TABLE = 2**30
"""Bytes of a table of a million runs. Reading a larger file would take all memory, or hours if it is sparse."""


_WHOLE_NUMBER = re.compile(r"-?\d{1,18}")
_PLAIN_NUMBER = re.compile(r"-?\d{1,18}(\.\d+)?(e[-+]?\d{1,2})?")

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""Characters that control a terminal. `collect` leaves out runs that have any."""


def read_rows(path: Path, known: Mapping[str, Column]) -> pd.DataFrame:
    """The table of results.csv with the dtypes of the known columns; missing values stay missing.

    Missing columns are added, empty or at their default; extra columns stay.
    ResultsError names a line that `collect` cannot have written: a torn row, a run twice, text or infinity for a
    number.
    """
    (_, header), *rows = _rows(path)
    if not header:
        raise ResultsError(f"{path}: is empty. {MAKE_AGAIN}")
    if "id" not in header:
        why = "has no column 'id', so it is not a table of results"
        raise ResultsError(f"{path}:1: {'; '.join(filter(None, [why, _other_separator(header)]))}. {MAKE_AGAIN}")
    if twice := next((name for name in header if name and header.count(name) > 1), None):
        raise ResultsError(f"{path}:1: has two columns {twice!r}, so delete one of them.")
    seen = set()
    for line, row in rows:
        if len(row) != len(header):
            why = "so it was cut off" if len(row) < len(header) else "so a comma is not in quotes, or a cell was added"
            raise ResultsError(f"{path}:{line}: has {len(row)} of {len(header)} cells, {why}. {MAKE_AGAIN}")
        cells = dict(zip(header, row, strict=True))
        if not is_name(cells["id"]):
            raise ResultsError(f"{path}:{line}: {cells['id'][:60]!r} is not the id of a run. {MAKE_AGAIN}")
        if (key := (cells["id"], cells.get("study"))) in seen:
            raise ResultsError(f"{path}:{line}: has the run {cells['id']} again; delete the line.")
        seen.add(key)
    lines = [line for line, _ in rows]
    texts = dict(zip(header, zip(*(row for _, row in rows), strict=True), strict=True)) if rows else {}
    columns: dict[str, pd.Series[Any]] = {}
    for name in [*known, *(name for name in header if name not in known)]:
        column = known.get(name) or TRUNK_COLUMNS.get(name)
        default = (column.default if column else None) or ""
        kind: ColumnKind = column.kind if column else _kind_of(name, texts[name])
        columns[name] = _parsed(path, lines, texts.get(name, (default,) * len(rows)), name, kind)
    columns["cell"] = columns["cell"].fillna("")  # a study whose only axis is the baseline's has one cell, named ''
    return pd.DataFrame(columns)


def _kind_of(name: str, texts: Sequence[str]) -> ColumnKind:
    """The kind of a column that is not known: a score's, or a parameter's, all numbers or none."""
    if is_score(name):
        return "float"
    given = [text for text in texts if text]
    if not given or not all(_PLAIN_NUMBER.fullmatch(text) for text in given):
        return "str"
    return "int" if all(_WHOLE_NUMBER.fullmatch(text) for text in given) else "float"


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """The header and rows of a CSV file, each with the line that it ends on; lines without any cell are left out.

    ResultsError where it cannot be read as CSV in UTF-8, or is not a plain file.
    """
    try:
        text = read_text(path, most=LARGEST_TABLE)
    except FileNotFoundError as error:
        raise ResultsError(f"{path}: there is no such file. Make it with `flipscale collect`.") from error
    except DamagedFile as error:
        raise ResultsError(f"{error} {MAKE_AGAIN}") from error
    rows = []
    whole = 0
    try:
        if match := _CONTROL.search(text):
            whole = text.count("\n", 0, match.start())
            raise csv.Error("it has a NUL byte" if match[0] == "\0" else f"it has the character {match[0]!r}")
        table = csv.reader(io.StringIO(text, newline=""), strict=True)
        for row in table:
            whole = table.line_num
            rows += [(whole, row)] if row else []
    except csv.Error as error:
        # A quotation mark that is never closed takes in all the lines that follow.
        raise ResultsError(f"{path}:{whole + 1}: is not CSV ({error}). {MAKE_AGAIN}") from error
    return rows or [(1, [])]


def _other_separator(header: Sequence[str]) -> str:
    """What to say of a table whose columns seem to be separated by something other than commas; '' if they do not."""
    for letter, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and letter in header[0]:
            return (
                f"its cells are separated by {name}, as a spreadsheet may write them, where commas are expected, and "
                f"points in numbers"
            )
    return ""


def _parsed(path: Path, lines: Sequence[int], texts: Sequence[str], name: str, kind: ColumnKind) -> "pd.Series[Any]":
    """A column from its cells. An empty cell is the only missing value: a model or a study may be called NA."""
    if kind == "str":
        return pd.Series([text or None for text in texts], dtype="str")
    # Python's own int and float: pandas reads integers above 2**53 and last digits of floats inexactly by default.
    least = -MOST_NUMBER
    most = MOST_NUMBER
    due = "a number"
    if kind == "int":
        due = "a whole number"
    elif name in _AMOUNTS:
        least = 0
        due = "a number from 0"
    elif is_own_score(name) and is_fraction(name):
        least = -1e-9
        most = 1 + 1e-9
        due = "a fraction from 0 to 1"
    values: list[int | float | None] = []
    for line, text in zip(lines, texts, strict=True):
        try:
            value = None if not text else _whole_number(text) if kind == "int" else float(text)
            # Only NaN is unequal to itself; it is missing.
            if value is not None and value == value and not least <= value <= most:
                raise ValueError
        except ValueError:
            raise ResultsError(
                f"{path}:{line}: {name} is {text[:60]!r}, where {due} is expected (empty if missing). Correct it, or "
                f"make the table again with `flipscale collect`."
            ) from None
        values.append(value)
    return pd.Series(values, dtype=COLUMN_DTYPES[kind])


def _whole_number(text: str) -> int | None:
    """A number of an integer column; None for 'nan'. ValueError for anything else.

    '1000.0' is 1000: pandas writes it so in a column with a missing number.
    """
    try:
        value = int(text)
    except ValueError:
        number = float(text)
        if math.isnan(number):
            return None
        if not number.is_integer():  # False for infinity, too
            raise
        value = int(number)
    if not -(2**63) <= value < 2**63:  # the numbers of an Int64
        raise ValueError("too large")
    return value


def read_table(path: Path) -> pd.DataFrame:
    """Somebody's table: a .csv or .tsv file, which may be .gz, a .parquet file, or `-` for CSV on stdin.

    Raises ResultsError if it cannot be read or has no rows.
    """
    name = path.name.lower()
    if path.is_file() and path.stat().st_size > LARGEST_TABLE:
        raise ResultsError(f"{path}: is too large for a table of runs (1 GiB at most). Leave out rows or columns.")
    try:
        if name != "-":
            os.close(open_plain(path, follow=True))
        if name.endswith(".parquet"):
            table = _read_parquet(path)
        else:
            separator = "\t" if name.endswith((".tsv", ".tsv.gz")) else ","
            table = pd.read_csv(sys.stdin if name == "-" else path, sep=separator, skipinitialspace=True)
        table = _printable_table(table)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ResultsError(f"{path}: there is no such file.") from error
    except DamagedFile as error:
        raise ResultsError(str(error)) from error
    except UnicodeDecodeError as error:
        raise ResultsError(f"{path}: is not UTF-8 text; save it as UTF-8.") from error
    except (ValueError, OSError, EOFError) as error:
        raise ResultsError(f"{path}: cannot be read as a table ({str(error).strip()}).") from error
    if separated := _other_separator([*map(str, table.columns)]):
        raise ResultsError(f"{path}: {separated}; save it that way, or name it .tsv if it has tabs.")
    if table.empty:
        raise ResultsError(f"{path}: has no rows.")
    return table


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow as pa  # A small install lacks it.

    try:
        return pd.read_parquet(path, engine="pyarrow")
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error


def read_tables(paths: Iterable[Path]) -> pd.DataFrame:
    """The rows of several tables of somebody's, one after the other."""
    return pd.concat(map(read_table, paths), ignore_index=True)


def _printable_table(table: pd.DataFrame) -> pd.DataFrame:
    """The table without characters that control a terminal. ValueError for a cell that holds no value."""
    table.columns = pd.Index([_printable(column) for column in table.columns])
    for place, kind in enumerate(table.dtypes):
        if pd.api.types.is_string_dtype(kind):
            table.isetitem(place, table.iloc[:, place].map(_printable).infer_objects().array)
    return table


def _printable(value: Any) -> Any:
    if isinstance(value, list | dict | np.ndarray) or (isinstance(value, int) and abs(value) >= 10**308):
        raise ValueError(f"{str(value)[:60]} is neither a text nor a number of 64 bits; leave its column out")
    if isinstance(value, int) and abs(value) >= 2**63:
        return float(value)  # FLOPs of large trainings, written as whole numbers.
    return printable(value) if isinstance(value, str) else value
