"""A study's comparison: its baseline and its base cell in the form of its results."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from flipscale.analysis.comparing.build import compare
from flipscale.analysis.comparing.columns import pick_score
from flipscale.analysis.comparing.comparison import Comparison, ScoredBy
from flipscale.analysis.comparing.head import noisiest_pair
from flipscale.analysis.comparing.stated import StudyClaims, judge_claims
from flipscale.analysis.rows import above_chance, chance_level
from flipscale.analysis.sensitivity import PlannedSensitivity, planned_pairs
from flipscale.analysis.stats import TAKES_OFF, design_by, sensitivity_of
from flipscale.cell import write_cell
from flipscale.collecting import baseline_of, setting_value
from flipscale.errors import ResultsError, RunFolderError
from flipscale.planning.runs import Plan
from flipscale.run import RunFolder, standing_scores
from flipscale.scores import is_declared, set_and_score
from flipscale.study import Study
from flipscale.study.claims import claims_at_budgets
from flipscale.study.named_sets import members
from flipscale.words import score_value
from flipscale.workspace import Workspace


def compare_study(
    results: pd.DataFrame, study: Study, planned: Plan, score: str | None = None, *, curves: bool = True
) -> Comparison:
    """Compare the arms of a study by its own score, or by another. Raises ResultsError as `compare` does."""
    # The margin of a score that the study declares is in that score's unit, and has no default.
    own_unit = is_declared(score or study.score or "")
    effect = study.effect if study.effect is None or own_unit else study.effect / 100
    comparison = compare(
        results,
        baseline=baseline_of(study),
        score=score or study.score,
        base_cell=base_cell(study, planned),
        margin=effect if own_unit else study.margin / 100,
        effect=effect,
        stated=judge_study(results, study, pick_score(results, score or study.score)),
        looks=study.looks,
        curves=curves,
    )
    budgets = claims_at_budgets(study)
    return replace(
        comparison,
        at_budgets=judge_claims(results, budgets, score=comparison.score, margin=study.margin, looks=study.looks),
        caveats=(*study.caveats, *comparison.caveats),
        question=study.question or study.name,
        answer=study.answer,
        labels=study.labels,
    )


def compare_finished(
    results: pd.DataFrame, study: Study, planned: Plan, workspace: Workspace, score: str | None = None
) -> Comparison:
    """The same, with what the runs' folders add, what they were scored on; and a note if they only guess."""
    comparison = compare_study(results, study, planned, score)
    comparison = with_guessing(comparison, results, chance_level(results, comparison.score))
    return replace(comparison, scored_by=scored_by([(planned, workspace)], comparison.score))


def scored_by(studies: Sequence[tuple[Plan, Workspace]], score: str) -> tuple[ScoredBy, ...]:
    """The evaluations that the finished runs of these studies have this score from, as far as their folders say it."""
    runs_of: Counter[tuple[str, str, str]] = Counter()
    for planned, workspace in studies:
        for run in planned.cells:
            evaluation = run.settings.evaluation
            mean = set_and_score(score)[0]
            columns = members(evaluation, mean) if mean in evaluation.means else [score]
            try:
                standing = standing_scores(RunFolder(workspace.run(run.id)), run.settings)
            except RunFolderError:
                continue  # `collect` names it.
            for column in columns:
                record = standing.get(set_and_score(column)[0])
                if record is not None and record.digest is not None and record.scores.get(column) is not None:
                    runs_of[record.measure, json.dumps(record.what), record.digest] += 1
    return tuple(ScoredBy(measure, json.loads(what), digest, runs) for (measure, what, digest), runs in runs_of.items())


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
    sensitivity = sensitivity_of(design, pairs.seeds, comparison.effect)
    return PlannedSensitivity(sensitivity, comparison.fraction, pair.baseline_score, design.sd, len(results))
