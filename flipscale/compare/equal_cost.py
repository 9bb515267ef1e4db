"""At equal cost: runs against the baseline's runs of the same seed at the same cost, though their samples differ.

FLOPs and time are held equal along the schedule, in one series. Memory does not depend on the schedule: it is held
equal between series that differ in one axis, as a larger batch with a mask against a smaller one without. A run whose
own twin already has the same cost is compared with that twin, at equal samples.

If several sizes of a model share a budget, the best of them is compared as well. The sizes are chosen on all seeds but
one and compared on that one, each seed in turn: the best of several on the same seeds would be ahead by luck.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from flipscale.cell import read_cell, without, write_cell
from flipscale.compare.gains import judged, study_noise
from flipscale.compare.pairs import pair_of
from flipscale.compare.parts import Pair
from flipscale.compare.points import Point, different_devices

TOLERANCE, MOST_TOLERANCE = 0.03, 0.10
"""Costs this close, in their logarithm, count as equal: for exact costs, and at most for costs that scatter."""

MEMORY = "peak_memory_bytes"
SIZE = "model"


@dataclass(frozen=True)
class EqualCostPair:
    """Runs of one cell and arm against the baseline's of another cell, at equal cost."""

    baseline_cell: str
    pair: Pair


@dataclass(frozen=True)
class SizeChoice:
    """The sizes that were best on all seeds but one."""

    seed: int
    """The one on which they were compared."""
    baseline: str
    """Series of the baseline."""
    arm: str
    """Series of the arm."""


@dataclass(frozen=True)
class BestOfSizes:
    """The best size of an arm against the baseline's best, at one budget."""

    budget: float
    sizes: int
    """Sizes of both that share the budget."""
    pair: Pair
    chosen: tuple[SizeChoice, ...]


@dataclass(frozen=True)
class EqualCost:
    """All comparisons in which one cost is equal. Its pairs are one family (Holm), its best sizes another."""

    held: str
    """The column of the cost."""
    tolerance: float
    """Costs this close, in their logarithm, count as equal: two standard deviations of a run's, within limits."""
    pairs: tuple[EqualCostPair, ...]
    best: tuple[BestOfSizes, ...]


_Group = tuple[str, str, str]
"""Series, cell and arm."""


def at_equal_cost(
    points: Sequence[Point], costs: Sequence[str], *, fraction: bool, lower: bool, margin: float | None
) -> tuple[EqualCost, ...]:
    """The comparisons at each cost that has any, with gains judged by the noise of all of them."""

    def judge(pairs: list[Pair]) -> tuple[Pair, ...]:
        return judged(pairs, study_noise(pairs, fraction=fraction, lower=lower), margin) if pairs else ()

    found = []
    for held in costs:
        groups = _groups([point for point in points if point.costs[held] > 0])
        if different_devices((point for of_group in groups.values() for point in of_group), held):
            continue
        found.append(_with_gains(_unjudged(groups, held, lower), judge))
    return tuple(of_cost for of_cost in found if of_cost.pairs or of_cost.best)


def _with_gains(of_cost: EqualCost, judge: Callable[[list[Pair]], tuple[Pair, ...]]) -> EqualCost:
    """The same with judged gains: its pairs are one family, its best sizes another."""
    gains = judge([equal.pair for equal in of_cost.pairs])
    best = judge([sizes.pair for sizes in of_cost.best])
    return replace(
        of_cost,
        pairs=tuple(replace(equal, pair=pair) for equal, pair in zip(of_cost.pairs, gains, strict=True)),
        best=tuple(replace(sizes, pair=pair) for sizes, pair in zip(of_cost.best, best, strict=True)),
    )


def _unjudged(groups: Mapping[_Group, list[Point]], held: str, lower: bool) -> EqualCost:
    scatter = _scatter(groups, held)
    tolerance = min(MOST_TOLERANCE, max(TOLERANCE, 2 * scatter))
    # A budget is a cost that was planned: it does not scatter.
    best = _best_of_sizes(groups, held, tolerance, lower) if scatter == 0 and held != MEMORY else []
    return EqualCost(held, tolerance, tuple(_pairs(groups, held, tolerance, lower)), tuple(best))


def _groups(points: Sequence[Point]) -> dict[_Group, list[Point]]:
    """The runs that differ only in their seed, by seed."""
    groups: dict[_Group, list[Point]] = {}
    for point in points:
        groups.setdefault((point.series, point.cell, point.arm), []).append(point)
    return {key: sorted(of_group, key=lambda point: point.seed) for key, of_group in groups.items()}


def _scatter(groups: Mapping[_Group, Sequence[Point]], held: str) -> float:
    """Standard deviation over seeds of the logarithm of a cost, pooled over groups."""
    logs = [np.log([point.costs[held] for point in of_group]) for of_group in groups.values() if len(of_group) > 1]
    scatter = math.sqrt(float(np.mean([of_group.var(ddof=1) for of_group in logs]))) if logs else 0.0
    return scatter if scatter > 1e-9 else 0.0


