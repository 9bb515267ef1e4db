"""Gains at equal samples, judged by the noise of the whole study: its cells are one family (Holm).

A gain that the study states as a claim is that claim's estimate, in that claim's family.

A gain is the mean of raw differences between twins, and its interval is that mean -/+ t x SE, with the shrunk variance
of its cell (flipscale.stats). Where only some runs of a cell take off, an exact test of its pairs decides, and there is
no interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from flipscale.compare.estimates import Corrected, Estimate
from flipscale.compare.parts import Pair
from flipscale.compare.stated import StudyClaims
from flipscale.stats import (
    ALPHA,
    Differences,
    Moments,
    Noise,
    failed_runs,
    holm,
    noise_unit,
    shrink_variances,
    sign_flip_p,
)
from flipscale.study import LOOKS

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
    noise = shrink_variances(cells)
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
