"""Means and slopes over cells, and what seeds can detect, against the fashion study's known numbers."""

import numpy as np
import pandas as pd
import pytest

from flipscale.stats import WARN_P, Design, Moments, mean_over, pool_variance, seed_effect, slope_of
from tests.stats.test_pooling import RECIPE_1, differences


def points(cells: list[str], arm: float) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    rows = pd.read_csv(RECIPE_1 / "fashion.csv")
    table = rows.pivot_table(index=["cell", "seed"], columns="mask_ratio", values="zero_shot_top1")
    gains = (100 * (table[arm] - table[0.0])).unstack("seed")
    return gains.loc[cells].to_numpy(dtype=np.float64)


@pytest.mark.parametrize(("arm", "mean", "these", "alike"), [(0.5, -1.45, 0.76, 2.88), (0.75, -5.42, 0.26, 4.11)])
def test_mean_over_the_ten_cells_of_fashion(arm: float, mean: float, these: float, alike: float) -> None:
    _, found, _ = differences("fashion", "zero_shot_top1")
    cells = list(dict.fromkeys(cell for cell, _ in found))
    over = mean_over(points(cells, arm), [0.7] * 10)
    assert over is not None
    assert over.mean == pytest.approx(mean, abs=0.006)
    assert over.these.half_width == pytest.approx(these, abs=0.005)
    assert over.alike.half_width == pytest.approx(alike, abs=0.005)


@pytest.mark.parametrize(("arm", "tau", "p"), [(0.5, 0.184, 0.529), (0.75, 0.270, 0.908)])
def test_spread_of_effects_and_seed_effect_of_fashion(arm: float, tau: float, p: float) -> None:
    _, found, _ = differences("fashion", "zero_shot_top1")
    noise = pool_variance(found)
    keys = [key for key in found if key[1] == f"{arm}"]
    over = mean_over(np.array([found[key] for key in keys]), [noise.moments[key].error for key in keys])
    effect = seed_effect(np.array([found[key] for key in keys]))
    assert over is not None
    assert over.spread == pytest.approx(tau, abs=6e-4)
    assert effect is not None
    assert effect.p == pytest.approx(p, abs=1e-3)
    assert effect.p > WARN_P


@pytest.mark.parametrize(
    ("arm", "axis", "slope", "by_seed", "moderated"),
    [
        (0.5, "samples", -0.31, 0.83, 0.52),
        (0.75, "samples", -0.17, 1.13, 0.57),
        (0.5, "data_size", -1.50, 0.33, 0.26),
        (0.75, "data_size", -2.06, 0.44, 0.27),
    ],
)
def test_slopes_of_fashion(arm: float, axis: str, slope: float, by_seed: float, moderated: float) -> None:
    link, found, levels = differences("fashion", "zero_shot_top1")
    noise = pool_variance(found)
    fixed = "data_size=60k" if axis == "samples" else "samples=32k"
    cells = [cell for cell, a in found if a == f"{arm}" and "w48d3-4" in cell and fixed in cell]
    rows = pd.read_csv(RECIPE_1 / "fashion.csv").drop_duplicates("cell").set_index("cell")
    x = np.log2(rows.loc[cells, axis].to_numpy(dtype=np.float64))

    def in_points(cell: str) -> Moments:
        moments = noise.moments[cell, f"{arm}"]
        return Moments(0, 100 * link.slope(levels[cell] + moments.mean) * moments.error, moments.df)

    found_slope = slope_of([(x, points(cells, arm), [in_points(cell) for cell in cells])])
    assert found_slope is not None
    assert found_slope.by_seed is not None
    assert found_slope.moderated.mean == pytest.approx(slope, abs=0.006)
    assert found_slope.by_seed.interval().half_width == pytest.approx(by_seed, abs=0.005)
    assert found_slope.moderated.interval().half_width == pytest.approx(moderated, abs=0.01)
    assert found_slope.bends_p is not None
    assert found_slope.bends_p < 0.05  # "on fashion it rejects a line everywhere"


@pytest.mark.parametrize(
    ("sd", "comparisons", "detectable", "seeds"),
    [
        (0.056, 1, {2: 2.4, 3: 1.9, 5: 1.4, 10: 1.0}, {1: 10, 2: 3, 4: 2}),
        (0.056, 14, {2: 3.9, 3: 3.0, 5: 2.1, 10: 1.4}, {1: 18, 2: 6, 4: 2}),
        (0.085, 1, {3: 2.9, 5: 2.2, 10: 1.5}, {1: 21, 2: 6, 4: 2}),
        (0.085, 14, {3: 4.5, 5: 3.2, 10: 2.1}, {1: 39, 2: 11, 4: 4}),
    ],
)
def test_detectable_points_at_75_percent(
    sd: float, comparisons: int, detectable: dict[int, float], seeds: dict[int, int]
) -> None:
    design = Design(sd, lambda n: 6 + 1.6 * (n - 1), comparisons)
    slope = 75 * 0.25
    assert {n: round(slope * (design.detectable(n) or 0), 1) for n in detectable} == detectable
    assert {size: design.seeds_for(size / slope) for size in seeds} == seeds


def test_one_seed_detects_nothing() -> None:
    assert Design(0.05, lambda n: n - 1).detectable(1) is None


@pytest.mark.parametrize(("low", "high", "p"), [(-1.0, 1.0, 0.0359), (-0.4, 2.0, 0.1587)])
def test_p_of_equivalence_is_the_larger_of_two_one_sided_tests(low: float, high: float, p: float) -> None:
    assert Moments(0.1, 0.5, float("inf")).p_within(low, high) == pytest.approx(p, abs=1e-4)
