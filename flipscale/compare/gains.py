"""Gains at equal samples, judged by the noise of the whole study: its cells are one family (Holm).

Differences between twins are taken on the score's scale, and each cell's variance is pulled towards those of the others
(flipscale.stats). An interval is converted back to the score's own unit at the mean level of the cell's baseline. The
gain itself is the plain mean of the differences. Next to it is the interval by the cell's own seeds alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from flipscale.compare.estimates import Corrected, Estimate
from flipscale.compare.parts import Pair
from flipscale.stats import (
    ALPHA,
    WIDEST,
    Judged,
    Moments,
    Noise,
    ScoreScale,
    Transform,
    holm,
    pool_variance,
    scale_of,
)


@dataclass(frozen=True)
class StudyNoise:
    """How far the gains of a study scatter over seeds, and the scale on which that is measured."""

    scale: ScoreScale
    noise: Noise
    sign: int
    """-1 for a score where lower is better: gains are positive where an arm is better."""

    def moments(self, pair: Pair) -> Moments | None:
        """The gain of a pair on the scale, with its standard error; None where the scatter of runs is unknown."""
        return self.noise.moments.get(_key(pair))

    def level(self, pair: Pair) -> float:
        """The pair's baseline on the scale, mean over seeds."""
        return float(self.scale.of([baseline for baseline, _ in pair.twins]).mean())

    def gain(self, pair: Pair, step: float) -> float:
        """A step on the scale as a gain of this pair in the score's own unit."""
        if math.isinf(step):
            return step
        return self.sign * float(self.scale.difference(self.level(pair), self.sign * step))

    def error(self, pair: Pair) -> float:
        """Standard error of the pair's gain in the score's own unit, near the arm's level."""
        moments = self.moments(pair)
        assert moments is not None
        return self.scale.slope(self.level(pair) + self.sign * moments.mean) * moments.error


def study_noise(pairs: Sequence[Pair], *, fraction: bool, lower: bool) -> StudyNoise:
    """The noise of all pairs of a study at equal samples."""
    sign = -1 if lower else 1
    scores = np.array([score for pair in pairs for twin in pair.twins for score in twin])
    scale = scale_of(scores, fraction=fraction, lower_is_better=lower)
    return StudyNoise(scale, pool_variance({_key(pair): _steps(pair, scale, sign) for pair in pairs}), sign)


def judged(pairs: Sequence[Pair], found: StudyNoise, margin: float | None) -> tuple[Pair, ...]:
    """The pairs with gains judged by this noise, corrected for all of them, and tested for being level.

    margin: gains within it, in the score's own unit, count as level; None makes no such test.
    """
    moments = [found.moments(pair) for pair in pairs]
    corrections = holm([None if of_pair is None else of_pair.p for of_pair in moments])
    levels = holm([_p_level(pair, of_pair, found, margin) for pair, of_pair in zip(pairs, moments, strict=True)])
    return tuple(
        replace(pair, gain=_judged(pair, found, of_pair, correction, level)) if of_pair and correction else pair
        for pair, of_pair, correction, level in zip(pairs, moments, corrections, levels, strict=True)
    )


def _key(pair: Pair) -> tuple[str, str]:
    return f"{pair.series}; {pair.cell}", pair.arm


def _steps(pair: Pair, scale: ScoreScale, sign: int) -> list[float]:
    """The gain of each seed on the scale."""
    twins = np.array(pair.twins)
    steps: list[float] = (sign * (scale.of(twins[:, 1]) - scale.of(twins[:, 0]))).tolist()
    return steps


def _p_level(pair: Pair, moments: Moments | None, found: StudyNoise, margin: float | None) -> float | None:
    if moments is None or margin is None:
        return None
    level = found.level(pair)
    ends = sorted(found.sign * found.scale.step(level, side * margin) for side in (-1, 1))
    return moments.p_within(*ends)


def _judged(pair: Pair, found: StudyNoise, moments: Moments, correction: Judged, level: Judged | None) -> Estimate:
    ends = [_ends(pair, found, moments, at) for at in (ALPHA, correction.level)]
    (low, high), (corrected_low, corrected_high) = ends
    alone = found.noise.by_own_seeds.get(_key(pair))
    by_its_seeds = None
    if alone is not None:
        alone_low, alone_high = _ends(pair, found, alone, ALPHA)
        by_its_seeds = replace(pair.gain, low=alone_low, high=alone_high, p=alone.p, df=alone.df)
    return replace(
        pair.gain,
        low=low,
        high=high,
        why=None,
        p=moments.p,
        df=moments.df,
        widest=WIDEST if found.scale.transform is Transform.LOGIT else None,
        corrected=Corrected(correction.family, correction.p, corrected_low, corrected_high),
        by_its_seeds=by_its_seeds,
        p_level=None if level is None else level.p,
    )


def _ends(pair: Pair, found: StudyNoise, moments: Moments, level: float) -> tuple[float, float]:
    interval = moments.interval(level)
    low, high = (found.gain(pair, end) for end in (interval.low, interval.high))
    return low, high
