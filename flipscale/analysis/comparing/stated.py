"""Whether the claims of a study hold: each judged by its contrast over seeds, corrected for its family (Holm).

A claim was stated before anybody looked (docs/study.md). A difference is taken seed by seed, positive where left is
better, in points of accuracy or percent of a loss. Its variance, of few seeds, is shrunk towards that of the study's
median claim.
"Level" is a claim like others: two one-sided tests against the study's margin (Schuirmann 1987). Claims along the
schedule are about curves (speedups.py): the right side's cost, or samples, to a score over the left side's.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

import numpy as np
import pandas as pd

from flipscale.analysis.comparing.best import best_on_other_seeds, moments_at_best, slope_weights
from flipscale.analysis.comparing.estimates import Estimate, Sides, decided, drawn, exact_p, scaled
from flipscale.analysis.comparing.points import Point, points_in
from flipscale.analysis.comparing.roles import fair_hours, is_baseline, kind_of, settings_words
from flipscale.analysis.comparing.speedups import TwoLines, quotient, two_lines
from flipscale.analysis.fitting.chosen_rows import need
from flipscale.analysis.rows import above_chance, trunks_of
from flipscale.analysis.stats import (
    Array,
    Differences,
    Judged,
    Moments,
    Noise,
    ScoreKind,
    failed_runs,
    holm,
    shrink_variances,
    units_of,
)
from flipscale.door.statements import LOOKS, Contrast, Expectation, StatedClaim

TIME = "gpu_hours"
"""What `faster` is about: the column of time that comparisons of a study use."""


class Verdict(StrEnum):
    """The verdict of the runs on a claim."""

    HOLDS = "holds"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    NOT_TESTED = "not tested"


@dataclass(frozen=True)
class Choice:
    """Which of its cells a side took."""

    values: tuple[object, ...]
    """Of the setting that differs, for each seed: its best by the scores of the other seeds."""
    at_edge: bool
    """Whether one of them is the first or the last that the study has, so that the best may lie beyond its grid."""


@dataclass(frozen=True)
class JudgedClaim:
    """A claim, and what the runs say about it."""

    claim: StatedClaim
    unit: str
    """Unit of the difference: points, percent, x for a factor, or '' if the score has no known unit."""
    verdict: Verdict
    margin: float
    """For level: its own or else the study's, in the unit of the difference."""
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
    best: tuple[Choice, ...] = ()
    """With `best_of`, the cells that the sides took, in the order of contrasts, left before right."""
    why: str | None = None
    """Why it was not tested."""


@dataclass(frozen=True)
class StudyClaims:
    """The claims of a study, judged."""

    score: str
    margin: float
    """The study's, in points or percent of a loss."""
    claims: tuple[JudgedClaim, ...]
    noise: Noise[str]
    """The scatter over seeds by which differences are judged, by the names of the claims."""

    @property
    def families(self) -> dict[str, int]:
        """The number of claims that the correction counts, by family."""
        tested = [judged for judged in self.claims if judged.verdict is not Verdict.NOT_TESTED]
        names = dict.fromkeys(judged.claim.family for judged in tested)
        return {name: sum(judged.claim.family == name for judged in tested) for name in names}

    @property
    def level_margins(self) -> list[float]:
        """The margins of the claims that two sides are level, ascending."""
        return sorted({judged.margin for judged in self.claims if judged.claim.expect is Expectation.LEVEL})

    def gain(self, sides: Sides) -> "tuple[Estimate, Moments | None] | None":
        """The estimate of the first claim about these two cells, in the score's own unit; None without one."""
        for judged in self.claims:
            if judged.sides in (sides, sides[::-1]) and judged.at is None and judged.difference:
                by = (1 if judged.sides == sides else -1) / judged.scale
                known = self.noise.moments.get(judged.claim.name)
                moments = known and replace(known, mean=by * known.mean, error=abs(by) * known.error)
                return scaled(judged.difference, by), moments
        return None

    def factor(self, expect: Expectation, sides: Sides, at: float | None) -> Estimate | None:
        """The estimate of the first claim about these two curves at the mean of this length; None without one."""
        for judged in self.claims:
            if judged.sides == sides and judged.at == at is not None and judged.claim.expect is expect:
                return judged.difference
        return None

    def count(self, verdict: Verdict) -> int:
        return sum(judged.verdict is verdict for judged in self.claims)


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
    table = _Table(rows, score, margin)
    families = Counter(claim.family for claim in claims)
    measured = [table.measured(claim, looks * families[claim.family]) for claim in claims]
    trunks = {each.claim.name: {table.trunks[run] for run in each.runs if run in table.trunks} for each, _ in measured}
    cells = {judged.claim.name: differences for judged, differences in measured if differences}
    noise = shrink_variances(cells, units_of(trunks))
    noise = replace(noise, moments={**noise.moments, **_by_seeds([judged for judged, _ in measured])})
    tested = [_with_p(judged, noise.moments.get(judged.claim.name)) for judged, _ in measured]
    corrections: dict[str, Judged | None] = {}
    for family in families:
        members = [judged for judged in tested if judged.claim.family == family]
        judgements = holm([judged.difference.p if judged.difference else None for judged in members], looks)
        corrections |= zip([judged.claim.name for judged in members], judgements, strict=True)
    return StudyClaims(
        score,
        margin,
        tuple(
            _judged(judged, corrections[judged.claim.name], noise.moments.get(judged.claim.name), looks)
            for judged in tested
        ),
        noise,
    )


