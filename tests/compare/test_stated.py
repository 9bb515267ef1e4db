"""Claims judged by results: the paper's on the recipe study of recipe 1, and small tables whose answer is known."""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from flipscale.analysis.comparing import (
    JudgedClaim,
    StudyClaims,
    Verdict,
    claim_count,
    compare,
    judge_claims,
    judge_study,
)
from flipscale.analysis.comparing.answer import claims_table
from flipscale.analysis.comparing.as_json import claims_json
from flipscale.analysis.comparing.best import best_on_other_seeds, moments_at_best, slope_weights
from flipscale.analysis.comparing.estimates import Estimate, ends_of
from flipscale.analysis.comparing.points import Point
from flipscale.analysis.comparing.speedups import curves_of
from flipscale.analysis.comparing.study_comparison import compare_study
from flipscale.analysis.stats import ScoreKind, holm, moments
from flipscale.collecting import read_results
from flipscale.collecting.record import as_in_tables, results_of
from flipscale.door.statements import Contrast, Expectation, StatedClaim
from flipscale.errors import StudyError
from flipscale.planning.runs import plan
from flipscale.study import read_study
from flipscale.study.claims import claims_at_budgets

ROOT = Path(__file__).parents[2]
TABLE_1 = ROOT / "tests/recipe_1/recipe.csv"
BETTER, WORSE, LEVEL, FASTER, FEWER, RISES, FALLS = Expectation


# The recipe study (FLIP's Table 1 in miniature)


@functools.cache
def recipe() -> StudyClaims:
    study = read_study(ROOT / "studies/recipe.yaml")
    results = read_results(TABLE_1)
    family = judge_claims(results, list(map(as_in_tables, study.claims)), score="zero_shot_top1", margin=study.margin)
    assert family
    return family


def test_a_difference_is_the_raw_mean_of_paired_differences_in_points() -> None:
    rows = read_results(TABLE_1).set_index("seed")
    plain = rows[rows["tuning"].isna() & rows["reconstruction"].isna()]
    plain = plain[(plain["text_mask_ratio"] == 0) & (plain["mask_shape"] == "random") & (plain["batch_size"] == 64)]
    of = {mask: of_mask["zero_shot_top1"].sort_index() for mask, of_mask in plain.groupby("mask_ratio")}
    (found,) = (one for one in recipe().claims if one.claim.name == "at equal batch 50 % is worse than no mask")
    assert found.difference
    assert found.difference.values == pytest.approx((100 * (of[0.5] - of[0])).tolist())
    assert found.difference.mean == pytest.approx(100 * (of[0.5] - of[0]).mean())
    low, high = found.difference.interval or (0, 0)
    assert (low + high) / 2 == pytest.approx(found.difference.mean)


def test_claims_are_corrected_within_their_family_alone() -> None:
    assert recipe().families == {
        "Table 1a": 2, "Table 1b": 5, "Table 1c": 3, "Table 1d": 7, "Table 1e": 6, "Table 1f": 2, "mask shapes": 4,
    }  # fmt: skip
    for family in recipe().families:
        found = [one.difference for one in recipe().claims if one.claim.family == family and one.difference]
        judged = holm([one.p for one in found])
        assert [one.corrected and one.corrected.p for one in found] == [one and one.p for one in judged]


def test_at_equal_memory_50_percent_with_twice_the_batch_is_not_better_here() -> None:
    first, second = recipe().claims[:2]
    assert (first.claim.published, second.claim.published) == (1.0, -0.4)
    assert (first.verdict, second.verdict) == (Verdict.CONTRADICTED, Verdict.HOLDS)
    assert claim_count(recipe()).startswith("29 claims: ")


# Small tables


def claim(
    left: float, right: float, expect: Expectation = BETTER, than: tuple[float, float] | None = None
) -> StatedClaim:
    def contrast(left: float, right: float) -> Contrast:
        return Contrast({"mask_ratio": left}, {"mask_ratio": right})

    return StatedClaim(f"{left} {expect} {right}", contrast(left, right), than and contrast(*than), expect, None)


def table(scores: dict[float, list[float | None]], score: str = "zero_shot_top1") -> pd.DataFrame:
    """Runs by mask ratio, a score for each seed from 0 on; None where a run has not finished."""
    return pd.DataFrame(
        [
            {"id": f"m{mask}s{seed}", "mask_ratio": mask, "seed": seed, score: value}
            for mask, of_mask in scores.items()
            for seed, value in enumerate(of_mask)
            if value is not None
        ]
    )


