"""Which rows of a table a law is fitted to, and why each of the others is left out.

Numbers become floats before anything is computed: 6 N D of 70 billion parameters and 1.4 trillion tokens does not fit
an int64, which wraps around silently.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flipscale.analysis.fitting.laws import Law, Link
from flipscale.analysis.rows import trunks_of
from flipscale.analysis.stats import Array, linked
from flipscale.door.columns import SETTING_COLUMNS, parameter_columns
from flipscale.errors import ResultsError, did_you_mean, reason_of
from flipscale.scores import lower_is_better
from flipscale.words import count, listed

STANDS_FOR = ("model", "image_size", "text_length", "samples")
"""Settings that FLOPs per sample and samples seen stand for: a law over those need not name them."""


NAMES_A_ROW = {
    *("id", "name", "run", "run_id", "run_name", "run_uuid", "runname", "created", "updated", "start_time", "end_time"),
    *("runtime", "duration", "state", "status", "user", "host", "hostname", "notes", "tags", "sweep", "seed", "date"),
    *("experiment_id", "artifact_uri", "timestamp", "commit", "description", "error"),
}
"""Columns of exports, in small letters, that name or describe a row and are no settings."""

NO_SETTING = ("_", "summary/", "metrics.", "tags.")
"""Starts of columns that W&B, trackio and MLflow measure or note."""


@dataclass(frozen=True)
class Response:
    """How the measured column is converted to a law's link scale and back."""

    column: str
    link: Link
    accuracy: bool | None
    """Whether higher is better; a logit scale then has the odds of its error. None: nobody said."""

    def to_link(self, y: Array) -> Array:
        if self.link == "linear":
            return y
        if self.link == "log":
            return np.log(y)
        error = 1 - y if self.accuracy else y
        return np.log(error) - np.log1p(-error)

    def from_link(self, z: Array) -> Array:
        if self.link == "linear":
            return z
        if self.link == "log":
            return np.exp(np.minimum(z, 700.0))
        return 1 / (1 + np.exp(z if self.accuracy else -z))

    def why_not(self, y: float) -> str | None:
        """Why this value has no place on the link scale."""
        if not np.isfinite(y):
            return f"no {self.column}"
        if self.link == "log" and y <= 0:
            return f"{self.column} is {y:g}, which has no logarithm"
        if self.link == "logit" and not 0 < y < 1:
            percent = f"; if it is in percent, write {self.column}/100" if 1 < y <= 100 else ""
            return f"{self.column} is {y:g}, which has no odds{percent}"
        return None


