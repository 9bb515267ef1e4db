"""The head of a comparison: each arm's gain at the base cell, its slopes along axes, and the detectable effect."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flipscale.analysis.comparing.estimates import Effect, Pair
from flipscale.analysis.stats import (
    Array,
    Interval,
    Moments,
    Sensitivity,
    design_by,
    mean_over,
    seed_effect_p,
    sensitivity_of,
    slope_of,
)
from flipscale.cell import read_cell, without, write_cell
from flipscale.door.statements import SIZES

AxisValues = Mapping[str, Mapping[str, float]]
"""Cell -> axis -> its value as a number; a model's is its FLOPs per sample."""


@dataclass(frozen=True)
class AxisSlope:
    """How the gain of an arm changes along an axis, in the score's own unit for each doubling."""

    axis: str
    low: float
    high: float
    """The values of the axis that the cells span."""
    cells: int
    slope: float
    interval: Interval
    """95 % interval, by the noise of the cells."""
    bends_p: float | None
    """p of the hypothesis that the gains lie on a line. None with two values."""


@dataclass(frozen=True)
class SingleRuns:
    """Several cells of one seed each, which have no intervals: how often the arm scores higher, and the mean scores."""

    cells: int
    better: int
    worse: int
    """Cells with equal scores count as neither."""
    baseline: float
    """The mean score of the baseline over these cells, in the score's own unit."""
    score: float
    """That of the arm."""


@dataclass(frozen=True)
class ArmHead:
    """One arm in all cells of the study."""

    arm: str
    base: Pair | None
    """Its twins at the base cell; None where it has none there."""
    effects: Mapping[Effect, int]
    """How many cells it is ahead in, behind in, level in, or undecided in."""
    slopes: tuple[AxisSlope, ...]
    mean: Moments | None
    """Over all cells, by the means of the seeds that they share. None with fewer than two of either, or where it means
    little: some cells ahead, and others behind."""
    single_runs: SingleRuns | None = None
    """None where a cell has several seeds, or there is one cell."""


@dataclass(frozen=True)
class Head:
    """The answer in a few lines."""

    base_cell: str
    is_base: bool
    """Whether the study's base names this cell. Else it is the largest of its grid, or the last of the largest."""
    arms: tuple[ArmHead, ...]
    sensitivity: Sensitivity | None
    """None where no cell has two seeds."""
    seed_effect_p: float | None
    """Smallest p, over arms, of the hypothesis that no seed moves all cells alike by more than its twins share."""


def head_of(pairs: Sequence[Pair], values: AxisValues, base_cell: str | None, effect: float | None) -> Head | None:
    """The head of a comparison; None without pairs."""
    if not pairs:
        return None
    base = heading_cell(pairs, base_cell, values)
    arms = {arm: [pair for pair in pairs if pair.arm == arm] for arm in dict.fromkeys(pair.arm for pair in pairs)}
    return Head(
        base_cell=base,
        is_base=base == base_cell,
        arms=tuple(_arm_head(arm, of_arm, values, base) for arm, of_arm in arms.items()),
        sensitivity=_sensitivity(pairs, base, effect),
        seed_effect_p=_seed_effect_p(arms.values()),
    )


def heading_cell(pairs: Sequence[Pair], base_cell: str | None, values: AxisValues) -> str:
    """The cell that heads the answer: the base cell if it has a pair, else the largest that has, of those the last."""
    if base_cell is not None and base_cell in {pair.cell for pair in pairs}:
        return base_cell
    size = {cell: math.prod(of_cell.get(axis, 1) for axis in SIZES) for cell, of_cell in values.items()}
    return max(reversed(pairs), key=lambda pair: size.get(pair.cell, 0)).cell


def _seed_effect_p(arms: Iterable[Sequence[Pair]]) -> float | None:
    """The smallest p of a seed effect over arms, of gains in units of noise."""
    ps = []
    for of_arm in arms:
        known = [pair for pair in of_arm if pair.moments]
        seeds = _seeds_of_all(known)
        if seeds:
            units = np.array([[pair.unit] for pair in known])
            ps.append(seed_effect_p(_gains(known, seeds) / units))
    return min((p for p in ps if p is not None), default=None)


