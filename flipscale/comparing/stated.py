"""Whether the claims of a study hold: each judged by its contrast over seeds, corrected for its family (Holm).

A claim was stated before anybody looked (docs/study.md). A difference is taken seed by seed, positive where left is
better, in points of accuracy or percent of a loss. Its variance is shrunk towards that of the study's median claim.
"Level" is a claim like others: two one-sided tests against the study's margin (Schuirmann 1987). Claims along the
schedule are about curves (curves.py): the right side's cost, or samples, to a score over the left side's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

import numpy as np
import pandas as pd

from flipscale import scores
from flipscale.collecting import setting_value, trunks_of
from flipscale.comparing.columns import fair_hours, is_baseline, need, settings_words
from flipscale.comparing.curves import TwoLines, quotient, two_lines
from flipscale.comparing.estimates import Corrected, Estimate, Sides, drawn, ends_of, scaled
from flipscale.comparing.points import Point
from flipscale.stats import (
    ALPHA,
    Differences,
    Judged,
    Moments,
    Noise,
    failed_runs,
    holm,
    noise_unit,
    shrink_variances,
    sign_flip_p,
    units_of,
)
from flipscale.study import LOOKS, Contrast, Expectation, StatedClaim

TIME = "gpu_hours"
"""What `faster` is about: the column of time that comparisons of a study use."""


class Verdict(StrEnum):
    """The verdict of the runs on a claim."""

    HOLDS = "holds"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    NOT_TESTED = "not tested"


@dataclass(frozen=True)
class JudgedClaim:
    """A claim, and what the runs say about it."""

    claim: StatedClaim
    unit: str
    """Unit of the difference: points, percent, x for a factor, or '' if the score has no known unit."""
    verdict: Verdict
    seeds: tuple[int, ...] = ()
    """Seeds that all of its cells have."""
    runs: tuple[str, ...] = ()
    """Ids of the runs that were compared."""
    difference: Estimate | None = None
    """How much better left is than right; its interval has 90 % for a claim of 'level'."""
    sides: Sides | None = None
    """Its runs, where a comparison may have the same contrast: a test of a difference by the score that is compared."""
    scale: float = 1.0
    """What one unit of the score is in the unit of the difference."""
    at: float | None = None
    """The length of the right side whose mean is the score of a claim along the schedule."""
    why: str | None = None
    """Why it was not tested."""


@dataclass(frozen=True)
class StudyClaims:
    """The claims of a study, judged."""

    score: str
    margin: float
    """In points, or percent of a loss."""
    claims: tuple[JudgedClaim, ...]
    noise: Noise[str]
    """The scatter over seeds by which differences are judged, by the names of the claims."""

    @property
    def families(self) -> dict[str, int]:
        """The number of claims that the correction counts, by family."""
        tested = [judged for judged in self.claims if judged.verdict is not Verdict.NOT_TESTED]
        names = dict.fromkeys(judged.claim.family for judged in tested)
        return {name: sum(judged.claim.family == name for judged in tested) for name in names}

    def gain(self, sides: Sides) -> "tuple[Estimate, Moments | None] | None":
        """The estimate of the first claim about these two cells, in the score's own unit; None without one."""
        for judged in self.claims:
            if judged.sides in (sides, sides[::-1]) and judged.at is None and judged.difference:
                by = (1 if judged.sides == sides else -1) / judged.scale
                found = self.noise.moments.get(judged.claim.name)
                moments = found and replace(found, mean=by * found.mean, error=abs(by) * found.error)
                return scaled(judged.difference, by), moments
        return None

    def factor(self, expect: Expectation, sides: Sides, at: float | None) -> Estimate | None:
        """The estimate of the first claim about these two curves at the mean of this length; None without one."""
        found = (
            judged.difference
            for judged in self.claims
            if judged.sides == sides and judged.at == at is not None and judged.claim.expect is expect
        )
        return next(found, None)

    def count(self, verdict: Verdict) -> int:
        return sum(judged.verdict is verdict for judged in self.claims)


@dataclass(frozen=True)
class _MeasuredClaim:
    """The seeds of one claim: differences of cells, or a reading off curves."""

    seeds: tuple[int, ...]
    runs: tuple[str, ...]
    differences: Differences | None = None
    """In points or percent, positive where left is better."""
    failures: tuple[int, int] | None = None
    reading: Estimate | None = None
    sides: Sides | None = None
    scale: float = 1.0
    at: float | None = None


