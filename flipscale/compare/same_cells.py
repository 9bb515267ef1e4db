"""What two studies have in common: pairs of runs with equal settings and seed, and what differs within a pair.

Two runs are a pair where the settings that either study varies have equal values in both, and the seeds are equal. All
other settings may differ, and the comparison is about those that do. A run that both studies have is not a pair.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from flipscale.collect import SETTING_COLUMNS, setting_value
from flipscale.compare.columns import labels
from flipscale.errors import ResultsError
from flipscale.identity import differences, show_setting
from flipscale.plan import Plan
from flipscale.settings import Settings
from flipscale.study import Study
from flipscale.words import count, joined, short

NAMED_VALUES = 4
"""Values of a setting that a sentence lists."""


@dataclass(frozen=True)
class RunsOfStudy:
    """A study with the rows of its runs: finished ones, or those that it plans."""

    name: str
    """Its name next to that of the other study."""
    study: Study
    plan: Plan
    rows: pd.DataFrame
    """With the columns id, seed and settings, as results.csv has them."""


@dataclass(frozen=True)
class SettingChange:
    """A setting that differs within pairs."""

    name: str
    values: tuple[tuple[str, str], ...]
    """Its values in the first study and in the second, as a person writes them."""
    pairs: int
    """The number of pairs that it differs in."""


@dataclass(frozen=True)
class SameCells:
    """What two studies have in common, and what only one has."""

    names: tuple[str, str]
    """The first study and the second."""
    axes: tuple[str, ...]
    """The settings that a pair shares beside the seed: those that either study varies."""
    pairs: tuple[tuple[str, str], ...]
    """Ids of runs, the first study's first."""
    same_runs: tuple[str, ...]
    """Ids of runs that both studies have."""
    only: tuple[Mapping[str, int], Mapping[str, int]]
    """For each study, the cells of its runs that are in no pair, with the number of those runs."""
    changes: tuple[SettingChange, ...]
    """The settings that differ within pairs."""


def planned_runs(name: str, study: Study, planned: Plan) -> RunsOfStudy:
    """A study before it has run: the rows of its plan."""
    rows = [
        {column: setting_value(getattr(run.settings, column)) for column in SETTING_COLUMNS} for run in planned.cells
    ]
    return RunsOfStudy(name, study, planned, pd.DataFrame(rows).assign(id=[run.id for run in planned.cells]))


def same_cells(first: RunsOfStudy, second: RunsOfStudy) -> SameCells:
    """The pairs of two studies. Raises ResultsError where runs of one study cannot be told apart by its columns."""
    axes = _axes(first, second)
    keys = _keys(first.rows, second.rows, axes)
    places = [_places(side, of_side) for side, of_side in zip((first, second), keys, strict=True)]
    shared = [key for key in places[0] if key in places[1]]
    found = [
        (str(first.rows["id"][places[0][key]]), str(second.rows["id"][places[1][key]]))
        for key in places[0]
        if key in places[1]
    ]
    pairs = tuple((old, new) for old, new in found if old != new)
    return SameCells(
        names=(first.name, second.name),
        axes=axes,
        pairs=pairs,
        same_runs=tuple(old for old, new in found if old == new),
        only=(_others(places[0], shared), _others(places[1], shared)),
        changes=tuple(_changes(first, second, pairs, axes)),
    )


def no_pair_words(same: SameCells, first: RunsOfStudy, second: RunsOfStudy) -> str:
    """Why two studies have no pair, as a sentence."""
    first_name, second_name = same.names
    if same.same_runs:
        runs = count(len(same.same_runs), "run")
        return f"{first_name} and {second_name} have {runs} in common, which are identical runs, and no other pair."
    for axis in same.axes:
        values = [_values(side.rows, axis) for side in (first, second)]
        if not set(values[0]) & set(values[1]):
            said = [_some(of_side) for of_side in values]
            return (
                f"{first_name} and {second_name} have no cell in common: {axis} is {said[0]} in {first_name} and "
                f"{said[1]} in {second_name}. Runs are paired by what either study varies ({', '.join(same.axes)}) and "
                f"by seed; a setting that is to be compared must not be an axis."
            )
    return (
        f"{first_name} and {second_name} have no cell in common: no two of their runs have the same "
        f"{joined([*same.axes, 'seed'])}."
    )


