"""The head of a comparison: each arm's gain at the base cell, its slopes along axes, and the detectable effect."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flipscale.cell import read_cell, without, write_cell
from flipscale.compare.estimates import Effect, finding
from flipscale.compare.gains import StudyNoise
from flipscale.compare.parts import Pair
from flipscale.stats import (
    Array,
    Design,
    Interval,
    Mean,
    Moments,
    Sensitivity,
    mean_over,
    seed_effect,
    sensitivity_of,
    slope_of,
)

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
    interval: Interval | None
    """95 % interval: Student t over the slopes of seeds. None with one seed."""
    moderated: Interval
    """95 % interval by the noise of the study, which does not include how seeds tilt lines."""
    seeds: tuple[int, ...]
    """Seeds that all of these cells have."""
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
    mean: Mean | None
    """Over all cells, at the seeds that they share. None with fewer than two of either, or where it means little: some
    cells ahead, and others behind."""
    single_runs: SingleRuns | None = None
    """None where a cell has several seeds, or there is one cell."""


@dataclass(frozen=True)
class Head:
    """The answer in a few lines."""

    base_cell: str
    is_base: bool
    """Whether the study's base names this cell. Else it is the last one of its grid."""
    arms: tuple[ArmHead, ...]
    sensitivity: Sensitivity | None
    """None where no cell has two seeds."""
    seed_effect_p: float | None
    """Smallest p, over arms, of the hypothesis that no seed moves all cells alike by more than its twins share."""


def head_of(
    pairs: Sequence[Pair],
    found: StudyNoise,
    values: AxisValues,
    base_cell: str | None,
    margin: float | None,
) -> Head | None:
    """The head of a comparison; None without pairs."""
    if not pairs:
        return None
    base = heading_cell(pairs, base_cell)
    arms = {arm: [pair for pair in pairs if pair.arm == arm] for arm in dict.fromkeys(pair.arm for pair in pairs)}
    at_base = [pair for pair in pairs if pair.cell == base]
    return Head(
        base_cell=base,
        is_base=base == base_cell,
        arms=tuple(_arm_head(arm, of_arm, found, values, base) for arm, of_arm in arms.items()),
        sensitivity=_sensitivity(at_base, len(pairs), len(arms), found, margin),
        seed_effect_p=_seed_effect_p(arms.values(), found),
    )


def heading_cell(pairs: Sequence[Pair], base_cell: str | None) -> str:
    """The cell that heads the answer: the base cell if it has a pair, else the last one that has."""
    return base_cell if base_cell is not None and base_cell in {pair.cell for pair in pairs} else pairs[-1].cell


def _seed_effect_p(arms: Iterable[Sequence[Pair]], found: StudyNoise) -> float | None:
    """The smallest p of a seed effect over arms."""
    tests = [seed_effect(_steps(of_arm, found)) for of_arm in arms if _seeds_of_all(of_arm)]
    return min((test.p for test in tests if test is not None), default=None)


def _arm_head(arm: str, pairs: list[Pair], found: StudyNoise, values: AxisValues, base: str) -> ArmHead:
    effects = Counter(finding(pair.gain).effect for pair in pairs)
    at_base = next((pair for pair in pairs if pair.cell == base), None)
    axes = dict.fromkeys(axis for pair in pairs for axis in values.get(pair.cell, {}))
    slopes = [slope for axis in axes if (slope := _slope(axis, pairs, found, values))]
    return ArmHead(arm, at_base, dict(effects), tuple(slopes), _mean(pairs, effects, found), _single_runs(pairs))


def _single_runs(pairs: Sequence[Pair]) -> SingleRuns | None:
    if len(pairs) < 2 or any(len(pair.seeds) > 1 for pair in pairs):
        return None
    gains = [pair.gain.mean for pair in pairs if pair.gain.mean is not None]
    return SingleRuns(
        cells=len(pairs),
        better=sum(gain > 0 for gain in gains),
        worse=sum(gain < 0 for gain in gains),
        baseline=float(np.mean([pair.baseline_score for pair in pairs])),
        score=float(np.mean([pair.score for pair in pairs])),
    )


