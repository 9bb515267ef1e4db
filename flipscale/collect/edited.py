"""What is wrong with a CSV table that people may have edited, with the line: pandas would guess, or give no line.

Excel writes semicolons and decimal commas, an editor another encoding, and a row that was cut off reads as one whose
last cells are missing.
"""

import csv
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TextIO

from flipscale.collect.columns import MOST_NUMBER
from flipscale.errors import DamagedFile, ResultsError
from flipscale.guard import is_name
from flipscale.plain_files import open_plain

MOST_LINE_LETTERS = 2**20
"""The most characters of a line of a table."""

MAKE_AGAIN = "Make the table again with `flipscale collect`."

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""Characters that control a terminal. `collect` leaves out runs that have any."""

_MOST_INT = 2**63
"""The numbers of an Int64 lie below it."""


def check_results(path: Path) -> None:
    """Raise ResultsError, with the line, unless the table has a column id, no column twice, and whole rows with an id.

    FileNotFoundError if the file does not exist.
    """
    with _rows(path) as rows:
        header = next(rows, (1, []))[1]
        if not header:
            raise ResultsError(f"{path}: is empty. {MAKE_AGAIN}")
        if "id" not in header:
            raise ResultsError(f"{path}:1: {_why_no_id(header)}. {MAKE_AGAIN}")
        if twice := next((name for name in header if name and header.count(name) > 1), None):
            raise ResultsError(f"{path}:1: has two columns {twice!r}, so delete one of them.")
        _check_rows(path, header, rows)


def _check_rows(path: Path, header: list[str], rows: Iterator[tuple[int, list[str]]]) -> None:
    at, columns = header.index("id"), len(header)
    for line, row in rows:
        if len(row) != columns:
            why = "so it was cut off" if len(row) < columns else "so a comma is not in quotes, or a cell was added"
            raise ResultsError(f"{path}:{line}: has {len(row)} of {columns} cells, {why}. {MAKE_AGAIN}")
        if not is_name(row[at]):
            raise ResultsError(f"{path}:{line}: {row[at][:60]!r} is not the id of a run. {MAKE_AGAIN}")


def _why_no_id(header: Sequence[str]) -> str:
    why = "has no column 'id', so it is not a table of results"
    return f"{why}; {found}" if (found := other_separator(header)) else why


def other_separator(header: Sequence[str]) -> str:
    """What to say of a table whose columns seem to be separated by something other than commas; '' if they do not."""
    for letter, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and letter in header[0]:
            return (
                f"its cells are separated by {name}, as a spreadsheet may write them, where commas are expected, and "
                f"points in numbers"
            )
    return ""


@contextmanager
def _rows(path: Path) -> Iterator[Iterator[tuple[int, list[str]]]]:
    """The rows of a CSV file, each with the line that it ends on; lines without any cell are left out.

    ResultsError where it cannot be read as CSV in UTF-8, or is not a plain file.
    """
    number, whole = 0, 0

    def lines(file: TextIO) -> Iterator[str]:
        nonlocal number
        while line := file.readline(MOST_LINE_LETTERS):
            number += 1
            if len(line) == MOST_LINE_LETTERS:
                raise csv.Error(f"it has more than {MOST_LINE_LETTERS:,} characters")
            if found := _CONTROL.search(line):
                raise csv.Error("it has a NUL byte" if found[0] == "\0" else f"it has the character {found[0]!r}")
            yield line

    def numbered(table: Iterable[list[str]]) -> Iterator[tuple[int, list[str]]]:
        nonlocal whole
        for row in table:
            whole = number
            if row:
                yield number, row

    try:
        with os.fdopen(open_plain(path), encoding="utf-8-sig", newline="") as file:
            yield numbered(csv.reader(lines(file), strict=True))
    except DamagedFile as error:
        raise ResultsError(f"{error} {MAKE_AGAIN}") from error
    except UnicodeDecodeError as error:
        raise ResultsError(f"{path}: is not UTF-8 text; save it as CSV in UTF-8, or make it again.") from error
    except csv.Error as error:
        # A quotation mark that is never closed takes in all the lines that follow.
        raise ResultsError(f"{path}:{whole + 1}: is not CSV ({error}). {MAKE_AGAIN}") from error


def line_of(path: Path, row: int) -> int:
    """The line of a row of a checked table, the first of which is row 0."""
    with _rows(path) as rows:
        return next(islice(rows, row + 1, None), (0, []))[0]


def whole_number(text: str) -> int | None:
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
    if not -_MOST_INT <= value < _MOST_INT:
        raise ValueError("too large")
    return value


def number(text: str) -> float:
    """A number that can be computed with, or NaN. ValueError for anything else."""
    value = float(text)
    if abs(value) > MOST_NUMBER:
        raise ValueError("too large")
    return value


def amount(text: str) -> float:
    """A number from 0, or NaN. ValueError for anything else."""
    value = number(text)
    if value < 0:
        raise ValueError("below 0")
    return value


def fraction(text: str) -> float:
    """A number from 0 to 1, or NaN. ValueError for anything else."""
    value = number(text)
    if not -1e-9 <= value <= 1 + 1e-9 and not math.isnan(value):
        raise ValueError("not a fraction")
    return value
