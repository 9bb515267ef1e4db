"""A study's comparison: its baseline and its base cell in the form of its results."""

from dataclasses import replace

import pandas as pd

from flipscale.cell import write_cell
from flipscale.collecting import baseline_of, setting_value
from flipscale.comparing.build import compare
from flipscale.comparing.columns import pick_score
from flipscale.comparing.comparison import Comparison
from flipscale.comparing.head import noisiest_pair
from flipscale.comparing.stated import StudyClaims, judge_claims
from flipscale.errors import ResultsError
from flipscale.planning import Plan
from flipscale.sensitivity import PlannedSensitivity, planned_pairs
from flipscale.stats import design_by, sensitivity_of
from flipscale.study import Study
from flipscale.words import score_value


def compare_study(
    results: pd.DataFrame, study: Study, planned: Plan, score: str | None = None, *, curves: bool = True
) -> Comparison:
    """Compare the arms of a study by its own score, or by another. Raises ResultsError as `compare` does."""
    comparison = compare(
        results,
        baseline=baseline_of(study),
        score=score or study.score,
        base_cell=base_cell(study, planned),
        margin=study.margin / 100,
        stated=judge_study(results, study, pick_score(results, score or study.score)),
        looks=study.looks,
        curves=curves,
    )
    return replace(
        comparison,
        caveats=(*study.caveats, *comparison.caveats),
        question=study.question or study.name,
        answer=study.answer,
        labels=study.labels,
    )


def with_guessing(comparison: Comparison, results: pd.DataFrame, chance: float | None) -> Comparison:
    """The comparison with a note where the mean score of all runs is no better than what guessing gives, `chance`.

    Better means by more than two standard errors. Differences between runs that have learned nothing are noise,
    whatever their sign.
    """
    scores = results[comparison.score].dropna()
    if chance is None or len(scores) < 2:
        return comparison
    mean = float(scores.mean())
    ahead = chance - mean if comparison.lower_is_better else mean - chance
    if ahead > 2 * float(scores.std()) / len(scores) ** 0.5:
        return comparison
    level = score_value(chance, comparison.fraction)
    said = f"the mean over all runs is {score_value(mean, comparison.fraction)}, and guessing gives {level}"
    return replace(comparison, guessing_note=f"{said}: runs that have learned nothing cannot show what an arm gains")


def judge_study(results: pd.DataFrame, study: Study, score: str) -> StudyClaims | None:
    """The claims that a study states, judged. None where it states none, or they are about another score."""
    if score != pick_score(results, study.score):
        return None
    return judge_claims(results, study.claims, score=score, margin=study.margin, looks=study.looks)


def base_cell(study: Study, planned: Plan) -> str | None:
    """The cell of the study's base as results.csv writes it. None where the base leaves an axis open."""
    axes = [axis.name for axis in study.axes if axis.name not in study.baseline]
    if any(axis not in study.base for axis in axes):
        return None
    wanted = {axis: setting_value(study.base[axis]) for axis in axes}
    for run in planned.cells:
        if run.cell is not None and all(setting_value(getattr(run.settings, axis)) == wanted[axis] for axis in axes):
            return write_cell(run.cell)
    return None


def planned_sensitivity(study: Study, planned: Plan, results: pd.DataFrame) -> PlannedSensitivity | None:
    """None for a study without a baseline or without twins, and where too few runs have finished to say it."""
    pairs = planned_pairs(study, planned)
    if pairs is None:
        return None
    try:
        comparison = None if results.empty else compare_study(results, study, planned, curves=False)
    except ResultsError:
        comparison = None
    if comparison is None or comparison.head is None:
        return None
    noisiest = noisiest_pair(comparison.pairs, comparison.head.base_cell)
    if noisiest is None:
        return None
    pair, moments = noisiest
    design = design_by(moments, len(pair.seeds), pairs.comparisons, study.looks)
    sensitivity = sensitivity_of(design, pairs.seeds, comparison.margin)
    return PlannedSensitivity(sensitivity, comparison.fraction, pair.baseline_score, design.sd, len(results))
