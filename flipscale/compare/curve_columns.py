"""Which rows of a table make one curve: the columns that tell curves apart, and the schedule along which each runs.

Tables do not say so. Two signs are looked for: a column of numbers that the baseline and every arm share, and that
grows with the cost along each curve, is the schedule that twins share (epochs, samples). And rows of one arm that have
the same schedule twice, or whose order by schedule and by cost differs, are several curves, or repeats of one. A
column of words that untangles them tells the curves apart.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from flipscale.compare.columns import labels
from flipscale.errors import ResultsError

SCHEDULES = ("samples", "samples_seen", "epochs", "epoch", "steps", "iterations", "tokens")
"""Names that a schedule is likely to have; of several columns that could be it, these come first."""

PROVENANCE = ("figure", "fig", "table", "source", "note", "notes", "comment", "ref", "name", "label", "series", "run")
"""Names of columns that say where a row is from; of several columns that tell curves apart, these come last."""


@dataclass(frozen=True)
class CurveColumns:
    """How a table falls into curves."""

    series: tuple[str, ...]
    """Columns whose values make separate curves."""
    at: str | None
    """The column that twins share; None where none is known."""
    notes: tuple[str, ...]
    """The columns that were inferred, in words."""


@dataclass(frozen=True, kw_only=True)
class MeasuredRows:
    """The rows of a table that have a score and a cost. Each Series has one entry per row."""

    table: pd.DataFrame
    arms: "pd.Series[str]"
    seeds: "pd.Series[int] | None"
    x: str
    """The column of cost."""
    score: "pd.Series[float]"
    """Signed so that more is better."""
    taken: Set[str]
    """Columns that already have a role."""


def curve_columns(rows: MeasuredRows, series: tuple[str, ...], at: str | None) -> CurveColumns:
    """The columns that tell curves apart, `series` among them, and the schedule: `at`, or the one that is found.

    Raises ResultsError if only columns of numbers could tell rows of one schedule apart: those could equally be
    measurements or repeats.
    """
    groups = rows.arms if rows.seeds is None else rows.arms + " seed " + rows.seeds.astype("str")
    others = [str(name) for name in rows.table.columns if name not in rows.taken]
    words = [name for name in others if not _is_number(rows.table[name])]
    grouped, chosen = _best_grouping(_Grouped(rows, groups, at).split(series), words, others)
    notes = [_found_words(grouped, words, chosen)] if chosen else []
    if at is None and grouped.schedule is not None:
        notes.append(f"twins are the rows of equal {grouped.schedule} (--at)")
    curves = grouped.split(chosen)
    left = curves.tangles()
    if left.total:
        notes += _repeats_or_noise(curves, left, others)
    return CurveColumns((*series, *chosen), grouped.schedule, tuple(notes))


@dataclass(frozen=True)
class _Tangles:
    """Signs that groups of rows are not one curve each."""

    crossed: int
    """Neighbours along the schedule whose costs do not rise; without one, neighbours in cost whose scores fall."""
    repeated: int
    """Pairs of rows of one group with the same schedule, or without one the same cost."""

    @property
    def total(self) -> int:
        return self.crossed + self.repeated


@dataclass(frozen=True)
class _Grouped:
    """Rows in groups, each of which should be one curve along a schedule."""

    rows: MeasuredRows
    groups: "pd.Series[str]"
    schedule: str | None

    @property
    def along(self) -> str:
        return self.schedule or self.rows.x

    def split(self, names: Sequence[str]) -> "_Grouped":
        """Groups whose rows also share the values of these columns."""
        groups = self.groups
        for name in names:
            groups = groups + " | " + labels(self.rows.table, [name])
        return replace(self, groups=groups)

    def tangles(self) -> _Tangles:
        order = self.rows.table[self.rows.x] if self.schedule else self.rows.score
        frame = pd.DataFrame(
            {"group": pd.factorize(self.groups)[0], "along": self.rows.table[self.along], "order": order}
        )
        ends = frame.groupby(["group", "along"])["order"].agg(["min", "max", "size"]).sort_index()
        repeated = int((ends["size"] * (ends["size"] - 1) // 2).sum())
        low, high = ends["min"].to_numpy(), ends["max"].to_numpy()
        neighbours = np.diff(ends.index.get_level_values("group")) == 0
        if not self.schedule:
            crossed = int((neighbours & (high[1:] < low[:-1])).sum())
        elif self.schedule != self.rows.x:
            crossed = int((neighbours & (low[1:] <= high[:-1])).sum())
        else:
            crossed = 0
        return _Tangles(crossed, repeated)

    def makes_curves(self, name: str) -> bool:
        """Whether a column splits some group into fewer curves than rows, one of them with at least two points."""
        for _, rows in self.rows.table.groupby(self.groups, sort=False):
            values = rows.groupby(name, dropna=False)[self.along].nunique()
            if 1 < len(values) < len(rows) and values.max() > 1:
                return True
        return False

    def is_flat(self) -> bool:
        """Whether the schedule has one value along every curve."""
        if self.schedule is None:
            return False
        return bool(self.rows.table.groupby(self.groups)[self.schedule].nunique().max() < 2)


def _best_grouping(grouped: _Grouped, words: Sequence[str], others: Sequence[str]) -> tuple[_Grouped, tuple[str, ...]]:
    """The groups along the schedule that leaves the fewest tangles, and the columns of words that untangle them."""
    rows, at = grouped.rows, grouped.schedule
    candidates: list[str | None] = [at] if at else [*_shared(rows.table, rows.arms, [rows.x, *_numeric(others, rows)])]
    tried = []
    for schedule in candidates or [None]:
        along = replace(grouped, schedule=schedule)
        chosen, left = _untangled(along, [name for name in words if name != schedule])
        tried.append((left.crossed or int(along.split(chosen).is_flat()), left.repeated, along, chosen))
    crossed, _, best, chosen = min(tried, key=lambda attempt: attempt[:2])
    if crossed and at is None and best.schedule is not None:
        # No column varies and grows with the cost along every curve, so none is the schedule.
        best = replace(grouped, schedule=None)
        chosen, _ = _untangled(best, words)
    return best, chosen


def _untangled(grouped: _Grouped, words: Sequence[str]) -> tuple[tuple[str, ...], _Tangles]:
    """The columns of words that untangle the groups, added one by one, the best first; and the tangles left."""
    chosen: tuple[str, ...] = ()
    now = grouped.tangles()
    while now.total:
        tried = [
            (left.total, name in PROVENANCE, grouped.rows.table[name].nunique(), i, name, left)
            for i, name in enumerate(words)
            if name not in chosen and grouped.makes_curves(name)
            for left in [grouped.split((name,)).tangles()]
            if left.total < now.total
        ]
        if not grouped.schedule:
            # Scores that go up and down may be noise: only a column that leaves no tangle tells curves apart.
            tried = [attempt for attempt in tried if not attempt[0]]
        if not tried:
            break
        *_, name, now = min(tried, key=lambda attempt: attempt[:4])
        chosen, grouped = (*chosen, name), grouped.split((name,))
    return chosen, now


def _found_words(grouped: _Grouped, words: Sequence[str], chosen: tuple[str, ...]) -> str:
    """The columns that were found, and the alternatives."""
    split = grouped.split(chosen).groups
    codes = pd.factorize(split)[0]
    alike = [
        name
        for name in words
        if name not in chosen and np.array_equal(codes, pd.factorize(grouped.split((name,)).groups)[0])
    ]
    by_group = grouped.rows.table.groupby(grouped.groups, sort=False)
    arm = next(label for label, rows in by_group if split[rows.index].nunique() > 1)
    also = f"; {', '.join(alike)} would do the same" if alike else ""
    return (
        f"rows of {str(arm).partition(' seed ')[0] or 'the baseline'} are several curves, told apart by "
        f"{', '.join(chosen)} (--series{also})"
    )


def _repeats_or_noise(curves: _Grouped, left: _Tangles, others: Sequence[str]) -> list[str]:
    """The note on rows that are still not one curve each, after all columns of words have been tried.

    Raises ResultsError if only columns that may be measurements or repeats, such as numbers, tell them apart; and for
    scores that go up and down like those of several curves.
    """
    if left.repeated and (names := _splitting(curves, others, below=1)):
        raise _repeated(curves, names)
    if curves.schedule is None and left.crossed:
        return _up_and_down(curves, left, _splitting(curves, others, below=left.total)[:6])
    if curves.rows.seeds is not None or not left.repeated:
        return []
    return [
        f"without a column 'seed', rows of one arm at one {curves.along} are replicates: the first of an arm is set "
        f"against the first of the baseline, in the order of rows"
    ]


def _splitting(curves: _Grouped, others: Sequence[str], below: int) -> list[str]:
    """The columns that make curves and leave fewer tangles than this, those that leave the fewest first."""
    tried = [
        (curves.split((name,)).tangles().total, i, name)
        for i, name in enumerate(others)
        if name != curves.schedule and curves.makes_curves(name)
    ]
    return [name for total, _, name in sorted(tried) if total < below]


def _repeated(curves: _Grouped, names: Sequence[str]) -> ResultsError:
    """The error for rows of one schedule that these columns tell apart."""
    values = curves.rows.table[curves.along]
    twice = pd.DataFrame({"group": curves.groups, "along": values}).duplicated(keep=False)
    row = twice[twice].index[0]
    return ResultsError(
        f"{curves.rows.arms[row] or 'The baseline'} has several rows at {curves.along}={values[row]:g}, which are not "
        f"one curve. Name what tells them apart with --series: {', '.join(names)}; for repeats, rename it to 'seed'."
    )


def _up_and_down(curves: _Grouped, left: _Tangles, names: Sequence[str]) -> list[str]:
    """The note on scores that go up and down along the cost as noise does; ResultsError if they do so too often."""
    x = curves.rows.x
    if names and left.crossed > (len(curves.rows.table) - curves.groups.nunique()) / 3:
        raise ResultsError(
            f"Along {x} the scores of an arm go up and down as those of several curves do. Name what tells "
            f"them apart with --series: one or more of {', '.join(names)}."
        )
    return [f"along {x} some scores go down and up again; if these are several curves, name them by --series"]


def _shared(table: pd.DataFrame, arms: "pd.Series[str]", names: Sequence[str]) -> list[str]:
    """The columns in which each arm shares half of its values with the baseline, and some arm at least two."""
    shared = []
    for name in names:
        base = set(table[name][arms == ""].dropna())
        values_of = [set(table[name][arms == arm].dropna()) for arm in dict.fromkeys(arms) if arm]
        common = [len(base & values) for values in values_of]
        enough = all(2 * n >= max(1, min(len(base), len(values))) for n, values in zip(common, values_of, strict=True))
        if enough and max(common, default=0) > 1:
            shared.append(name)
    return shared


def _numeric(names: Sequence[str], rows: MeasuredRows) -> list[str]:
    """The columns of numbers, with names that a schedule is likely to have first."""
    numeric = [name for name in names if _is_number(rows.table[name])]
    return sorted(numeric, key=lambda name: SCHEDULES.index(name) if name in SCHEDULES else len(SCHEDULES))


def _is_number(column: "pd.Series[float]") -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
