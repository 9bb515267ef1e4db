"""One row per finished run: run folders in, results.csv and curves.parquet out.

    results.csv      one row per finished run, in the order of the plan; its columns are COLUMNS, missing ones empty
    curves.parquet   every point of every finished run's metrics.jsonl: id, step, samples, seconds, metric, value, time

The same run folders give byte-identical files: nothing here reads a clock, and floats are written as their shortest
decimal that reads back the same. A folder that cannot be read is left out by name, never in silence.

run_folders.py bringing both up to date
columns.py     the columns of results.csv
rows.py        the row of a run folder
points.py      the points of a run folder, and curves.parquet
study_table.py the table of a study
record.py      what a reader of the table has to know of the study
references.py  others' results, from a CSV
ledger.py      predicted and spent hours, failed and stopped work included
"""

import importlib
from typing import TYPE_CHECKING

from flipscale.collecting.columns import (
    COLUMNS,
    axis_values,
    baseline_of,
    columns_as_markdown,
    is_setting,
    setting_value,
    setting_values,
)
from flipscale.collecting.run_folders import Collected, collect

if TYPE_CHECKING:
    from flipscale.collecting.points import read_curves
    from flipscale.collecting.study_table import (
        read_results,
        results,
    )

__all__ = [
    "COLUMNS",
    "Collected",
    "axis_values",
    "baseline_of",
    "collect",
    "columns_as_markdown",
    "is_setting",
    "read_curves",
    "read_results",
    "results",
    "setting_value",
    "setting_values",
]


def __getattr__(name: str) -> object:
    """Tables load on first use: pandas takes longer to import than most commands take."""
    tables = ("read_results", "results")
    home = "points" if name == "read_curves" else "study_table" if name in tables else None
    if home is None:
        raise AttributeError(f"module 'flipscale.collecting' has no attribute {name!r}")
    return getattr(importlib.import_module(f"flipscale.collecting.{home}"), name)
