"""From the rows of a table to points: each finished run with its arm, its seed and what it cost."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from flipscale.collecting import trunks_of
from flipscale.comparing.columns import Baseline, is_baseline, labels, settings_words
from flipscale.errors import ResultsError


@dataclass(frozen=True, kw_only=True)
class PreparedTable:
    """A table with all that a comparison needs to know about it. Each Series has one entry per row."""

    rows: pd.DataFrame
    """Its own columns, numbered from 0. The baseline's rows are in every series that they belong to."""
    baseline: Baseline
    score: str
    costs: tuple[str, ...]
    """Columns of cost. Curves run along each."""
    also: tuple[str, ...] = ()
    """Columns of cost that only twins are compared by."""
    at: str | None
    """The column that twins share, the schedule length."""
    lengths: "pd.Series[float] | None"
    """Its values if it holds numbers."""
    cells: "pd.Series[str]"
    """The values that twins share: those of all axes but the baseline's, schedule length among them."""
    series: "pd.Series[str]"
    """The cell without its schedule length: the rows of one series and arm are one curve."""
    arms: "pd.Series[str]"
    """What differs from the baseline, as 'mask_ratio=0.5'; '' is the baseline."""
    seeds: "pd.Series[int] | None"
    """None where no row has one."""
    lower: bool
    """Whether less of the score is better."""
    fraction: bool
    """Whether the score is a fraction, shown in percent."""
    margin: float | None = None
    """Gains within it count as level."""
    base_cell: str | None = None
    """The cell that heads the answer."""
    hours_note: str = ""
    """Notes on its hours."""
    notes: tuple[str, ...] = ()
    """Choices that were made for the table's reader."""


@dataclass(frozen=True)
class Point:
    """One run at the end of its whole schedule; never the middle of a longer one."""

    id: str
    cell: str
    series: str
    at: float | None
    """Schedule length."""
    seen: float | None
    """Samples seen, those of its parents included; the schedule length where the table has no such column."""
    arm: str
    """What differs from the baseline, as 'mask_ratio=0.5'; '' is the baseline."""
    seed: int
    device: str
    y: float
    costs: Mapping[str, float]
    """NaN where it was not measured."""
    trunk: int = -1
    """The trunk that it shares with other lengths, numbered; -1 where it shares none."""


@dataclass(frozen=True)
class RunPoints:
    """The runs that are compared, and those that are not."""

    all: tuple[Point, ...]
    arms: Mapping[str, Baseline]
    """Each arm but the baseline, and its values of the baseline's columns."""
    left_out: Mapping[str, str]
    """Run -> why it is not compared at all."""


def points_of(table: PreparedTable, *, twins: bool) -> RunPoints:
    """The points of a table, baseline first. With `twins`, a cell and arm have at most one row per seed.

    Raises ResultsError for a baseline that no row has, and for two rows that would have the same twin.
    """
    if not is_baseline(table.rows, table.baseline).any():
        found = ", ".join(dict.fromkeys(sorted(labels(table.rows, list(table.baseline))))) or "no run"
        raise ResultsError(f"No finished run is the baseline {settings_words(table.baseline)}; there is {found}.")
    order = table.rows.sort_values([*table.baseline], kind="stable").index
    points: list[Point] = []
    arms: dict[str, Baseline] = {}
    left_out: dict[str, str] = {}
    for row, point in zip(order, _points(table, order), strict=True):
        if math.isnan(point.y):
            left_out[point.id] = f"no {table.score}"
            continue
        points.append(point)
        if point.arm:
            arms.setdefault(point.arm, {name: plain(table.rows[name].iloc[row]) for name in table.baseline})
    if twins:
        _check_one_each(points)
    return RunPoints(tuple(points), arms, left_out)


def _points(table: PreparedTable, order: "pd.Index[int]") -> Iterator[Point]:
    """The rows in this order as points, also those without a score."""
    rows = table.rows.loc[order]
    names = rows["id"].astype("str").tolist() if "id" in rows else [f"row {i + 1}" for i in range(len(rows))]
    devices = _values(rows.get("device"), order)
    scores = _floats(rows[table.score])
    costs = {name: _floats(rows[name]) for name in (*table.costs, *table.also)}
    lengths, seeds = _values(table.lengths, order), _values(table.seeds, order)
    seen = _values(rows["samples_seen"], order) if "samples_seen" in rows else lengths
    trunks = trunks_of(rows)
    cells, series, arms = (_values(column, order) for column in (table.cells, table.series, table.arms))
    for i, name in enumerate(names):
        yield Point(
            id=name,
            cell=str(cells[i] or ""),
            series=str(series[i]),
            at=_or_none(lengths[i]),
            seen=_or_none(seen[i]),
            arm=str(arms[i]),
            seed=int(_or_none(seeds[i]) or 0),
            device=str(devices[i] or ""),
            y=scores[i],
            costs={cost: values[i] for cost, values in costs.items()},
            trunk=-1 if trunks is None else int(trunks[i]),
        )


def _check_one_each(points: Iterable[Point]) -> None:
    seen: dict[tuple[str, str, str, int], str] = {}
    for point in points:
        twin = seen.setdefault((point.series, point.cell, point.arm, point.seed), point.id)
        if twin != point.id:
            raise ResultsError(
                f"{twin} and {point.id} are both {point.arm or 'the baseline'} at seed {point.seed} of cell "
                f"{point.cell or '(the only one)'!r}. Name the axis that tells them apart."
            )


def _values(column: "pd.Series[Any] | None", order: "pd.Index[int]") -> list[str | float | None]:
    """The values of a column in this order; missing ones are None."""
    if column is None:
        return [None] * len(order)
    return [None if pd.isna(value) else value for value in column[order].tolist()]


def _floats(column: "pd.Series[float]") -> list[float]:
    values: list[float] = column.to_numpy(dtype=np.float64, na_value=np.nan).tolist()
    return values


def _or_none(value: str | float | None) -> float | None:
    return None if value is None else float(value)


def one_each(points: RunPoints) -> bool:
    """Whether each arm has one run per series and seed, so that its twin is known without a schedule."""
    keys = [(point.series, point.arm, point.seed) for point in points.all]
    return len(set(keys)) == len(keys)


def different_devices(points: Iterable[Point], cost: str) -> str | None:
    """Why the costs of these points cannot be compared; None if they can, as FLOPs always can."""
    devices = sorted({point.device for point in points})
    if cost == "train_flops" or len(devices) < 2:
        return None
    return f"{cost} was measured on different devices ({', '.join(device or 'unknown' for device in devices)})"


def plain(value: object) -> object:
    """A cell's value in JSON's types; a missing one is None, a whole number an int."""
    if pd.isna(value):  # type: ignore[call-overload]
        return None
    value = value.item() if hasattr(value, "item") else value
    return int(value) if isinstance(value, float) and value.is_integer() else value