@dataclass(frozen=True)
class Rows:
    """The points of a fit."""

    columns: tuple[str, ...]
    """The variables, in the order of the law's roles."""
    response: Response
    ids: tuple[str, ...]
    x: Array
    """Variables [n, roles]."""
    y: Array
    """Measurements [n]."""
    z: Array
    """The same on the link scale."""
    clusters: NDArray[np.intp]
    """The seed group of each row [n]: rows with equal variables, numbered from 0."""
    left_out: Mapping[str, str]
    """The other rows, and why they were left out."""
    seeds: NDArray[np.intp] | None = None
    """The seed of each row, numbered from 0, -1 where it has none [n]; None without a column `seed`."""
    trunks: NDArray[np.intp] | None = None
    """The trunk of each row, -1 where no other shares it [n]; None where none do."""
    settings: NDArray[np.intp] | None = None
    """Which rows have equal settings but their seed [n]; None: those of a cluster."""
    runs: NDArray[np.intp] | None = None
    """The run of each row, numbered from 0, where one has several [n]."""
    weights: Array | None = None
    """How much each row counts, 1 on average [n]; None: equally."""
    collected: bool = False
    """Whether flipscale collected the table, so that its columns mean what COLUMNS says."""
    open_settings: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    """Settings in which rows differ although the variables leave them open, with their values."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def points(self) -> int:
        """Different settings of the variables."""
        return len(np.unique(self.x, axis=0))

    @property
    def cells(self) -> NDArray[np.intp]:
        """The cell of each row [n]: its settings, whichever sizes cost the same."""
        return self.clusters if self.settings is None else self.settings

    @property
    def units(self) -> NDArray[np.intp]:
        """The runs of rows, or their settings [n], those that trunks link as one: what is resampled and held out."""
        if self.runs is not None:
            return self.runs
        return linked(self.clusters, self.trunks)

    @property
    def groups(self) -> int:
        """The number of units."""
        return len(np.unique(self.units))

    @property
    def size(self) -> Array:
        """How large each run is [n]."""
        return self.size_of(self.x)

    def size_of(self, x: Array) -> Array:
        """How large runs at x [n, roles] are: the product of the variables, as FLOPs per sample times samples.

        A loss counts inversely.
        """
        sizes = np.ones(len(x))
        for name, values in zip(self.columns, x.T, strict=True):
            sizes = sizes / values if lower_is_better(name) else sizes * values
        return sizes

    def only(self, keep: NDArray[np.bool_], why: str) -> "Rows":
        """These rows without some, for a reason."""
        names = np.array(self.ids, dtype=object)
        return replace(
            self,
            ids=tuple(names[keep]),
            clusters=np.unique(self.clusters[keep], return_inverse=True)[1].reshape(-1),
            left_out={**self.left_out, **dict.fromkeys(names[~keep], why)},
            x=self.x[keep],
            y=self.y[keep],
            z=self.z[keep],
            seeds=None if self.seeds is None else self.seeds[keep],
            trunks=None if self.trunks is None else self.trunks[keep],
            settings=None if self.settings is None else self.settings[keep],
            runs=None if self.runs is None else np.unique(self.runs[keep], return_inverse=True)[1].reshape(-1),
            weights=None if self.weights is None else self.weights[keep],
        )


def is_lower_better(y: str, accuracy: bool | None) -> bool:
    """Whether less of y is better: as said, or else by its name. Raises ResultsError where neither tells."""
    lower = lower_is_better(y) if accuracy is None else not accuracy
    if lower is None:
        raise ResultsError(f"Is more of {y} better? Write --higher-is-better or --lower-is-better.")
    return lower


def rows_of(
    table: pd.DataFrame,
    law: Law,
    x: Sequence[str],
    y: str,
    *,
    accuracy: bool | None = None,
    weights: str | None = None,
    se: str | None = None,
    run: str | None = None,
) -> Rows:
    """The rows that a law can be fitted to. Raises ResultsError for a column that is not there or holds no number.

    `accuracy` says whether higher y is better; left out, its name does. Rows with equal variables belong together, and
    the column `seed` says which rows share a seed. `weights` is a column of inverse variances, `se` one of standard
    errors, and `run` says which rows are of one run.
    """
    if len(x) != len(law.roles):
        takes = f"{count(len(law.roles), 'column')} for {', '.join(law.roles)}"
        raise ResultsError(f"The law {law.name} takes {takes}; --x names {len(x)}: {', '.join(x) or 'none'}.")
    variables = np.column_stack([column(table, name) for name in x]) if len(table) else np.empty((0, len(x)))
    measured = column(table, y)
    if law.link == "logit" or lower_is_better(y) is not None:
        accuracy = not is_lower_better(y, accuracy)
    response = Response(y, law.link, accuracy)
    ids = row_names(table)
    weighed = column(table, weights) if weights else np.ones(len(table))
    left_out = {}
    for i, name in enumerate(ids):
        why = why_not(x, variables[i], law) or response.why_not(float(measured[i]))
        if why or not weighed[i] > 0:
            left_out[name] = why or f"no weight: {weights} is {weighed[i]:g}"
    keep = np.array([name not in left_out for name in ids], dtype=bool)
    if se:
        weighed[keep] = _weights_by(column(table, se)[keep], measured[keep], law.link)
    if run:
        need(table, [run])
    return Rows(
        columns=tuple(x),
        response=response,
        ids=tuple(ids[i] for i in np.flatnonzero(keep)),
        x=variables[keep],
        y=measured[keep],
        z=response.to_link(measured[keep]),
        clusters=np.unique(variables[keep], axis=0, return_inverse=True)[1].reshape(-1),
        left_out=left_out,
        seeds=seeds_of_rows(table[keep]),
        trunks=trunks_of(table[keep]),
        settings=_settings_of(table[keep]),
        runs=pd.factorize(table[run][keep], use_na_sentinel=False)[0].astype(np.intp) if run else None,
        weights=weighed[keep] / weighed[keep].mean() if weights or se else None,
        collected=is_collected(table),
        open_settings=open_settings(table[keep], x, taken=STANDS_FOR),
    )


def _weights_by(se: Array, y: Array, link: Link) -> Array:
    """Inverse variances on the link scale; an error that is missing or 0 is the median of the others."""
    known = np.isfinite(se) & (se > 0)
    if not known.any():
        raise ResultsError("No row has a standard error above 0; leave out --se.")
    slope = {"log": 1 / y, "logit": 1 / (y * (1 - y)), "linear": np.ones_like(y)}[link]
    errors = se * slope
    return np.asarray(np.where(known, errors, np.median(errors[known])) ** -2.0)


def _settings_of(table: pd.DataFrame) -> NDArray[np.intp] | None:
    """Which rows have equal settings but their seed [n]; None in a table without lengths of schedules."""
    names = [name for name in _settings_in(table) if name != "seed"]
    return np.asarray(table.groupby(names, dropna=False).ngroup(), np.intp) if "samples" in names else None


def _settings_in(table: pd.DataFrame) -> list[str]:
    """The columns that are settings, and the parameters of a study's own program."""
    parameters = parameter_columns(map(str, table.columns)) if is_collected(table) else []
    return [*(name for name in SETTING_COLUMNS if name in table), *parameters]


