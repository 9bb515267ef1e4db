"""A study's comparison, from its results."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from flipscale.analysis.comparing.build import compare
from flipscale.analysis.comparing.comparison import Comparison
from flipscale.analysis.comparing.head import noisiest_pair
from flipscale.analysis.comparing.roles import pick_score
from flipscale.analysis.comparing.stated import StudyClaims, judge_claims
from flipscale.analysis.rows import above_chance, chance_level
from flipscale.analysis.sensitivity import PlannedSensitivity
from flipscale.analysis.stats import TAKES_OFF, design_by, sensitivity_of
from flipscale.door.record import Results
from flipscale.door.statements import StatedClaim
from flipscale.errors import ResultsError
from flipscale.scores import is_declared
from flipscale.words import score_value


def compare_study(results: Results, score: str | None = None, *, curves: bool = True) -> Comparison:
    """Compare the arms of a study by its own score, or by another. Raises ResultsError as `compare` does."""
    record = results.record
    score = pick_score(results.table, score or record.score)
    # The margin of a score that the study declares is in that score's unit, and has no default.
    own_unit = is_declared(score)
    effect = record.effect if record.effect is None or own_unit else record.effect / 100
    comparison = compare(
        results.table,
        baseline=record.baseline,
        score=score,
        base_cell=record.base_cell,
        margin=effect if own_unit else record.margin / 100,
        effect=effect,
        stated=judge_study(results, score),
        looks=record.looks,
        curves=curves,
    )
    return replace(
        comparison,
        at_budgets=_judged(results, record.at_budgets, score),
        caveats=(*record.caveats, *comparison.caveats),
        question=record.question,
        answer=record.answer,
        labels=record.labels,
    )


def compare_finished(results: Results, score: str | None = None) -> Comparison:
    """The same, with what the runs were scored on; and a note if they only guess."""
    comparison = compare_study(results, score)
    comparison = with_guessing(comparison, results.table, chance_level(results.table, comparison.score))
    return replace(comparison, scored_by=results.record.scored_by.get(comparison.score, ()))


def with_guessing(comparison: Comparison, results: pd.DataFrame, chance: float | None) -> Comparison:
    """The comparison with a note where its runs are near what guessing gives, `chance`.

    None of them then takes off, see `stats.failures`; where the items of the score are unknown, as those of a loss,
    their mean is at most two of its standard errors better than chance. Differences between runs that have learned
    nothing are noise, whatever their sign.
    """
    scores = results[comparison.score].dropna()
    if chance is None or len(scores) < 2:
        return comparison
    mean = float(scores.mean())
    above = above_chance(results, comparison.score)
    known = above[np.isfinite(above)]
    if len(known):
        takes_off = bool((known > TAKES_OFF).any())
    else:
        ahead = chance - mean if comparison.lower_is_better else mean - chance
        takes_off = ahead > 2 * float(scores.std()) / len(scores) ** 0.5
    if takes_off:
        return comparison
    level = score_value(chance, comparison.fraction)
    said = f"the mean over all runs is {score_value(mean, comparison.fraction)}, and guessing gives {level}"
    return replace(comparison, guessing_note=f"near chance: not trained enough ({said})")


def judge_study(results: Results, score: str) -> StudyClaims | None:
    """The claims that a study states, judged. None where it states none, or they are about another score."""
    if score != pick_score(results.table, results.record.score):
        return None
    return _judged(results, results.record.claims, score)


def _judged(results: Results, claims: Sequence[StatedClaim], score: str) -> StudyClaims | None:
    record = results.record
    return judge_claims(results.table, claims, score=score, margin=record.margin, looks=record.looks)


def planned_sensitivity(results: Results) -> PlannedSensitivity | None:
    """None for a study without a baseline or without twins, and where too few runs have finished to say it."""
    pairs = results.record.pairs
    if pairs is None:
        return None
    try:
        comparison = None if results.table.empty else compare_study(results, curves=False)
    except ResultsError:
        comparison = None
    if comparison is None or comparison.head is None:
        return None
    noisiest = noisiest_pair(comparison.pairs, comparison.head.base_cell)
    if noisiest is None:
        return None
    pair, moments = noisiest
    design = design_by(moments, len(pair.seeds), pairs.comparisons, results.record.looks)
    sensitivity = sensitivity_of(design, pairs.seeds, comparison.effect)
    finished = len(results.table)
    return PlannedSensitivity(sensitivity, comparison.fraction, pair.baseline_score, design.sd, finished)
