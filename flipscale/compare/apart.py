"""Which rows of a table make one curve: the columns that tell curves apart, and the schedule along which each runs.

Nobody's table says so. Two signs are looked for: a column of numbers that the baseline and every arm share, and that
grows with the cost along each curve, is the schedule that twins share (epochs, samples). And rows of one arm that have
the same schedule twice, or whose order by schedule and by cost differs, are several curves, or repeats of one. A
column of words that untangles them tells the curves apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from flipscale.compare.columns import labels
from flipscale.errors import ResultsError

SCHEDULES = ("samples", "samples_seen", "epochs", "epoch", "steps", "iterations", "tokens")
"""Names that a schedule is likely to have; of several columns that could be it, these come first."""

PROVENANCE = ("figure", "fig", "table", "source", "note", "notes", "comment", "ref", "name", "label", "series", "run")
"""Names of columns that say where a row is from; of several columns that tell curves apart, these come last."""


@dataclass(frozen=True)
class Layout:
    """How a table falls into curves."""

    series: tuple[str, ...]
    """Columns whose values make separate curves."""
    at: str | None
    """The column that twins share; None where none is known."""
    notes: tuple[str, ...]
    """What was found without being asked for."""


def layout_of(
    table: pd.DataFrame,
    *,
    arms: "pd.Series[str]",
    seeds: "pd.Series[int] | None",
    baseline: Sequence[str],
    x: str,
    y: str,
    series: tuple[str, ...],
    at: str | None,
    lower: bool,
) -> Layout:
    """The columns that tell curves apart, `series` among them, and the schedule: `at`, or the one that is found.

    Raises ResultsError if only columns of numbers could tell rows of one schedule apart: those may as well be
    measurements or repeats.
    """
    taken = {*baseline, x, y, "seed", "id", *series, *([at] if at else [])}
    others = [str(name) for name in table.columns if name not in taken]
    words = [name for name in others if not _is_number(table[name])]
    groups = arms if seeds is None else arms + " seed " + seeds.astype("str")
    groups = _split(groups, table, series)
    sign = -1 if lower else 1

    numeric = _schedules(others, table)
    candidates: list[str | None] = [at] if at else [*_shared(table, arms, [x, *numeric])]
    found = []
    for schedule in candidates or [None]:
        free = [name for name in words if name != schedule]
        chosen, left = _untangled(table, groups, free, schedule, x, sign * table[y])
        flat = schedule is not None and table.groupby(_split(groups, table, chosen))[schedule].nunique().max() < 2
        found.append((left.crossed or int(flat), left.repeated, schedule, chosen))
    crossed, _, schedule, chosen = min(found, key=lambda one: one[:2])
    if crossed and at is None and schedule is not None:
        # No column varies and grows with the cost along every curve, so none is the schedule.
        schedule = None
        chosen, _ = _untangled(table, groups, words, None, x, sign * table[y])
    split = _split(groups, table, chosen)
    notes = [_told(table, groups, words, chosen, schedule, x, sign * table[y])] if chosen else []
    if at is None and schedule is not None:
        notes.append(f"twins are the rows of equal {schedule} (--at)")
    left = _tangles(table, split, schedule, x, sign * table[y])
    if left.repeated or left.crossed:
        asked = _Left(table, split, arms, schedule, x, sign * table[y])
        notes += _refused_or_noted(asked, left, others, with_seeds=seeds is not None)
    return Layout((*series, *chosen), schedule, tuple(notes))


@dataclass(frozen=True)
class _Tangles:
    """Signs that groups of rows are not one curve each."""

    crossed: int
    """Neighbours along the schedule whose costs go the other way; without a schedule, whose scores do."""
    repeated: int
    """Pairs of rows of one group with the same schedule, or without one the same cost."""

    def __lt__(self, other: "_Tangles") -> bool:
        return self.crossed + self.repeated < other.crossed + other.repeated


def _tangles(
    table: pd.DataFrame, groups: "pd.Series[str]", schedule: str | None, x: str, score: "pd.Series[float]"
) -> _Tangles:
    crossed = repeated = 0
    by = table[schedule or x]
    order = table[x] if schedule else score
    for _, rows in pd.DataFrame({"by": by, "order": order}).groupby(groups.to_numpy(), sort=False):
        at = rows.groupby("by")["order"].agg(["min", "max", "size"]).sort_index()
        repeated += int((at["size"] * (at["size"] - 1) // 2).sum())
        low, high = at["min"].to_numpy()[1:], at["max"].to_numpy()[:-1]
        crossed += int((low <= high).sum()) if schedule and schedule != x else 0
        if not schedule:
            crossed += int((at["max"].to_numpy()[1:] < at["min"].to_numpy()[:-1]).sum())
    return _Tangles(crossed, repeated)


def _untangled(
    table: pd.DataFrame,
    groups: "pd.Series[str]",
    words: Sequence[str],
    schedule: str | None,
    x: str,
    score: "pd.Series[float]",
) -> tuple[tuple[str, ...], _Tangles]:
    """The fewest columns of words that leave the fewest tangles, and these; taken one by one, the best first."""
    chosen: tuple[str, ...] = ()
    now = _tangles(table, groups, schedule, x, score)
    while now.crossed + now.repeated:
        tried = [
            (left.crossed + left.repeated, name in PROVENANCE, table[name].nunique(), i, name, left)
            for i, name in enumerate(words)
            if name not in chosen and _makes_curves(table, groups, name, schedule or x)
            for left in [_tangles(table, _split(groups, table, (name,)), schedule, x, score)]
            if left < now
        ]
        if not schedule:
            # Scores that go up and down may be noise: only what leaves none of it tells curves apart.
            tried = [one for one in tried if not one[0]]
        if not tried:
            break
        *_, name, now = min(tried, key=lambda one: one[:4])
        chosen, groups = (*chosen, name), _split(groups, table, (name,))
    return chosen, now


def _makes_curves(table: pd.DataFrame, groups: "pd.Series[str]", name: str, schedule: str) -> bool:
    """Whether a column splits some group into curves: fewer than its rows, and one has two points at least."""
    for _, rows in table.groupby(groups, sort=False):
        values = rows.groupby(name, dropna=False)[schedule].nunique()
        if 1 < len(values) < len(rows) and values.max() > 1:
            return True
    return False


def _told(
    table: pd.DataFrame,
    groups: "pd.Series[str]",
    words: Sequence[str],
    chosen: tuple[str, ...],
    schedule: str | None,
    x: str,
    score: "pd.Series[float]",
) -> str:
    """What was found, and the other columns that would have done as well."""
    split = _split(groups, table, chosen)
    codes = pd.factorize(split)[0]
    alike = [
        name
        for name in words
        if name not in chosen and np.array_equal(codes, pd.factorize(_split(groups, table, (name,)))[0])
    ]
    arm = next(label for label, rows in table.groupby(groups, sort=False) if split[rows.index].nunique() > 1)
    also = f"; {', '.join(alike)} would do the same" if alike else ""
    return (
        f"rows of {str(arm).partition(' seed ')[0] or 'the baseline'} are several curves, told apart by "
        f"{', '.join(chosen)} (--series{also})"
    )


class _Left(NamedTuple):
    """Rows as they stand when all columns of words have been tried."""

    table: pd.DataFrame
    groups: "pd.Series[str]"
    arms: "pd.Series[str]"
    schedule: str | None
    x: str
    score: "pd.Series[float]"

    def tangles(self, names: Sequence[str] = ()) -> _Tangles:
        return _tangles(self.table, _split(self.groups, self.table, names), self.schedule, self.x, self.score)


def _refused_or_noted(asked: _Left, left: _Tangles, others: Sequence[str], *, with_seeds: bool) -> list[str]:
    """What is said of rows that still are not one curve each: they are repeats, or noise.

    Raises ResultsError if columns could tell them apart that may as well be measurements or repeats, as numbers are;
    and for scores that go up and down as those of several curves do.
    """
    by = asked.schedule or asked.x
    tried = [
        (name, asked.tangles([name]))
        for name in others
        if name != asked.schedule and _makes_curves(asked.table, asked.groups, name, by)
    ]
    splitting = sorted(((now.crossed + now.repeated, i, name) for i, (name, now) in enumerate(tried)))
    if left.repeated and (names := [name for n, _, name in splitting if n == 0]):
        twice = pd.DataFrame({"g": asked.groups, "by": asked.table[by]}).duplicated(keep=False)
        row = twice[twice].index[0]
        raise ResultsError(
            f"{asked.arms[row] or 'The baseline'} has several rows at {by}={asked.table[by][row]:g}, which are not one "
            f"curve. Name what tells them apart with --series: {', '.join(names)}; if they are repeats, call it 'seed'."
        )
    if asked.schedule is None and left.crossed:
        names = [name for n, _, name in splitting if n < left.crossed + left.repeated][:6]
        if names and left.crossed > (len(asked.table) - asked.groups.nunique()) / 3:
            raise ResultsError(
                f"Along {asked.x} the scores of an arm go up and down as those of several curves do. Name what tells "
                f"them apart with --series: one or more of {', '.join(names)}."
            )
        return [f"along {asked.x} some scores go down and up again; if these are several curves, name them by --series"]
    if with_seeds or not left.repeated:
        return []
    return [
        f"without a column 'seed', rows of one arm at one {by} are replicates: the first of an arm is set against the "
        f"first of the baseline, in the order of rows"
    ]


def _shared(table: pd.DataFrame, arms: "pd.Series[str]", names: Sequence[str]) -> list[str]:
    """The columns of which each arm shares half of its values with the baseline, and one of them two at least."""
    shared = []
    for name in names:
        base = set(table[name][arms == ""].dropna())
        of = [set(table[name][arms == arm].dropna()) for arm in dict.fromkeys(arms) if arm]
        common = [len(base & values) for values in of]
        enough = all(2 * n >= max(1, min(len(base), len(values))) for n, values in zip(common, of, strict=True))
        if enough and max(common, default=0) > 1:
            shared.append(name)
    return shared


def _schedules(names: Sequence[str], table: pd.DataFrame) -> list[str]:
    """The columns of numbers, with names that a schedule is likely to have first."""
    numeric = [name for name in names if _is_number(table[name])]
    return sorted(numeric, key=lambda name: SCHEDULES.index(name) if name in SCHEDULES else len(SCHEDULES))


def _split(groups: "pd.Series[str]", table: pd.DataFrame, names: Sequence[str]) -> "pd.Series[str]":
    for name in names:
        groups = groups + " | " + labels(table, [name])
    return groups


def _is_number(column: "pd.Series[float]") -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