class _Untestable(Exception):
    """The results cannot test a claim; the message is the reason."""


def judge_claims(
    results: pd.DataFrame, claims: Sequence[StatedClaim], *, score: str, margin: float, looks: int = LOOKS
) -> StudyClaims | None:
    """Judge the claims of a study by its results, on one score. None where it states no claims.

    margin: sides closer than this are level; in points, or percent of a loss. looks: at results before the end, that
    at the end among them; each is judged at 5 % / looks. Raises ResultsError for a column that
    the table lacks.
    """
    if not claims:
        return None
    need(results, [score, "seed", "id"])
    rows = results[results[score].notna()].reset_index(drop=True)
    table = _Table(rows, score)
    measured: dict[str, _MeasuredClaim | str] = {}
    for claim in claims:
        try:
            comparisons = looks * sum(other.family == claim.family for other in claims)
            along = claim.expect.along_the_schedule
            measured[claim.name] = table.curves(claim, comparisons) if along else table.cells(claim)
        except _Untestable as reason:
            measured[claim.name] = str(reason)
    found = {name: of_claim for name, of_claim in measured.items() if isinstance(of_claim, _MeasuredClaim)}
    noise = shrink_variances(
        {
            name: of_claim.differences
            for name, of_claim in found.items()
            if of_claim.differences and not of_claim.failures
        },
        units_of(
            {name: {table.trunks[run] for run in claim.runs if run in table.trunks} for name, claim in found.items()}
        ),
    )
    estimates = {
        claim.name: _estimate(claim, found[claim.name], noise, claim.margin or margin)
        for claim in claims
        if claim.name in found
    }
    judged: dict[str, Judged | None] = {}
    for family in dict.fromkeys(claim.family for claim in claims):
        names = [claim.name for claim in claims if claim.family == family and claim.name in estimates]
        judged.update(zip(names, holm([estimates[name].p for name in names], looks), strict=True))
    return StudyClaims(
        score,
        margin,
        tuple(
            _judge(
                claim,
                table.unit(claim),
                measured[claim.name],
                estimates.get(claim.name),
                judged.get(claim.name),
                noise,
                claim.margin or margin,
                looks,
            )
            for claim in claims
        ),
        noise,
    )


# From rows to differences


_VALUE = "value of a side"
"""The column of the score that a side names, or of the one that is compared."""


