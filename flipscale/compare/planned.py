"""The effect that a planned study's seeds will detect, by the noise of its finished runs."""

import pandas as pd

from flipscale.compare.of_study import scatter_of_study
from flipscale.errors import ResultsError
from flipscale.plan import Plan
from flipscale.sensitivity import PlannedSensitivity, planned_pairs, sensitivity_by
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
    if found is None or found.gain_noise.noise.sd is None:
        return None
    noise = found.gain_noise
    return sensitivity_by(pairs, noise.noise, noise.scale, noise.level(found.base), found.margin, len(results))
