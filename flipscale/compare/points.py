"""From the rows of a table to points: each finished run with its arm, its seed and what it cost."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from flipscale.compare.columns import arms_of, is_baseline, labels
from flipscale.errors import ResultsError
from flipscale.words import short


@dataclass(frozen=True)
class Point:
    """One run at the end of its whole schedule; never the middle of a longer one."""

    id: str
    cell: str
    """What twins share: the values of all axes but the baseline's, schedule length among them."""
    series: str
    """The cell without its schedule length: the points of one series and arm are one curve."""
    at: float | None
    """Schedule length."""
    arm: str
    """What differs from the baseline, as 'mask_ratio=0.5'; '' is the baseline."""
    seed: int
    device: str
    y: float
    costs: dict[str, float]
    """NaN where it was not measured."""


@dataclass(frozen=True)
class Points:
    """The runs that take part, and those that do not."""

    all: tuple[Point, ...]
    arms: dict[str, dict[str, Any]]
    """Each arm but the baseline, and its values of the baseline's columns."""
    left_out: dict[str, str]
    """Run -> why it takes no part at all."""


def points_of(
    table: pd.DataFrame, baseline: Mapping[str, Any], score: str, costs: Sequence[str], at: str | None, *, twins: bool
) -> Points:
    """The points of a table with the columns `_cell` and `_series`, baseline first. `twins`: no two may be of one seed.

    Raises ResultsError for a baseline that no row has, and for two rows that would be twins of one.
    """
    if not is_baseline(table, baseline).any():
        there = ", ".join(dict.fromkeys(sorted(labels(table, list(baseline))))) or "no run"
        wanted = ", ".join(f"{name}={short(value)}" for name, value in baseline.items())
        raise ResultsError(f"No finished run is the baseline {wanted}; there is {there}.")
    table = table.assign(_arm=arms_of(table, baseline)).sort_values([*baseline], kind="stable")
    points: list[Point] = []
    arms: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    seen: dict[tuple[Any, ...], str] = {}
    for row in table.to_dict("records"):
        run = str(row.get("id", f"row {len(points) + len(left_out) + 1}"))
        if pd.isna(row[score]):
            left_out[run] = f"no {score}"
            continue
        point = Point(
            id=run,
            cell="" if pd.isna(row["_cell"]) else row["_cell"],
            series=row["_series"],
            at=float(row[at]) if at and not pd.isna(row[at]) else None,
            arm=row["_arm"],
            seed=0 if row.get("seed") is None or pd.isna(row["seed"]) else int(row["seed"]),
            device="" if pd.isna(row.get("device")) else str(row.get("device")),
            y=float(row[score]),
            costs={name: math.nan if pd.isna(row[name]) else float(row[name]) for name in costs},
        )
        twin = seen.setdefault((point.series, point.cell, point.arm, point.seed), run)
        if twins and twin != run:
            raise ResultsError(
                f"{twin} and {run} are both {point.arm or 'the baseline'} at seed {point.seed} of cell "
                f"{point.cell or '(the only one)'!r}. Name the axis that tells them apart."
            )
        if point.arm:
            arms.setdefault(point.arm, {name: plain(row[name]) for name in baseline})
        points.append(point)
    return Points(tuple(points), arms, left_out)


def one_each(points: Points) -> bool:
    """Whether an arm has one run a series and seed, so that its twin is known without a schedule."""
    keys = [(point.series, point.arm, point.seed) for point in points.all]
    return len(set(keys)) == len(keys)


def different_devices(points: Iterable[Point], cost: str) -> str | None:
    """Why the costs of these points cannot be compared. FLOPs can always be."""
    devices = sorted({point.device for point in points})
    if cost == "train_flops" or len(devices) < 2:
        return None
    return f"{cost} was measured on different devices ({', '.join(device or 'unknown' for device in devices)})"


def plain(value: Any) -> Any:
    """A cell's value in JSON's types; a missing one is None, a whole number an int."""
    if pd.isna(value):
        return None
    value = value.item() if hasattr(value, "item") else value
    return int(value) if isinstance(value, float) and value.is_integer() else value