def verdicts(
    results: pd.DataFrame, *claims: StatedClaim, score: str = "zero_shot_top1", margin: float = 1
) -> list[Verdict]:
    family = judge_claims(results, claims, score=score, margin=margin)
    assert family
    return [judged.verdict for judged in family.claims]


BASE: list[float | None] = [0.700, 0.710, 0.690, 0.705, 0.695]


def shifted(points: float, noise: float = 0.001) -> list[float | None]:
    """BASE, some points away, with a little noise of its own."""
    return [
        round(value + points / 100 + noise * sign, 4)
        for value, sign in zip(BASE, (1, -1, 1, -1, 0), strict=True)
        if value
    ]


def test_direction_decides_between_holds_and_contradicted() -> None:
    results = table({0: BASE, 0.5: shifted(-3)})
    assert verdicts(results, claim(0.5, 0, WORSE), claim(0.5, 0, BETTER)) == [Verdict.HOLDS, Verdict.CONTRADICTED]


def test_less_of_a_loss_is_better_and_its_difference_is_in_percent() -> None:
    results = table({0: [2.0, 2.1, 1.9], 0.5: [2.2, 2.311, 2.089]}, "held_out_loss")
    family = judge_claims(results, [claim(0.5, 0, WORSE)], score="held_out_loss", margin=1)
    assert family
    (judged,) = family.claims
    assert judged.unit == "percent"
    assert judged.verdict is Verdict.HOLDS
    assert judged.difference
    assert judged.difference.mean == pytest.approx(-9.52, abs=0.01)  # of the mean of both, 2.1


def test_level_holds_within_the_margin_is_contradicted_beyond_it_and_else_undecided() -> None:
    results = table({0: BASE, 0.1: shifted(0.1), 0.5: shifted(-3), 0.75: shifted(0.5, noise=0.02)})
    stated = [claim(mask, 0, LEVEL) for mask in (0.1, 0.5, 0.75)]
    assert verdicts(results, *stated) == [Verdict.HOLDS, Verdict.CONTRADICTED, Verdict.UNDECIDED]


def test_a_wider_margin_is_what_makes_a_difference_level() -> None:
    results = table({0: BASE, 0.5: shifted(-1.5)})
    assert verdicts(results, claim(0.5, 0, LEVEL), margin=1) == [Verdict.CONTRADICTED]
    assert verdicts(results, claim(0.5, 0, LEVEL), margin=3) == [Verdict.HOLDS]


def test_a_claims_own_margin_stands_for_the_studys() -> None:
    results = table({0: BASE, 0.5: shifted(-1.5)})
    stated = [replace(claim(0.5, 0, LEVEL), margin=margin) for margin in (None, 3)]
    assert verdicts(results, *stated, margin=1) == [Verdict.CONTRADICTED, Verdict.HOLDS]


def test_level_goes_by_two_one_sided_tests_and_a_90_percent_interval() -> None:
    values = table({0: BASE, 0.5: shifted(0.4, noise=0.004)})
    family = judge_claims(values, [claim(0.5, 0, LEVEL)], score="zero_shot_top1", margin=1)
    assert family
    found = family.claims[0].difference
    assert found
    low, high = found.interval or (0, 0)
    inside = low > -1 and high < 1
    assert inside == (found.p <= 0.05) == (family.claims[0].verdict is Verdict.HOLDS)
    at_its_end = judge_claims(values, [claim(0.5, 0, LEVEL)], score="zero_shot_top1", margin=high)
    assert at_its_end
    assert at_its_end.claims[0].difference
    assert at_its_end.claims[0].difference.p == pytest.approx(0.05)


def test_a_difference_of_differences_is_in_points() -> None:
    results = table({0: [0.5, 0.5], 0.1: [0.6, 0.6], 0.2: [0.8, 0.8], 0.3: [0.92, 0.93]})
    more = claim(0.3, 0.2, BETTER, than=(0.1, 0))
    family = judge_claims(results, [more], score="zero_shot_top1", margin=1)
    assert family
    assert family.claims[0].difference
    assert family.claims[0].difference.mean == pytest.approx(2.5)


