"""Comparisons where the lengths of a seed share a trunk: seeds, with all of their runs, are what intervals rest on."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from flipscale.analysis.comparing import compare
from flipscale.analysis.comparing.points import Point
from flipscale.analysis.comparing.speedups import TwoLines, two_lines
from flipscale.analysis.comparing.stated import judge_claims
from flipscale.analysis.stats import Differences, Moments, ScoreKind, moments, shrink_variances, slope_of, units_of
from flipscale.door.statements import Contrast, Expectation, StatedClaim

LENGTHS = (1000, 2000, 4000, 8000)


def results(seeds: int = 4, *, schedule: str = "constant") -> pd.DataFrame:
    """Two models, four lengths, masks 0 and 50 %: masked runs 2 points ahead, with one offset for each trunk."""
    rng = np.random.default_rng(1)
    rows = []
    for model, flops in (("ViT-w16d1-4", 1e6), ("ViT-w32d1-4", 2e6)):
        for mask in (0.0, 0.5):
            for seed in range(seeds):
                luck = 0.02 * rng.standard_normal()
                for place, samples in enumerate(LENGTHS):
                    score = 0.5 + 0.05 * place + 0.04 * mask + luck + 0.002 * rng.standard_normal()
                    run = f"{model}-{mask}-{seed}-{samples}"
                    cost = flops * samples * (1 - 0.4 * mask)
                    cell = f"model={model}, samples={samples}"
                    rows.append(
                        (run, cell, model, samples, samples // 5, schedule, mask, seed, flops, cost, cost, score)
                    )
    names = (
        "id cell model samples cooldown schedule mask_ratio seed flops_per_sample train_flops gpu_hours zero_shot_top1"
    )
    return pd.DataFrame(rows, columns=names.split())


def slopes(table: pd.DataFrame) -> dict[str, float]:
    """The width of the CI of each slope."""
    head = compare(table, baseline={"mask_ratio": 0.0}, score="zero_shot_top1", curves=False).head
    return {slope.axis: slope.interval.high - slope.interval.low for slope in head.arms[0].slopes}


def test_a_slope_over_models_is_a_students_t_over_seeds_where_their_lengths_share_trunks() -> None:
    table = results()
    scores = table.pivot_table(index=["model", "seed"], columns="mask_ratio", values="zero_shot_top1", aggfunc="mean")
    gains = (scores[0.5] - scores[0.0]).unstack("model").to_numpy()
    of_seeds = moments((gains[:, 1] - gains[:, 0]).tolist()).interval()
    assert slopes(table)["model"] == pytest.approx(of_seeds.high - of_seeds.low)
    assert slopes(results(schedule="cosine"))["model"] < 0.6 * slopes(table)["model"]
    # An offset of the whole trunk does not tilt a line along its lengths.
    assert slopes(table)["samples"] < 0.5 * slopes(results(schedule="cosine"))["samples"]


def test_a_slope_by_seeds_weighs_cells_as_one_by_cells_does() -> None:
    x = np.array([0.0, 1.0, 2.0])
    cells = [Moments(mean, 0.1, 4) for mean in (1.0, 2.0, 4.0)]
    by_seed = np.array([[0.5, 1.5], [2.0, 2.0], [3.5, 4.5]])
    assert slope_of([(x, cells)], by_seed).slope == pytest.approx(slope_of([(x, cells)]).slope)
    assert slope_of([(x, cells)], by_seed).bends_p is None
    assert slope_of([(x, cells)], by_seed[:, :1]) is None


def test_cells_of_one_trunk_lend_each_other_no_degrees_of_freedom() -> None:
    gains = {pair.cell: pair.gain for pair in compare(results(), baseline={"mask_ratio": 0.0}, curves=False).pairs}
    assert {gain.df for gain in gains.values()} == {3 + 4}  # two models, so two trunks of the arm at each seed
    one = results().query("model == 'ViT-w16d1-4'")
    assert {pair.gain.df for pair in compare(one, baseline={"mask_ratio": 0.0}, curves=False).pairs} == {3}
    alone = results(schedule="cosine").query("model == 'ViT-w16d1-4'")
    assert {pair.gain.df for pair in compare(alone, baseline={"mask_ratio": 0.0}, curves=False).pairs} == {3 + 4}


def test_units_are_cells_linked_by_trunks() -> None:
    assert units_of({"a": {1, 2}, "b": {2, 3}, "c": set(), "d": {4}, "e": set()}) == {
        "a": 0,
        "b": 0,
        "c": 1,
        "d": 2,
        "e": 3,
    }
    assert units_of({}) == {}
    cells = {name: Differences(values, 1.0) for name, values in {"a": [1.0, 3], "b": [1.0, 5], "c": [0.0, 1]}.items()}
    assert shrink_variances(cells, {"a": 0, "b": 1, "c": 2}) == shrink_variances(cells)
    assert shrink_variances(cells, {"a": 0, "b": 0, "c": 0}).prior_sd is None


def lines(trunks: bool) -> TwoLines:
    """A baseline and an arm of half the cost, each seed with one offset."""
    offsets = {"": (-0.02, 0.0, 0.01, 0.01), "arm": (0.02, -0.01, 0.01, -0.02)}
    sides = [
        [
            Point(
                f"{arm}{at}-{seed}",
                f"{at}",
                "",
                at,
                at,
                arm,
                seed,
                "",
                0.5 + 0.06 * place + luck,
                {"hours": at / spends},
            )
            for place, at in enumerate(LENGTHS)
            for seed, luck in enumerate(offsets[arm])
        ]
        for arm, spends in (("", 1), ("arm", 2))
    ]
    sides = [[replace(p, trunk=10 * bool(p.arm) + p.seed if trunks else -1) for p in side] for side in sides]
    found = two_lines(*sides, "hours", ScoreKind(fraction=True, lower=False))
    assert isinstance(found, TwoLines)
    return found


def test_draws_of_curves_move_all_lengths_of_a_seed_together() -> None:
    assert (lines(trunks=True).trunks, lines(trunks=False).trunks) == (True, False)
    base, ours, _ = lines(trunks=True).draws
    moved = (base - base.mean(axis=0)) / [0.25, 0.44 * 0.56, 0.62 * 0.38, 0.68 * 0.32]
    assert np.corrcoef(moved.T).min() > 0.99
    # Their middle half is Student's of three degrees of freedom about the mean.
    error = np.std([0.02, -0.01, 0.01, -0.02], ddof=1) / 2
    assert np.subtract(*np.quantile(ours[:, 0], [0.75, 0.25])) == pytest.approx(2 * 0.765 * error, rel=0.1)
    wide, narrow = (lines(trunks).at_target().speedup.interval for trunks in (True, False))
    assert wide[1] / wide[0] > 1.2 * narrow[1] / narrow[0]


def test_claims_about_lengths_of_one_trunk_lend_each_other_no_degrees_of_freedom() -> None:
    def claim(samples: int) -> StatedClaim:
        sides = ({"mask_ratio": mask, "samples": samples, "model": "ViT-w16d1-4"} for mask in (0.5, 0.0))
        return StatedClaim(f"at {samples}", Contrast(*sides), None, Expectation.BETTER, None)

    claims = [claim(1000), claim(8000)]
    df = {
        schedule: {
            judged.difference.df
            for judged in judge_claims(results(schedule=schedule), claims, score="zero_shot_top1", margin=1.0).claims
        }
        for schedule in ("constant", "cosine")
    }
    assert df == {"constant": {3}, "cosine": {3 + 4}}
