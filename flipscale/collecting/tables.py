"""The tables as DataFrames, as the stages after collect receive them."""

import csv
import io
import math
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flipscale.cell import read_cell
from flipscale.collecting.columns import (
    COLUMN_DTYPES,
    COLUMNS,
    MAKE_AGAIN,
    MOST_NUMBER,
    SETTING_COLUMNS,
    TRUNK_COLUMNS,
    ColumnKind,
)
from flipscale.errors import DamagedFile, ResultsError, printable
from flipscale.guard import is_name
from flipscale.plain_files import open_plain, read_text
from flipscale.scores import is_fraction, is_own_score, is_score
from flipscale.study import read_study
from flipscale.workspace import RESULTS_TABLE, Workspace, usual_results


def results(study: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """The table of a study, one row per finished run, by the study's file or by the folder or file of its results.

        flipscale.results("studies/quickstart.yaml")
        flipscale.results("results/quickstart")

    `root` is the results root of a study's file; by default FLIPSCALE_RESULTS or results/. The columns are COLUMNS, and
    missing values are missing. Raises ResultsError where nothing was collected yet.
    """
    path = Path(study)
    if path.suffix in (".yaml", ".yml"):
        path = Workspace(Path(root) if root else usual_results()).study(read_study(path).name).folder
    return read_results(path / RESULTS_TABLE if path.suffix != ".csv" else path)


_AMOUNTS = {name for name, column in COLUMNS.items() if column.unit in ("s", "h", "1/s", "FLOPs")}
"""Columns of what was spent, which is never below 0."""

LARGEST_TABLE = 2**30
"""Bytes of a table of a million runs. Reading a larger file would take all memory, or hours if it is sparse."""


_WHOLE_NUMBER = re.compile(r"-?\d{1,18}")
_PLAIN_NUMBER = re.compile(r"-?\d{1,18}(\.\d+)?(e[-+]?\d{1,2})?")

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""Characters that control a terminal. `collect` leaves out runs that have any."""


def read_results(path: Path) -> pd.DataFrame:
    """The table of results.csv with the dtypes of COLUMNS; missing values stay missing.

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
    known = set()
    for line, row in rows:
        if len(row) != len(header):
            why = "so it was cut off" if len(row) < len(header) else "so a comma is not in quotes, or a cell was added"
            raise ResultsError(f"{path}:{line}: has {len(row)} of {len(header)} cells, {why}. {MAKE_AGAIN}")
        cells = dict(zip(header, row, strict=True))
        if not is_name(cells["id"]):
            raise ResultsError(f"{path}:{line}: {cells['id'][:60]!r} is not the id of a run. {MAKE_AGAIN}")
        if (key := (cells["id"], cells.get("study"))) in known:
            raise ResultsError(f"{path}:{line}: has the run {cells['id']} again; delete the line.")
        known.add(key)
    lines = [line for line, _ in rows]
    texts = dict(zip(header, zip(*(row for _, row in rows), strict=True), strict=True)) if rows else {}
    columns: dict[str, pd.Series[Any]] = {}
    for name in [*COLUMNS, *(name for name in header if name not in COLUMNS)]:
        column = COLUMNS.get(name) or TRUNK_COLUMNS.get(name)
        default = (column.default if column else None) or ""
        kind: ColumnKind = column.kind if column else _kind_of(name, texts[name])
        columns[name] = _parsed(path, lines, texts.get(name, (default,) * len(rows)), name, kind)
    columns["cell"] = columns["cell"].fillna("")  # a study whose only axis is the baseline's has one cell, named ''
    return pd.DataFrame(columns)


def _kind_of(name: str, texts: Sequence[str]) -> ColumnKind:
    """The kind of a column that is not one of COLUMNS: a score's, or a parameter's, all numbers or none."""
    if is_score(name):
        return "float"
    given = [text for text in texts if text]
    if not given or not all(_PLAIN_NUMBER.fullmatch(text) for text in given):
        return "str"
    return "int" if all(_WHOLE_NUMBER.fullmatch(text) for text in given) else "float"


def trunks_of(table: pd.DataFrame) -> NDArray[np.intp] | None:
    """The trunk of each row [n], numbered from 0, -1 where no other row shares it; None where none do.

    Lengths of one seed at a constant rate are one training up to where the shorter cools down, whether they were
    trained so or each alone: all their settings but length and cooldown are equal. A table of others may say so itself
    by a column `trunk`.
    """
    if "trunk" in table:
        names, constant = ["trunk"], table["trunk"].notna()
    elif "schedule" in table:
        names = [name for name in SETTING_COLUMNS if name in table and not name.startswith(("samples", "cooldown"))]
        constant = table["schedule"] == "constant"
    else:
        return None
    number = table.groupby(names, dropna=False, sort=False).ngroup()
    shared = constant & number.duplicated(keep=False)
    return np.where(shared, number, -1).astype(np.intp) if shared.any() else None


def chance_level(results: pd.DataFrame, score: str) -> float | None:
    """What guessing gives for a score by the column `chance`; None where it is unknown, or differs among runs."""
    if "chance" not in results:
        return None
    levels = {dict(read_cell(text)).get(score) for text in results.loc[results[score].notna(), "chance"].fillna("")}
    return float(level) if len(levels) == 1 and (level := levels.pop()) else None


def items_of(results: pd.DataFrame, score: str) -> int | None:
    """How many items a score is a share of by the column `items`; None where it is unknown, or differs among runs."""
    if "items" not in results:
        return None
    counts = set(_of_score(results.loc[results[score].notna(), "items"], score))
    count = counts.pop() if len(counts) == 1 else np.nan
    return None if np.isnan(count) else int(count)


def above_chance(results: pd.DataFrame, score: str) -> NDArray[np.float64]:
    """How many standard errors each score is above what guessing gives [n]: binomial, over the items that it is taken
    over.

    Where the table says nothing of either, a score is infinitely far above chance, and a missing one below it.
    """
    scores = results[score].to_numpy(np.float64, na_value=np.nan)
    unknown = np.where(np.isnan(scores), -np.inf, np.inf)
    if not {"chance", "items"} <= set(results):
        return unknown
    chance = _of_score(results["chance"], score)
    items = _of_score(results["items"], score)
    with np.errstate(divide="ignore", invalid="ignore"):
        above = (scores - chance) / np.sqrt(chance * (1 - chance) / items)
    return np.where(np.isnan(chance * items), unknown, above)


def _of_score(texts: "pd.Series[Any]", score: str) -> NDArray[np.float64]:
    """The number of a score in each text 'SCORE=NUMBER, ...' of a column; NaN where it has none."""
    texts = texts.map(str)
    numbers = {text: float(dict(read_cell(text)).get(score, "nan")) for text in texts.unique()}
    return texts.map(numbers).to_numpy(np.float64)


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
    rows, whole = [], 0
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
    least, most, due = -MOST_NUMBER, MOST_NUMBER, "a number"
    if kind == "int":
        due = "a whole number"
    elif name in _AMOUNTS:
        least, due = 0, "a number from 0"
    elif is_own_score(name) and is_fraction(name):
        least, most, due = -1e-9, 1 + 1e-9, "a fraction from 0 to 1"
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
            from flipscale.collecting.curves import read_parquet  # It loads pyarrow, which a small install lacks.

            table = read_parquet(path)
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