def test_one_claim_is_judged_by_its_own_seeds() -> None:
    results = table({0: BASE, 0.5: shifted(-3)})
    family = judge_claims(results, [claim(0.5, 0)], score="zero_shot_top1", margin=1)
    assert family
    assert family.noise.prior_sd is None
    (judged,) = family.claims
    assert judged.difference
    assert judged.difference.p == pytest.approx(ttest_rel(shifted(-3), BASE).pvalue)


def test_exchanged_sides_have_the_other_sign_and_nothing_else() -> None:
    results = table({0: BASE, 0.5: shifted(-3), 0.75: shifted(0.5, noise=0.02)})
    there = judge_claims(results, [claim(0.5, 0), claim(0.75, 0)], score="zero_shot_top1", margin=1)
    back = judge_claims(results, [claim(0, 0.5), claim(0, 0.75)], score="zero_shot_top1", margin=1)
    assert there
    assert back
    for one, other in zip(there.claims, back.claims, strict=True):
        assert one.difference
        assert other.difference
        assert one.difference.mean == pytest.approx(-(other.difference.mean or 0))
        assert one.difference.interval == pytest.approx([-end for end in reversed(other.difference.interval or ())])
        assert one.difference.p == pytest.approx(other.difference.p)


def test_where_only_some_runs_take_off_five_pairs_decide_nothing() -> None:
    results = table({0: [0.02, 0.9, 0.02, 0.02, 0.02], 0.5: [0.9, 0.91, 0.9, 0.92, 0.9]})
    results = results.assign(chance="zero_shot_top1=0.02", items="zero_shot_top1=1000")
    family = judge_claims(results, [claim(0.5, 0), claim(0.5, 0, LEVEL)], score="zero_shot_top1", margin=1)
    assert family
    for judged in family.claims:
        assert judged.verdict is Verdict.UNDECIDED
        assert judged.difference
        assert judged.difference.mean == pytest.approx(71)
        assert judged.difference.interval is None
        assert judged.difference.failures == (4, 0, 5)


# Along the schedule


