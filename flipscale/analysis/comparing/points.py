"""From the rows of a table to points: each finished run with its arm, its seed and what it cost."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flipscale.analysis.comparing.roles import Baseline
from flipscale.analysis.rows import above_chance, trunks_of
from flipscale.analysis.stats import ScoreKind
from flipscale.errors import ResultsError


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What is compared with what."""

    baseline: Baseline
    score: str
    lower_is_better: bool
    fraction: bool
    """Whether the score is a fraction, shown in percent."""
    at: str | None
    """The column of schedule lengths, which twins share: `samples` in a study. None where it is unknown."""
    costs: tuple[str, ...]
    """Columns of cost. Curves run along each, and claims are along the first."""
    margin: float | None = None
    """Gains within it, in the score's own unit, count as level. None makes no such claim."""
    effect: float | None = None
    """A difference that matters, in the score's own unit; None where the study names none."""
    hours_note: str = ""
    """Which hours its claims go by, or how the load differed between its arms; '' if neither applies."""
    notes: tuple[str, ...] = ()
    """Choices that were made on the reader's behalf; without arms, why there is nothing to compare."""

    @property
    def kind(self) -> ScoreKind:
        return ScoreKind(self.fraction, self.lower_is_better)


@dataclass(frozen=True, kw_only=True)
class PreparedTable(Terms):
    """A table with all that a comparison needs to know about it."""

    rows: pd.DataFrame
    """Its own columns and `id`, numbered from 0. The baseline's rows are in every series that they belong to."""
    keys: pd.DataFrame
    """For each row its `cell`, the values that twins share; `series`, the cell without its schedule length, so that
    rows of one series and arm are one curve; `arm`, the difference from the baseline as 'mask_ratio=0.5', '' for the
    baseline itself; `seed`; and `at`, its schedule length. Missing ones are missing."""
    also: tuple[str, ...] = ()
    """Columns of cost that only twins are compared by."""
    base_cell: str | None = None
    """The cell that heads the answer."""


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
    above_chance: float = math.inf
    """By how many standard errors the score is; infinite where its chance level is unknown."""
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
    failed: tuple[Point, ...]
    """Runs among those left out that count as failures of their cell, as their score is missing."""


def points_of(table: PreparedTable) -> RunPoints:
    """The points of a table, baseline first.

    Raises ResultsError for two rows that would have the same twin, if a column says which rows are twins.
    """
    points: list[Point] = []
    arms: dict[str, Baseline] = {}
    left_out: dict[str, str] = {}
    failed: list[Point] = []
    places: dict[tuple[str, str, str, int], str] = {}
    every = points_in(table.rows, table.keys, table.score, (*table.costs, *table.also))
    for row in table.rows.sort_values([*table.baseline], kind="stable").index:
        point = every[row]
        if math.isnan(point.y):
            left_out[point.id] = f"no {table.score}"
            if point.above_chance == -math.inf:
                failed.append(point)
            continue
        points.append(point)
        if point.arm:
            arms.setdefault(point.arm, {name: plain(table.rows[name].iloc[row]) for name in table.baseline})
        twin = places.setdefault((point.series, point.cell, point.arm, point.seed), point.id)
        if table.at and twin != point.id:
            raise ResultsError(
                f"{twin} and {point.id} are both {point.arm or 'the baseline'} at seed {point.seed} of cell "
                f"{point.cell or '(the only one)'!r}. Name the axis that tells them apart."
            )
    return RunPoints(tuple(points), arms, left_out, tuple(failed))


def points_in(rows: pd.DataFrame, keys: pd.DataFrame, score: str, costs: Iterable[str]) -> list[Point]:
    """The rows as points, also those without a score; `keys` as PreparedTable has them."""
    trunks = trunks_of(rows)
    at = _numbers(keys["at"])
    seen = _numbers(rows["samples_seen"]) if "samples_seen" in rows else at
    columns: dict[str, Iterable[Any]] = {
        "id": rows["id"].astype("str"),
        "at": at,
        "seen": seen,
        "seed": (int(seed or 0) for seed in _numbers(keys["seed"])),
        "device": _texts(rows["device"]) if "device" in rows else [""] * len(rows),
        "y": _floats(rows[score]).tolist(),
        "trunk": [-1] * len(rows) if trunks is None else map(int, trunks),
        "above_chance": above_chance(rows, score),
        "costs": rows[[*costs]].apply(_floats).to_dict("records"),
        **{name: _texts(keys[name]) for name in ("cell", "series", "arm")},
    }
    return [Point(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


def _texts(column: "pd.Series[Any]") -> list[str]:
    return ["" if pd.isna(value) else str(value) for value in column]


def _floats(column: "pd.Series[Any]") -> NDArray[np.float64]:
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def _numbers(column: "pd.Series[Any]") -> list[float | None]:
    """Missing ones are None."""
    return [None if math.isnan(value) else value for value in _floats(column).tolist()]


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
