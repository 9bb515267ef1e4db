"""The table of a study, as the stages after collect receive it."""

import os
from pathlib import Path

import pandas as pd

from flipscale.collecting.columns import COLUMNS, kept_columns
from flipscale.door.tables import read_rows
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


def read_results(path: Path) -> pd.DataFrame:
    """The table of results.csv with the dtypes of COLUMNS; missing values stay missing.

    Missing columns are added, empty or at their default; extra columns stay. ResultsError names a line that `collect`
    cannot have written.
    """
    return read_rows(path, COLUMNS)


def as_written(results: pd.DataFrame) -> pd.DataFrame:
    """The table with the columns alone that results.csv keeps of it."""
    values = results.astype(object).replace({pd.NA: None})
    return results[kept_columns({str(name): list(values[name]) for name in results})]