def schedule(spends: float = 0.5, factor: float = 1.6, noise: float = 0.003) -> pd.DataFrame:
    """Runs of an odds law; masked ones need 1/factor of the cost, and spend this much a sample."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {
                "id": f"m{mask}-{samples}-{seed}",
                "mask_ratio": mask,
                "samples": samples,
                "seed": seed,
                "gpu_hours": cost,
                "device": "cpu",
                "zero_shot_top1": odds / (1 + odds) + noise * rng.standard_normal(),
            }
            for mask, price, gain in ((0.0, 1.0, 1.0), (0.5, spends, factor), (0.75, spends / 2, factor))
            for samples in (8, 16, 32, 64, 128)
            for seed in range(4)
            for cost in [samples * price]
            for odds in [(gain * cost / 20) ** 0.8]
        ]
    )


def along(expect: Expectation, score: float | dict[str, object], mask: float = 0.5, than: float = 0) -> StatedClaim:
    contrasts = [Contrast({"mask_ratio": arm}, {"mask_ratio": 0.0}) for arm in (mask, than)]
    return StatedClaim("along", contrasts[0], contrasts[1] if than else None, expect, None, score=score)


def one_judged(claim: StatedClaim) -> JudgedClaim:
    family = judge_claims(schedule(), [claim], score="zero_shot_top1", margin=1)
    assert family
    return family.claims[0]


@pytest.mark.parametrize("score", [0.6, {"mask_ratio": 0.0, "samples": 64}])
def test_a_claim_of_faster_is_read_at_a_number_or_at_the_mean_of_a_cell(score: float | dict[str, object]) -> None:
    judged = one_judged(along(FASTER, score))
    assert (judged.verdict, judged.unit, judged.seeds) == (Verdict.HOLDS, "x", (0, 1, 2, 3))
    assert judged.difference
    assert judged.difference.mean == pytest.approx(1.6, rel=0.05)
    low, high = judged.difference.interval or (0, 0)
    assert 1.4 < low < judged.difference.mean < high < 1.8


def test_a_claim_of_fewer_samples_is_contradicted_where_a_cheaper_sample_is_what_is_faster() -> None:
    judged = one_judged(along(FEWER, 0.6))
    assert judged.verdict is Verdict.CONTRADICTED
    assert judged.difference
    assert judged.difference.mean == pytest.approx(0.8, rel=0.05)


def test_the_ratio_of_two_speedups_is_judged() -> None:
    judged = one_judged(along(FASTER, 0.6, mask=0.5, than=0.75))
    assert judged.difference
    assert judged.difference.mean == pytest.approx(1, rel=0.05)
    assert judged.verdict is Verdict.UNDECIDED


def flattening(seed: int, noise: float = 0.003, hours: float = 0.0) -> pd.DataFrame:
    """Runs of two odds laws: an arm at half the price a sample, with the exponent 0.6 of its cost, and a base with 0.8.

    The arm's cost at odds q is 20 q^(1/0.6), the base's 20 q^(1/0.8): the speed-up is q^-0.417, and so 4^(1/3) = 1.59
    times as large at the base's score after 16 samples as at that after 64.
    """
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        [
            {
                "id": f"m{mask}-{samples}-{one}",
                "mask_ratio": mask,
                "samples": samples,
                "seed": one,
                "gpu_hours": samples * price * spent[mask, one],
                "device": "cpu",
                "zero_shot_top1": odds / (1 + odds) + shared[one] + noise * rng.standard_normal(),
            }
            for shared in [noise * rng.standard_normal(4)]
            for spent in [
                {(mask, one): np.exp(hours * rng.standard_normal()) for mask in (0.0, 0.5) for one in range(4)}
            ]
            for mask, price, power in ((0.0, 1.0, 0.8), (0.5, 0.5, 0.6))
            for samples in (8, 16, 32, 64, 128, 256, 512)
            for one in range(4)
            for odds in [(samples * price / 20) ** power]
        ]
    )


def at_two_scores(results: pd.DataFrame, *scores: dict[str, object] | float) -> JudgedClaim:
    contrast = Contrast({"mask_ratio": 0.5}, {"mask_ratio": 0.0})
    than = (contrast, scores[1]) if len(scores) > 1 else (None, None)
    claim = StatedClaim("a", contrast, than[0], FASTER, None, score=scores[0], than_score=than[1])
    family = judge_claims(results, [claim], score="zero_shot_top1", margin=1)
    assert family
    return family.claims[0]


EARLY: dict[str, object] = {"mask_ratio": 0.0, "samples": 16}
LATE: dict[str, object] = {"mask_ratio": 0.0, "samples": 64}


def test_a_speed_up_at_one_score_over_that_at_another_is_as_drawn() -> None:
    found = [at_two_scores(flattening(seed), EARLY, LATE) for seed in range(40)]
    covered = 0
    for judged in found:
        assert judged.difference
        assert judged.difference.mean == pytest.approx(4 ** (1 / 3), rel=0.12)
        low, high = judged.difference.interval or (0, 0)
        covered += low < 4 ** (1 / 3) < high
        assert judged.verdict is Verdict.HOLDS
    assert covered >= 35


def test_both_scores_of_a_claim_are_read_in_the_same_draws() -> None:
    results = flattening(0, hours=0.2)
    both, *each = [at_two_scores(results, *scores).difference for scores in ((EARLY, LATE), (EARLY,), (LATE,))]

    def width(found: Estimate | None) -> float:
        assert found
        assert found.interval
        return float(np.log(found.interval[1] / found.interval[0]))

    # Hours that move all of a curve cancel; in independent draws they would add up.
    assert width(both) < 0.5 * min(map(width, each))


def test_a_lower_bound_is_divided_by_a_factor_and_contradicts_nothing() -> None:
    results = flattening(0)
    results = results[(results["mask_ratio"] == 0) | (results["samples"] >= 128)]
    bound = at_two_scores(results, EARLY, LATE)
    assert bound.difference
    assert bound.difference.at_least
    assert (bound.verdict, bound.difference.interval.high) == (Verdict.UNDECIDED, np.inf)
    # 16 hours over the 64 of the shortest run that is left, over the speed-up at the later score, 0.68.
    assert bound.difference.mean == pytest.approx(16 / 64 / 0.68, rel=0.05)
    turned = at_two_scores(results, LATE, EARLY)
    assert (turned.verdict, turned.why) == (
        Verdict.NOT_TESTED,
        "the shortest schedule at `than` is better already, and a bound does not divide",
    )


@pytest.mark.parametrize("name", ["flip", "equal_memory", "mosaic", "recipe"])
def test_a_gain_that_is_a_claim_has_the_claim_s_interval_and_verdict(name: str) -> None:
    study = read_study(ROOT / f"studies/{name}.yaml")
    comparison = compare_study(results_of(read_results(ROOT / f"results/{name}/results.csv"), study, plan(study)))
    assert comparison.stated
    gains = {pair.sides: pair.gain for pair in comparison.pairs}
    found = [(judged, gains[judged.sides]) for judged in comparison.stated.claims if judged.sides in gains]
    assert found
    for judged, gain in found:
        difference, both = judged.difference, gain.corrected
        assert difference
        assert difference.corrected
        assert both
        assert (both.claim, both.of, both.p) == (judged.claim.name, difference.corrected.of, difference.corrected.p)
        assert gain.failures == difference.failures
        if both.interval is not None and gain.interval is not None:
            assert 100 * both.interval.low == pytest.approx(difference.corrected.interval.low)
            assert 100 * gain.interval.low == pytest.approx(difference.interval.low)
    # The others are a family of their own.
    assert comparison.gains_claimed == len(comparison.pairs) - len(found)
    of = {pair.gain.corrected.of for pair in comparison.pairs if pair.gain.corrected and not pair.gain.corrected.claim}
    assert of <= {comparison.gains_claimed}


def test_a_speed_up_that_is_a_claim_is_judged_as_that_claim() -> None:
    results = schedule(spends=1.0).assign(train_flops=1.0)
    stated = judge_claims(
        results,
        [along(FASTER, LATE), replace(along(FEWER, LATE, mask=0.75), name="fewer")],
        score="zero_shot_top1",
        margin=1,
    )
    comparison = compare(results, baseline={"mask_ratio": 0}, stated=stated)
    assert stated
    speedups = {curve.arm: curve.speedup for curve in comparison.first_curves}
    half, quarter = speedups["mask_ratio=0.5"], speedups["mask_ratio=0.75"]
    assert half
    assert half.speedup == stated.claims[0].difference
    assert comparison.speedups_claimed == 1
    fewer = stated.claims[1].difference
    assert fewer
    assert fewer.interval
    assert quarter
    assert quarter.samples.interval == pytest.approx(tuple(1 / end for end in fewer.interval[::-1]))
    assert quarter.speedup.corrected
    assert (quarter.speedup.corrected.of, quarter.speedup.corrected.claim) == (1, "")


def test_samples_have_no_upper_end_where_some_draws_never_reach_the_score() -> None:
    # By luck the last mean of the arm is just above the score that is asked.
    results = schedule(spends=1.0, factor=0.44, noise=0.02).query("mask_ratio < 0.75").assign(train_flops=1.0)
    stated = judge_claims(results, [along(FEWER, LATE)], score="zero_shot_top1", margin=1)
    comparison = compare(results, baseline={"mask_ratio": 0}, stated=stated)
    (read,) = (curve.speedup for curve in comparison.first_curves)
    assert read
    assert read.samples.interval
    assert read.samples.interval.high == np.inf
    assert 1 < read.samples.interval.low < (read.samples.mean or 0)


def test_an_end_at_the_smallest_level_of_a_family_rests_on_250_draws() -> None:
    points = [
        Point(f"{mask}{at}{seed}", f"{at}", "", at, at, "arm" if mask else "", seed, "", y, {"h": at})
        for mask, at, seed, y in schedule()[["mask_ratio", "samples", "seed", "zero_shot_top1"]].itertuples(index=False)
        if mask != 0.75
    ]
    (curve,) = curves_of(points, ["arm"], ["h"], ScoreKind(fraction=True, lower=False), looks=6)
    assert curve.speedup
    draws = curve.speedup.speedup.draws
    assert draws is not None
    low, _ = ends_of(curve.speedup.speedup, 0.05 / 6)
    assert int((np.exp(draws) <= low).sum()) >= 250


def test_each_look_is_judged_at_its_share_of_5_percent() -> None:
    results = table({0: BASE, 0.5: shifted(-3)})
    once, twice = (
        judge_claims(results, [claim(0.5, 0, WORSE)], score="zero_shot_top1", margin=1, looks=looks) for looks in (1, 2)
    )
    assert once
    assert twice
    first, second = once.claims[0].difference, twice.claims[0].difference
    assert first
    assert second
    assert first.corrected
    assert second.corrected
    assert second.corrected.p == pytest.approx(2 * first.corrected.p)
    assert (second.interval.low, second.interval.high) == (first.interval.low, first.interval.high)
    assert second.corrected.interval is not None
    assert first.corrected.interval is not None
    assert second.corrected.interval.low < first.corrected.interval.low


def test_a_study_s_looks_are_in_all_of_its_corrections_and_said(tmp_path: Path) -> None:
    text = (ROOT / "studies/plateau.yaml").read_text()
    (tmp_path / "plateau.yaml").write_text(f"{text}\nlooks: 5\n")
    studies = [read_study(path) for path in (ROOT / "studies/plateau.yaml", tmp_path / "plateau.yaml")]
    results = read_results(ROOT / "results/plateau/results.csv")
    once, five = (compare_study(results_of(results, study, plan(study)), curves=False) for study in studies)
    for before, after in zip(once.pairs, five.pairs, strict=True):
        assert before.gain.corrected
        assert after.gain.corrected
        assert after.gain.corrected.p == pytest.approx(min(1, 5 * before.gain.corrected.p))
    assert once.head
    assert five.head
    assert once.head.sensitivity
    assert five.head.sensitivity
    assert (five.head.sensitivity.detectable or 0) > (once.head.sensitivity.detectable or 0)
    assert five.caveats[-1].startswith("Results are looked at 5 times")
    assert [run.id for run in plan(studies[0]).runs] == [run.id for run in plan(studies[1]).runs]


def test_a_score_that_a_side_never_reaches_is_not_tested() -> None:
    judged = one_judged(along(FASTER, 0.99))
    assert judged.verdict is Verdict.NOT_TESTED
    assert "does not pass through 0.99" in (judged.why or "")


# The best of several cells, and slopes


def at_best_sizes(folder: Path) -> StudyClaims:
    """The tuned IsoFLOP study, with claims about its arms at their best size for each budget."""
    text = (ROOT / "studies/isoflop_tuned.yaml").read_text()
    (folder / "isoflop_tuned.yaml").write_text(f"""{text}