def _pairs(groups: Mapping[_Group, list[Point]], held: str, tolerance: float, lower: bool) -> list[EqualCostPair]:
    """Each group of an arm with the baseline's group of the nearest cost."""
    costs = {key: _log_cost(of_group, held) for key, of_group in groups.items()}
    pairs = []
    for key, of_arm in groups.items():
        nearest = _nearest(key, groups, costs, tolerance, _same_schedule if held == MEMORY else _same_series)
        if nearest is None:
            continue
        twins = {point.seed: point for point in groups[nearest]}
        paired = [(twins[point.seed], point) for point in of_arm if point.seed in twins]
        if paired:
            pairs.append(EqualCostPair(nearest[1], pair_of(paired, lower)))
    return pairs


def _nearest(
    key: _Group,
    groups: Mapping[_Group, list[Point]],
    costs: Mapping[_Group, float],
    tolerance: float,
    may_pair: Callable[[Point, Point], bool],
) -> _Group | None:
    """The baseline's group that cost as much as a group of an arm; None where its own twin did, or no group."""
    series, cell, arm = key

    def apart(other: _Group) -> float:
        return abs(costs[other] - costs[key])

    twin = (series, cell, "")
    if not arm or (twin in costs and apart(twin) <= tolerance):
        return None
    base = [other for other in groups if not other[2] and other != twin and apart(other) <= tolerance]
    return min((other for other in base if may_pair(groups[other][0], groups[key][0])), key=apart, default=None)


def _log_cost(of_group: Sequence[Point], held: str) -> float:
    return float(np.mean([math.log(point.costs[held]) for point in of_group]))


def _same_series(baseline: Point, point: Point) -> bool:
    return baseline.series == point.series


def _same_schedule(baseline: Point, point: Point) -> bool:
    """Whether the two share a schedule length, and their series differ in one axis."""
    ours, theirs = read_cell(point.series), read_cell(baseline.series)
    return baseline.at == point.at and len(ours) == len(theirs) and len(set(ours) - set(theirs)) == 1


# The best of several sizes


def _best_of_sizes(groups: Mapping[_Group, list[Point]], held: str, tolerance: float, lower: bool) -> list[BestOfSizes]:
    """For each budget that several sizes share, and each arm: the best sizes, chosen without the seed compared on."""
    families: dict[str, list[_Group]] = {}
    for key in groups:
        families.setdefault(write_cell(without(read_cell(key[0]), SIZE)), []).append(key)
    found: list[BestOfSizes | None] = []
    costs = {key: _log_cost(of_group, held) for key, of_group in groups.items()}
    for family, keys in families.items():
        for of_budget in _budgets(keys, costs, tolerance):
            by_arm: dict[str, dict[str, dict[int, Point]]] = {}
            for key in of_budget:
                by_arm.setdefault(key[2], {})[key[0]] = {point.seed: point for point in groups[key]}
            budget = math.exp(float(np.mean([costs[key] for key in of_budget])))
            base = by_arm.pop("", {})
            found += [_chosen(base, of_arm, family, budget, lower) for of_arm in by_arm.values()]
    return [best for best in found if best is not None]


def _budgets(keys: Sequence[_Group], costs: Mapping[_Group, float], tolerance: float) -> list[list[_Group]]:
    """Groups of about one cost: each is within twice the tolerance of the cheapest."""
    budgets: list[list[_Group]] = []
    for key in sorted(keys, key=lambda key: costs[key]):
        if budgets and costs[key] - costs[budgets[-1][0]] <= 2 * tolerance:
            budgets[-1].append(key)
        else:
            budgets.append([key])
    return budgets


_Sizes = Mapping[str, Mapping[int, Point]]
"""Series -> seed -> its run."""


def _chosen(base: _Sizes, arm: _Sizes, family: str, budget: float, lower: bool) -> BestOfSizes | None:
    """None where fewer than two sizes or two seeds are shared."""
    sizes = [series for series in base if series in arm]
    seeds = (
        sorted(set.intersection(*(set(of_arm[series]) for of_arm in (base, arm) for series in sizes))) if sizes else []
    )
    if len(sizes) < 2 or len(seeds) < 2:
        return None

    def best(of_arm: _Sizes, without_seed: int) -> str:
        means = {
            series: np.mean([of_arm[series][seed].y for seed in seeds if seed != without_seed]) for series in sizes
        }
        return (min if lower else max)(means, key=lambda series: means[series])

    chosen = tuple(SizeChoice(seed, best(base, seed), best(arm, seed)) for seed in seeds)
    paired = [(base[choice.baseline][choice.seed], arm[choice.arm][choice.seed]) for choice in chosen]
    pair = replace(pair_of(paired, lower), series=family, cell=f"{budget:.6g}", at=None)
    return BestOfSizes(budget, len(sizes), pair, chosen)