# Pairs


def _axes(first: RunsOfStudy, second: RunsOfStudy) -> tuple[str, ...]:
    """What either study varies, in the order of the first."""
    names = dict.fromkeys(axis.name for side in (first, second) for axis in side.study.axes)
    return tuple(name for name in names if name != "seed" and name in SETTING_COLUMNS)


def _keys(first: pd.DataFrame, second: pd.DataFrame, axes: Sequence[str]) -> "tuple[list[str], list[str]]":
    """The cell of each row of both tables, written alike."""
    both = pd.concat([first[[*axes]], second[[*axes]]], ignore_index=True)
    cells = list(labels(both, axes))
    return cells[: len(first)], cells[len(first) :]


def _places(side: RunsOfStudy, cells: Sequence[str]) -> dict[tuple[str, int], int]:
    """Row of each cell and seed."""
    places: dict[tuple[str, int], int] = {}
    for row, (cell, seed) in enumerate(zip(cells, side.rows["seed"], strict=True)):
        key = cell, int(seed)
        if key in places:
            raise ResultsError(
                f"{side.name} has two runs of {cell or 'its only cell'} at seed {seed}, so it is unclear which "
                "of them to compare with the other study's."
            )
        places[key] = row
    return places


def _others(places: Iterable[tuple[str, int]], shared: Sequence[tuple[str, int]]) -> dict[str, int]:
    taken = set(shared)
    found: dict[str, int] = {}
    for cell, seed in places:
        if (cell, seed) not in taken:
            found[cell] = found.get(cell, 0) + 1
    return found


# Differences


def _changes(
    first: RunsOfStudy, second: RunsOfStudy, pairs: Sequence[tuple[str, str]], axes: Sequence[str]
) -> Iterator[SettingChange]:
    """The settings in which the runs of pairs differ, in the order of the columns."""
    columns = [name for name in SETTING_COLUMNS if name not in (*axes, "seed")]
    mine, other = (_by_id(side.rows, columns) for side in (first, second))
    settings, others = ({run.id: run.settings for run in side.plan.cells} for side in (first, second))
    found: dict[str, list[tuple[str, str]]] = {}
    for old, new in pairs:
        differing = _unequal(columns, mine[old], other[new])
        if old in settings and new in others:
            differing |= _without_column(settings[old], others[new])
        for name, both in differing.items():
            found.setdefault(name, []).append(both)
    return (SettingChange(name, tuple(dict.fromkeys(values)), len(values)) for name, values in found.items())


def _unequal(columns: Sequence[str], values: Sequence[str], others: Sequence[str]) -> dict[str, tuple[str, str]]:
    both = zip(columns, values, others, strict=True)
    return {name: (mine, other) for name, mine, other in both if mine != other}


def _by_id(rows: pd.DataFrame, columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The values of these columns as text, by the id of the run."""
    texts = [_texts(rows, name) for name in columns]
    return dict(zip(rows["id"].map(str), zip(*texts, strict=True), strict=True))


def _texts(rows: pd.DataFrame, name: str) -> list[str]:
    if name not in rows:
        return [""] * len(rows)
    return ["null" if pd.isna(value) else _exactly(value) for value in rows[name].tolist()]


def _exactly(value: object) -> str:
    """A value as a person writes it, unless that would hide a difference of its last digits."""
    text = short(value)
    return str(value) if isinstance(value, float) and float(f"{value:.4g}") != value else text


def _without_column(old: Settings, new: Settings) -> dict[str, tuple[str, str]]:
    """The settings without a column that differ, as text."""
    return {
        name: (show_setting(getattr(old, name)), show_setting(getattr(new, name)))
        for name in differences(old, new)
        if name not in SETTING_COLUMNS
    }


def _values(rows: pd.DataFrame, axis: str) -> list[str]:
    return list(dict.fromkeys("null" if pd.isna(value) else short(value) for value in rows[axis].tolist()))


def _some(values: Sequence[str]) -> str:
    more = f" and {len(values) - NAMED_VALUES} more" if len(values) > NAMED_VALUES else ""
    return ", ".join(values[:NAMED_VALUES]) + more if values else "no run"
