"""Gains by the noise of the whole study, and what heads an answer, on the fashion study as recipe 1 trained it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flipscale.analysis.comparing import (
    Comparison,
    Effect,
    Pair,
    compare,
    comparison_json,
    comparison_text,
    screen,
    warnings,
    with_guessing,
)

FASHION = Path(__file__).parents[1] / "recipe_1" / "fashion.csv"
BASE = "model=ViT-w48d3-4, data_size=60k, samples=32k"


@pytest.fixture(scope="module")
def fashion() -> Comparison:
    results = pd.read_csv(FASHION)
    return compare(results, baseline={"mask_ratio": 0}, base_cell=BASE, curves=False)


def pair_of(comparison: Comparison, cell: str, arm: str) -> Pair:
    (pair,) = (pair for pair in comparison.pairs if cell in pair.cell and pair.arm == arm)
    return pair


def test_a_gain_is_the_raw_mean_difference_of_the_table(fashion: Comparison) -> None:
    of = (
        pd.read_csv(FASHION)
        .query("cell.str.contains('data_size=250,')")
        .pivot(index="seed", columns="mask_ratio", values="zero_shot_top1")
    )
    gain = pair_of(fashion, "data_size=250,", "mask_ratio=0.5").gain
    assert gain.values == pytest.approx((of[0.5] - of[0.0]).tolist())
    assert gain.mean == pytest.approx((of[0.5] - of[0.0]).mean())
    low, high = gain.interval or (0, 0)
    assert (low + high) / 2 == pytest.approx(gain.mean)
    assert gain.effect is Effect.AHEAD


def test_the_family_is_every_cell_of_the_table(fashion: Comparison) -> None:
    assert fashion.gains_claimed == len(fashion.pairs) == 20
    assert {pair.gain.corrected.of for pair in fashion.pairs if pair.gain.corrected} == {20}
    undecided = [pair for pair in fashion.pairs if not pair.gain.significant]
    assert ("model=ViT-w48d3-4, data_size=1k, samples=32k", "mask_ratio=0.5") in {
        (pair.cell, pair.arm) for pair in undecided
    }


def test_a_gain_has_the_degrees_of_freedom_of_its_seeds_and_of_the_median_cell(fashion: Comparison) -> None:
    assert {pair.gain.df for pair in fashion.pairs} == {6}


def test_a_cell_in_which_some_runs_fail_is_said_in_counts_and_has_no_interval() -> None:
    table = synthetic({0.5: 0.01}, seeds=5)
    last = table["cell"] == "samples=10k"
    table.loc[last & (table["mask_ratio"] == 0) & (table["seed"] < 3), "zero_shot_top1"] = 0.02
    comparison = compare(with_chance(table, items=500), baseline={"mask_ratio": 0})
    (pair,) = (pair for pair in comparison.pairs if pair.cell == "samples=10k")
    assert (pair.gain.failures, pair.gain.interval, pair.gain.effect) == (
        (3, 0, 5), None, Effect.NOT_SIGNIFICANT,
    )  # fmt: skip
    assert comparison.noise is not None
    assert comparison.noise.cells == 9
    assert "+47 (fail 0/5, base 3/5)" in screen(comparison)


def with_chance(table: pd.DataFrame, chance: float = 0.01, items: int = 2000) -> pd.DataFrame:
    """The table with what its accuracies are taken over; one standard error of chance is 0.22 points by default."""
    return table.assign(chance=f"zero_shot_top1={chance}", items=f"zero_shot_top1={items}")


def a_cell(baseline: list[float], arm: list[float]) -> pd.DataFrame:
    """A cell with these accuracies of its seeds, in percent, of 99 classes."""
    table = synthetic({0.5: 0.0}, seeds=len(baseline), cells=1)
    return with_chance(table.assign(zero_shot_top1=[score / 100 for score in (*baseline, *arm)]), 1 / 99)


def test_low_scores_that_are_above_chance_are_no_failures() -> None:
    table = a_cell([4, 5, 6, 4.5, 5.5], [1.8, 2.2, 3, 2.5, 2])
    (pair,) = compare(table, baseline={"mask_ratio": 0}, curves=False).pairs
    assert (pair.gain.failures, pair.gain.effect) == (None, Effect.BEHIND)


def test_a_study_near_chance_is_said_to_be_and_keeps_its_numbers() -> None:
    table = a_cell([3.0, 1.5], [1.2, 2.9])
    compared = compare(table, baseline={"mask_ratio": 0})
    said = screen(with_guessing(compared, table, 1 / 99), width=200)
    assert "! near chance: not trained enough (the mean over all runs is 2.2 %, and guessing gives 1.0 %)." in said
    assert compared.pairs[0].gain.failures is None
    assert "-0.2 (" in said


def test_a_run_without_a_score_is_a_failure_of_its_cell_where_chance_is_unknown() -> None:
    table = synthetic({0.5: 0.01}, seeds=3, cells=2)
    table.loc[(table["mask_ratio"] == 0.5) & (table["seed"] == 1) & (table["samples"] == 2000), "zero_shot_top1"] = None
    whole, lacking = compare(table, baseline={"mask_ratio": 0}, curves=False).pairs
    assert (whole.gain.failures, lacking.gain.failures) == (None, (0, 1, 3))
    assert (lacking.seeds, lacking.gain.interval, lacking.gain.effect) == ((0, 2), None, Effect.NOT_SIGNIFICANT)
    known = compare(with_chance(table), baseline={"mask_ratio": 0}, curves=False)
    assert known.pairs[1].gain.failures is None, "a score that was not measured is missing"


def test_a_cell_of_one_seed_has_no_verdict_and_no_interval_beside_cells_of_several() -> None:
    table = synthetic({0.5: 0.05}, seeds=3)
    unfinished = table[(table["samples"] < 10_000) | (table["seed"] == 0)]
    comparison = compare(unfinished, baseline={"mask_ratio": 0})
    *others, last = comparison.pairs
    assert {pair.gain.effect for pair in others} == {Effect.AHEAD}
    assert (last.gain.effect, last.gain.decisive, last.gain.p) == (Effect.ONE_SEED, None, None)
    assert comparison.head
    assert comparison.head.arms[0].effects == {Effect.AHEAD: 9, Effect.ONE_SEED: 1}
    assert "(one seed)" in screen(comparison)
    assert "One seed does not say how far runs scatter" in screen(comparison, width=200)


def test_two_cells_of_three_seeds_borrow_from_each_other() -> None:
    comparison = compare(synthetic({0.5: -0.01}, cells=2), baseline={"mask_ratio": 0}, curves=False)
    assert comparison.noise is not None
    assert comparison.noise.prior_sd is not None
    assert {pair.gain.df for pair in comparison.pairs} == {6}


def test_a_mean_over_cells_is_left_out_where_effects_have_both_signs(fashion: Comparison) -> None:
    assert fashion.head is not None
    assert [arm.mean for arm in fashion.head.arms] == [None, None]


def synthetic(effects: dict[float, float], seeds: int = 3, cells: int = 10, noise: float = 0.002) -> pd.DataFrame:
    """Accuracies of 60 to 80 %, a cell each, with an effect an arm and seeds that scatter by `noise`."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {
                "id": f"{cell}-{arm}-{seed}",
                "cell": f"samples={cell + 1}k",
                "samples": 1000 * (cell + 1),
                "mask_ratio": arm,
                "seed": seed,
                "gpu_hours": 1.0,
                "train_flops": 1e9,
                "zero_shot_top1": 0.6 + 0.02 * cell + effect + rng.normal(0, noise),
            }
            for cell in range(cells)
            for arm, effect in {0.0: 0.0, **effects}.items()
            for seed in range(seeds)
        ]
    )


