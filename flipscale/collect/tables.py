"""The tables as DataFrames: what the stages after collect are handed."""

import csv
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from flipscale.collect.columns import COLUMN_DTYPES, COLUMNS, ColumnKind
from flipscale.collect.curves import CURVES_SCHEMA
from flipscale.errors import ResultsError
from flipscale.scores import is_score
from flipscale.study import read_study
from flipscale.workspace import RESULTS_TABLE, Workspace, usual_results


def results(study: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """The table of a study, one row per finished run, by the study's file or by the folder or file of its results.

        flipscale.results("studies/quickstart.yaml")
        flipscale.results("results/quickstart")

    `root` is where results are, for a study's file: FLIPSCALE_RESULTS or results/. The columns are COLUMNS, and what is
    missing is missing. Raises ResultsError where nothing was collected yet.
    """
    path = Path(study)
    if path.suffix in (".yaml", ".yml"):
        path = Workspace(Path(root) if root else usual_results()).study(read_study(path).name).folder
    return read_results(path / RESULTS_TABLE if path.suffix != ".csv" else path)


LARGEST_TABLE = 2**30
"""Bytes of a table of a million runs. Reading a larger file would take all memory, or hours if it is sparse."""


def read_results(path: Path) -> pd.DataFrame:
    """The table of results.csv with the dtypes of COLUMNS; missing values stay missing.

    Missing columns are added empty, so that files of older versions can be read; extra columns stay.
    """
    _check_size(path, "Delete it, and make it with `flipscale collect`.")
    try:
        # An empty cell is the only missing value: a model or a study may be called NA.
        table = pd.read_csv(path, dtype="str", keep_default_na=False, na_values=[""])
        _check_whole(path)
    except FileNotFoundError as error:
        raise ResultsError(f"{path}: there is no such file. Make it with `flipscale collect`.") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise ResultsError(f"{path}: not a table of results ({error}). Make it with `flipscale collect`.") from error
    if "id" not in table:
        raise ResultsError(
            f"{path}: has no column 'id', so it is not a table of results. Make it with `flipscale collect`."
        )
    columns: dict[str, pd.Series[Any]] = {}
    for name, column in COLUMNS.items():
        text = table[name] if name in table else pd.Series([None] * len(table), dtype="str")
        try:
            columns[name] = _parsed(text, column.kind)
        except ValueError as error:
            raise ResultsError(f"{path}: column {name!r} must hold {column.kind} values ({error}).") from error
    columns["cell"] = columns["cell"].fillna("")  # a study whose only axis is the baseline's has one cell, named ''
    for name in map(str, table.columns):
        if name not in COLUMNS:
            columns[name] = _parsed(table[name], "float") if is_score(name) else table[name]
    return pd.DataFrame(columns)


def read_table(path: Path) -> pd.DataFrame:
    """Somebody's table: a .csv or .tsv file, which may be .gz, a .parquet file, or `-` for CSV on stdin.

    Raises ResultsError if it cannot be read or has no rows.
    """
    name = path.name.lower()
    _check_size(path, "Leave out what is not needed.")
    try:
        if name.endswith(".parquet"):
            table = pd.read_parquet(path, engine="pyarrow")
        else:
            separator = "\t" if name.endswith((".tsv", ".tsv.gz")) else ","
            table = pd.read_csv(sys.stdin if name == "-" else path, sep=separator, skipinitialspace=True)
    except FileNotFoundError as error:
        raise ResultsError(f"{path}: there is no such file.") from error
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"{path}: cannot be read as a table ({str(error).strip()}).") from error
    if table.empty:
        raise ResultsError(f"{path}: has no rows.")
    return table


def _check_size(path: Path, then: str) -> None:
    if path.is_file() and (size := path.stat().st_size) > LARGEST_TABLE:
        raise ResultsError(f"{path}: {size / 2**30:,.0f} GiB is too large for a table of runs (1 GiB at most). {then}")


def read_curves(path: Path, metrics: Collection[str] | None = None) -> pd.DataFrame:
    """The table of curves.parquet; empty if there is none, as results.csv alone is enough for most figures.

    `metrics` selects the rows of these metrics: a study of 10,000 runs has millions of others.
    """
    if not path.exists():
        return _frame(CURVES_SCHEMA.empty_table())
    try:
        present = pq.read_schema(path).names
        lacking = [name for name in CURVES_SCHEMA.names if name not in present]
        wanted = None if metrics is None or lacking else [("metric", "in", list(metrics))]
        table = pq.read_table(path, filters=wanted)
    except (OSError, ValueError) as error:
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


def _check_whole(path: Path) -> None:
    """ValueError for a row with fewer cells than the header: pandas takes what was cut off for missing."""
    with open(path, newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        columns = len(next(lines))
        for row in lines:
            if row and len(row) < columns:
                raise ValueError(f"line {lines.line_num} has {len(row)} of {columns} cells, so it was cut off")


def _parsed(text: "pd.Series[Any]", kind: ColumnKind) -> "pd.Series[Any]":
    if kind == "str":
        return text
    # Python's own int and float: pandas reads integers above 2**53 and last digits of floats inexactly by default.
    convert = int if kind == "int" else float
    values = [None if pd.isna(value) else convert(value) for value in text]
    return pd.Series(values, dtype=COLUMN_DTYPES[kind])