def is_collected(table: pd.DataFrame) -> bool:
    """Whether `flipscale collect` wrote the table, so that its columns mean what COLUMNS says."""
    return {"id", "study", "cell"} <= set(table.columns)


def open_settings(
    table: pd.DataFrame, by: Sequence[str], *, taken: Sequence[str] = ()
) -> dict[str, tuple[object, ...]]:
    """Settings, by the names of results.csv, in which rows differ and which the columns `by` leave open: their values.

    A column that those of `by` determine, as the parameters determine a model's name, is not open, nor is one of
    `taken`.
    """
    names = [name for name in _settings_in(table) if name not in (*by, *taken, "seed")]
    return {
        name: tuple(table[name].drop_duplicates())
        for name in names
        if table[name].nunique(dropna=False) > 1 and not _settled(table, name, by)
    }


def may_be_settings(table: pd.DataFrame, named: Sequence[str]) -> list[str]:
    """Columns that are not named and may be settings: what repeats, unless its name says that it is measured."""
    return [name for name in map(str, table) if name not in named and _may_be_setting(table, name)]


def first_mixed(table: pd.DataFrame, settings: Sequence[str], keys: "list[pd.Series[Any]]") -> tuple[str, str] | None:
    """The first of these columns with several values among rows of equal keys, and the first such key; None without."""
    for name in settings:
        is_mixed = table[name].groupby(keys, dropna=False).nunique(dropna=False) > 1
        if is_mixed.any():
            return name, str(is_mixed.idxmax())
    return None


def _may_be_setting(table: pd.DataFrame, name: str) -> bool:
    if is_collected(table):
        return name in SETTING_COLUMNS and name != "seed"
    last = name.lower().replace("/", ".").rpartition(".")[2]
    if name.startswith(NO_SETTING) or last in NAMES_A_ROW or lower_is_better(name) is not None:
        return False
    values = table[name].dropna()
    is_measured = pd.api.types.is_float_dtype(values) and bool((values % 1 != 0).any())
    most = len(values) / 2 if is_measured else len(values) - 1
    return values.nunique() <= most


def _settled(table: pd.DataFrame, name: str, by: Sequence[str]) -> bool:
    """Whether the values of the named columns, which repeat, leave only one value of this one each."""
    for columns in [[column] for column in by] + ([list(by)] if len(by) > 1 else []):
        groups = table.groupby(columns, dropna=False)[name]
        if groups.ngroups < len(table) and groups.nunique(dropna=False).max() == 1:
            return True
    return False


def row_names(table: pd.DataFrame) -> list[str]:
    """The name of each row: its id if ids tell rows apart, else its number in the table, from 1."""
    if "id" in table and table["id"].notna().all() and not table["id"].duplicated().any():
        return [str(name) for name in table["id"]]
    return [f"row {i + 1}" if isinstance(i, int | np.integer) else str(i) for i in table.index]


def column(table: pd.DataFrame, name: str) -> Array:
    """A column as floats [n], NaN where it is empty. Raises ResultsError for one that is not there or holds text."""
    need(table, [name])
    numbers = pd.to_numeric(table[name], errors="coerce")
    wrong = np.flatnonzero(numbers.isna() & table[name].notna())
    if len(wrong):
        at = row_names(table)[wrong[0]]
        value = table[name].iloc[wrong[0]]
        raise ResultsError(f"{at}: {name} is {value!r}, which is not a number; leave it empty if it is missing.")
    return np.asarray(numbers, dtype=np.float64)


def need(table: pd.DataFrame, names: Iterable[str]) -> None:
    """Raise ResultsError for the first of these columns that the table lacks, with the nearest it has."""
    for name in names:
        if name not in table:
            raise ResultsError(f"The table has no column {name!r}: {did_you_mean(name, map(str, table.columns))}.")