def test_arms_are_level_only_where_their_interval_lies_within_the_margin() -> None:
    table = synthetic({0.5: 0.001})
    level = compare(table, baseline={"mask_ratio": 0}, curves=False)
    assert level.head is not None
    (arm,) = level.head.arms
    assert arm.effects == {Effect.LEVEL: 10}
    assert arm.mean is not None
    narrow = compare(table, baseline={"mask_ratio": 0}, margin=0.001, curves=False)
    assert narrow.head is not None
    assert Effect.LEVEL not in narrow.head.arms[0].effects


def test_one_significant_gain_is_not_also_level() -> None:
    comparison = compare(synthetic({0.5: -0.006}, noise=0.0005), baseline={"mask_ratio": 0}, curves=False)
    effects = {pair.gain.effect for pair in comparison.pairs}
    assert effects == {Effect.BEHIND}


def test_a_grid_without_a_base_heads_with_its_largest_cell() -> None:
    comparison = compare(synthetic({0.5: 0.0}).iloc[::-1], baseline={"mask_ratio": 0}, curves=False)
    assert comparison.head is not None
    assert (comparison.head.base_cell, comparison.head.is_base) == ("samples=10k", False)


def test_a_seed_that_moves_the_masked_runs_of_all_cells_is_warned_of() -> None:
    table = synthetic({0.5: -0.01})
    table.loc[(table["mask_ratio"] == 0.5) & (table["seed"] == 1), "zero_shot_top1"] += 0.02
    comparison = compare(table, baseline={"mask_ratio": 0}, curves=False)
    assert any("move all cells of an arm alike" in words for words in warnings(comparison))


