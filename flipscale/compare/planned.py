"""The effect that a planned study's seeds will detect, by the noise of its finished runs."""

import pandas as pd

from flipscale.compare.head import noisiest_pair, prior_df
from flipscale.compare.of_study import compare_study
from flipscale.errors import ResultsError
from flipscale.plan import Plan
from flipscale.sensitivity import PlannedSensitivity, planned_pairs, sensitivity_by
from flipscale.stats import Design
from flipscale.study import Study


def planned_sensitivity(study: Study, planned: Plan, results: pd.DataFrame) -> PlannedSensitivity | None:
    """None for a study without a baseline or without twins, and where too few runs have finished to say it."""
    pairs = planned_pairs(study, planned)
    if pairs is None:
        return None
    try:
        found = None if results.empty else compare_study(results, study, planned, curves=False)
    except ResultsError:
        found = None
    if found is None or found.head is None or found.gain_noise is None:
        return None
    noisiest = noisiest_pair(found.pairs, found.head.base_cell, found.gain_noise)
    if noisiest is None:
        return None
    pair, moments = noisiest
    seeds = len(pair.seeds)
    design = Design(moments.error * seeds**0.5, prior_df(moments, seeds), pairs.comparisons, study.looks)
    return sensitivity_by(
        pairs, design, pair.baseline_score, found.margin, fraction=found.fraction, finished=len(results)
    )
