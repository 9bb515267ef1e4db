"""Any table, somebody else's: read, checked, and made ready for a comparison; what it leaves unsaid is found or asked.

A comparison needs to know which rows make one curve, and which rows of two arms are twins. Options say so; where they
do not, the table is looked at (apart.py), and every such decision is a sentence in `Prepared.notes`. A table that
leaves it open is an error that names the columns to choose from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from flipscale.compare.apart import Layout, layout_of
from flipscale.compare.columns import arms_of, is_baseline, labels, need
from flipscale.errors import ResultsError
from flipscale.fit import column
from flipscale.scores import lower_is_better
from flipscale.study.expression import plain_value
from flipscale.words import short

_MISSING = {"", "null", "none", "nan", "na", "n/a"}


def baseline_from(table: pd.DataFrame, texts: Sequence[str]) -> dict[str, Any]:
    """{"mask_ratio": 0.0} from ["mask_ratio=0"], or from several, one a text or with commas; each as its column has it.

    Raises ResultsError for text without `=`, a column that is not there and a value that a column of numbers cannot
    have. `null` is a missing value.
    """
    baseline: dict[str, Any] = {}
    for part in (part.strip() for text in texts for part in _parts(table, text)):
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise ResultsError(f"{part!r} is no baseline; write COLUMN=VALUE, as mask_ratio=0.")
        need(table, [name])
        baseline[name] = _value(table[name], name, value)
    return baseline


def columns_from(table: pd.DataFrame, text: str) -> list[str]:
    """Names of columns with commas between them; a column whose own name has commas is one."""
    return [text] if text in table else [name.strip() for name in text.split(",")]


def _parts(table: pd.DataFrame, text: str) -> list[str]:
    """The parts of one baseline; a value that has commas in the table is one."""
    name, _, value = text.partition("=")
    return [text] if name in table and (table[name] == value).any() else text.split(",")


def _value(of: "pd.Series[Any]", name: str, text: str) -> Any:
    if pd.api.types.is_bool_dtype(of) and text.lower() in ("true", "false", "yes", "no"):
        return text.lower() in ("true", "yes")
    if not pd.api.types.is_numeric_dtype(of) and (of == text).any():
        return text
    if text.lower() in _MISSING:
        return None
    if not pd.api.types.is_numeric_dtype(of):
        return text
    value = plain_value(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ResultsError(f"{name!r} holds numbers, and {text!r} is none; there is {_there(of)}.")
    return float(value)


def _there(column: "pd.Series[Any]") -> str:
    values = [short(value) for value in sorted(column.dropna().unique())]
    return ", ".join(values[:20]) + (", ..." if len(values) > 20 else "")


def numbers(table: pd.DataFrame, name: str) -> "pd.Series[float]":
    """A column as floats; what is missing or infinite is missing. Raises ResultsError for text, with its row."""
    found = pd.Series(column(table, name), index=table.index)
    return found.where(np.isfinite(found))


def check_baseline(table: pd.DataFrame, baseline: Mapping[str, Any]) -> None:
    """Raise ResultsError if no row has the baseline's values, with what there is."""
    if not baseline:
        raise ResultsError("A comparison needs a baseline, as {'mask_ratio': 0}.")
    if not is_baseline(table, baseline).any():
        there = list(dict.fromkeys(labels(table, list(baseline))))
        wanted = ", ".join(f"{name}={short(value)}" for name, value in baseline.items())
        listed = "; ".join(there[:12]) + ("; ..." if len(there) > 12 else "")
        raise ResultsError(f"No row is the baseline {wanted}; there is {listed}.")


def seeds_of(table: pd.DataFrame) -> "pd.Series[int] | None":
    """The seed of each row as an integer, or None without a column `seed`. Seeds that are no integers are numbered."""
    if "seed" not in table or table["seed"].isna().all():
        return None
    seeds = table["seed"]
    if pd.api.types.is_numeric_dtype(seeds) and (seeds.dropna() % 1 == 0).all():
        return seeds.fillna(-1).astype("int64")
    codes, _ = pd.factorize(seeds, sort=True)
    return pd.Series(codes, index=table.index, dtype="int64")


@dataclass(frozen=True)
class Prepared:
    """A table with all that a comparison needs to know of it."""

    table: pd.DataFrame
    """With `_cell`, `_series`, `seed` and `id`; the rows of the baseline are in every series that they belong to."""
    at: str | None
    """The column that twins share."""
    at_number: str | None
    """The same if it holds numbers."""
    fraction: bool
    notes: tuple[str, ...]


