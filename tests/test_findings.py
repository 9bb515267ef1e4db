"""docs/findings.md: 21 questions, one rule for verdicts, and no claim left out."""

import json
import re
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import yaml
from scipy.stats import ttest_1samp

from docs.parts.findings import (
    NOT_YET,
    ROOT,
    Question,
    Reading,
    Verdict,
    crossing,
    curve,
    details,
    figure_3,
    index,
    questions,
    readings,
)
from docs.parts.studies import committed
from flipscale.analysis.comparing import compare_study, warnings
from flipscale.collecting import read_results
from flipscale.collecting.record import results_of
from flipscale.planning.runs import plan
from flipscale.settings.architecture import architecture
from flipscale.study import read_study
from flipscale.words import times

FILE = ROOT / "docs" / "findings.yaml"

INF = float("inf")


def reading(published, interval, unit="points", **more):
    return Reading("made_up", "a claim", 1.0, interval, unit, 3, published, **more)


def made_up_claim(claim="more is better", difference=2.0, interval=(1.0, 3.0), **more):
    """A claim as comparison.json has it: sides that differ in model."""
    return {
        "claim": claim,
        "family": "",
        "left": {"model": "L", "samples": 2},
        "right": {"model": "B", "samples": 2},
        "than": None,
        "expect": "better",
        "published": 1.2,
        "verdict": "holds",
        "unit": "points",
        "difference": difference and {"value": difference, "interval_corrected": interval and list(interval)},
        "seeds": [0, 1, 2],
        **more,
    }


def with_results(root: Path, study: str, *claims) -> Path:
    """A folder in which one study has a comparison that states claims."""
    folder = root / "results" / study
    folder.mkdir(parents=True)
    data = {"fraction": True, "claims": {"claims": list(claims)}}
    (folder / "comparison.json").write_text(json.dumps(data))
    return root


def repository(root: Path) -> Path:
    """The folder as a git repository that tracks nothing yet."""
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    return root


# The rule


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (reading(1.0, (0.1, 2.0)), Verdict.AGREES),
        (reading(-0.6, (-5.0, -0.1)), Verdict.AGREES),
        (reading(1.0, (1.1, 2.0)), Verdict.OTHER_SIZE),
        (reading(3.7, (1.2, INF), "ratio"), Verdict.AGREES),
        (reading(3.7, (1.2, 2.0), "ratio"), Verdict.OTHER_SIZE),
        (reading("worse", (-5.0, -0.1)), Verdict.SAME_SIGN),
        (reading("better", (-5.0, -0.1)), Verdict.OTHER_SIGN),
        (reading(1.0, (-2.0, -0.1)), Verdict.OTHER_SIGN),
        (reading(3.7, (0.6, 0.9), "ratio"), Verdict.OTHER_SIGN),
        (reading(1.0, (-0.1, 2.0)), Verdict.UNDECIDED),
        (reading(3.0, (-0.1, 2.0)), Verdict.SMALLER),
        (reading(-1.0, (-0.1, 2.0)), Verdict.SMALLER),
        (reading("better", (-0.1, 2.0)), Verdict.UNDECIDED),
        (reading(1.0, (0.0, 2.0)), Verdict.UNDECIDED),
        (reading(3.7, (0.0, 1.3), "ratio"), Verdict.SMALLER),
        (reading(1.0, None), Verdict.UNDECIDED),
        (reading("none", (1.0, 2.0)), Verdict.NOTHING_PUBLISHED),
    ],
)
def test_the_verdict_is_the_sign_and_size_of_the_published_effect_against_the_interval(found, verdict):
    assert found.verdict is verdict


@pytest.mark.parametrize(
    ("published", "interval", "verdict"),
    [
        (-0.1, (-0.9, 0.4), Verdict.AGREES),
        (0.4, (-1.0, -0.2), Verdict.AGREES),
        ("level", (-0.3, 0.4), Verdict.AGREES),
        (-0.1, (-5.0, -1.1), Verdict.NOT_LEVEL),
        (-0.1, (-5.0, -0.9), Verdict.UNDECIDED),
        (-0.1, (-1.1, 0.4), Verdict.UNDECIDED),
    ],
)
def test_a_published_difference_under_half_a_point_is_judged_as_level_within_one_point(published, interval, verdict):
    assert reading(published, interval).verdict is verdict