claims:
  it rises: {{left: {{mask_ratio: 0.5}}, best_of: model, along: samples, expect: rises}}
  it falls: {{left: {{mask_ratio: 0.5}}, best_of: model, along: samples, expect: falls, family: other}}
  ahead:
    at: {{samples: [1e11 FLOPs, 2.5e11 FLOPs, 6e11 FLOPs, 1.5e12 FLOPs]}}
    left: {{mask_ratio: 0.5}}
    best_of: model
    expect: better
    family: budgets
""")
    results = read_results(ROOT / "results/isoflop_tuned/results.csv")
    study = read_study(folder / "isoflop_tuned.yaml")
    judged = judge_study(results_of(results, study, plan(study)), "zero_shot_top1")
    assert judged
    return judged


def test_each_budget_is_compared_at_the_best_size_by_the_other_seeds(tmp_path: Path) -> None:
    rises, falls, *ahead = at_best_sizes(tmp_path).claims
    # From the raw rows: for each budget, arm and seed the model with the best mean of the other two seeds.
    means = [each.difference.mean for each in ahead if each.difference]
    assert means == pytest.approx([-1.42, -0.4567, -0.1533, 0.41], abs=1e-4)
    assert rises.difference
    assert rises.difference.values == pytest.approx((0.5192, 0.3283, 0.4929), abs=1e-4)
    # A plain t has p = 0.0174; as seeds choose different models, the error is sqrt(1 + 3 / 2) times as large.
    assert rises.difference.p == pytest.approx(0.0419, abs=1e-4)
    assert (rises.verdict, falls.verdict) == (Verdict.HOLDS, Verdict.CONTRADICTED)


def test_a_best_size_at_the_edge_of_the_grid_is_said(tmp_path: Path) -> None:
    judged = at_best_sizes(tmp_path)
    masked, unmasked = judged.claims[-1].best
    assert set(masked.values) == {"ViT-w32d2-4"}
    assert set(unmasked.values) == {"ViT-w32d1-4"}
    notes = " ".join(claims_table(judged).notes)
    assert "The best model is at an edge of the grid" in notes
    assert "ahead (samples=1.5e12 FLOPs)" not in notes
    first = claims_json(judged)["claims"][0]
    assert first["along"] == [1e11, 2.5e11, 6e11, 1.5e12]
    assert len(first["best"]) == 8


def test_a_study_without_budgets_has_nothing_at_budgets() -> None:
    assert claims_at_budgets(read_study(ROOT / "studies/recipe.yaml")) == ()


def test_a_seed_takes_no_part_in_the_choice_for_itself() -> None:
    scores = np.array([[9.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    assert best_on_other_seeds(scores, 1) == [1, 0, 0]
    assert best_on_other_seeds(scores, -1) == [0, 1, 1]


def test_a_ci_counts_that_seeds_choose_different_cells() -> None:
    """A referee found that plain t's intervals hold the truth in 88 to 94 % of studies."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(1500):
        sides = rng.standard_normal((2, 4, 5))
        choices = [best_on_other_seeds(scores, 1) for scores in sides]
        left, right = (scores[chosen, range(5)] for scores, chosen in zip(sides, choices, strict=True))
        known = moments_at_best((left - right).tolist(), choices)
        assert known
        low, high = known.interval()
        held.append(low <= 0 <= high)
    assert 0.94 < np.mean(held) < 0.97
    assert moments_at_best([1.0, 2.0, 4.0], [[0, 0, 0], [3, 3, 3]]) == moments([1.0, 2.0, 4.0])


