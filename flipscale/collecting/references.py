"""Published results of others, from a CSV: hollow and grey; never fitted, and in no comparison."""

import os
from pathlib import Path

import pandas as pd

from flipscale.collecting.columns import COLUMNS
from flipscale.cost.arithmetic import flops
from flipscale.errors import FlipscaleError, ResultsError, did_you_mean
from flipscale.plain_files import open_plain
from flipscale.scores import is_score
from flipscale.settings.architecture import architecture

REFERENCE_COLUMNS = {
    "name": "the label beside the points; rows of one name are joined in the order of x",
    "source": "the paper and table that print the numbers; required",
    "evaluated_on": "the evaluation set of the scores, shown in the small print. ImageNet-1K is `imagenet`",
}
"""The columns of a references file that results.csv lacks; all others are those of results.csv, and may be left out."""


SETS_OF_STUDIES = {"ImageNet-1K": "imagenet"}
"""The name of an evaluation set in studies, by its name in `evaluated_on`."""


def read_references(path: Path) -> pd.DataFrame:
    """The rows of a references file. Raises ResultsError for any other file."""
    try:
        with os.fdopen(open_plain(path, follow=True), "rb") as file:
            table = pd.read_csv(file, dtype="str", keep_default_na=False, na_values=[""], comment="#")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ResultsError(f"{path}: there is no such file of references.") from error
    except ValueError as error:
        raise ResultsError(f"{path}: is not a table ({error}).") from error
    _check_sources(table, path)
    known = [*REFERENCE_COLUMNS, *COLUMNS]
    for name in map(str, table.columns):
        if name not in known and not is_score(name):
            raise ResultsError(f"{path}: has a column {name!r}, {did_you_mean(name, known)}.")
        if is_score(name) or (name in COLUMNS and COLUMNS[name].kind != "str"):
            try:
                table[name] = table[name].astype("float64")
            except ValueError as error:
                raise ResultsError(f"{path}: column {name!r} must hold numbers ({error}).") from error
    return _with_scores_of_sets(_with_flops(table, path))


def _with_scores_of_sets(table: pd.DataFrame) -> pd.DataFrame:
    """The table with each plain score also as that of the set that it was evaluated on."""
    if "evaluated_on" not in table:
        return table
    for name in [str(column) for column in table if is_score(str(column)) and "." not in str(column)]:
        for published_as, of_set in SETS_OF_STUDIES.items():
            on_set = table[name].where(table["evaluated_on"] == published_as)
            if (column := f"{of_set}.{name}") not in table and on_set.notna().any():
                table = table.assign(**{column: on_set})
    return table


def _check_sources(table: pd.DataFrame, path: Path) -> None:
    """Raise ResultsError if a row does not say what it is or where it is printed."""
    for name in ("name", "source"):
        if name not in table:
            raise ResultsError(f"{path}: has no column {name!r}; columns are {', '.join(REFERENCE_COLUMNS)}, and more.")
        if table[name].isna().any():
            row = int(table[name].isna().to_numpy().argmax()) + 1
            raise ResultsError(f"{path}: row {row} has no {name}; each row says what it is and where it is printed.")


_SHAPE_COLUMNS = ["model", "image_size", "text_length", "samples"]


def _with_flops(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table with train_flops counted where it is missing and the model is given: as for runs, without tuning."""
    if not set(_SHAPE_COLUMNS) <= set(table):
        return table
    given = table["train_flops"] if "train_flops" in table else pd.Series(float("nan"), index=table.index)
    known = given.isna() & table[_SHAPE_COLUMNS].notna().all(axis=1)
    counted: dict[object, float] = {}
    try:
        for place, row in table[known].iterrows():
            mask = row.get("mask_ratio", 0.0)
            shape = architecture(row["model"], int(row["image_size"]))
            per_sample = flops(shape, 0.0 if pd.isna(mask) else mask, int(row["text_length"]))
            counted[place] = row["samples"] * (per_sample.image + per_sample.text)
    except FlipscaleError as error:
        raise ResultsError(f"{path}: train_flops cannot be counted ({error}).") from error
    return table.assign(train_flops=given.fillna(pd.Series(counted, dtype="float64")))
