"""Laws of rows that share trunks: a seed's lengths are no several observations, and a test holds none of them back."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from flipscale.analysis.fitting import Options, fit, forecast, isoflop
from flipscale.analysis.fitting.fit_records import checklist
from flipscale.analysis.fitting.uncertainty import new_seeds
from flipscale.analysis.rows import trunks_of
from flipscale.errors import ResultsError
from flipscale.next_runs.quantities import FURTHER_SEEDS, of_seed, parameter_of

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
    assert (found.whole_seeds, found.freedom, found.seeds) == (4, 3, None)
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
    assert (alone.whole_seeds, alone.freedom) == (0, 3)


def test_with_fewer_seeds_sizes_are_resampled_and_one_size_gives_no_interval() -> None:
    found = fit(runs(2, sizes=6), "product", x=["N", "samples"], y="loss", options=QUICK)
    assert (found.groups, found.freedom) == (6, 3)
    assert "resamples of 6 settings, those that share trunks as one" in checklist(found)[6]
    one = fit(runs(2), "power", x=["samples"], y="loss", options=QUICK)
    assert one.intervals == {"A": None, "a": None}
    with pytest.raises(ResultsError, match="lengths of a seed share its luck"):
        one.band({"samples": 1e5})


def test_a_law_through_a_front_rests_on_new_seeds_with_all_of_their_runs() -> None:
    table = runs(4, sizes=3).assign(cost=lambda rows: rows["N"] * rows["samples"])
    through_front = replace(QUICK, frontier="pareto")
    found = fit(table, "power", x=["cost"], y="loss", options=through_front)
    assert (found.whole_seeds, found.freedom) == (4, 3)
    assert "200 draws of the front of 4 new seeds, as the lengths of each share its luck" in checklist(found)[6]
    # Sizes of equal cost are cells of their own: their difference is no scatter of seeds.
    still = table.assign(loss=table.groupby(["model", "samples"])["loss"].transform("mean"))
    low, high = fit(still, "power", x=["cost"], y="loss", options=through_front).intervals["a"]
    assert high - low == pytest.approx(0, abs=1e-6)
    for few in (table.query("seed < 2"), table.query("seed == 0 or samples > 1000")):
        assert fit(few, "power", x=["cost"], y="loss", options=through_front).whole_seeds == 0


def budgets(seeds: int) -> pd.DataFrame:
    """Seven sizes at four budgets, which are lengths of the trunks of a size; the best size grows as the root."""
    rng = np.random.default_rng(seeds)
    rows = []
    for size in 2.0 ** np.arange(7):
        for seed in range(seeds):
            luck = rng.normal(0, 0.02)
            for budget in 4.0 ** np.arange(1, 5):
                loss = 2 + 0.1 * np.log(size / budget**0.5) ** 2 + luck + rng.normal(0, 0.005)
                rows.append((f"m{size:g}", size, budget / size, budget, "constant", seed, loss))
    return pd.DataFrame(rows, columns=["model", "N", "samples", "C", "schedule", "seed", "loss"])


def test_best_sizes_of_budgets_rest_on_new_seeds_whose_budgets_move_together() -> None:
    found = isoflop(budgets(4), x="N", y="loss", budget="C", options=QUICK)
    assert (found.whole_seeds, found.freedom) == (4, 3)
    assert "200 draws of the best sizes of 4 new seeds" in checklist(found)[6]
    assert found.intervals["a"][0] < 0.5 < found.intervals["a"][1]
    alone = isoflop(budgets(4).assign(schedule="cosine"), x="N", y="loss", budget="C", options=QUICK)
    assert alone.freedom > 50
    few = isoflop(budgets(2), x="N", y="loss", budget="C", options=QUICK)
    assert few.intervals["a"] is None
    with pytest.raises(ResultsError, match="lengths of a seed share its luck"):
        few.band({"C": 1e4})


def test_new_seeds_have_the_covariance_of_those_that_ran() -> None:
    cells, seeds = np.repeat(np.arange(3), 4), np.tile(np.arange(4), 3)
    z = np.random.default_rng(1).normal(size=12)
    drawn = new_seeds(z, cells, seeds, 20_000, 0).reshape(20_000, 3, 4)
    assert np.cov(drawn[:, :, 2].T) == pytest.approx(np.cov(z.reshape(3, 4)), abs=0.05)
    assert np.cov(drawn[:, 0, 0], drawn[:, 1, 3])[0, 1] == pytest.approx(0, abs=0.05)


def test_runs_to_add_are_valued_by_what_they_tell_about_the_laws_of_seeds() -> None:
    found = fit(runs(4, sizes=4), "product", x=["N", "samples"], y="loss", options=QUICK)
    asked = parameter_of(found, "b", "")
    low, high = found.intervals["b"]
    assert asked.ends == pytest.approx((low, high))
    assert 1 <= 2 * 1.96 * asked.quantity.variance**0.5 / (high - low) < 1.5
    far = found.law.evaluate(found.solution.theta, np.array([[2.7e7, 64_000.0]]))[1][0]
    seeds = found.whole_seeds + FURTHER_SEEDS
    told = [asked.quantity.after(of_seed(far, seed, seeds), 0.01**2).variance for seed in (0, 1, 4, 5)]
    # One that was fitted tells of its own law, and a further one also by how much seeds differ.
    assert told[2] == pytest.approx(told[3])
    assert max(told) < asked.quantity.variance
    with pytest.raises(ResultsError, match="an interval takes 3 seeds"):
        parameter_of(fit(runs(2), "power", x=["samples"], y="loss", options=QUICK), "a", "")


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