def test_a_slope_is_per_doubling() -> None:
    assert slope_weights([1.0, 2.0, 4.0]) @ [5.0, 7.0, 9.0] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("claim", "complaint"),
    [
        ("{left: {mask_ratio: 0.5}, expect: rises}", "a claim of 'rises' needs `along`"),
        ("{left: {mask_ratio: 0.5}, along: samples, expect: better}", "a claim of 'better' takes no `along`"),
        ("{left: {mask_ratio: 0.5}, along: batch_size, expect: falls}", "'batch_size' is no axis of two or more"),
        (
            "{at: {samples: 1e11 FLOPs}, left: {mask_ratio: 0.5, model: ViT-w16d1-4}, best_of: model, expect: better}",
            "best_of is model, which a side fixes",
        ),
        (
            "{at: {samples: 1e11 FLOPs, model: ViT-w16d1-4}, left: {mask_ratio: 0.5}, best_of: lr, expect: better}",
            "fewer than two values of lr have such cells",
        ),
    ],
)
def test_claims_about_best_cells_and_slopes_are_checked(tmp_path: Path, claim: str, complaint: str) -> None:
    text = (ROOT / "studies/isoflop_tuned.yaml").read_text()
    (tmp_path / "isoflop_tuned.yaml").write_text(f"{text}\nclaims:\n  one: {claim}\n")
    with pytest.raises(StudyError) as raised:
        read_study(tmp_path / "isoflop_tuned.yaml")
    assert complaint in str(raised.value)


