"""Claims judged by results: the paper's on the recipe study of recipe 1, and small tables whose answer is known."""

import functools
import math
from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import ttest_rel

from flipscale.collect import read_results
from flipscale.compare import ClaimFamily, Verdict, claim_count, claims_markdown, judge_claims, judge_study
from flipscale.compare.stated_text import claims_json
from flipscale.stats import NoiseMethod
from flipscale.study import Contrast, Expectation, StatedClaim, read_study

ROOT = Path(__file__).parents[2]
TABLE_1 = ROOT / "tests/recipe_1/recipe.csv"
BETTER, WORSE, LEVEL = Expectation


# The recipe study (FLIP's Table 1 in miniature): 27 claims as they were judged before, and the equal-memory diagonal


@functools.cache
def recipe(first: int = 0) -> ClaimFamily:
    study = read_study(ROOT / "studies/recipe.yaml")
    results = read_results(TABLE_1)
    family = judge_claims(results, study.claims[first:], score="zero_shot_top1", margin=study.margin)
    assert family
    return family


def corrected(family: ClaimFamily) -> dict[str, float]:
    return {one.claim.name: one.difference.p_corrected for one in family.claims if one.difference}


def test_without_the_diagonal_12_of_27_claims_are_decided_where_each_claims_own_seeds_decide_9() -> None:
    family = recipe(first=2)
    assert family.tested == 27
    assert sum(p <= 0.05 for p in corrected(family).values()) == 12
    assert sum(one.by_own_seeds is not None and one.by_own_seeds.p_corrected <= 0.05 for one in family.claims) == 9


@pytest.mark.parametrize(
    ("name", "p"),
    [
        ("masked inference is worse than full, and more so at 75 % than at 50 %", 0.0013),
        ("random text masking is worse than none", 0.0011),
        ("random text masking is worse than prioritised", 0.0021),
        ("a batch four times as large is better (mask_ratio=0)", 0.110),
        ("a batch four times as large is better (mask_ratio=0.5)", 0.301),
        ("a batch four times as large is better (mask_ratio=0.75)", 0.271),
        ("an ensemble of masks is worse than no mask (mask_ratio=0.75)", 0.30),
        ("other masks are worse than random ones (mask_ratio=0.75, mask_shape=grid)", 0.82),
    ],
)
def test_holm_p_of_the_27_claims_is_that_of_a_second_program(name: str, p: float) -> None:
    assert corrected(recipe(first=2))[name] == pytest.approx(p, rel=0.05)


def test_noise_of_the_27_claims_is_that_of_a_second_program() -> None:
    noise = recipe(first=2).noise
    assert noise
    assert noise.prior_df == pytest.approx(5.96, abs=0.005)
    assert noise.prior_sd == pytest.approx(0.0411, abs=5e-5)
    assert [name.partition(" (")[0] for name in noise.wild] == ["a batch four times as large is better"] * 3


def test_a_claim_by_its_own_seeds_is_a_paired_t_test_of_logits() -> None:
    results = read_results(TABLE_1).sort_values("seed")
    plain = results[results["tuning"].isna() & results["reconstruction"].isna()]
    plain = plain[(plain["text_mask_ratio"] == 0) & (plain["mask_shape"] == "random")]
    hits = {key: 2000 * rows["zero_shot_top1"] for key, rows in plain.groupby(["mask_ratio", "batch_size"])}
    logits = {key: [math.log((h + 0.5) / (2000.5 - h)) for h in of_key] for key, of_key in hits.items()}
    family = recipe()
    for claim, (left, right) in zip(
        family.claims[:3], [((0.5, 128), (0, 64)), ((0.75, 256), (0, 64)), ((0.5, 64), (0, 64))], strict=True
    ):
        assert claim.by_own_seeds
        assert claim.by_own_seeds.p == pytest.approx(ttest_rel(logits[left], logits[right]).pvalue, rel=1e-4)


def test_at_equal_memory_50_percent_with_twice_the_batch_is_not_better_here() -> None:
    first, second = recipe().claims[:2]
    assert (first.claim.published, second.claim.published) == (1.0, -0.4)
    assert (first.verdict, second.verdict) == (Verdict.CONTRADICTED, Verdict.HOLDS)
    assert claim_count(recipe()) == "29 claims: 12 hold, 2 contradicted, 15 undecided"


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
    assert family.unit == "percent"
    (judged,) = family.claims
    assert judged.verdict is Verdict.HOLDS
    assert judged.difference
    assert judged.difference.estimate == pytest.approx(-10, abs=0.05)


