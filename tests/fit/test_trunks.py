"""Laws of rows that share trunks: a seed's lengths are no several observations, and a test holds none of them back."""

import numpy as np
import pandas as pd
import pytest

from flipscale.collecting import trunks_of
from flipscale.errors import ResultsError
from flipscale.fitting import Options, fit, forecast
from flipscale.fitting.record import checklist

QUICK = Options(draws=200, starts=4)


def runs(seeds: int, sizes: int = 1, *, schedule: str = "constant") -> pd.DataFrame:
    """Five lengths that double along N^-.1 D^-.3, with luck of .05 that changes along each trunk, and noise of .01."""
    rng = np.random.default_rng(seeds)
    rows = []
    for size in 1e6 * 3.0 ** np.arange(sizes):
        for seed in range(seeds):
            luck = 0.05 * np.cumsum(rng.standard_normal(5)) / np.sqrt(5)
            for place, length in enumerate(1000 * 2 ** np.arange(5)):
                loss = 40 * size**-0.1 * length**-0.3 * np.exp(luck[place] + 0.01 * rng.standard_normal())
                rows.append((f"m{size:g}", size, length, length // 5, schedule, seed, loss))
    return pd.DataFrame(rows, columns=["model", "N", "samples", "cooldown", "schedule", "seed", "loss"])


def test_lengths_of_one_seed_at_a_constant_rate_share_a_trunk_and_cosines_do_not() -> None:
    assert trunks_of(runs(2)).tolist() == [0] * 5 + [1] * 5
    assert len(set(trunks_of(runs(2, sizes=3)))) == 6
    assert trunks_of(runs(2, schedule="cosine")) is None
    assert trunks_of(runs(2).assign(warmup=[*range(10)])) is None
    assert trunks_of(runs(2).query("samples == 1000")) is None
    named = pd.DataFrame({"trunk": ["a", "a", None, "b"]})
    assert trunks_of(named).tolist() == [0, 0, -1, -1]


def test_three_seeds_are_left_out_in_turn_and_no_settings_are_resampled() -> None:
    found = fit(runs(4), "power", x=["samples"], y="loss", options=QUICK)
    assert (found.seeds_left_out, found.freedom, found.seeds) == (4, 3, None)
    (said,) = (line for line in checklist(found) if line.startswith("intervals"))
    assert said == "intervals: 95 % CI by leaving out each of 4 seeds in turn, as the lengths of each share its luck"
    # The mean of four exponents, each of one seed, with Student's t of 3 degrees of freedom.
    apart = [
        fit(part, "power", x=["samples"], y="loss", options=QUICK).parameters["a"]
        for _, part in runs(4).groupby("seed")
    ]
    half = 3.18 * np.std(apart, ddof=1) / 2
    low, high = found.intervals["a"]
    assert (high - low) / 2 == pytest.approx(half, rel=0.25)
    alone = fit(runs(4, schedule="cosine"), "power", x=["samples"], y="loss", options=QUICK)
    assert (alone.seeds_left_out, alone.freedom) == (0, 3)


def test_with_fewer_seeds_sizes_are_resampled_and_one_size_gives_no_interval() -> None:
    found = fit(runs(2, sizes=6), "product", x=["N", "samples"], y="loss", options=QUICK)
    assert (found.groups, found.freedom) == (6, 3)
    assert "resamples of 6 settings, those that share trunks as one" in checklist(found)[6]
    one = fit(runs(2), "power", x=["samples"], y="loss", options=QUICK)
    assert one.intervals == {"A": None, "a": None}
    with pytest.raises(ResultsError, match="lengths of a seed share its luck"):
        one.band({"samples": 1e5})


def test_a_graded_forecast_holds_out_seeds_and_never_the_long_branches_of_trunks_that_it_fits() -> None:
    far = {"samples": 64_000}
    found = forecast(runs(5), "power", x=["samples"], y="loss", at=far, options=QUICK)
    held = found.held_out
    # Lengths of 8,000 and 16,000 of each seed, from lengths to 4,000 of the four others.
    assert [(setting.at["samples"], setting.runs) for setting in held.settings] == [(8000, 1), (16_000, 1)] * 5
    assert len({setting.predicted for setting in held.settings if setting.at["samples"] == 16_000}) == 5
    assert held.extrapolation == 4
    assert all(setting.interval is not None for setting in held.settings)
    few = forecast(runs(3), "power", x=["samples"], y="loss", at=far, options=QUICK)
    assert few.refused  # two seeds give no interval to test by
    alone = forecast(runs(1), "power", x=["samples"], y="loss", at=far, options=QUICK)
    assert alone.held_out.why == "a test holds out seeds or sizes, and these runs have one of each"


def test_a_graded_forecast_holds_out_the_whole_largest_size_where_enough_others_are_left() -> None:
    table = runs(3, sizes=4)
    found = forecast(table, "product", x=["N", "samples"], y="loss", at={"N": 1e8, "samples": 16_000}, options=QUICK)
    assert {(setting.at["N"], setting.runs) for setting in found.held_out.settings} == {(2.7e7, 3)}
    smaller = fit(table[table["N"] < 2.7e7], "product", x=["N", "samples"], y="loss", options=QUICK)
    (longest,) = (setting for setting in found.held_out.settings if setting.at["samples"] == 16_000)
    assert longest.predicted == pytest.approx(smaller.predict(longest.at)[0], rel=1e-6)