def test_why_a_claim_is_not_tested() -> None:
    results = table({0: BASE, 0.5: shifted(-3), 0.6: [None] * 5 + [0.7], 0.75: [0.5]})
    family = judge_claims(
        results, [claim(0.5, 0, WORSE), claim(0.9, 0), claim(0.6, 0), claim(0.75, 0)], score="zero_shot_top1", margin=1
    )
    assert family
    assert [(judged.verdict, judged.why) for judged in family.claims] == [
        (Verdict.HOLDS, None),
        (Verdict.NOT_TESTED, "no finished run is mask_ratio=0.9"),
        (Verdict.NOT_TESTED, "its cells have no seed in common"),
        (Verdict.NOT_TESTED, "one seed gives no interval"),
    ]
    assert family.families == {"": 1}
    assert family.claims[0].seeds == (0, 1, 2, 3, 4)


def test_no_claims_are_no_family() -> None:
    assert judge_claims(table({0: BASE}), [], score="zero_shot_top1", margin=1) is None


def test_json_has_the_contrast_the_family_and_the_answer() -> None:
    text = claims_json(recipe())
    listed = text["claims"]
    assert isinstance(listed, list)
    more_so = next(entry for entry in listed if entry["than"])
    assert more_so["left"]["score"] == "masked.zero_shot_top1"
    assert more_so["than"]["left"] == more_so["left"] | {"mask_ratio": 0.5}
    assert (more_so["verdict"], more_so["family"]) == ("holds", "Table 1d")
    assert more_so["difference"]["p_corrected"] <= 0.05
    assert more_so["difference"]["comparisons"] == 7
    assert len(more_so["runs"]) == 10


def test_claims_are_about_the_study_s_own_score() -> None:
    study = read_study(ROOT / "studies/recipe.yaml")
    results = results_of(read_results(TABLE_1), study, plan(study))
    assert judge_study(results, "held_out_loss") is None
    assert judge_study(results, "zero_shot_top1") is not None
