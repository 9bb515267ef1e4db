"""The effect that a planned study's seeds will detect, by the noise of its finished runs."""

import pandas as pd

from flipscale.compare.head import prior_df
from flipscale.compare.of_study import scatter_of_study
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
        found = None if results.empty else scatter_of_study(results, study, planned)
    except ResultsError:
        found = None
    moments = found and found.gain_noise.moments(found.base)
    if found is None or not moments:
        return None
    seeds, noise = len(found.base.seeds), found.gain_noise
    design = Design(moments.error * seeds**0.5, prior_df(moments, seeds), pairs.comparisons, study.looks)
    return sensitivity_by(
        pairs, design, found.base.baseline_score, found.margin, fraction=noise.fraction, finished=len(results)
    )
