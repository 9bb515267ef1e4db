"""Any table, also somebody else's: checked and prepared for a comparison by the columns that its reader names.

A comparison needs to know which rows make one curve (`series`), and which rows of two arms are twins (`at`, `seed`).
Nothing is guessed: rows that leave it open are refused, with the columns to choose from.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from flipscale.analysis.comparing.points import PreparedTable
from flipscale.analysis.comparing.roles import Baseline, arms_of, is_baseline, labels, settings_words
from flipscale.analysis.fitting.chosen_rows import column, may_be_settings, need, row_names
from flipscale.errors import ResultsError
from flipscale.kinds import number_in
from flipscale.scores import lower_is_better
from flipscale.words import joined, listed, short

MISSING = {"", "null", "none", "nan", "na", "n/a"}
TRUTHS = {"true": True, "yes": True, "false": False, "no": False}
"""How a command names a value that is missing, true or false, in small letters."""


def baseline_from(table: pd.DataFrame, texts: Sequence[str]) -> dict[str, object]:
    """{"mask_ratio": 0.0} from ["mask_ratio=0"], or from several, one per text or with commas.

    Each value has the type of its column; `null` is a missing value. Raises ResultsError for text without `=`, a
    missing column, and text for a column of numbers.
    """
    baseline: dict[str, object] = {}
    for part in (part.strip() for text in texts for part in _parts(table, text)):
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise ResultsError(f"{part!r} is not a baseline; write COLUMN=VALUE, for example mask_ratio=0.")
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


def _value(values: "pd.Series[Any]", name: str, text: str) -> object:
    if pd.api.types.is_bool_dtype(values) and text.lower() in TRUTHS:
        return TRUTHS[text.lower()]
    if not pd.api.types.is_numeric_dtype(values):
        return None if text.lower() in MISSING and not (values == text).any() else text
    if text.lower() in MISSING:
        return None
    value = number_in(text)
    if value is None:
        raise ResultsError(f"{name!r} holds numbers, and {text!r} is not one; it has {_some_of(values)}.")
    return float(value)


def _some_of(column: "pd.Series[Any]") -> str:
    return listed([short(value) for value in sorted(column.dropna().unique())], 20)


def numbers(table: pd.DataFrame, name: str) -> "pd.Series[float]":
    """A column as floats; infinite values count as missing. Raises ResultsError for text, with its row."""
    values = pd.Series(column(table, name), index=table.index)
    return values.where(np.isfinite(values))


def check_baseline(table: pd.DataFrame, baseline: Baseline) -> None:
    """Raise ResultsError, with the values there are, if no row has the baseline's."""
    if not baseline:
        raise ResultsError("A comparison needs a baseline, such as {'mask_ratio': 0}.")
    if not is_baseline(table, baseline).any():
        names = list(dict.fromkeys(labels(table, list(baseline))))
        raise ResultsError(f"No row is the baseline {settings_words(baseline)}; there is {listed(names, 12, '; ')}.")


def seeds_of(table: pd.DataFrame) -> "pd.Series[int] | None":
    """The seed of each row as an integer, or None without a column `seed`. Seeds that are not integers are numbered."""
    if "seed" not in table or table["seed"].isna().all():
        return None
    seeds = table["seed"]
    if pd.api.types.is_numeric_dtype(seeds) and (seeds.dropna() % 1 == 0).all():
        return seeds.fillna(-1).astype("int64")
    codes, _ = pd.factorize(seeds, sort=True)
    return pd.Series(codes, index=table.index, dtype="int64")


