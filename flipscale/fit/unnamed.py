"""Settings of a table that the options do not name: rows that differ in one are not runs of one curve."""

from collections.abc import Collection, Sequence

import pandas as pd

from flipscale.collect import COLUMNS, SETTING_COLUMNS
from flipscale.scores import lower_is_better

_PROVENANCE = ("id", "seed", "run", "name", "note", "notes", "comment", "source", "ref", "row")
"""Columns that identify a row and do not say how its run was set up."""

STANDS_FOR = ("model", "image_size", "text_length", "samples")
"""Settings that FLOPs per sample and samples seen stand for: a law over those need not name them."""

_FEW_VALUES = 10  # a column of numbers with more values than this is taken for a measurement


def is_collected(table: pd.DataFrame) -> bool:
    """Whether `flipscale collect` wrote the table, so that its columns mean what COLUMNS says."""
    return {"id", "study", "cell"} <= set(table.columns)


def unnamed_settings(
    table: pd.DataFrame, by: Sequence[str], *, taken: Collection[str] = ()
) -> dict[str, tuple[object, ...]]:
    """Settings in which the rows differ and which the columns `by` leave open: their names and values.

    In a table that flipscale collected these are its settings. In any other they are columns of text, and columns of
    numbers with few values that repeat. A column that those of `by` determine, as the parameters determine a model's
    name, is not a setting of its own, nor is one of `taken`, which have another meaning.
    """
    others = [name for name in map(str, table.columns) if name not in (*by, *taken)]
    columns = [name for name in others if _may_be_setting(table, name)]
    return {
        name: tuple(table[name].drop_duplicates())
        for name in columns
        if table[name].nunique(dropna=False) > 1 and not _settled(table, name, by)
    }


def _may_be_setting(table: pd.DataFrame, name: str) -> bool:
    if is_collected(table) and name in COLUMNS:
        return name in SETTING_COLUMNS and name != "seed"
    if name.lower() in _PROVENANCE or lower_is_better(name) is not None:
        return False
    values = table[name].nunique(dropna=False)
    if pd.api.types.is_numeric_dtype(table[name]) and not pd.api.types.is_bool_dtype(table[name]):
        return bool(values <= min(_FEW_VALUES, len(table) // 2) and table[name].value_counts(dropna=False).min() > 1)
    return values <= len(table) // 2


def _settled(table: pd.DataFrame, name: str, by: Sequence[str]) -> bool:
    """Whether the values of the named columns, which repeat, leave only one value of this one each."""
    for columns in [[column] for column in by] + ([list(by)] if len(by) > 1 else []):
        groups = table.groupby(columns, dropna=False)[name]
        if groups.ngroups < len(table) and groups.nunique(dropna=False).max() == 1:
            return True
    return False