def test_programs_read_the_head_and_the_noise(fashion: Comparison) -> None:
    data = comparison_json(fashion)
    head, noise = data["head"], data["noise"]
    assert isinstance(head, dict)
    assert isinstance(noise, dict)
    assert head["base_cell"] == BASE
    assert (noise["cells"], noise["noisy"]) == (20, [])


@pytest.mark.parametrize(("chance", "noted"), [(0.1, False), (0.9, True), (None, False)])
def test_runs_that_score_no_better_than_guessing_are_said_to(chance: float | None, noted: bool) -> None:
    table = synthetic({0.5: 0.0}, cells=8)
    mean = 100 * table["zero_shot_top1"].mean()
    comparison = with_guessing(compare(table, baseline={"mask_ratio": 0}, curves=False), table, chance)
    assert [f"{mean:.1f} %, and guessing gives 90.0 %" in words for words in warnings(comparison)] == [True] * noted


def test_a_loss_above_that_of_guessing_is_no_better_either() -> None:
    table = synthetic({0.5: 0.0}, cells=8).assign(held_out_loss=[4.15, 4.17] * 24)
    comparison = compare(table, baseline={"mask_ratio": 0}, score="held_out_loss", curves=False)
    assert "guessing gives 4.159" in with_guessing(comparison, table, 4.1589).guessing_note
    assert with_guessing(comparison, table, 5.0).guessing_note == ""


def test_the_page_says_how_far_other_test_images_would_move_a_gain() -> None:
    """At 79 % on 1,000 images two independent scores differ with a standard error of sqrt(2 * .79 * .21 / 1000)."""
    table = synthetic({0.5: 0.0}, cells=8).assign(zero_shot_top1=0.79, items="zero_shot_top1=1000")
    said = comparison_text(compare(table, baseline={"mask_ratio": 0}, curves=False), full=True, width=200)
    assert (
        "CIs are about these 1,000 test images: other images would add a standard error of at most 1.82 points." in said
    )
    unknown = compare(table.drop(columns="items"), baseline={"mask_ratio": 0}, curves=False)
    assert "test images" not in comparison_text(unknown, full=True)


def test_a_study_without_a_baseline_prints_its_scores() -> None:
    table = synthetic({}, cells=1).assign(zero_shot_top1=[0.70, 0.71, 0.72], held_out_loss=2.5)
    one = compare(table, baseline={})
    assert comparison_json(one)["scores"]["samples=1k"]["zero_shot_top1"]["value"] == pytest.approx(0.71)
    assert "zero-shot accuracy, top 1" in screen(one)
    # t of 2 degrees of freedom is 4.3, and the standard error 0.577 points.
    assert "71.0 % (68.5 % to 73.5 %)" in screen(one)
    assert "names no baseline, so these are its scores." in screen(one)
    several = screen(compare(synthetic({}, cells=9), baseline={"mask_ratio": 0}))
    assert "9k samples" not in several
    assert "more in --full: 1 other row" in several