def _by_seeds(claims: Sequence[JudgedClaim]) -> dict[str, Moments]:
    """The claims at the best of several cells, or about a slope, with the scatter of their own seeds.

    A choice adds noise that other claims do not have, so their variances say nothing of it.
    """
    return {
        judged.claim.name: known
        for judged in claims
        if judged.claim.contrast.best_of or judged.claim.along
        if judged.difference
        and (known := moments_at_best(judged.difference.values, [choice.values for choice in judged.best]))
    }


# From rows to differences


_VALUE = "value of a side"
"""The column of the score that a side names, or of the one that is compared."""

_ABOVE = "standard errors above chance"
"""The column of how far that score is above chance."""


@dataclass(frozen=True)
class _Table:
    """The rows that have the score."""

    rows: pd.DataFrame
    score: str
    margin: float
    """Of claims that have none of their own."""

    @property
    def kind(self) -> ScoreKind:
        return kind_of(self.score)

    @cached_property
    def trunks(self) -> dict[str, int]:
        """The trunk of each run that shares one with other lengths."""
        trunks = trunks_of(self.rows)
        numbers = [] if trunks is None else zip(self.rows["id"], trunks.tolist(), strict=True)
        return {str(run): trunk for run, trunk in numbers if trunk >= 0}

    def measured(self, claim: StatedClaim, comparisons: int) -> tuple[JudgedClaim, Differences | None]:
        """A claim that is not judged yet, with its differences in points or percent for the noise of the study.

        These are None where none follow Student's t. comparisons: in the family of the claim.
        """
        along = claim.expect.along_the_schedule
        unit = "x" if along else "points" if self.kind.fraction else "percent" if self.kind.in_percent else ""
        judged = JudgedClaim(claim, unit, Verdict.NOT_TESTED, claim.margin or self.margin)
        try:
            return (self._along(judged, comparisons), None) if along else self._at_cells(judged)
        except _Untestable as reason:
            return replace(judged, why=str(reason)), None

    def _at_cells(self, judged: JudgedClaim) -> tuple[JudgedClaim, Differences | None]:
        """The differences of a claim over the seeds that all of its cells have."""
        kind = self.kind
        claim = judged.claim
        contrasts = claim.along or _contrasts(claim)
        weights = np.array([1.0, -1.0][: len(contrasts)])
        if claim.along:
            weights = slope_weights([contrast.amount or 0.0 for contrast in claim.along])
        sides = [side for contrast in contrasts for side in contrast.sides]
        cells = [self._cell(cell) for side in sides for cell in side]
        seeds = sorted(set.intersection(*(set(cell.index) for cell in cells)))
        if not seeds:
            raise _Untestable("its cells have no seed in common")
        if claim.contrast.best_of and len(seeds) == 1:
            raise _Untestable("with one seed no other seeds can choose the best")
        values, chosen = self._best(contrasts, seeds)
        level = float(np.mean(values))
        signs = np.stack([weights, -weights], axis=1).ravel() * kind.sign
        # A loss is in percent of itself.
        scale = 100 / level if kind.in_percent and level > 0 else 100.0 if kind.fraction else 1.0
        gains = tuple((scale * (signs @ values)).tolist())
        # A difference of differences has twice the variance.
        unit = scale * float(np.linalg.norm(weights)) * kind.noise_unit(level)
        # Of several cells a side takes none that failed.
        above = [] if claim.contrast.best_of else [cell.loc[seeds, _ABOVE].tolist() for cell in cells]
        failures = [failed_runs(right, left) for left, right in zip(above[::2], above[1::2], strict=True)]
        failed = next((counts for counts in failures if counts and len(seeds) > 1), None)
        judged = replace(
            judged,
            seeds=tuple(map(int, seeds)),
            runs=tuple(dict.fromkeys(run for cell in cells for run in cell.loc[seeds, "id"])),
            difference=Estimate(len(seeds), float(np.mean(gains)), values=gains, failures=failed),
            sides=_sides(claim, cells, seeds),
            scale=scale,
            best=chosen,
        )
        of_other_noise = failed or claim.contrast.best_of or claim.along
        return judged, None if of_other_noise else Differences(gains, unit)

    def _best(self, contrasts: Sequence[Contrast], seeds: Sequence[int]) -> tuple[Array, tuple[Choice, ...]]:
        """The scores of all sides [sides, seeds], each of its best cell by the other seeds; and those cells."""
        rows = []
        choices = []
        for contrast in contrasts:
            for cells in contrast.sides:
                scores = np.array([self._cell(cell).loc[list(seeds), _VALUE].to_numpy(float) for cell in cells])
                chosen = [0] * len(seeds)
                if contrast.best_of:
                    chosen = best_on_other_seeds(scores, self.kind.sign)
                    at_edge = not {0, len(cells) - 1}.isdisjoint(chosen)
                    choices.append(Choice(tuple(cells[index][contrast.best_of] for index in chosen), at_edge))
                rows.append(scores[chosen, range(len(seeds))])
        return np.array(rows), tuple(choices)

    def _cell(self, side: Mapping[str, object]) -> pd.DataFrame:
        column = str(side.get("score", self.score))
        cell = self._runs(side)
        if column not in cell or cell[column].isna().all():
            raise _Untestable(f"no finished run of {settings_words(_plain(side))} has {column}")
        if kind_of(column) != self.kind:
            raise _Untestable(f"{column} has another unit or direction than {self.score}")
        cell = cell.assign(**{_VALUE: cell[column]}).dropna(subset=_VALUE)
        cell[_ABOVE] = above_chance(cell, column)
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

    def _along(self, judged: JudgedClaim, comparisons: int) -> JudgedClaim:
        """How much less left takes to the claim's score than right, or how much less so than at `than`."""
        claim = judged.claim
        name = "costs" if claim.expect is Expectation.FASTER else "samples"
        log = 0.0
        draws = None
        at_least = False
        seeds: set[int] = set()
        runs: list[str] = []
        targets = claim.score, claim.score if claim.than_score is None else claim.than_score
        for sign, contrast, score in zip((1, -1), _contrasts(claim), targets, strict=False):
            right, left = (self._points(side) for side in (contrast.right, contrast.left))
            lines = two_lines(right, left, TIME, self.kind)
            if isinstance(lines, str):
                raise _Untestable(lines)
            lines = replace(lines, comparisons=comparisons)
            point = None
            if isinstance(score, Mapping):
                point = _point(lines, contrast, score)
                score = float(self._runs(score)[self.score].mean())
            assert score is not None
            ratio = lines.ratio(name, score, point)
            if isinstance(ratio, str):
                raise _Untestable(ratio)
            if ratio.at_least and sign < 0:
                raise _Untestable("the shortest schedule at `than` is better already, and a bound does not divide")
            at_least |= ratio.at_least
            log += sign * ratio.log
            if ratio.draws is not None:
                draws = ratio.draws if draws is None else quotient(draws, ratio.draws)
            seeds |= set(lines.seeds)
            runs += [run.id for run in (*right, *left) if run.seed in lines.seeds]
            if claim.than is None and point is not None and lines.base.lengths is not None:
                judged = replace(judged, sides=lines.sides, at=float(lines.base.lengths[point]))
        reading = drawn(log, draws, len(seeds), ratio=True, at_least=at_least)
        return replace(judged, seeds=tuple(sorted(seeds)), runs=tuple(dict.fromkeys(runs)), difference=reading)

    def _points(self, side: Mapping[str, object]) -> list[Point]:
        """The runs of a side, along the schedule."""
        need(self.rows, ["samples", TIME])
        rows = self.rows
        keys = {"cell": rows["samples"], "series": "", "arm": "", "seed": rows["seed"], "at": rows["samples"]}
        hours = fair_hours(rows, pd.Series("", index=rows.index)).rows
        points = points_in(hours, pd.DataFrame(keys), self.score, [TIME])
        return [points[row] for row in self._runs(side).index]


