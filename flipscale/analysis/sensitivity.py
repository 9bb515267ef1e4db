"""How small a difference the seeds of a study can detect. Loads no pandas.

It follows from how far twins differ from seed to seed, which only its finished runs show (comparing/of_study.py).
"""

from dataclasses import dataclass

from flipscale.analysis.stats import Sensitivity
from flipscale.door.record import PlannedPairs
from flipscale.words import count, fixed, joined, margin_words, score_value


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
    """Finished runs of this study that say so."""


# In words


def sensitivity_words(sensitivity: Sensitivity, fraction: bool, detect: str = "detect") -> str:
    """'3 seeds detect 2.6 points (80 % power, corrected for 20 comparisons); 6 would detect 1.5'."""
    corrected = f", corrected for {sensitivity.comparisons} comparisons" if sensitivity.comparisons > 1 else ""
    power = f"(80 % power{corrected})"
    if sensitivity.detectable is None:
        now = f"{count(sensitivity.seeds, 'seed')} {'is' if sensitivity.seeds == 1 else 'are'} too few {power}"
    else:
        now = f"{count(sensitivity.seeds, 'seed')} {detect} {_amount(sensitivity.detectable, fraction)} {power}"
    more = []
    if sensitivity.with_twice is not None:
        size = _amount(sensitivity.with_twice, fraction).removesuffix(" points")
        more.append(f"{2 * sensitivity.seeds} would detect {size}")
    effect = sensitivity.effect
    seeds = sensitivity.seeds_for_effect
    if effect is not None and seeds is not None and seeds > sensitivity.seeds:
        more.append(f"{margin_words(effect, fraction)} takes {count(seeds, 'seed')}")
    return f"{now}{'; ' if more else ''}{joined(more) if more else ''}."


def planned_words(planned: PlannedSensitivity) -> str:
    """'3 seeds would detect 1.9 points at 75.0 % (...), if twins differ by 1.1 points (SD) from seed to seed ...'."""
    at = score_value(planned.at, planned.fraction)
    sd = _amount(planned.sd, planned.fraction)
    detected = sensitivity_words(planned.sensitivity, planned.fraction, "would detect")
    return (
        f"{detected} This is where the baseline has {at} and twins differ by {sd} (SD) from seed to seed, as those of "
        f"{count(planned.finished, 'finished run')} do."
    )


def unknown_words(pairs: PlannedPairs) -> str:
    """What a plan says of its seeds where no finished runs show how far twins differ."""
    seeds = f"{count(pairs.seeds, 'seed')} {'detects' if pairs.seeds == 1 else 'detect'}"
    return f"The difference that {seeds} is unknown until seeds exist: finished runs show how far twins differ."


def _amount(size: float, fraction: bool) -> str:
    """'2.6 points', '0.039'."""
    return f"{fixed(100 * size)} points" if fraction else f"{size:.2g}"
