"""Whether the claims of a study hold: each judged by its contrast over seeds, all of them corrected as one family.

A claim was stated before anybody looked (docs/study.md), so there is nothing to choose here: the scale is that of the
score, and the noise that of all claims together. A difference is taken seed by seed on that scale (the logit of an
accuracy, the logarithm of a loss), positive where left is better, and given in points of accuracy or percent of a loss.
"Level" is a claim like others: two one-sided tests against the study's margin (Schuirmann 1987).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import pandas as pd

from flipscale import scores
from flipscale.collect import setting_value
from flipscale.compare.columns import is_baseline, need, settings_words
from flipscale.stats import (
    ALPHA,
    Interval,
    Judged,
    Moments,
    Noise,
    ScoreScale,
    Transform,
    holm,
    pool_variance,
    scale_of,
)
from flipscale.study import Expectation, StatedClaim


class Verdict(StrEnum):
    """The verdict of the runs on a claim."""

    HOLDS = "holds"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    NOT_TESTED = "not tested"


@dataclass(frozen=True)
class ClaimDifference:
    """How much better the left side of a claim is, with its intervals: in points, or percent of a loss."""

    estimate: float
    interval: Interval
    """Uncorrected: 95 %, and 90 % for a claim of 'level'."""
    corrected: Interval
    """At the level at which the family judges this claim; the verdict goes by it."""
    p: float
    p_corrected: float


@dataclass(frozen=True)
class JudgedClaim:
    """A claim, and what the runs say about it."""

    claim: StatedClaim
    verdict: Verdict
    seeds: tuple[int, ...]
    """Seeds that all of its cells have."""
    runs: tuple[str, ...]
    """Ids of the runs that were compared."""
    difference: ClaimDifference | None
    by_own_seeds: ClaimDifference | None
    """By the scatter of this claim's own seeds alone; None with one seed."""
    why: str | None = None
    """Why it was not tested."""


@dataclass(frozen=True)
class ClaimFamily:
    """The claims of a study, judged together."""

    score: str
    unit: str
    """Unit of differences: points, percent, or '' if the score has no known unit."""
    margin: float
    claims: tuple[JudgedClaim, ...]
    noise: Noise | None
    """The scatter over seeds by which they are judged; None where no claim was tested."""

    @property
    def tested(self) -> int:
        """The number of claims that the correction counts."""
        return sum(judged.verdict is not Verdict.NOT_TESTED for judged in self.claims)

    def count(self, verdict: Verdict) -> int:
        return sum(judged.verdict is verdict for judged in self.claims)


@dataclass(frozen=True)
class _MeasuredClaim:
    """The differences of one claim, seed by seed, on the scale of the score."""

    claim: StatedClaim
    scale: ScoreScale
    seeds: tuple[int, ...] = ()
    runs: tuple[str, ...] = ()
    gains: tuple[float, ...] = ()
    """Positive where left is better."""
    start: float = 0.0
    """The level from which the difference starts: right, or with `than`, left if both differences were equal."""
    sign: int = 1
    """-1 where less of the score is better."""
    why: str | None = None

    @property
    def unit(self) -> float:
        """One point of accuracy, or one percent of a loss, in the score's own unit."""
        of_one = {Transform.LOGIT: 1.0, Transform.LOG: float(self.scale.score(self.start)), Transform.PLAIN: 100.0}
        return of_one[self.scale.transform] / 100

    def shown(self, step: float) -> float:
        """A step on the scale, in points or percent."""
        return self.sign * float(self.scale.difference(self.start, self.sign * step)) / self.unit

    def step(self, shown: float) -> float:
        """The step on the scale that makes this many points or percent; infinite where no score is that far away."""
        return self.sign * self.scale.step(self.start, self.sign * shown * self.unit)


def judge_claims(
    results: pd.DataFrame, claims: Sequence[StatedClaim], *, score: str, margin: float
) -> ClaimFamily | None:
    """Judge the claims of a study by its results, on one score. None where it states no claims.

    margin: sides closer than this are level; in points, or percent of a loss. Raises ResultsError for a column that
    the table lacks.
    """
    if not claims:
        return None
    need(results, [score, "seed", "id"])
    rows = results[results[score].notna()]
    lower = bool(scores.lower_is_better(score))
    scale = scale_of(rows[score].to_numpy(float), fraction=scores.is_fraction(score), lower_is_better=lower)
    contrasts = [_measure(results, claim, score, scale) for claim in claims]
    noise = _pooled(contrasts)
    differences, by_own_seeds = (
        _differences(contrasts, moments, margin)
        for moments in ((noise.moments, noise.by_own_seeds) if noise else ({}, {}))
    )
    judged = (
        _judge(contrast, difference, by_own, margin)
        for contrast, difference, by_own in zip(contrasts, differences, by_own_seeds, strict=True)
    )
    return ClaimFamily(score, _UNITS[scale.transform], margin, tuple(judged), noise)


_UNITS = {Transform.LOGIT: "points", Transform.LOG: "percent", Transform.PLAIN: ""}


# From rows to differences


class _Untestable(Exception):
    """The results cannot test a claim; the message is the reason."""