def with_columns(table: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """The table with a column for each of these texts that is no column yet: `6*N*D`, `1-top1`, 1-`recall@5`.

    Only for text that a user types on the command line. Raises ResultsError for what pandas cannot compute.
    """
    example = "a column, or arithmetic such as 6*N*D"
    computed = {name: _evaluate(table, name, name, example) for name in names if name not in table}
    for name, values in computed.items():
        if not pd.api.types.is_numeric_dtype(values):
            raise ResultsError(f"{name}: this is no number; write {example}.")
    return table.assign(**computed)


def point_with_columns(values: Mapping[str, float], names: Iterable[str]) -> dict[str, float]:
    """The same for one run by its columns."""
    row = with_columns(pd.DataFrame([values]), names).iloc[0]
    return {str(name): float(value) for name, value in row.items()}


def where(table: pd.DataFrame, conditions: Sequence[str]) -> pd.DataFrame:
    """The rows for which all conditions hold, each as pandas' `query` takes it: `set == 'c4' and N > 4e8`.

    Only for text that a user types on the command line. Raises ResultsError for what is no condition, and where no row
    is left.
    """
    example = "a condition such as set == 'c4' and N > 4e8, with names that have signs in backticks"
    keep = np.ones(len(table), dtype=bool)
    for text in conditions:
        holds = _evaluate(table, text, f"--where {text}", example)
        if not pd.api.types.is_bool_dtype(holds):
            raise ResultsError(f"--where {text}: this does not say which rows; write {example}.")
        keep &= holds.to_numpy(dtype=bool)
    if not keep.any() and len(table):
        text = " and ".join(conditions)
        named = [name for name in map(str, table) if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)]
        raise ResultsError(f"No row has {text}; {'; '.join(_content(table, name) for name in named)}.")
    return table[keep]


def _evaluate(table: pd.DataFrame, text: str, place: str, example: str) -> "pd.Series[Any]":
    """What pandas makes of an expression over the columns, whose numbers are floats."""
    numeric = table.select_dtypes("number").columns
    floats = table.astype(dict.fromkeys(numeric, "float64"))
    need(table, re.findall("`([^`]+)`", text))
    try:
        # pandas' eval reaches attributes of Python's objects, and so can run anything. It gets what a user types, who
        # can run anything anyway. A study file may be somebody else's: study/expression.py reads it, and runs nothing.
        values = floats.eval(text, engine="python", local_dict={}, global_dict={})
    except Exception as error:  # It has no error of its own: each part of Python that it uses raises another.
        unknown = re.match(r"name '(\w+)' is not defined", str(error))
        known = list(map(str, table.columns))
        if unknown:
            said = f"The table has no column {unknown[1]!r}: {did_you_mean(unknown[1], known)}."
        else:
            said = f"{place}: {reason_of(error)}. Columns: {listed(known, 20)}."
        raise ResultsError(f"{said} Write {example}.") from None
    if not isinstance(values, pd.Series):
        raise ResultsError(f"{place}: this computes no column; write {example}.")
    return values


def _content(table: pd.DataFrame, name: str) -> str:
    """What a column has: its values, or the range of many numbers."""
    words = list(dict.fromkeys(map(str, table[name])))
    if len(words) > 12 and pd.api.types.is_numeric_dtype(table[name]):
        return f"{name} is from {table[name].min():g} to {table[name].max():g}"
    return f"{name} is one of {listed(words, 12)}"


def in_groups(table: pd.DataFrame, by: Sequence[str]) -> list[tuple[dict[str, object], pd.DataFrame]]:
    """The table in parts of equal values of these columns, in the order in which they first come."""
    if not by:
        return [({}, table)]
    need(table, by)
    parts = table.groupby(list(by), sort=False, dropna=False)
    return [(dict(zip(by, key, strict=True)), part) for key, part in parts]


def group_name(values: Mapping[str, object]) -> str:
    """'dataset=c4, mask_ratio=0.5'; a missing value is null, and no group is 'all runs'."""
    shown = {name: "null" if value is None or value != value else value for name, value in values.items()}
    return ", ".join(f"{name}={value}" for name, value in shown.items()) or "all runs"


def why_not(names: Sequence[str], values: Array, law: Law) -> str | None:
    """Why a law cannot take these variables; None where it can."""
    for name, value in zip(names, values, strict=True):
        if not np.isfinite(value):
            return f"no {name}"
        if value <= 0 and law.link != "linear":
            return f"{name} is {value:g}, which has no logarithm"
    return None


def seeds_of_rows(table: pd.DataFrame) -> NDArray[np.intp] | None:
    """The seed of each row, numbered from 0, -1 where it has none [n]; None without a column `seed`."""
    return pd.factorize(table["seed"])[0].astype(np.intp) if "seed" in table else None