def _arm_head(arm: str, pairs: list[Pair], values: AxisValues, base: str) -> ArmHead:
    effects = Counter(pair.gain.effect for pair in pairs)
    at_base = next((pair for pair in pairs if pair.cell == base), None)
    axes = dict.fromkeys(axis for pair in pairs for axis in values.get(pair.cell, {}))
    slopes = [slope for axis in axes if (slope := _slope(axis, pairs, values))]
    return ArmHead(arm, at_base, dict(effects), tuple(slopes), _mean(pairs, effects), _single_runs(pairs))


def _single_runs(pairs: Sequence[Pair]) -> SingleRuns | None:
    if len(pairs) < 2 or any(len(pair.seeds) > 1 for pair in pairs):
        return None
    gains = [pair.gain.value for pair in pairs]
    return SingleRuns(
        cells=len(pairs),
        better=sum(gain > 0 for gain in gains),
        worse=sum(gain < 0 for gain in gains),
        baseline=float(np.mean([pair.baseline_score for pair in pairs])),
        score=float(np.mean([pair.score for pair in pairs])),
    )


def _mean(pairs: list[Pair], effects: Mapping[Effect, int]) -> Moments | None:
    if effects.get(Effect.AHEAD) and effects.get(Effect.BEHIND):
        return None
    seeds = _seeds_of_all(pairs)
    if len(pairs) < 2 or len(seeds) < 2 or any(pair.moments is None for pair in pairs):
        return None
    return mean_over(_gains(pairs, seeds))


def _slope(axis: str, pairs: list[Pair], values: AxisValues) -> AxisSlope | None:
    """Along lines of cells that differ in this axis alone."""
    lines = _lines(axis, pairs, values)
    if not lines:
        return None
    cells = [pair for line in lines for pair in line]
    trunks = [trunk for pair in cells for trunk in pair.trunks]
    slope = slope_of(
        [
            (
                np.log2([values[pair.cell][axis] for pair in line]),
                [pair.moments for pair in line if pair.moments],
            )
            for line in lines
        ],
        _gains(cells, _seeds_of_all(cells)) if len(set(trunks)) < len(trunks) else None,
    )
    if slope is None:
        return None
    xs = [values[pair.cell][axis] for pair in cells]
    return AxisSlope(axis, min(xs), max(xs), len(xs), slope.slope, slope.interval, slope.bends_p)


def _lines(axis: str, pairs: list[Pair], values: AxisValues) -> list[list[Pair]]:
    """The pairs whose cells differ in this axis alone, where there are several values of it."""
    lines: dict[str, list[Pair]] = {}
    for pair in pairs:
        if axis in values.get(pair.cell, {}) and pair.moments is not None:
            lines.setdefault(write_cell(without(read_cell(pair.cell), axis)), []).append(pair)
    return [line for line in lines.values() if len({values[pair.cell][axis] for pair in line}) > 1]


def _seeds_of_all(pairs: Sequence[Pair]) -> tuple[int, ...]:
    """The seeds that all pairs have."""
    if not pairs:
        return ()
    return tuple(seed for seed in pairs[0].seeds if all(seed in pair.seeds for pair in pairs))


def _gains(pairs: Sequence[Pair], seeds: Sequence[int]) -> Array:
    """Gains [cells, seeds] in the score's own unit."""
    return np.array([[pair.gain.values[pair.seeds.index(seed)] for seed in seeds] for pair in pairs])


def noisiest_pair(pairs: Sequence[Pair], cell: str) -> tuple[Pair, Moments] | None:
    """The pair of a cell whose gain has the largest standard error; None where none is known."""
    known = [(pair, pair.moments) for pair in pairs if pair.cell == cell and pair.moments]
    return max(known, key=lambda known_pair: known_pair[1].error, default=None)


def _sensitivity(pairs: Sequence[Pair], cell: str, effect: float | None) -> Sensitivity | None:
    """By the standard error and the family of the gain beside it: the noisiest arm's at the base cell."""
    noisiest = noisiest_pair(pairs, cell)
    if noisiest is None:
        return None
    pair, moments = noisiest
    return sensitivity_of(design_by(moments, len(pair.seeds), *pair.gain.family), len(pair.seeds), effect)