def prepared(
    table: pd.DataFrame,
    baseline: Baseline,
    costs: Sequence[str],
    y: str,
    series: Sequence[str],
    at: str | None,
    lower: bool,
    ignore: Sequence[str] = (),
) -> PreparedTable:
    """Check the table and settle what makes a curve and what makes twins.

    Rows of one arm are one curve, unless columns of `series` tell several apart. Rows of one arm and schedule that
    differ in nothing else are replicates: the k-th of an arm is set against the k-th of the baseline, in the order of
    rows. A series that the baseline has no rows of is compared with those it has, if they have one value of the column.
    """
    need(table, [*baseline, *costs, y, *series, *ignore, *([at] if at else [])])
    if y in costs:
        raise ResultsError(f"x and y are both {y!r}; x is what is spent, y is what it buys.")
    table = table.reset_index(drop=True)
    table = table.assign(
        id=table.get("id", row_names(table)), **{name: numbers(table, name) for name in dict.fromkeys([*costs, y])}
    )
    arms = checked_arms(table, baseline, y)
    seeds = seeds_of(table)
    taken = [*baseline, *costs, y, "id", *series, *ignore]
    if seeds is None:
        _check_told_apart(table, arms, [*series, at or costs[0]], taken)
    is_whole = table[[costs[0], y]].notna().all(axis=1)
    _check_one_curve(table[is_whole], arms[is_whole], series, costs[0], [*taken, "seed", *([at] if at else [])])
    keys = pd.DataFrame({"arm": arms, "series": labels(table, series), "seed": seeds, "at": table[at] if at else None})
    keys = _in_each_series(table, keys, series)
    rows = table.loc[keys.index].reset_index(drop=True)
    keys = keys.reset_index(drop=True)
    named = [keys["series"], *([labels(rows, [at])] if at else [])]
    keys["cell"] = [", ".join(filter(None, names)) if at else "" for names in zip(*named, strict=True)]
    seed_notes: list[str] = []
    if seeds is None:  # The rows of a schedule are numbered.
        by = [keys["series"], keys["arm"], keys["at"] if at else rows[costs[0]]]
        keys["seed"] = keys.groupby(by, dropna=False).cumcount()
    else:
        _check_twins(rows, keys, at)
        keys["seed"], seed_notes = _paired_in_order(keys)
    return PreparedTable(
        rows=rows.drop(columns="device", errors="ignore"),
        keys=keys if at and pd.api.types.is_numeric_dtype(table[at]) else keys.assign(at=np.nan),
        baseline=baseline,
        score=y,
        costs=tuple(costs),
        at=at,
        lower_is_better=lower,
        fraction=not lower and bool(table[y].dropna().between(0, 1).all()),
        notes=(*_notes_on_y(table[y], y, lower), *seed_notes),
    )


def _check_told_apart(table: pd.DataFrame, arms: "pd.Series[str]", by: Sequence[str], taken: Sequence[str]) -> None:
    """Raise ResultsError where rows of one arm and schedule differ in other columns, which may make several curves."""
    keys = table[[*by]].assign(arm=arms)
    for _, rows in table[keys.duplicated(keep=False)].groupby([keys[name] for name in keys], dropna=False):
        names = [str(name) for name in table if name not in (*by, *taken) and rows[name].nunique(dropna=False) > 1]
        if names:
            first = rows.index[0]
            raise ResultsError(
                f"{arms[first] or 'The baseline'} has several rows at {by[-1]}={short(table[by[-1]][first])}, which "
                f"are not one curve. Name what tells them apart with --series: {', '.join(names)}; for repeats, name a "
                "column 'seed'."
            )


def _check_one_curve(
    table: pd.DataFrame, arms: "pd.Series[str]", series: Sequence[str], cost: str, taken: Sequence[str]
) -> None:
    """Raise ResultsError for columns with several values within a curve, each of several rows.

    A column whose values come one after the other along the cost, as epochs do along hours, is no setting.
    """
    scored = table.sort_values(cost)
    curves = [rows for _, rows in scored.groupby([arms.rename("arm"), labels(table, series)])]
    names = [
        name for name in may_be_settings(scored, taken) if any(_tells_apart(rows[name].dropna()) for rows in curves)
    ]
    if names:
        raise ResultsError(
            f"Rows of one curve differ in {joined(names)}. Name what makes separate curves with --series, such as "
            f"--series {names[0]}; name columns that do not matter with --ignore."
        )