@dataclass(frozen=True)
class _Table:
    """The rows that have the score."""

    rows: pd.DataFrame
    score: str

    @property
    def lower(self) -> bool:
        return bool(scores.lower_is_better(self.score))

    @property
    def fraction(self) -> bool:
        return scores.is_fraction(self.score)

    def unit(self, claim: StatedClaim) -> str:
        if claim.expect.along_the_schedule:
            return "x"
        return "points" if self.fraction else "percent" if self.lower else ""

    @cached_property
    def trunks(self) -> dict[str, int]:
        """The trunk of each run that shares one with other lengths."""
        found = trunks_of(self.rows)
        numbers = [] if found is None else zip(self.rows["id"], found.tolist(), strict=True)
        return {str(run): trunk for run, trunk in numbers if trunk >= 0}

    def cells(self, claim: StatedClaim) -> _MeasuredClaim:
        """The differences of a claim over the seeds that all of its cells have."""
        contrasts = _contrasts(claim)
        cells = [self._cell(side) for contrast in contrasts for side in (contrast.left, contrast.right)]
        seeds = sorted(set.intersection(*(set(cell.index) for cell in cells)))
        if not seeds:
            raise _Untestable("its cells have no seed in common")
        values = [cell.loc[seeds, _VALUE].to_numpy(float) for cell in cells]
        level = float(np.mean(values))
        sign = -1 if self.lower else 1
        gains = sign * sum((-1) ** i * values[2 * i] - (-1) ** i * values[2 * i + 1] for i in range(len(contrasts)))
        # A loss is in percent of itself.
        scale = 100 / level if self.lower and level > 0 else 100.0 if self.fraction else 1.0
        # A difference of differences has twice the variance.
        unit = scale * len(contrasts) ** 0.5 * noise_unit(level, fraction=self.fraction, lower=self.lower)
        several = self.fraction and len(seeds) > 1
        failures = [failed_runs(right, left) for left, right in zip(values[::2], values[1::2], strict=True) if several]
        return _MeasuredClaim(
            tuple(map(int, seeds)),
            tuple(dict.fromkeys(run for cell in cells for run in cell.loc[seeds, "id"])),
            Differences((scale * gains).tolist(), unit),
            next((counts for counts in failures if counts), None),
            sides=_sides(claim, cells, seeds),
            scale=scale,
        )

    def _cell(self, side: Mapping[str, object]) -> pd.DataFrame:
        column, cell = str(side.get("score", self.score)), self._runs(side)
        if column not in cell or cell[column].isna().all():
            raise _Untestable(f"no finished run of {settings_words(_plain(side))} has {column}")
        if (scores.is_fraction(column), bool(scores.lower_is_better(column))) != (self.fraction, self.lower):
            raise _Untestable(f"{column} has another unit or direction than {self.score}")
        cell = cell.assign(**{_VALUE: cell[column]}).dropna(subset=_VALUE)
        if cell["seed"].duplicated().any():
            raise _Untestable(f"several runs of one seed are {settings_words(_plain(side))}")
        return cell.set_index("seed")

    def _runs(self, side: Mapping[str, object]) -> pd.DataFrame:
        settings = _plain(side)
        need(self.rows, settings)
        runs = self.rows[is_baseline(self.rows, settings)]
        if runs.empty:
            raise _Untestable(f"no finished run is {settings_words(settings)}")
        return runs

    def curves(self, claim: StatedClaim, comparisons: int) -> _MeasuredClaim:
        """How much less left takes to the claim's score than right, or how much less so than at `than`."""
        name = "costs" if claim.expect is Expectation.FASTER else "samples"
        log, draws, at_least = 0.0, None, False
        sides, at = None, None
        seeds: set[int] = set()
        runs: list[str] = []
        targets = claim.score, claim.score if claim.than_score is None else claim.than_score
        for sign, contrast, score in zip((1, -1), _contrasts(claim), targets, strict=False):
            right, left = (self._points(side) for side in (contrast.right, contrast.left))
            lines = two_lines(right, left, TIME, fraction=self.fraction, lower=self.lower)
            if isinstance(lines, str):
                raise _Untestable(lines)
            lines = replace(lines, comparisons=comparisons)
            point = None
            if isinstance(score, Mapping):
                point = _point(lines, contrast, score)
                score = float(self._runs(score)[self.score].mean())
            assert score is not None
            ratio = lines.ratio_to(name, score, point)
            if isinstance(ratio, str):
                raise _Untestable(ratio)
            if ratio.at_least and sign < 0:
                raise _Untestable("the shortest schedule at `than` is better already, and a bound does not divide")
            at_least |= ratio.at_least
            log += sign * ratio.log
            if ratio.draws is not None:
                draws = ratio.draws if draws is None else quotient(draws, ratio.draws)
            seeds |= set(lines.seeds)
            runs += [point.id for point in (*right, *left) if point.seed in lines.seeds]
            if claim.than is None and point is not None and lines.base.lengths is not None:
                sides, at = lines.sides, float(lines.base.lengths[point])
        reading = drawn(log, draws, len(seeds), ratio=True, at_least=at_least)
        return _MeasuredClaim(tuple(sorted(seeds)), tuple(dict.fromkeys(runs)), reading=reading, sides=sides, at=at)

    def _points(self, side: Mapping[str, object]) -> list[Point]:
        """The runs of a side, along the schedule."""
        need(self.rows, ["samples", TIME])
        runs = self._runs(side)
        costs = fair_hours(self.rows, pd.Series("", index=self.rows.index)).rows.loc[runs.index, TIME]
        devices = runs["device"] if "device" in runs else pd.Series("", index=runs.index)
        seen = runs["samples_seen"] if "samples_seen" in runs else runs["samples"]
        arm = settings_words(_plain(side))
        return [
            Point(
                id=str(run),
                cell=f"{at}",
                series="",
                at=float(at),
                seen=float(samples),
                arm=arm,
                seed=int(seed),
                device=str(device or ""),
                y=float(y),
                costs={TIME: float(cost)},
                trunk=self.trunks.get(str(run), -1),
            )
            for run, at, samples, seed, device, y, cost in zip(
                runs["id"], runs["samples"], seen, runs["seed"], devices, runs[self.score], costs, strict=True
            )
        ]


def _contrasts(claim: StatedClaim) -> list[Contrast]:
    return [claim.contrast] if claim.than is None else [claim.contrast, claim.than]


