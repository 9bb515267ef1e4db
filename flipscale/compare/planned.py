"""The effect that a planned study's seeds will detect: by the noise of its finished runs, or of a usual study."""

import math
from dataclasses import dataclass, replace

import pandas as pd

from flipscale.cell import Cell
from flipscale.collect import setting_value
from flipscale.compare.comparison import Comparison
from flipscale.compare.gains import StudyNoise
from flipscale.compare.head import Sensitivity, sensitivity_of
from flipscale.compare.of_study import baseline_of, compare_study
from flipscale.errors import ResultsError
from flipscale.plan import Plan
from flipscale.scores import is_fraction
from flipscale.settings import Settings
from flipscale.stats import Design, ScoreScale, Transform, expected_noise
from flipscale.study import Study

USUAL_SD, USUAL_LEVEL = 0.056, math.log(3)
"""Standard deviation over seeds, in logits, of differences between twins of the fashion study on 2,000 test images
(recipe 1); at an accuracy of 75 %, where the logit is log 3, that is 1.05 points. On 10,000 images (recipe 2) it is
0.036."""

_Pairs = set[tuple[Cell, tuple[object, ...]]]
"""Cells, and the arms that have twins there, by their values of the baseline's settings."""


@dataclass(frozen=True)
class PlannedSensitivity:
    """The effect that the seeds of a plan will detect."""

    sensitivity: Sensitivity
    fraction: bool
    at: float
    """The score of the baseline for which this holds."""
    sd: float
    """How far twins differ from seed to seed there, in the score's own unit."""
    finished: int
    """Finished runs of this study that say so; 0 where a usual study's noise stands in."""


def planned_sensitivity(study: Study, planned: Plan, results: pd.DataFrame | None) -> PlannedSensitivity | None:
    """None for a study without a baseline or without twins.

    Where too few runs have finished, the noise of a usual study's accuracies stands in. It says nothing about a loss
    or another score that is not a fraction, so the result is None for these.
    """
    pairs, seeds = _pairs(study, planned)
    if not pairs:
        return None
    comparison = None if results is None or results.empty else _compared(results, study, planned)
    if comparison is None or results is None:
        return _by_usual_noise(study, pairs, seeds)
    assert comparison.gain_noise is not None
    assert comparison.head is not None
    base = next(pair for pair in comparison.pairs if pair.cell == comparison.head.base_cell)
    level = comparison.gain_noise.level(base)
    return replace(_planned(pairs, seeds, comparison.gain_noise, level, comparison.margin), finished=len(results))


def _by_usual_noise(study: Study, pairs: _Pairs, seeds: int) -> PlannedSensitivity | None:
    """None for a study of a score that is not a fraction, of which a usual study's accuracies say nothing."""
    if study.score is not None and not is_fraction(study.score):
        return None
    noise = expected_noise(USUAL_SD, len({cell for cell, _ in pairs}), seeds)
    found = StudyNoise(ScoreScale(Transform.LOGIT), noise, 1)
    return _planned(pairs, seeds, found, USUAL_LEVEL, study.margin / 100)


def _planned(pairs: _Pairs, seeds: int, found: StudyNoise, level: float, margin: float | None) -> PlannedSensitivity:
    arms = len({arm for _, arm in pairs})
    sd = found.noise.sd
    assert sd is not None
    design = Design(sd, lambda n: found.noise.df(n, arms), len(pairs))
    return PlannedSensitivity(
        sensitivity=sensitivity_of(design, found.scale, level, seeds, margin),
        fraction=found.scale.transform is Transform.LOGIT,
        at=found.scale.score(level),
        sd=sd * found.scale.slope(level),
        finished=0,
    )


def _pairs(study: Study, planned: Plan) -> tuple[_Pairs, int]:
    """Each cell and arm that has a twin in the baseline, and the fewest seeds of one."""
    baseline = baseline_of(study)
    if not baseline:
        return set(), 0
    seeds: dict[tuple[Cell, tuple[object, ...]], set[int]] = {}
    for run in planned.cells:
        assert run.cell is not None
        seeds.setdefault((run.cell, _arm(run.settings, list(baseline))), set()).add(run.settings.seed)
    base = tuple(baseline.values())
    pairs = {(cell, arm) for cell, arm in seeds if arm != base and (cell, base) in seeds}
    return pairs, min((len(seeds[pair]) for pair in pairs), default=0)


def _arm(settings: Settings, names: list[str]) -> tuple[object, ...]:
    return tuple(setting_value(getattr(settings, name)) for name in names)


def _compared(results: pd.DataFrame, study: Study, planned: Plan) -> Comparison | None:
    """The comparison of the study's finished runs; None where they do not say how far twins differ."""
    try:
        comparison = compare_study(results, study, planned)
    except ResultsError:
        return None
    noise = comparison.noise
    return None if noise is None or comparison.head is None or noise.sd is None else comparison