def test_speed_ups_of_the_paper_are_those_that_compare_reads_from_its_figure():
    (lines,) = (one["readings"] for one in yaml.safe_load(FILE.read_text()) if "Figs 1 and 3" in one["question"])
    typed = [line["published"] for line in lines if line["study"] == "flip" and "speedup" in line]
    names = [f"tuning_samples={tuned}, mask_ratio={mask}" for tuned in ("0", "128M") for mask in (0.5, 0.75)]
    read = [curve(figure_3(), name, "hours")["speedup"]["value"] for name in names]
    assert [times(value) for value in read] == [times(value) for value in typed]
    untuned = curve(figure_3(), "tuning_samples=0, mask_ratio=0.75", "hours")
    asked = [untuned["speedup"]["value"], 1 / untuned["samples"]["value"], 3.7]
    of_plateau = [line for line in lines if line["study"] == "plateau"]
    stated = [line for line in of_plateau if line.get("family") == "plateau" or "what" in line]
    assert [line["published"] for line in stated] == pytest.approx(asked, abs=0.005)
    assert max(point["score"] for point in untuned["speedup_curve"]) < 72.4, "untuned it never gets to the best score"


def test_gains_of_the_paper_in_equal_time_are_those_that_compare_reads_from_its_figure():
    read = [
        curve(figure_3(), f"tuning_samples=0, mask_ratio={mask}", "hours")["gain_at_equal_x"]["value"]
        for mask in (0.5, 0.75)
    ]
    for name in ("flip", "mosaic"):
        claims = [
            one
            for one in read_study(ROOT / f"studies/{name}.yaml").claims
            if one.name.startswith("in the time") and one.published
        ]
        assert [claim.published for claim in claims] == [round(value, 1) for value in read] * (len(claims) // 2)


def test_a_question_says_which_studies_say_what():
    found = (reading(1.0, (0.1, 2.0)), reading(1.0, None), replace(reading(1.0, None), study="other"))
    question = Question("", "", "", "", found, ())
    assert question.verdict == "agrees (made_up); undecided (made_up, other)"
    assert replace(question, found=found[:1]).verdict == "agrees"


# The document


def test_there_are_21_questions_each_with_a_reason():
    assert len(index().splitlines()) == 2 + 21
    numbers = re.findall(r"^### (\d+) ", details(), re.MULTILINE)
    assert [int(number) for number in numbers] == list(range(1, 22))
    assert all(one.why.endswith(".") for one in questions())


def test_attention_is_two_fifths_of_block_operations_here_and_three_percent_in_the_paper():
    said = (ROOT / "docs" / "findings.md").read_text()
    shares = []
    for model, size in (("ViT-w48d3-2", 28), ("ViT-L-16", 224)):
        tower = architecture(model, size).image
        attention, rest = 4 * (tower.patches + 1), 8 * tower.width + 4 * tower.mlp_width
        shares.append(f"{100 * attention / (attention + rest):.0f} %")
    assert shares == ["41 %", "3 %"]
    assert "Attention is 41 % of the block operations of plateau's model, and 3 % of ViT-L/16's" in " ".join(
        said.split()
    )


def test_every_claim_of_a_committed_study_stands_in_the_document():
    """But of two studies whose questions no paper asks: docs/stages.md has trunk's, docs/studies.md the other's."""
    stated = [
        (path.parent.name, claim["claim"])
        for path in committed()
        if path.parent.name not in ("trunk", "when_masks_pay")
        for claim in (json.loads(path.read_text())["claims"] or {"claims": []})["claims"]
        if claim["difference"] is not None
    ]
    told = [(found.study, found.what) for one in questions() for found in one.found]
    assert [claim for claim in stated if claim not in told] == []
    assert all(told.count(claim) == 1 for claim in stated)


def test_every_committed_study_stands_in_the_document():
    page = details()
    for path in committed():
        assert f"[{path.parent.name}](../results/{path.parent.name}/comparison.md)" in page


def test_without_results_nothing_is_run_and_the_21_rows_stay(tmp_path):
    root = repository(tmp_path)
    assert {one.verdict for one in questions(root)} == {"not run"}
    assert details(root).count(f"{NOT_YET}.") >= 21


def test_the_repeats_where_a_mask_starts_to_pay_are_where_the_mean_difference_changes_its_sign():
    gaps = {1000: [-2.0, -3.0], 2000: [-1.0, -1.0], 4000: [1.0, 3.0], 8000: [2.0, 4.0]}
    rows = [
        {
            "seed": seed,
            "data_size": size,
            "repeats": 8000 / size,
            "mask_ratio": mask,
            "held_out_loss": 5 + mask * 2 * gap[seed],
        }
        for size, gap in gaps.items()
        for seed in (0, 1)
        for mask in (0.0, 0.5)
    ]
    found, low, high = crossing(pd.DataFrame(rows), 0.5)
    # The mean difference is -1 at 4 repeats and 2 at 2.
    assert found == pytest.approx(2 ** (1 + 2 / 3))
    assert low < 2, "the CI may leave the two sizes between which the sign changes"
    assert 3.9 < high <= 8


# Which claims are meant


def test_claims_are_found_by_the_settings_that_their_sides_differ_in(tmp_path):
    of_both = made_up_claim("both", right={"model": "B", "samples": 1})
    interaction = made_up_claim("more so with more samples", than={"samples": 1})
    root = with_results(tmp_path, "s", made_up_claim(), of_both, interaction, made_up_claim("not run", difference=None))

    def names(**line):
        return [found.what for found in readings({"study": "s", **line}, root)]

    assert names(claims=[["model"]]) == ["more is better", "more so with more samples"]
    assert names(claims=[["model"]], interaction=True) == ["more so with more samples"]
    assert names(claims=[["model"]], interaction=False) == ["more is better"]
    assert names(claims=[["samples", "model"]]) == ["both"]
    assert names(claims=[["model"], ["samples", "model"]], left={"model": "L"})[1] == "both"


def test_a_claim_without_a_published_number_has_the_direction_that_its_study_expects(tmp_path):
    root = with_results(tmp_path, "s", made_up_claim(published=None, expect="worse"))
    (found,) = readings({"study": "s", "claims": [["model"]]}, root)
    assert (found.effect, found.verdict) == ("expected worse", Verdict.OTHER_SIGN)


# What stands against the numbers


def mean_of(name: str, score: str, **where) -> float:
    table = pd.read_csv(ROOT / f"results/{name}/results.csv")
    for column, value in where.items():
        table = table[table[column] == value]
    return 100 * table[score].mean()


def test_intervals_typed_on_the_page_of_studies_are_those_of_their_results():
    text = re.sub(r"<!-- (\w+) -->.*?<!-- end -->", "", (ROOT / "docs/studies.md").read_text(), flags=re.DOTALL)
    said = 0
    for section in text.split("\n## ")[1:]:
        names = {section.partition(":")[0], *re.findall(r"results/(\w+)/", section)}
        shown = "".join((ROOT / f"results/{name}/comparison.md").read_text() for name in names)
        ends = {
            frozenset(map(abs, map(float, pair))) for pair in re.findall(r"\(([-+]?\d[\d.]*), ([-+]?\d[\d.]*)\)", shown)
        }
        for path in (ROOT / "results").glob("*/fits.json"):
            fits = json.loads(path.read_text())["fits"] if path.parent.name in names else []
            ends |= {
                frozenset(round(end, 2) for end in pair) for fit in fits for pair in fit["intervals"].values() if pair
            }
        typed = re.findall(r"(?:\(|95 % CI\s)([-+]?[\d.]+)\s+to\s+([-+]?\d[\d.]*\d)(?! %)\b", section)
        said += len(typed)
        assert [pair for pair in typed if frozenset(abs(float(end)) for end in pair) not in ends] == [], section[:20]
    assert said


def test_caveats_of_when_masks_pay_are_those_of_its_rows() -> None:
    table = pd.read_csv(ROOT / "results/when_masks_pay/results.csv")
    table["budget"] = (table["train_flops"] / 2.5e11).round()
    means = table.groupby(["budget", "data_size", "mask_ratio", "model"])[["zero_shot_top1", "held_out_loss"]].mean()
    assert sorted(set(table["budget"])) == [1, 4, 16]
    best = 100 * means["zero_shot_top1"].groupby(["budget", "data_size", "mask_ratio"]).max()
    said = said_of("when_masks_pay")
    assert f"is {best[1, 60_000, 0.5] - best[1, 60_000, 0]:.1f} if all seeds choose" in said
    losses = means["held_out_loss"]
    overfitted = (losses[16, 7500, 0] > losses[4, 7500, 0]).sum()
    assert f"than at the middle budget for {overfitted} of {len(losses[16, 7500, 0])} sizes" in said
    assert means["zero_shot_top1"][16, 7500, 0].idxmax() == "ViT-w48d3-4"
    comparison = json.loads((ROOT / "results/when_masks_pay/comparison.json").read_text())
    speedups = [each["costs"]["gpu_hours"]["speedup"]["interval_corrected"] for each in comparison["series"]]
    assert sum(low > 1 for low, _ in speedups) == 0
    assert (sum(high < 1 for _, high in speedups), len(speedups)) == (2, 8)
    assert "significantly sooner with a mask, and two of eight do later" in said
    (barely,) = (claim for claim in comparison["claims"]["claims"] if "4e12 FLOPs)" in claim["claim"])
    assert f"is undecided now (p = {barely['difference']['p_corrected']:.2f})" in said
    assert barely["verdict"] == "undecided"
    points = [each["difference"]["value"] for each in comparison["at_budgets"] if each["left"]["data_size"] == 60_000]
    assert f"the gain of {points[0]:.1f} is" in said


def caveats_of(name: str) -> tuple[str, ...]:
    return read_study(ROOT / f"studies/{name}.yaml").caveats


def said_of(name: str) -> str:
    return " ".join(" ".join(caveats_of(name)).split())


def test_what_was_known_when_plateau_s_later_claims_were_committed_is_nowhere_denied():
    claims = json.loads((ROOT / "results/plateau/comparison.json").read_text())["claims"]["claims"]
    later = {one["claim"].partition(" (")[0] for one in claims if one["family"] != "plateau"}
    assert (len(later), sum(one["family"] != "plateau" for one in claims)) == (7, 9)
    assert "The seven claims of the other families came later (c05b17b6)" in said_of("plateau")
    for file in ("studies/plateau.yaml", "docs/studies.md", "docs/findings.md", "docs/findings-details.md"):
        assert "before a score was read" not in (ROOT / file).read_text()


def test_an_ensemble_of_masks_is_behind_the_model_that_was_trained_without_a_mask():
    rows = pd.read_csv(ROOT / "results/recipe/results.csv")
    plain = rows[
        rows["batch_size"].eq(64)
        & rows["mask_shape"].ne("grid")
        & rows["mask_shape"].ne("block")
        & rows["tuning"].isna()
        & rows["reconstruction"].isna()
        & rows["text_mask_ratio"].eq(0)
    ]
    by_seed = plain.pivot(index="seed", columns="mask_ratio")
    behind = [
        100 * (by_seed["zero_shot_top1"][0.0] - by_seed["ensemble.zero_shot_top1"][mask]).mean() for mask in (0.5, 0.75)
    ]
    why = next(each["why"] for each in yaml.safe_load(FILE.read_text()) if "Table 1d" in each["question"])
    assert f"{behind[0]:.1f} points behind at 50 % and {behind[1]:.1f} at 75 %" in why


def test_no_page_has_a_law_of_isoflop_s_best_size_that_tuned_rates_bear_out():
    fits = json.loads((ROOT / "results/isoflop_tuned/fits.json").read_text())
    (reason,) = fits["not_fitted"].values()
    at_edge = reason.count("the best size tried is the smallest")
    assert (list(fits["not_fitted"]), at_edge) == (["best size, mask_ratio=0.0"], 3)
    (masked,) = (fit for fit in fits["fits"] if fit["law"] == "growth")
    low, high = masked["intervals"]["a"]
    grows = f"to the power {masked['parameters']['a']:.2f} (95 % CI {low:.2f} to {high:.2f})"
    why = next(each["why"] for each in yaml.safe_load(FILE.read_text()) if "OpenCLIP" in each["question"])
    assert grows in why
    for said in (
        why,
        *(" ".join((ROOT / f"docs/{page}.md").read_text().split()) for page in ("next", "studies")),
    ):
        assert re.search(f"smallest (size )?tried (is the best )?at {at_edge} of 4 budgets", said)
        assert "hardly moves" not in said


def test_caveats_have_the_differences_of_their_results():
    joint = (ROOT / "results/joint/comparison.md").read_text()
    ((slower, p),) = re.findall(r"more where model and data are larger \| \S+ \| (\S+) [^|]*\|[^|]*\| (\S+)", joint)
    assert f"it is not (p = {float(p):.2g})" in " ".join(caveats_of("joint")[0].split())
    assert f"gains {slower.removeprefix('-')} points less" in caveats_of("joint")[0]
    flip, plateau = (pd.read_csv(ROOT / f"results/{name}/results.csv") for name in ("flip", "plateau"))
    claimed = flip[(flip["image_size"] == 28) & (flip["samples"] == 64_000) & (flip["mask_ratio"] > 0)]
    pairs = claimed.assign(tuned=claimed["tuning"].notna()).pivot(
        index=["mask_ratio", "seed"], columns="tuned", values="zero_shot_top1"
    )
    gains = (pairs[True] - pairs[False]).groupby("mask_ratio").agg(["min", "size"])
    assert (gains["min"] > 0).all()
    assert set(gains["size"]) == {15}
    assert "Tuning is better at all 15 seeds at both masks" in " ".join(caveats_of("flip"))
    seen = plateau[plateau["id"].isin(flip["id"])]
    assert (len(seen), set(seen["image_size"]), set(seen["samples"])) == (10, {14}, {64_000, 128_000})
    said = said_of("plateau")
    assert "Ten of the 90 runs, small images after 64k and 128k samples, were reused from study flip" in said
    known = plateau[plateau["id"].isin(pd.read_csv(ROOT / "results/trunk/results.csv")["id"])]
    assert (len(known), set(known["mask_ratio"]), set(known["samples"])) == (10, {0.0}, {64_000, 128_000})
    assert "ten more runs were known from study trunk (34c5a3f5), without a mask after 64k and" in said
    unmasked = partial(mean_of, "plateau_lr", "zero_shot_top1", mask_ratio=0, image_size=28)
    better = unmasked(lr=2e-3) - unmasked(lr=4e-3)
    assert f"half that rate is {better:.1f} points better" in caveats_of("flip")[1]


def test_how_joint_s_gains_add_up_beside_its_claims_is_what_its_rows_give():
    rows = pd.read_csv(ROOT / "results/joint/results.csv")
    accuracy = 100 * rows.pivot(
        index="seed", columns=["mask_ratio", "samples", "model", "data_size"], values="zero_shot_top1"
    )
    small, large = "ViT-w32d2-4", "ViT-w64d4-4"
    unmasked, masked = accuracy[0.0][32_000].dropna(), accuracy[0.5].dropna()
    more = unmasked[large][60_000] - unmasked[large][1000] - (unmasked[small][60_000] - unmasked[small][1000])
    said = " ".join(" ".join(caveats_of("joint")).split())
    assert f"gains {more.mean():.1f} points more on 60,000 images" in said
    assert f"(5 seeds, p = {ttest_1samp(more, 0).pvalue:.1g} by a paired t test" in said
    start = masked[8000][small][1000]
    alone = [masked[8000][large][1000], masked[8000][small][60_000], masked[32_000][small][1000]]
    beyond = masked[32_000][large][60_000] - start - sum(each - start for each in alone)
    said = next(
        each["why"] for each in yaml.safe_load(FILE.read_text()) if each["question"].startswith("Joint scaling")
    )
    assert f"gain {-beyond.mean():.1f} points less than their sum, on {len(beyond)} seeds" in said
    assert f"(p = {ttest_1samp(beyond, 0).pvalue:.2f})" in said


@pytest.mark.parametrize("name", ["flip", "recipe"])
def test_claims_that_git_has_after_results_are_not_called_stated_beforehand(name):
    assert re.search("first committed together with the results|Git has them after the results", caveats_of(name)[0])
    for file in (f"studies/{name}.yaml", f"results/{name}/comparison.md"):
        assert not re.search("stated before", (ROOT / file).read_text())


def test_caveats_stand_where_the_claims_are_read():
    said = " ".join((ROOT / "docs/findings-details.md").read_text().split())
    headline = " ".join((ROOT / "docs/studies.md").read_text().split())
    for path in committed():
        study = read_study(ROOT / f"studies/{path.parent.name}.yaml")
        for caveat in study.caveats:
            assert caveat in said
            assert caveat in headline or study.name != "plateau"
            assert f"- {caveat}" in path.with_suffix(".md").read_text()
    study = read_study(ROOT / "studies/augmentation.yaml")
    table = read_results(ROOT / "results/augmentation/results.csv")
    assert set(study.caveats) <= set(warnings(compare_study(results_of(table, study, plan(study)))))
