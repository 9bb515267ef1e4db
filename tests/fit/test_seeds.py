"""Intervals where settings share seeds: the effect of a seed moves the level of a law, and only that."""

import numpy as np
import pandas as pd
import pytest

from flipscale.analysis.fitting import Options, fit, fit_json, isoflop
from flipscale.analysis.fitting.fit_records import checklist, notes
from flipscale.analysis.fitting.uncertainty import seed_effect, widened

QUICK = Options(draws=100, starts=4)


def curve(seeds: int, effect: float, *, draw: int = 0, shared: bool = True) -> pd.DataFrame:
    """12 sizes along 12 x^-0.3, with noise of 0.02 and an effect of each seed on the whole curve."""
    rng = np.random.default_rng(draw)
    x = np.geomspace(1e3, 1e7, 12).repeat(seeds)
    seed = np.tile(np.arange(seeds), 12)
    moved = rng.normal(0, effect, seeds)[seed] + rng.normal(0, 0.02, len(x))
    return pd.DataFrame({"x": x, "loss": 12 * x**-0.3 * np.exp(moved), "seed": seed if shared else np.arange(len(x))})


def test_the_effect_of_seeds_is_measured_beside_settings_and_noise() -> None:
    settings, seeds = np.arange(4).repeat(3), np.tile([0, 1, 2], 4)
    z = settings * 10.0 + np.array([-1.0, 0, 4])[seeds]
    found = seed_effect(z, settings, seeds)
    assert found.offsets == pytest.approx(np.array([-2.0, -1, 3])[seeds])
    assert found.seeds == 3
    assert found.sd == found.deviation == pytest.approx(np.std([-2, -1, 3], ddof=1))
    # One diverged run of the third seed does not move the others where medians are taken.
    z[-1] += 1000
    assert seed_effect(z, settings, seeds).offsets == pytest.approx(np.array([-2.0, -1, 3])[seeds])


@pytest.mark.parametrize("seeds", [None, np.zeros(12, dtype=int), np.arange(12)])
def test_seeds_that_settings_do_not_share_have_no_common_effect(seeds: "np.ndarray | None") -> None:
    assert seed_effect(np.arange(12.0), np.arange(4).repeat(3), seeds) is None


def test_the_interval_of_the_level_knows_the_seeds_and_that_of_the_exponent_does_not_change() -> None:
    held = {"shared": 0, "apart": 0}
    widths = {"shared": [], "apart": []}
    for draw in range(30):
        for name, shared in (("shared", True), ("apart", False)):
            found = fit(curve(3, 0.08, draw=draw, shared=shared), "power", x=["x"], y="loss", options=QUICK)
            low, high = found.band({"x": 1e5})
            held[name] += bool(low[0] <= 12 * 1e5**-0.3 <= high[0])
            widths[name].append(np.ptp(found.intervals["a"]))
    assert held["shared"] >= 26
    assert held["apart"] <= 15  # as before: settings drawn alone do not see what all of them have in common
    assert np.median(widths["shared"]) == pytest.approx(np.median(widths["apart"]), rel=0.25)


def test_a_large_effect_is_noted_and_a_small_one_is_not() -> None:
    large = fit(curve(5, 0.08), "power", x=["x"], y="loss", options=QUICK)
    (note,) = notes(large)
    assert note.startswith("a seed moves the whole curve: SD 0.")
    assert fit_json(large)["seed_effect"] == {"sd": large.seeds.sd, "seeds": 5}
    small = fit(curve(5, 0.0), "power", x=["x"], y="loss", options=QUICK)
    assert notes(small) == []
    assert any("the effect of 5 shared seeds" in line for line in checklist(small))


def test_a_huber_fit_does_not_wander_between_two_seeds() -> None:
    """Between two curves every curve is as near in absolute distance; without their offsets there is one."""
    rng = np.random.default_rng(0)
    x = np.geomspace(1e3, 1e7, 12).repeat(2)
    level = np.tile([-0.05, 0.05], 12)
    table = pd.DataFrame({"x": x, "loss": (1 + 12 * x**-0.3) * np.exp(level + rng.normal(0, 1e-4, 24)), "seed": level})
    found = fit(table, "power+floor", x=["x"], y="loss", options=Options(draws=0, starts=4))
    assert found.parameters["a"] == pytest.approx(0.3, abs=0.002)


def test_two_errors_are_as_wide_as_their_mean_t() -> None:
    # t(.975) is 2.2281 with 10 and 12.7062 with 1 degree of freedom.
    low, high = widened((np.array([-2.2281]), np.array([2.2281])), np.zeros(1), 10, np.array([1.0]), 1)
    assert high[0] == pytest.approx((2.2281 + 12.7062) / np.sqrt(2), rel=1e-4)
    assert low[0] == -high[0]
    assert widened((np.zeros(1), np.full(1, 2.0)), np.ones(1), 10, np.zeros(1), 1)[1][0] == pytest.approx(2)


def budgets(noise: float, seeds: int = 3, sizes: int = 7) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (c, c**0.6 / 1e3 * np.exp(u), (2 + 0.3 * (np.cosh(0.7 * u) - 1)) * np.exp(rng.normal(0, noise)), seed)
        for c in (1e17, 1e18, 1e19, 1e20)
        for u in np.linspace(-3, 3, sizes)
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows, columns=["C", "N", "loss", "seed"])


def test_budgets_without_noise_have_no_interval_and_noise_gives_one() -> None:
    calm = isoflop(budgets(0.0), x="N", y="loss", budget="C", options=QUICK)
    assert calm.intervals["a"] == pytest.approx((calm.parameters["a"],) * 2, abs=1e-9)
    noisy = isoflop(budgets(0.01), x="N", y="loss", budget="C", options=QUICK)
    low, high = noisy.intervals["a"]
    assert low < 0.6 < high < low + 0.2
    line = next(line for line in checklist(noisy) if line.startswith("intervals"))
    assert line == "intervals: 95 % CI, 100 draws of the best sizes, 54 degrees of freedom"
