"""At equal samples: a run against its twin, the baseline of the same cell at the same seed."""

from collections.abc import Sequence

import numpy as np

from flipscale.compare.estimates import Estimate, mean_of, nothing, ratio_of
from flipscale.compare.parts import Pair
from flipscale.compare.points import Point, different_devices


def pairs_of(points: Sequence[Point], arms: Sequence[str], lower: bool) -> tuple[list[Pair], dict[str, str]]:
    """One Pair for each cell and arm that has twins, and the runs that have none, with the reason."""
    twins = {_twin(point): point for point in points if not point.arm}
    runs: dict[tuple[str, str, str], list[Point]] = {}
    for point in points:
        runs.setdefault((point.series, point.cell, point.arm), []).append(point)
    pairs: list[Pair] = []
    unpaired: dict[str, str] = {}
    for series, cell in dict.fromkeys((point.series, point.cell) for point in points):
        for arm in arms:
            of_arm = sorted(runs.get((series, cell, arm), []), key=lambda point: point.seed)
            paired = [(twins[_twin(point)], point) for point in of_arm if _twin(point) in twins]
            baseline = (series, cell, "") in runs
            unpaired |= {point.id: _without_twin(point, baseline) for point in of_arm if _twin(point) not in twins}
            if paired:
                pairs.append(pair_of(paired, lower))
    return pairs, unpaired


def _twin(point: Point) -> tuple[str, str, int]:
    """The values that twins share."""
    return point.series, point.cell, point.seed


def _without_twin(point: Point, baseline: bool) -> str:
    """Why a run has no twin, in a cell that has the baseline at other seeds, or not at all."""
    where = f"at seed {point.seed} of" if baseline else "in"
    return f"no baseline {where} cell {point.cell or '(the only one)'!r}"


def pair_of(paired: Sequence[tuple[Point, Point]], lower: bool) -> Pair:
    """The pair of runs and their twins, twin first."""
    sign = -1 if lower else 1
    point = paired[0][1]
    return Pair(
        cell=point.cell,
        series=point.series,
        at=point.at,
        arm=point.arm,
        seeds=tuple(point.seed for _, point in paired),
        baseline_score=float(np.mean([twin.y for twin, _ in paired])),
        score=float(np.mean([point.y for _, point in paired])),
        gain=mean_of([sign * (point.y - twin.y) for twin, point in paired]),
        twins=tuple((twin.y, point.y) for twin, point in paired),
        ids=tuple((twin.id, point.id) for twin, point in paired),
        ratios={name: _ratio_of_costs(paired, name) for name in point.costs},
    )


def _ratio_of_costs(paired: Sequence[tuple[Point, Point]], name: str) -> Estimate:
    if why := different_devices((point for pair in paired for point in pair), name):
        return nothing(why)
    costs = [(point.costs[name], twin.costs[name]) for twin, point in paired]
    logs = [float(np.log(ours / theirs)) for ours, theirs in costs if ours > 0 and theirs > 0]
    return ratio_of(logs) if logs else nothing(f"no pair has {name}")