def prepared(
    table: pd.DataFrame,
    baseline: Mapping[str, Any],
    costs: Sequence[str],
    y: str,
    series: Sequence[str],
    at: str | None,
    lower: bool,
) -> Prepared:
    """Check the table and settle what makes a curve and what makes twins.

    Rows of one arm are one curve, unless columns of `series`, or others that are found, tell several apart. Rows of
    one arm, seed and schedule that nothing tells apart are replicates: the k-th of an arm is set against the k-th of
    the baseline, in the order of rows. A series that the baseline has no rows of is compared with those it has.
    """
    need(table, [*baseline, *costs, y, *series, *([at] if at else [])])
    if y in costs:
        raise ResultsError(f"x and y are both {y!r}; x is what is spent, y is what it buys.")
    table = table.reset_index(drop=True)
    table = table.assign(**{name: numbers(table, name) for name in dict.fromkeys([*costs, y])})
    check_baseline(table, baseline)
    arms = arms_of(table, baseline)
    if not (arms != "").any():
        raise ResultsError("Every row is the baseline; there is nothing to compare it with.")
    if table[y].isna().all():
        raise ResultsError(f"Column {y!r} is empty.")
    notes = _notes_on_y(table[y], y, lower)
    seeds = seeds_of(table)
    measured = table[table[y].notna() & table[costs[0]].notna()]
    layout = layout_of(
        measured,
        arms=arms[measured.index],
        seeds=None if seeds is None else seeds[measured.index],
        baseline=tuple(baseline),
        x=costs[0],
        y=y,
        series=tuple(series),
        at=at,
        lower=lower,
    )
    notes += layout.notes
    table["id"] = table["id"].astype("str") if "id" in table else [f"row {i + 1}" for i in range(len(table))]
    table["_series"] = labels(table, layout.series)
    table["_cell"] = labels(table, [*layout.series, layout.at]) if layout.at else ""
    table = _with_baselines(table, arms, layout)
    if seeds is None:
        key = [table["_series"], arms_of(table, baseline), table[layout.at if layout.at else costs[0]]]
        table["seed"] = table.groupby(key, dropna=False).cumcount()
    else:
        table["seed"] = seeds[table["_row"]].to_numpy()
        _check_twins(table, baseline, layout)
        notes += _paired_in_order(table, arms_of(table, baseline))
    number = layout.at if layout.at and pd.api.types.is_numeric_dtype(table[layout.at]) else None
    values = table[y].dropna()
    fraction = not lower and bool(((values >= 0) & (values <= 1)).all())
    return Prepared(table.drop(columns="device", errors="ignore"), layout.at, number, fraction, tuple(notes))


def _notes_on_y(values: "pd.Series[float]", y: str, lower: bool) -> list[str]:
    notes = []
    said = lower_is_better(y)
    if said is not None and said is not lower:
        notes.append(f"{'lower' if lower else 'higher'} {y} is taken as better, though its name says the opposite")
    share = ((values > 0) & (values <= 1)).sum()
    if not lower and share and 1 < values.max() <= 100:
        notes.append(f"{share} of the values of {y} are at most 1 and others above it: fractions among percentages?")
    return notes


def _with_baselines(table: pd.DataFrame, arms: "pd.Series[str]", layout: Layout) -> pd.DataFrame:
    """The table with the baseline's rows in each series: those of the series, or those it has where there are none."""
    table = table.assign(_row=table.index)
    if not layout.series:
        return table
    base, others = table[arms == ""], table[arms != ""]
    parts = []
    for series, rows in others.groupby("_series", sort=False):
        own = base
        for name in layout.series:
            value = rows[name].iloc[0]
            same = own[name].isna() if pd.isna(value) else own[name] == value
            if same.any():
                own = own[same]
            elif own[name].nunique(dropna=False) > 1:
                own = own[:0]  # several, and none is this one: none belongs to it more than the others
        at = labels(own, [layout.at]) if layout.at else None
        cells = "" if at is None else [", ".join(filter(None, (str(series), cell))) for cell in at]
        parts += [own.assign(_series=series, _cell=cells), rows]
    return pd.concat(parts).sort_values("_row", kind="stable").reset_index(drop=True)


def _paired_in_order(table: pd.DataFrame, arms: "pd.Series[str]") -> list[str]:
    """Set the seeds of each arm that has none of its baseline's against those in order, in place; and say so.

    Independent runs paired at random are compared rightly by the differences, only with less to gain from pairing.
    """
    notes = []
    for (series, arm), rows in table[arms != ""].groupby(["_series", arms[arms != ""]], sort=False):
        theirs = sorted(set(table["seed"][(arms == "") & (table["_series"] == series)]))
        own = sorted(set(rows["seed"]))
        if theirs and not set(own) & set(theirs):
            new = dict(zip(own, [*theirs, *(max(*theirs, *own) + i for i in range(1, len(own)))], strict=False))
            table.loc[rows.index, "seed"] = rows["seed"].map(new)
            notes.append(f"{arm} has no seed of its baseline's, so their seeds are set against each other in order")
    return list(dict.fromkeys(notes))


def _check_twins(table: pd.DataFrame, baseline: Mapping[str, Any], layout: Layout) -> None:
    """Raise ResultsError for two rows of one arm, seed and schedule."""
    if layout.at is None:
        return
    key = ["_series", "_arm", layout.at, "seed"]
    again = table.assign(_arm=arms_of(table, baseline))
    twice = again[again.duplicated(key, keep=False)]
    if not twice.empty:
        first = twice[(twice[key] == twice[key].iloc[0]).all(axis=1)]
        one, other = first["id"].iloc[:2]
        row = first.iloc[0]
        raise ResultsError(
            f"{one} and {other} are both {row['_arm'] or 'the baseline'} at seed {row['seed']} and "
            f"{layout.at}={short(row[layout.at])}. Name the column that tells them apart with --series."
        )