def _contrasts(claim: StatedClaim) -> list[Contrast]:
    return [claim.contrast] if claim.than is None else [claim.contrast, claim.than]


def _sides(claim: StatedClaim, cells: Sequence[pd.DataFrame], seeds: Sequence[int]) -> Sides | None:
    """The runs of both sides, where their difference is one of the score that is compared, and tested as such."""
    sides = claim.contrast.right, claim.contrast.left
    if claim.than is not None or claim.contrast.best_of or claim.along or claim.expect is Expectation.LEVEL:
        return None
    if any("score" in side for side in sides):
        return None
    right, left = (frozenset(cell.loc[list(seeds), "id"]) for cell in cells[::-1])
    return right, left


def _plain(side: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in side.items() if name != "score"}


def _point(lines: TwoLines, contrast: Contrast, score: Mapping[str, object]) -> int | None:
    """The point of the right side's curve whose mean the score is, and with which it moves; None if it is of none."""
    if lines.base.lengths is None or any(contrast.right.get(name, value) != value for name, value in score.items()):
        return None
    points = np.flatnonzero(lines.base.lengths == score.get("samples"))
    return int(points[0]) if len(points) else None


# From differences to verdicts


def _with_p(judged: JudgedClaim, moments: Moments | None) -> JudgedClaim:
    """A claim about a difference with the p of its test; without one where one seed gives none."""
    difference = judged.difference
    is_level = judged.claim.expect is Expectation.LEVEL
    if difference is None or judged.unit == "x":
        return judged
    p = None
    if difference.failures:
        # Two clusters have no test of being level.
        p = 1.0 if is_level else exact_p(difference)
    elif moments and not is_level:
        p = moments.p
    elif moments:
        # Of 'level' or its opposite, whichever the estimate supports; one-sided, as each of the two tests is.
        margin = judged.margin
        beyond = abs(moments.mean) - judged.margin
        p = replace(moments, mean=beyond).p / 2 if beyond > 0 else moments.p_within(-margin, margin)
    return replace(judged, difference=replace(difference, p=p))


def _judged(judged: JudgedClaim, correction: Judged | None, moments: Moments | None, looks: int) -> JudgedClaim:
    claim = judged.claim
    difference = judged.difference
    if difference is None:
        return judged
    if correction is None:
        why = "one seed gives no interval" if len(judged.seeds) < 2 else "all of its runs have the same score"
        return replace(judged, difference=None, sides=None, why=why)
    is_level = claim.expect is Expectation.LEVEL
    difference = decided(difference, correction, moments, sides=2 if is_level else 1, claim=claim.name, looks=looks)
    if is_level:
        holds = abs(difference.value) < judged.margin
    elif claim.expect.along_the_schedule:
        holds = difference.value > 1
    else:
        holds = (difference.value > 0) is (claim.expect in (Expectation.BETTER, Expectation.RISES))
    verdict = Verdict.HOLDS if holds else Verdict.CONTRADICTED
    return replace(judged, difference=difference, verdict=verdict if correction.significant else Verdict.UNDECIDED)