def _tells_apart(values: "pd.Series[Any]") -> bool:
    """Whether each of several values has several rows, in turns."""
    counts = values.value_counts()
    changes = int((values != values.shift()).sum())
    return len(counts) > 1 and int(counts.min()) > 1 and changes > len(counts)


def checked_arms(table: pd.DataFrame, baseline: Baseline, y: str) -> "pd.Series[str]":
    """The arm of each row. Raises ResultsError if there is nothing to compare."""
    check_baseline(table, baseline)
    arms = arms_of(table, baseline)
    if not (arms != "").any():
        raise ResultsError("Every row is the baseline; there is nothing to compare it with.")
    if table[y].isna().all():
        raise ResultsError(f"Column {y!r} is empty.")
    return arms


def _notes_on_y(values: "pd.Series[float]", y: str, lower: bool) -> list[str]:
    notes = []
    by_name = lower_is_better(y)
    if by_name is not None and by_name is not lower:
        notes.append(f"{'lower' if lower else 'higher'} {y} is taken as better, though its name says the opposite")
    share = ((values > 0) & (values <= 1)).sum()
    if not lower and share and 1 < values.max() <= 100:
        notes.append(f"{share} of the values of {y} are at most 1 and others above it: fractions among percentages?")
    return notes


def _in_each_series(table: pd.DataFrame, keys: pd.DataFrame, series: Sequence[str]) -> pd.DataFrame:
    """The keys with those of the baseline in each series: those of the series, or those of the only series it has.

    Their index is the row; rows of the baseline may appear several times.
    """
    if not series:
        return keys
    ours = keys[keys["arm"] != ""]
    base = table[keys["arm"] == ""]
    parts = []
    for name, of_name in ours.groupby("series", sort=False):
        theirs = _baseline_of(base, table.loc[of_name.index[0]], series)
        parts += [keys.loc[theirs.index].assign(series=name), of_name]
    return pd.concat(parts).sort_index(kind="stable")


def _baseline_of(base: pd.DataFrame, row: "pd.Series[Any]", series: Sequence[str]) -> pd.DataFrame:
    """The rows of the baseline that belong to the series of this row."""
    for name in series:
        value = row[name]
        same = base[name].isna() if pd.isna(value) else base[name] == value
        if same.any():
            base = base[same]
        elif base[name].nunique(dropna=False) > 1:
            return base[:0]  # several values, none of them this row's: nothing says which to take
    return base


def _paired_in_order(keys: pd.DataFrame) -> tuple["pd.Series[int]", list[str]]:
    """The seeds, with those of an arm that shares none with its baseline paired with it in the order of seeds.

    Differences of independent runs that are paired at random are valid too; pairing only gains less.
    """
    notes = []
    seeds = keys["seed"].copy()
    base = keys[keys["arm"] == ""]
    for (name, arm), rows in keys[keys["arm"] != ""].groupby(["series", "arm"], sort=False):
        theirs = sorted(set(base["seed"][base["series"] == name]))
        ours = sorted(set(rows["seed"]))
        if theirs and not set(ours) & set(theirs):
            new = dict(zip(ours, [*theirs, *(max(*theirs, *ours) + i for i in range(1, len(ours)))], strict=False))
            seeds[rows.index] = rows["seed"].map(new)
            notes.append(f"{arm} has no seed of its baseline's, so their seeds are set against each other in order")
    return seeds, list(dict.fromkeys(notes))


def _check_twins(rows: pd.DataFrame, keys: pd.DataFrame, at: str | None) -> None:
    """Raise ResultsError for two rows of one arm, seed and schedule."""
    twice = keys[keys.duplicated(keep=False)]
    if at and not twice.empty:
        first = twice.iloc[0]
        run_id, other = [rows["id"][i] for i in twice.index if twice.loc[i].equals(first)][:2]
        raise ResultsError(
            f"{run_id} and {other} are both {first['arm'] or 'the baseline'} at seed {first['seed']} and "
            f"{at}={short(first['at'])}. Name the column that tells them apart with --series."
        )
