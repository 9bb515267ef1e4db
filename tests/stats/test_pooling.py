"""The moderated t against numbers of a second program, written from the method's description alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flipscale.stats import Noise, NoiseMethod, ScoreScale, holm, pool_variance, scale_of
from flipscale.stats.pooling import inverse_trigamma

RECIPE_1 = Path(__file__).parents[1] / "recipe_1"
"""Tables of studies as they were under recipe 1: what the second program read."""


Found = tuple[ScoreScale, dict[tuple[str, str], list[float]], dict[str, float]]


def differences(name: str, score: str, lower: bool = False) -> Found:
    """Differences to the twin without a mask by cell and arm, and the baseline's level of each cell."""
    rows = pd.read_csv(RECIPE_1 / f"{name}.csv")
    link = scale_of(rows[score].to_numpy(), fraction=not lower, lower_is_better=lower)
    found, levels = {}, {}
    for cell, of_cell in rows.groupby("cell", sort=False):
        base = of_cell[of_cell["mask_ratio"] == 0].set_index("seed")[score]
        levels[str(cell)] = float(link.of(base.to_numpy()).mean())
        for ratio in (0.5, 0.75):
            arm = of_cell[of_cell["mask_ratio"] == ratio].set_index("seed")[score][base.index]
            found[str(cell), f"{ratio}"] = (link.of(arm.to_numpy()) - link.of(base.to_numpy())).tolist()
    return link, found, levels


def in_points(link: ScoreScale, noise: Noise, levels: dict[str, float], key: tuple[str, str]) -> list[float]:
    moments = noise.moments[key]
    ends = moments.interval()
    steps = [moments.mean, ends.low, ends.high]
    return [round(100 * float(link.difference(levels[key[0]], step)), 2) for step in steps]


def test_noise_of_the_fashion_study_is_that_of_the_second_program() -> None:
    link, found, _ = differences("fashion", "zero_shot_top1")
    noise = pool_variance(found)
    assert link.images == 2000
    assert (noise.method, noise.cells, noise.seeds, noise.wild) == (NoiseMethod.MODERATED, 10, 3, ())
    assert noise.prior_df == pytest.approx(5.891, abs=5e-4)
    assert noise.prior_sd == pytest.approx(0.0558, abs=5e-5)
    assert noise.arm_ratios == {"0.5": 1, "0.75": 1}  # raw 1.507, which chance explains
    assert {round(moments.df, 2) for moments in noise.moments.values()} == {9.09}
    assert not noise.capped


@pytest.mark.parametrize(
    ("cell", "arm", "points", "p"),
    [
        ("model=ViT-w16d1-4, data_size=60k, samples=32k", "0.5", [-4.45, -7.14, -1.86], 0.00336),
        ("model=ViT-w48d3-4, data_size=250, samples=32k", "0.5", [9.27, 7.09, 11.38], 0.00001),
        ("model=ViT-w48d3-4, data_size=1k, samples=32k", "0.5", [0.76, -0.71, 2.18], 0.26653),
        ("model=ViT-w48d3-4, data_size=60k, samples=64k", "0.75", [-7.17, -8.29, -6.08], 0.0),
    ],
)
def test_effects_of_the_fashion_study(cell: str, arm: str, points: list[float], p: float) -> None:
    link, found, levels = differences("fashion", "zero_shot_top1")
    noise = pool_variance(found)
    assert in_points(link, noise, levels, (cell, arm)) == points
    assert noise.moments[cell, arm].p == pytest.approx(p, abs=6e-6)


def test_of_14_effects_at_the_longest_schedules_13_are_significant() -> None:
    _, found, _ = differences("fashion", "zero_shot_top1")
    noise = pool_variance(found)
    longest = [key for key in found if "w48d3-4, data_size=60k" not in key[0] or "samples=64k" in key[0]]
    judged = {key: j for key, j in zip(longest, holm([noise.moments[key].p for key in longest]), strict=True) if j}
    assert len(judged) == 14
    (undecided,) = [key for key, j in judged.items() if not j.significant]
    assert undecided == ("model=ViT-w48d3-4, data_size=1k, samples=32k", "0.5")
    assert judged[undecided].p == pytest.approx(0.267, abs=5e-4)
    judged_by_cell = holm([noise.by_own_seeds[key].p for key in longest])
    assert sum(j is not None and j.significant for j in judged_by_cell) == 5


