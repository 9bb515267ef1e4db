"""What the ended runs of a planned sweep say."""

import math
from collections.abc import Mapping
from statistics import variance

from flipscale.door.sweep import Arm, Sweep, SweepOutcome, TriedValue, TunedArm
from flipscale.planning.runs import Plan, SweptRun


def outcome(planned: Plan, sweep: Sweep, scores: Mapping[str, float | None], chance: float | None) -> SweepOutcome:
    """What the ended runs of a planned sweep say.

    scores: of ended runs by id; None where training diverged. chance: what guessing gives.
    """
    groups: dict[Arm, list[SweptRun]] = {}
    alike: dict[tuple[Arm, float], list[float]] = {}
    for each in planned.swept:
        apart = tuple(value for name, value in zip(sweep.arm, each.arm, strict=True) if name not in sweep.pooled)
        groups.setdefault(apart, []).append(each)
        if (score := scores.get(each.run.id)) is not None:
            alike.setdefault((each.arm, each.value), []).append(score)
    df = sum(len(seeds) - 1 for seeds in alike.values())
    pooled = sum((len(seeds) - 1) * variance(seeds) for seeds in alike.values() if len(seeds) > 1) / max(df, 1)
    tuned = []
    for group in groups.values():
        arms = tuple(dict.fromkeys(each.arm for each in group))
        tried = []
        for value in sorted({each.value for each in group}):
            runs = [each.run for each in group if each.value == value]
            ended = {run.id: (run.settings.seed, scores[run.id]) for run in runs if run.id in scores}
            tried.append(TriedValue(value, ended, len(runs) - len(ended)))
        error = math.sqrt(pooled / (len(sweep.seeds) * len(arms)))
        tuned.append(TunedArm(arms, group[0].words, tuple(tried), chance, error, sweep))
    return SweepOutcome(sweep, tuple(tuned))
