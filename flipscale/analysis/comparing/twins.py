"""Gains at equal samples: a run against its twin, the baseline of the same cell at the same seed.

They are judged by the noise of the whole study: its cells are one family (Holm).

A gain that the study states as a claim is that claim's estimate, in that claim's family.

A gain is the mean of raw differences between twins, and its interval is that mean -/+ t x SE, with the shrunk variance
of its cell (flipscale/analysis/stats). Where runs of a cell do not take off, an exact test of its pairs decides,
and there is no interval. Of one seed there is neither a verdict nor an interval.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from flipscale.analysis.comparing.estimates import Estimate, Pair, decided, exact_p, mean_of, nothing, ratio_of
from flipscale.analysis.comparing.points import Point, different_devices
from flipscale.analysis.comparing.stated import StudyClaims
from flipscale.analysis.stats import (
    Differences,
    Noise,
    ScoreKind,
    failed_runs,
    holm,
    shrink_variances,
    units_of,
)
from flipscale.door.statements import LOOKS


def pairs_of(
    points: Sequence[Point], arms: Iterable[str], kind: ScoreKind, failed: Sequence[Point] = ()
) -> tuple[list[Pair], dict[str, str]]:
    """One Pair for each cell and arm that has twins, and the runs that have none, with the reason.

    failed: runs without a score, which count as failures of their cell.
    """
    cells: dict[tuple[str, str], dict[str, dict[int, Point]]] = {}
    for point in sorted((*points, *failed), key=lambda point: point.seed):
        cells.setdefault((point.series, point.cell), {}).setdefault(point.arm, {})[point.seed] = point
    pairs: list[Pair] = []
    unpaired: dict[str, str] = {}
    for at in dict.fromkeys((point.series, point.cell) for point in points):
        twins = cells[at].get("", {})
        for arm in arms:
            runs = cells[at].get(arm, {})
            for seed, point in runs.items():
                if not math.isnan(point.y) and (seed not in twins or math.isnan(twins[seed].y)):
                    which = "baseline of the same seed" if twins else "baseline"
                    unpaired[point.id] = f"no {which} in cell {point.cell or '(the only one)'!r}"
            paired = [(twins[seed], point) for seed, point in runs.items() if seed in twins]
            if any(_has_scores(both) for both in paired):
                pairs.append(pair_of(paired, kind))
    return pairs, unpaired


def pair_of(paired: Sequence[tuple[Point, Point]], kind: ScoreKind) -> Pair:
    """The pair of runs and their twins, twin first."""
    above = [[run.above_chance for run in runs] for runs in zip(*paired, strict=True)]
    failures = failed_runs(above[0], above[1]) if len(paired) > 1 else None
    paired = [both for both in paired if _has_scores(both)]
    point = paired[0][1]
    base, ours = ([run.y for run in runs] for runs in zip(*paired, strict=True))
    gain = mean_of([kind.sign * (y - twin) for twin, y in zip(base, ours, strict=True)])
    return Pair(
        cell=point.cell,
        series=point.series,
        at=point.at,
        arm=point.arm,
        seeds=tuple(run.seed for _, run in paired),
        baseline_score=float(np.mean(base)),
        score=float(np.mean(ours)),
        gain=replace(gain, failures=failures),
        unit=kind.noise_unit((float(np.mean(base)) + float(np.mean(ours))) / 2),
        ids=tuple((twin.id, run.id) for twin, run in paired),
        ratios={name: _ratio_of_costs(paired, name) for name in point.costs},
        trunks=_trunks([run for _, run in paired]) or _trunks([twin for twin, _ in paired]),
    )


def _has_scores(both: tuple[Point, Point]) -> bool:
    return not any(math.isnan(run.y) for run in both)


def _trunks(points: Sequence[Point]) -> frozenset[int]:
    return frozenset(point.trunk for point in points if point.trunk >= 0)


def _ratio_of_costs(paired: Sequence[tuple[Point, Point]], name: str) -> Estimate:
    if why := different_devices((point for pair in paired for point in pair), name):
        return nothing(why)
    costs = [(point.costs[name], twin.costs[name]) for twin, point in paired]
    logs = [float(np.log(ours / theirs)) for ours, theirs in costs if ours > 0 and theirs > 0]
    return ratio_of(logs) if logs else nothing(f"no pair has {name}")


ALL_ALIKE = "all of its runs have the same score, which is an end of the scale"


PairKey = tuple[str, str, str]
"""Series, cell and arm."""


def judged(
    pairs: Sequence[Pair], stated: StudyClaims | None = None, margin: float | None = None, looks: int = LOOKS
) -> tuple[tuple[Pair, ...], Noise[PairKey]]:
    """The pairs with gains judged by the noise of all pairs whose runs all take off; and that noise.

    They are corrected for all that no claim decides, and tested for being level. margin: gains within it, in the
    score's own unit, count as level; None makes no such test.
    """
    cells = {_key(pair): Differences(pair.gain.values, pair.unit) for pair in pairs if pair.gain.failures is None}
    noise = shrink_variances(cells, units_of({_key(pair): pair.trunks for pair in pairs}))
    pairs = [replace(pair, moments=noise.moments.get(_key(pair))) for pair in pairs]
    claims = [stated.gain(pair.sides) if stated else None for pair in pairs]
    others = [pair for pair, claim in zip(pairs, claims, strict=True) if not claim]
    ps = [exact_p(pair.gain) if pair.gain.failures else pair.moments.p if pair.moments else None for pair in others]
    levels = [
        pair.moments.p_within(-margin, margin) if pair.moments and margin is not None else None for pair in others
    ]
    tests = zip(ps, holm(ps, looks), holm(levels, looks), strict=True)
    done = []
    for pair, claim in zip(pairs, claims, strict=True):
        if claim:
            gain = replace(claim[0], mean=pair.gain.mean, values=pair.gain.values)
            done.append(replace(pair, gain=gain, moments=claim[1] or pair.moments))
            continue
        p, judgement, level = next(tests)
        gain = replace(pair.gain, interval=None, p=p, p_level=level.p if level else None)
        if judgement:
            gain = decided(gain, judgement, pair.moments, looks=looks)
        elif len(pair.seeds) > 1:
            gain = replace(gain, why=ALL_ALIKE)
        done.append(replace(pair, gain=gain))
    return tuple(done), noise


def _key(pair: Pair) -> PairKey:
    return pair.series, pair.cell, pair.arm