def _sides(claim: StatedClaim, cells: Sequence[pd.DataFrame], seeds: Sequence[int]) -> Sides | None:
    """The runs of both sides, where their difference is one of the score that is compared, and tested as such."""
    sides = claim.contrast.right, claim.contrast.left
    if claim.than is not None or claim.expect is Expectation.LEVEL or any("score" in side for side in sides):
        return None
    right, left = (frozenset(cell.loc[list(seeds), "id"]) for cell in cells[::-1])
    return right, left


def _plain(side: Mapping[str, object]) -> dict[str, object]:
    return {name: setting_value(value) for name, value in side.items() if name != "score"}


def _point(lines: TwoLines, contrast: Contrast, score: Mapping[str, object]) -> int | None:
    """The point of the right side's curve whose mean the score is, and with which it moves; None if it is of none."""
    if lines.base.lengths is None or any(contrast.right.get(name, value) != value for name, value in score.items()):
        return None
    found = np.flatnonzero(lines.base.lengths == score.get("samples"))
    return int(found[0]) if len(found) else None


# From differences to verdicts


def _estimate(claim: StatedClaim, measured: _MeasuredClaim, noise: Noise[str], margin: float) -> Estimate:
    """The estimate of a claim with its own p; without one where one seed gives none."""
    if measured.reading is not None:
        return measured.reading
    assert measured.differences is not None
    values = tuple(measured.differences.values)
    found = Estimate(len(values), float(np.mean(values)), values=values, failures=measured.failures)
    if measured.failures:
        # Two clusters have no test of being level.
        return replace(found, p=1.0 if claim.expect is Expectation.LEVEL else sign_flip_p(values))
    moments = noise.moments.get(claim.name)
    return found if moments is None else replace(found, p=_p(claim, moments, margin), df=moments.df)


def _p(claim: StatedClaim, moments: Moments, margin: float) -> float:
    """p of a claim's test: of no difference, or of 'level' or its opposite, whichever the estimate supports."""
    if claim.expect is not Expectation.LEVEL:
        return moments.p
    beyond = abs(moments.mean) - margin
    # One-sided, as each of the two tests of 'level' is.
    return replace(moments, mean=beyond).p / 2 if beyond > 0 else moments.p_within(-margin, margin)


def _judge(
    claim: StatedClaim,
    unit: str,
    measured: _MeasuredClaim | str,
    estimate: Estimate | None,
    judged: Judged | None,
    noise: Noise[str],
    margin: float,
    looks: int,
) -> JudgedClaim:
    if isinstance(measured, str):
        return JudgedClaim(claim, unit, Verdict.NOT_TESTED, why=measured)
    if estimate is None or judged is None:
        why = "one seed gives no interval" if len(measured.seeds) < 2 else "all of its runs have the same score"
        return JudgedClaim(claim, unit, Verdict.NOT_TESTED, measured.seeds, measured.runs, why=why)
    corrected = Corrected(judged.family, judged.p, None, None, claim.name, looks)
    moments = noise.moments.get(claim.name)
    if estimate.draws is not None:
        low, high = ends_of(estimate, judged.level)
        estimate = replace(estimate, draws=None, corrected=replace(corrected, low=low, high=high))
    elif moments is not None:
        # Two one-sided tests at 5 % are a 90 % interval.
        sides = 2 if claim.expect is Expectation.LEVEL else 1
        alone, both = (moments.interval(sides * level) for level in (ALPHA, judged.level))
        corrected = replace(corrected, low=both.low, high=both.high)
        estimate = replace(estimate, low=alone.low, high=alone.high, corrected=corrected)
    else:
        estimate = replace(estimate, corrected=corrected)
    verdict = _verdict(claim.expect, estimate, judged.p, margin)
    where = measured.sides, measured.scale, measured.at
    return JudgedClaim(claim, unit, verdict, measured.seeds, measured.runs, estimate, *where)


def _verdict(expect: Expectation, estimate: Estimate, p: float, margin: float) -> Verdict:
    assert estimate.mean is not None
    if p > ALPHA:
        return Verdict.UNDECIDED
    if expect is Expectation.LEVEL:
        holds = abs(estimate.mean) < margin
    elif expect.along_the_schedule:
        holds = estimate.mean > 1
    else:
        holds = (estimate.mean > 0) is (expect is Expectation.BETTER)
    return Verdict.HOLDS if holds else Verdict.CONTRADICTED