def _mean(pairs: list[Pair], effects: Mapping[Effect, int], found: StudyNoise) -> Mean | None:
    if effects.get(Effect.AHEAD) and effects.get(Effect.BEHIND):
        return None
    seeds = _seeds_of_all(pairs)
    if len(pairs) < 2 or len(seeds) < 2 or any(found.moments(pair) is None for pair in pairs):
        return None
    return mean_over(_gains(pairs, seeds), [found.error(pair) for pair in pairs])


def _slope(axis: str, pairs: list[Pair], found: StudyNoise, values: AxisValues) -> AxisSlope | None:
    """Along lines of cells that differ in this axis alone."""
    lines = _lines(axis, pairs, found, values)
    cells = [pair for line in lines for pair in line]
    seeds = _seeds_of_all(cells)
    if not seeds:
        return None
    slope = slope_of(
        [
            (
                np.log2([values[pair.cell][axis] for pair in line]),
                _gains(line, seeds),
                [Moments(0.0, found.error(pair), _df(pair, found)) for pair in line],
            )
            for line in lines
        ]
    )
    if slope is None:
        return None
    xs = [values[pair.cell][axis] for pair in cells]
    return AxisSlope(
        axis=axis,
        low=min(xs),
        high=max(xs),
        cells=len(cells),
        slope=slope.moderated.mean,
        interval=None if slope.by_seed is None else slope.by_seed.interval(),
        moderated=slope.moderated.interval(),
        seeds=seeds,
        bends_p=slope.bends_p,
    )


def _lines(axis: str, pairs: list[Pair], found: StudyNoise, values: AxisValues) -> list[list[Pair]]:
    """The pairs whose cells differ in this axis alone, where there are several values of it."""
    lines: dict[str, list[Pair]] = {}
    for pair in pairs:
        if axis in values.get(pair.cell, {}) and found.moments(pair) is not None:
            lines.setdefault(write_cell(without(read_cell(pair.cell), axis)), []).append(pair)
    return [line for line in lines.values() if len({values[pair.cell][axis] for pair in line}) > 1]


def _df(pair: Pair, found: StudyNoise) -> float:
    moments = found.moments(pair)
    assert moments is not None
    return moments.df


def _seeds_of_all(pairs: Sequence[Pair]) -> tuple[int, ...]:
    """The seeds that all pairs have."""
    if not pairs:
        return ()
    return tuple(seed for seed in pairs[0].seeds if all(seed in pair.seeds for pair in pairs))


def _gains(pairs: Sequence[Pair], seeds: Sequence[int]) -> Array:
    """Gains [cells, seeds] in the score's own unit."""
    return np.array([[pair.gain.values[pair.seeds.index(seed)] for seed in seeds] for pair in pairs])


def _steps(pairs: Sequence[Pair], found: StudyNoise) -> Array:
    """Gains [cells, seeds] on the scale, at the seeds that all pairs have."""
    seeds = _seeds_of_all(pairs)
    twins = np.array([[pair.twins[pair.seeds.index(seed)] for seed in seeds] for pair in pairs])
    steps: Array = found.sign * (found.scale.of(twins[..., 1]) - found.scale.of(twins[..., 0]))
    return steps


def _sensitivity(
    at_base: Sequence[Pair], comparisons: int, arms: int, found: StudyNoise, margin: float | None
) -> Sensitivity | None:
    sd = found.noise.sd
    if sd is None or not at_base:
        return None
    seeds = min(len(pair.seeds) for pair in at_base)
    design = Design(sd, lambda n: found.noise.df(n, arms), comparisons)
    return sensitivity_of(design, found.scale, found.level(at_base[0]), seeds, margin)
