"""How small a difference the seeds of a study can detect, known before it runs. Loads no pandas.

A plan says it by the noise of a usual study. compare/planned.py says it by the study's own finished runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from flipscale.cell import Cell
from flipscale.collect import baseline_of, setting_value
from flipscale.plan import Plan
from flipscale.scores import is_fraction
from flipscale.settings import Settings
from flipscale.stats import PRIOR_DF, Design, Sensitivity, sensitivity_of
from flipscale.study import Study
from flipscale.words import count, fixed, joined, margin_words, score_value

USUAL_SD, USUAL_LEVEL = 0.0105, 0.75
"""Standard deviation over seeds of differences between twins of the fashion study on 2,000 test images (recipe 1), at
an accuracy of 75 %: 1.05 points. On 10,000 images (recipe 2) it is 0.7 points."""


@dataclass(frozen=True)
class PlannedPairs:
    """The twins that a plan asks for."""

    comparisons: int
    """Pairs of a cell and an arm that has a twin there."""
    seeds: int
    """The fewest seeds of one of them."""


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


def usual_sensitivity(study: Study, planned: Plan) -> PlannedSensitivity | None:
    """The effect that the seeds detect if twins differ as those of a usual study of accuracies do.

    None for a study without a baseline or without twins, and for a score that is not a fraction, of which accuracies
    say nothing.
    """
    pairs = planned_pairs(study, planned)
    if pairs is None or (study.score is not None and not is_fraction(study.score)):
        return None
    prior_df = PRIOR_DF if pairs.comparisons > 1 else 0.0
    return sensitivity_by(pairs, Design(USUAL_SD, prior_df, pairs.comparisons), USUAL_LEVEL, study.margin / 100)


def sensitivity_by(
    pairs: PlannedPairs, design: Design, at: float, margin: float | None, *, fraction: bool = True, finished: int = 0
) -> PlannedSensitivity:
    """The effect that planned twins detect by this design, if the baseline has the score `at`."""
    return PlannedSensitivity(sensitivity_of(design, pairs.seeds, margin), fraction, at, design.sd, finished)


def planned_pairs(study: Study, planned: Plan) -> PlannedPairs | None:
    """The twins of a plan; None without a baseline or without twins."""
    baseline = baseline_of(study)
    if not baseline:
        return None
    seeds: dict[tuple[Cell, tuple[object, ...]], set[int]] = {}
    for run in planned.cells:
        assert run.cell is not None
        seeds.setdefault((run.cell, _arm(run.settings, list(baseline))), set()).add(run.settings.seed)
    base = tuple(baseline.values())
    pairs = [(cell, arm) for cell, arm in seeds if arm != base and (cell, base) in seeds]
    if not pairs:
        return None
    return PlannedPairs(
        comparisons=len(pairs),
        seeds=min(len(seeds[pair]) for pair in pairs),
    )


def _arm(settings: Settings, names: Sequence[str]) -> tuple[object, ...]:
    """What makes it an arm: its values of the baseline's settings."""
    return tuple(setting_value(getattr(settings, name)) for name in names)


# In words


def sensitivity_words(found: Sensitivity, fraction: bool, detect: str = "detect") -> str:
    """'3 seeds detect 2.6 points (80 % power, corrected for 20 comparisons); 5 would detect 1.8 ...'."""
    corrected = f", corrected for {found.comparisons} comparisons" if found.comparisons > 1 else ""
    power = f"(80 % power{corrected})"
    if found.detectable is None:
        now = f"{count(found.seeds, 'seed')} {'is' if found.seeds == 1 else 'are'} too few {power}"
    else:
        now = f"{count(found.seeds, 'seed')} {detect} {_amount(found.detectable, fraction)} {power}"
    more = [
        f"{n} would detect {_amount(size, fraction).removesuffix(' points')}" for n, size in found.with_seeds.items()
    ]
    if found.margin is not None and found.seeds_for_margin is not None and found.seeds_for_margin > found.seeds:
        more.append(f"{margin_words(found.margin, fraction)} takes {count(found.seeds_for_margin, 'seed')}")
    return f"{now}{'; ' if more else ''}{joined(more) if more else ''}."


def planned_words(found: PlannedSensitivity) -> str:
    """'3 seeds would detect 1.9 points at 75.0 % (...), if twins differ by 1.1 points (SD) from seed to seed ...'."""
    at = score_value(found.at, found.fraction)
    sd = _amount(found.sd, found.fraction)
    if found.finished:
        source = f"as those of {count(found.finished, 'finished run')} do"
    else:
        source = "as those of the fashion study did on 2,000 test images"
    return (
        f"{sensitivity_words(found.sensitivity, found.fraction, 'would detect').removesuffix('.')}. This is where the "
        f"baseline has {at} and twins differ by {sd} (SD) from seed to seed, {source}."
    )


def _amount(size: float, fraction: bool) -> str:
    """'2.6 points', '0.039'."""
    return f"{fixed(100 * size)} points" if fraction else f"{size:.2g}"