def _measure(rows: pd.DataFrame, claim: StatedClaim, score: str, scale: ScoreScale) -> _MeasuredClaim:
    """The differences of a claim over the seeds that all of its cells have, or why there are none."""
    try:
        cells = _cells(rows, claim, score)
    except _Untestable as reason:
        return _MeasuredClaim(claim, scale, why=str(reason))
    left, right, *than = (scale.of(cell[_VALUE].to_numpy(float)) for cell in cells)
    start = right + than[0] - than[1] if than else right
    sign = -1 if scores.lower_is_better(score) else 1
    return _MeasuredClaim(
        claim,
        scale,
        seeds=tuple(map(int, cells[0].index)),
        runs=tuple(dict.fromkeys(run for cell in cells for run in cell["id"])),
        gains=tuple((sign * (left - start)).tolist()),
        start=float(start.mean()),
        sign=sign,
    )


def _cells(rows: pd.DataFrame, claim: StatedClaim, score: str) -> list[pd.DataFrame]:
    """The runs of each side by seed: left, right, and those of `than`, at the seeds that all of them have."""
    contrasts = [claim.contrast] if claim.than is None else [claim.contrast, claim.than]
    cells = [_cell(rows, side, score) for contrast in contrasts for side in (contrast.left, contrast.right)]
    seeds = sorted(set.intersection(*(set(cell.index) for cell in cells)))
    if not seeds:
        raise _Untestable("its cells have no seed in common")
    return [cell.loc[seeds] for cell in cells]


_VALUE = "value of a side"


def _cell(rows: pd.DataFrame, side: Mapping[str, object], score: str) -> pd.DataFrame:
    """The runs of a side that have its score, by seed, with its value in the column _VALUE."""
    column = str(side.get("score", score))
    settings = {name: setting_value(value) for name, value in side.items() if name != "score"}
    need(rows, settings)
    if column not in rows:
        raise _Untestable(f"no finished run has {column}")
    if _kind(column) != _kind(score):
        raise _Untestable(f"{column} has another unit or direction than {score}")
    rows = rows[rows[column].notna()]
    cell = rows[is_baseline(rows, settings)]
    if cell.empty:
        raise _Untestable(f"no finished run is {settings_words(settings)}")
    if cell["seed"].duplicated().any():
        raise _Untestable(f"several runs of one seed are {settings_words(settings)}")
    return cell.assign(**{_VALUE: cell[column]}).set_index("seed")


def _kind(score: str) -> tuple[bool, bool]:
    return scores.is_fraction(score), bool(scores.lower_is_better(score))


def _pooled(contrasts: Sequence[_MeasuredClaim]) -> Noise | None:
    """The noise of the claims: pooled over them if they are enough, else by each claim's own seeds.

    None where no claim has two seeds.
    """
    gains = {_key(contrast): contrast.gains for contrast in contrasts if contrast.gains}
    if all(len(values) < 2 for values in gains.values()):
        return None
    return pool_variance(gains, claims=True)


def _key(contrast: _MeasuredClaim) -> tuple[str, str]:
    """Its key for `pool_variance`: a claim is a cell of one arm."""
    return contrast.claim.name, ""


# From differences to verdicts


def _differences(
    contrasts: Sequence[_MeasuredClaim], moments: Mapping[tuple[str, str], Moments], margin: float
) -> list[ClaimDifference | None]:
    """The difference of each claim, corrected for all; None for one without an interval."""
    found = [moments.get(_key(contrast)) for contrast in contrasts]
    both = list(zip(contrasts, found, strict=True))
    ps = [None if of_one is None else _p(contrast, of_one, margin) for contrast, of_one in both]
    return [
        None if of_one is None or p is None or judged is None else _difference(contrast, of_one, p, judged)
        for (contrast, of_one), p, judged in zip(both, ps, holm(ps), strict=True)
    ]


def _p(contrast: _MeasuredClaim, moments: Moments, margin: float) -> float:
    """p of a claim's test: of no difference, or of 'level' or its opposite, whichever the estimate supports."""
    if contrast.claim.expect is not Expectation.LEVEL:
        return moments.p
    low, high = contrast.step(-margin), contrast.step(margin)
    beyond = moments.mean - high if moments.mean > high else moments.mean - low if moments.mean < low else 0.0
    # One-sided, as each of the two tests of 'level' is.
    return replace(moments, mean=beyond).p / 2 if beyond else moments.p_within(low, high)


def _difference(contrast: _MeasuredClaim, moments: Moments, p: float, judged: Judged) -> ClaimDifference:
    sides = 2 if contrast.claim.expect is Expectation.LEVEL else 1  # two one-sided tests at 5 % are a 90 % interval
    uncorrected, corrected = (
        Interval(contrast.shown(ends.low), contrast.shown(ends.high))
        for ends in (moments.interval(sides * level) for level in (ALPHA, judged.level))
    )
    return ClaimDifference(contrast.shown(moments.mean), uncorrected, corrected, p, judged.p)


def _judge(
    contrast: _MeasuredClaim, difference: ClaimDifference | None, by_own_seeds: ClaimDifference | None, margin: float
) -> JudgedClaim:
    verdict = Verdict.NOT_TESTED if difference is None else _verdict(contrast.claim.expect, difference, margin)
    why = contrast.why or (None if difference else "one seed gives no interval")
    return JudgedClaim(contrast.claim, verdict, contrast.seeds, contrast.runs, difference, by_own_seeds, why)


def _verdict(expect: Expectation, difference: ClaimDifference, margin: float) -> Verdict:
    if difference.p_corrected > ALPHA:
        return Verdict.UNDECIDED
    if expect is Expectation.LEVEL:
        holds = abs(difference.estimate) < margin
    else:
        holds = (difference.estimate > 0) is (expect is Expectation.BETTER)
    return Verdict.HOLDS if holds else Verdict.CONTRADICTED
