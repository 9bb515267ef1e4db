"""Gains at equal samples: a run against its twin, the baseline of the same cell at the same seed.

They are judged by the noise of the whole study: its cells are one family (Holm).

A gain that the study states as a claim is that claim's estimate, in that claim's family.

A gain is the mean of raw differences between twins, and its interval is that mean -/+ t x SE, with the shrunk variance
of its cell (flipscale.stats). Where only some runs of a cell take off, an exact test of its pairs decides, and there is
no interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from flipscale.collecting import HitsOfRun
from flipscale.comparing.estimates import Corrected, Estimate, Pair, mean_of, nothing, ratio_of
from flipscale.comparing.points import Point, different_devices
from flipscale.comparing.stated import StudyClaims
from flipscale.stats import (
    ALPHA,
    Differences,
    ImageSampling,
    Moments,
    Noise,
    failed_runs,
    holm,
    image_sampling,
    noise_unit,
    shrink_variances,
    sign_flip_p,
    units_of,
)
from flipscale.study import LOOKS


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
        trunks=_trunks([arm for _, arm in paired]) or _trunks([twin for twin, _ in paired]),
    )


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


@dataclass(frozen=True)
class StudyNoise:
    """How far the gains of a study scatter over seeds."""

    noise: Noise[PairKey]
    fraction: bool
    lower: bool
    claimed: Mapping[PairKey, Estimate]
    """Gains that claims of the study decide."""

    def moments(self, pair: Pair) -> Moments | None:
        """The gain of a pair with its standard error; None where its scatter is unknown."""
        return self.noise.moments.get(_key(pair))

    def unit(self, pair: Pair) -> float:
        """The unit of noise of a pair, at the mean of both arms."""
        return noise_unit((pair.baseline_score + pair.score) / 2, fraction=self.fraction, lower=self.lower)


def study_noise(pairs: Sequence[Pair], *, fraction: bool, lower: bool, stated: StudyClaims | None = None) -> StudyNoise:
    """The noise of all pairs of a study at equal samples whose runs all take off; that of a claim where one decides."""
    found = StudyNoise(shrink_variances({}), fraction, lower, {})
    cells = {
        _key(pair): Differences(pair.gain.values, found.unit(pair)) for pair in pairs if pair.gain.failures is None
    }
    noise = shrink_variances(cells, units_of({_key(pair): pair.trunks for pair in pairs}))
    claims = {_key(pair): claim for pair in pairs if stated and (claim := stated.gain(pair.sides))}
    moments = {**noise.moments, **{key: of_claim for key, (_, of_claim) in claims.items() if of_claim}}
    claimed = {
        _key(pair): replace(claims[_key(pair)][0], mean=pair.gain.mean, values=pair.gain.values)
        for pair in pairs
        if _key(pair) in claims
    }
    return replace(found, noise=replace(noise, moments=moments), claimed=claimed)


def with_failures(pair: Pair, *, fraction: bool) -> Pair:
    """The pair with the number of its failed runs, where some take off and others do not."""
    if not fraction or len(pair.seeds) < 2:
        return pair
    return replace(pair, gain=replace(pair.gain, failures=failed_runs(*zip(*pair.twins, strict=True))))


def judged(pairs: Sequence[Pair], found: StudyNoise, margin: float | None, looks: int = LOOKS) -> tuple[Pair, ...]:
    """The pairs with gains judged by this noise, corrected for all that no claim decides, and tested for being level.

    margin: gains within it, in the score's own unit, count as level; None makes no such test.
    """
    claims = [found.claimed.get(_key(pair)) for pair in pairs]
    moments = [None if claim else found.moments(pair) for pair, claim in zip(pairs, claims, strict=True)]
    ps = [
        None if claim else sign_flip_p(pair.gain.values) if pair.gain.failures else of_pair.p if of_pair else None
        for pair, of_pair, claim in zip(pairs, moments, claims, strict=True)
    ]
    corrections = holm(ps, looks)
    levels = holm(
        [None if margin is None or of_pair is None else of_pair.p_within(-margin, margin) for of_pair in moments], looks
    )
    gains = []
    for pair, claim, of_pair, p, judgement, level in zip(pairs, claims, moments, ps, corrections, levels, strict=True):
        gain = claim or replace(pair.gain, low=None, high=None, p=p)
        if claim:
            pass
        elif judgement and of_pair:
            corrected = Corrected(judgement.family, judgement.p, None, None, looks=looks)
            gain = _with_interval(gain, of_pair, corrected, judgement.level)
            gain = replace(gain, p_level=level.p if level else None)
        elif judgement:
            gain = replace(gain, corrected=Corrected(judgement.family, judgement.p, None, None, looks=looks))
        elif len(pair.seeds) > 1:
            gain = replace(gain, why=ALL_ALIKE)
        gains.append(replace(pair, gain=gain))
    return tuple(gains)


def _with_interval(gain: Estimate, moments: Moments, corrected: Corrected, level: float) -> Estimate:
    alone, both = moments.interval(ALPHA), moments.interval(level)
    corrected = replace(corrected, low=both.low, high=both.high)
    return replace(gain, low=alone.low, high=alone.high, why=None, df=moments.df, corrected=corrected)


def _key(pair: Pair) -> PairKey:
    return pair.series, pair.cell, pair.arm


ImagesOfPairs = Mapping[tuple[str, str], ImageSampling]
"""(cell, arm) -> what other test images would do to that gain."""


def images_of_pairs(pairs: Sequence[Pair], hits: Mapping[str, HitsOfRun]) -> ImagesOfPairs:
    """The error of pairs whose runs all kept which test images they got right; `hits` has them by run id."""
    found = {(pair.cell, pair.arm): _sampled(pair, hits) for pair in pairs}
    return {key: sampling for key, sampling in found.items() if sampling is not None}


def _sampled(pair: Pair, hits: Mapping[str, HitsOfRun]) -> ImageSampling | None:
    twins = [(hits[base], hits[arm]) for base, arm in pair.ids if base in hits and arm in hits]
    if len(twins) < len(pair.ids):
        return None
    first = twins[0][0]
    if not all(first.is_of_same_items(run) for pair_of_runs in twins for run in pair_of_runs):
        return None
    return image_sampling([arm.hits for _, arm in twins], [base.hits for base, _ in twins])