def test_level_holds_within_the_margin_is_contradicted_beyond_it_and_else_undecided() -> None:
    results = table({0: BASE, 0.1: shifted(0.1), 0.5: shifted(-3), 0.75: shifted(0.5, noise=0.02)})
    stated = [claim(mask, 0, LEVEL) for mask in (0.1, 0.5, 0.75)]
    assert verdicts(results, *stated) == [Verdict.HOLDS, Verdict.CONTRADICTED, Verdict.UNDECIDED]


def test_a_wider_margin_is_what_makes_a_difference_level() -> None:
    results = table({0: BASE, 0.5: shifted(-1.5)})
    assert verdicts(results, claim(0.5, 0, LEVEL), margin=1) == [Verdict.CONTRADICTED]
    assert verdicts(results, claim(0.5, 0, LEVEL), margin=3) == [Verdict.HOLDS]


def test_level_goes_by_two_one_sided_tests_and_a_90_percent_interval() -> None:
    values = table({0: BASE, 0.5: shifted(0.4, noise=0.004)})
    family = judge_claims(values, [claim(0.5, 0, LEVEL)], score="zero_shot_top1", margin=1)
    assert family
    found = family.claims[0].difference
    assert found
    inside = found.interval.low > -1 and found.interval.high < 1
    assert inside == (found.p <= 0.05) == (family.claims[0].verdict is Verdict.HOLDS)
    at_its_end = judge_claims(values, [claim(0.5, 0, LEVEL)], score="zero_shot_top1", margin=found.interval.high)
    assert at_its_end
    assert at_its_end.claims[0].difference
    assert at_its_end.claims[0].difference.p == pytest.approx(0.05)


def test_a_difference_of_differences_is_taken_on_the_logit() -> None:
    """From 50 to 60 % is a step of log 1.5; from 80 % the same step leads to 85.7 %, and 90 % is 4.3 points more."""
    results = table({0: [0.5, 0.5], 0.1: [0.6, 0.6], 0.2: [0.8, 0.8], 0.3: [0.9, 0.9], 0.4: [0.12345]})
    more = claim(0.3, 0.2, BETTER, than=(0.1, 0))
    family = judge_claims(results, [more], score="zero_shot_top1", margin=1)
    assert family
    assert family.claims[0].difference
    assert family.claims[0].difference.estimate == pytest.approx(100 * (0.9 - 6 / 7), abs=0.01)


def test_one_claim_is_judged_by_its_own_seeds() -> None:
    results = table({0: BASE, 0.5: shifted(-3)})
    family = judge_claims(results, [claim(0.5, 0)], score="zero_shot_top1", margin=1)
    assert family
    assert family.noise
    assert family.noise.method is NoiseMethod.OWN
    assert "Too few claims or seeds to pool their noise" in claims_markdown(family)


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
    assert family.tested == 1
    assert family.claims[0].seeds == (0, 1, 2, 3, 4)


def test_no_claims_are_no_family() -> None:
    assert judge_claims(table({0: BASE}), [], score="zero_shot_top1", margin=1) is None


def test_json_has_the_contrast_and_both_answers() -> None:
    text = claims_json(recipe())
    assert text["comparisons"] == 29
    listed = text["claims"]
    assert isinstance(listed, list)
    more_so = next(entry for entry in listed if entry["than"])
    assert more_so["left"]["score"] == "masked.zero_shot_top1"
    assert more_so["than"]["left"] == more_so["left"] | {"mask_ratio": 0.5}
    assert more_so["verdict"] == "holds"
    assert more_so["by_own_seeds"]["p_corrected"] > 0.05
    assert len(more_so["runs"]) == 20


def test_claims_are_about_the_study_s_own_score() -> None:
    study = read_study(ROOT / "studies/recipe.yaml")
    results = read_results(TABLE_1)
    assert judge_study(results, study, "held_out_loss") is None
    assert judge_study(results, study, "zero_shot_top1") is not None
