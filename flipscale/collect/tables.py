"""The tables as DataFrames, as the stages after collect receive them."""

import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from flipscale.collect.columns import COLUMN_DTYPES, COLUMNS, ColumnKind
from flipscale.collect.curves import CURVES_SCHEMA
from flipscale.collect.edited import (
    MAKE_AGAIN,
    amount,
    check_results,
    fraction,
    line_of,
    number,
    other_separator,
    whole_number,
)
from flipscale.errors import DamagedFile, ResultsError, printable
from flipscale.plain_files import open_plain
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


def read_results(path: Path) -> pd.DataFrame:
    """The table of results.csv with the dtypes of COLUMNS; missing values stay missing.

    Missing columns are added empty; extra columns stay.
    ResultsError names a line that `collect` cannot have written: a torn row, a run twice, text or infinity for a
    number.
    """
    _check_size(path, "Delete it, and make it with `flipscale collect`.")
    try:
        check_results(path)
        with os.fdopen(open_plain(path), "rb") as file:
            # An empty cell is the only missing value: a model or a study may be called NA.
            table = pd.read_csv(file, dtype="str", keep_default_na=False, na_values=[""], index_col=False)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ResultsError(f"{path}: there is no such file. Make it with `flipscale collect`.") from error
    except ValueError as error:
        raise ResultsError(f"{path}: not a table of results ({error}). {MAKE_AGAIN}") from error
    twice = table.duplicated([name for name in ("id", "study") if name in table])
    if twice.any():
        row = int(twice.to_numpy().argmax())
        raise ResultsError(f"{path}:{line_of(path, row)}: has the run {table['id'][row]} again; delete the line.")
    columns: dict[str, pd.Series[Any]] = {}
    for name, column in COLUMNS.items():
        text = table[name] if name in table else pd.Series([None] * len(table), dtype="str")
        columns[name] = _parsed(path, text, name, column.kind)
    columns["cell"] = columns["cell"].fillna("")  # a study whose only axis is the baseline's has one cell, named ''
    for name in map(str, table.columns):
        if name not in COLUMNS:
            columns[name] = _parsed(path, table[name], name, "float" if is_score(name) else "str")
    return pd.DataFrame(columns)


def read_table(path: Path) -> pd.DataFrame:
    """Somebody's table: a .csv or .tsv file, which may be .gz, a .parquet file, or `-` for CSV on stdin.

    Raises ResultsError if it cannot be read or has no rows.
    """
    name = path.name.lower()
    _check_size(path, "Leave out unneeded rows or columns.")
    try:
        if name != "-":
            os.close(open_plain(path, follow=True))
        if name.endswith(".parquet"):
            table = pd.read_parquet(path, engine="pyarrow")
        else:
            separator = "\t" if name.endswith((".tsv", ".tsv.gz")) else ","
            table = pd.read_csv(sys.stdin if name == "-" else path, sep=separator, skipinitialspace=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ResultsError(f"{path}: there is no such file.") from error
    except DamagedFile as error:
        raise ResultsError(str(error)) from error
    except UnicodeDecodeError as error:
        raise ResultsError(f"{path}: is not UTF-8 text; save it as UTF-8.") from error
    except (ValueError, OSError, EOFError, pa.ArrowException) as error:
        raise ResultsError(f"{path}: cannot be read as a table ({str(error).strip()}).") from error
    table = _printable_table(table)
    if separated := other_separator([*map(str, table.columns)]):
        raise ResultsError(f"{path}: {separated}; save it that way, or name it .tsv if it has tabs.")
    if table.empty:
        raise ResultsError(f"{path}: has no rows.")
    return table


def _printable_table(table: pd.DataFrame) -> pd.DataFrame:
    """The table without characters that control a terminal, in names and in texts."""
    table.columns = pd.Index([_printable(column) for column in table.columns])
    for place, kind in enumerate(table.dtypes):
        if pd.api.types.is_string_dtype(kind):
            table.isetitem(place, table.iloc[:, place].map(_printable).array)
    return table


def _printable(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value


def _check_size(path: Path, then: str) -> None:
    if path.is_file() and (size := path.stat().st_size) > LARGEST_TABLE:
        raise ResultsError(f"{path}: {size / 2**30:,.0f} GiB is too large for a table of runs (1 GiB at most). {then}")


def read_curves(path: Path, metrics: Collection[str] | None = None) -> pd.DataFrame:
    """The table of curves.parquet; empty if there is none, as results.csv alone is enough for most figures.

    `metrics` selects the rows of these metrics: a study of 10,000 runs has millions of others.
    """
    try:
        os.close(open_plain(path))
        present = pq.read_schema(path).names
        lacking = [name for name in CURVES_SCHEMA.names if name not in present]
        wanted = None if metrics is None or lacking else [("metric", "in", list(metrics))]
        table = pq.read_table(path, filters=wanted)
        table = table if lacking else table.select(CURVES_SCHEMA.names).cast(CURVES_SCHEMA)
    except (FileNotFoundError, NotADirectoryError):
        return _frame(CURVES_SCHEMA.empty_table())
    except DamagedFile as error:
        raise ResultsError(f"{error} {MAKE_AGAIN}") from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ResultsError(f"{path}: cannot be read ({error}). Make it with `flipscale collect`.") from error
    if lacking:
        raise ResultsError(f"{path}: has no column {lacking[0]!r}. Make it with `flipscale collect`.")
    return _frame(table)


def _frame(table: pa.Table) -> pd.DataFrame:
    # Each part of the file has its own list of words; runs are in the order of the plan, metrics by name.
    curves: pd.DataFrame = table.unify_dictionaries().to_pandas()
    if isinstance(curves["metric"].dtype, pd.CategoricalDtype):
        curves["metric"] = curves["metric"].cat.reorder_categories(sorted(curves["metric"].cat.categories))
    return curves


def _parsed(path: Path, text: "pd.Series[Any]", name: str, kind: ColumnKind) -> "pd.Series[Any]":
    if kind == "str":
        return text
    # Python's own int and float: pandas reads integers above 2**53 and last digits of floats inexactly by default.
    convert: Callable[[str], int | float | None] = whole_number if kind == "int" else number
    due = "a whole number" if kind == "int" else "a number"
    if name in _AMOUNTS:
        convert, due = amount, "a number from 0"
    if is_own_score(name) and is_fraction(name):
        convert, due = fraction, "a fraction from 0 to 1"
    values: list[int | float | None] = []
    for row, (value, missing) in enumerate(zip(text, text.isna(), strict=True)):
        try:
            values.append(None if missing else convert(value))
        except ValueError:
            raise ResultsError(
                f"{path}:{line_of(path, row)}: {name} is {value[:60]!r}, where {due} is expected "
                f"(empty if missing). Correct it, or make the table again with `flipscale collect`."
            ) from None
    return pd.Series(values, dtype=COLUMN_DTYPES[kind])
