"""What a comparison states about each arm, and how surely."""

import math

import numpy as np
import pandas as pd
import pytest

from flipscale.analysis.comparing import Curve, Effect, compare_table
from flipscale.analysis.comparing.estimates import corrected, drawn, ratio_of


def law(cost: float) -> float:
    odds = (cost / 20) ** 0.8
    return odds / (1 + odds)


def claims(**arms: float) -> list[Curve]:
    """The claims on arms that are these factors faster than the baseline, each at half its cost per schedule."""
    rows = [
        (name, samples, seed, 0.5 * samples, law(0.5 * factor * samples) + 0.004 * math.sin(5 * seed + 3 * i + 7 * j))
        for j, (name, factor) in enumerate({"base": 1.0, **arms}.items())
        for i, samples in enumerate((8, 16, 32, 64))
        for seed in (0, 1, 2)
    ]
    table = pd.DataFrame(rows, columns=["arm", "samples", "seed", "hours", "acc"])
    return compare_table(table, baseline={"arm": "base"}, x="hours", y="acc", at="samples").first_curves


def test_an_estimate_is_judged_by_its_corrected_interval() -> None:
    steps = np.linspace(-3, 3, 20_001)
    strong, weak = (drawn(mean, mean + sd * steps, seeds=3) for mean, sd in ((1.0, 0.1), (0.1, 0.2)))
    assert (strong.effect, strong.n) == (Effect.AHEAD, 3)
    assert strong.decisive == strong.interval
    first, second = corrected([strong, weak], 1)
    assert first.corrected is not None
    assert (first.effect, first.corrected.of) == (Effect.AHEAD, 2)
    assert (second.effect, second.significant) == (Effect.NOT_SIGNIFICANT, False)
    assert first.decisive is not None
    assert strong.interval is not None
    assert first.decisive.low < strong.interval.low


def test_a_ratio_below_1_is_behind_and_one_seed_is_undecided() -> None:
    assert ratio_of([-0.5, -0.51, -0.49]).effect is Effect.BEHIND
    one = ratio_of([0.3])
    assert (one.effect, one.interval, one.significant) == (Effect.ONE_SEED, None, False)


def test_a_speed_up_is_claimed_at_the_baselines_mean_at_its_last_but_one_length() -> None:
    fast, slow = claims(fast=3.0, slow=0.5)
    assert fast.speedup is not None
    assert fast.speedup.at == 32
    assert fast.factor is not None
    assert fast.factor.value == pytest.approx(3.0, rel=0.1)
    assert fast.factor.effect is Effect.AHEAD
    assert slow.factor is not None
    assert slow.factor.value == pytest.approx(0.5, rel=0.1)
    assert fast.pair is not None
    assert fast.pair.at == 64