def test_a_cell_that_is_far_noisier_keeps_its_own_variance() -> None:
    _, found, _ = differences("fashion", "held_out_loss", lower=True)
    noise = pool_variance(found)
    (wild,) = noise.wild
    assert wild == "model=ViT-w48d3-4, data_size=250, samples=32k"
    assert noise.moments[wild, "0.5"].df == pytest.approx(3.2)
    assert (noise.prior_df, noise.capped) == (6, True)


def test_with_five_cells_the_others_add_4_degrees_of_freedom() -> None:
    _, found, _ = differences("icons", "image_retrieval_r10")
    noise = pool_variance(found)
    assert (noise.prior_df, noise.arm_ratios["0.75"]) == (4, 1)
    assert noise.prior_sd == pytest.approx(0.1123, abs=5e-5)
    assert holm([moments.p for moments in noise.moments.values()])[0] is not None
    assert noise.moments["data_size=2k", "0.5"].p == pytest.approx(0.00465, abs=5e-6)


def test_an_arm_that_scatters_more_has_a_ratio() -> None:
    _, found, _ = differences("icons", "held_out_loss", lower=True)
    assert pool_variance(found).arm_ratios["0.75"] == pytest.approx(3.00, abs=5e-3)


def test_five_cells_of_two_seeds_stand_on_their_own_seeds() -> None:
    _, found, _ = differences("icons", "image_retrieval_r10")
    found = {key: values[:2] for key, values in found.items()}
    noise = pool_variance(found)
    assert noise.method is NoiseMethod.OWN
    assert noise.moments == noise.by_own_seeds
    assert {moments.df for moments in noise.moments.values()} == {1}


def test_a_cell_of_one_seed_borrows_the_noise_of_the_others() -> None:
    rng = np.random.default_rng(0)
    found = {(f"c{i}", "a"): rng.normal(size=3).tolist() for i in range(9)} | {("alone", "a"): [0.5]}
    noise = pool_variance(found)
    assert ("alone", "a") not in noise.by_own_seeds
    alone = noise.moments["alone", "a"]
    assert noise.prior_sd is not None
    assert (alone.mean, alone.df) == (0.5, noise.prior_df)
    assert alone.error == pytest.approx(noise.prior_sd)


def test_seeds_that_agree_to_the_last_digit_do_not_break_the_prior() -> None:
    found = {(f"c{i}", "a"): [0.1 * i + 1] * 3 for i in range(10)}
    noise = pool_variance(found)
    assert all(moments.p < 1e-6 for moments in noise.moments.values())


def test_inverse_trigamma_inverts() -> None:
    assert inverse_trigamma(np.pi**2 / 6) == pytest.approx(1)
    assert inverse_trigamma(0.1) == pytest.approx(10.4915, abs=1e-3)


def test_of_an_accuracy_of_1_the_logit_is_half_an_image_away() -> None:
    link = scale_of([0.5, 1.0, 0.25], fraction=True, lower_is_better=False)
    assert link.images == 4
    assert link.of([1.0]).tolist() == pytest.approx([np.log(4.5 / 0.5)])


@pytest.mark.parametrize(
    ("hits", "images"),
    [
        ([6938.5, *range(7001, 7021, 2)], 10_000),  # a tie in one of eleven runs
        ([*range(7001, 7021, 2)], 10_000),
        ([6938.5, 6940.5], 20_000),
    ],
)
def test_a_tie_is_no_sign_of_twice_the_test_images(hits: list[float], images: int) -> None:
    scale = scale_of(np.array(hits) / 10_000, fraction=True, lower_is_better=False)
    assert scale.images == images
