"""The screen that answers a study's question, and the renderer of tables."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from flipscale.analysis.comparing import Comparison, compare, comparison_markdown, comparison_text, judge_claims, screen
from flipscale.door.statements import Contrast, Expectation, StatedClaim
from flipscale.tables import Listing, Part, PrintedTable, as_markdown, as_text


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the bootstrap of curves: what the screen shows of them does not depend on their number."""
    monkeypatch.setattr("flipscale.analysis.comparing.speedups.MOST_DRAWS", 1000)


def rows_of(arms: int = 2, seeds: int = 3, noise: float = 0.003, models: int = 1) -> pd.DataFrame:
    """Masked runs that are 2 points behind at equal samples and cost 0.6 of the time, at three lengths."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": f"{model}-{samples}-{arm}-{seed}",
            "cell": f"model=ViT-w{model}, samples={samples}k",
            "samples": 1000 * samples,
            "mask_ratio": arm / 100,
            "seed": seed,
            "gpu_hours": samples * (0.6 if arm else 1.0),
            "train_flops": 1e9 * samples,
            "device": "cpu",
            "zero_shot_top1": 0.3 + 0.1 * np.log2(samples) - 0.02 * bool(arm) + noise * rng.normal(),
        }
        for model in range(models)
        for samples in (1, 2, 4)
        for arm in range(arms)
        for seed in range(seeds)
    )


def study(arms: int = 2, seeds: int = 3, noise: float = 0.003, models: int = 1) -> Comparison:
    return compare(rows_of(arms, seeds, noise, models), baseline={"mask_ratio": 0})


@pytest.mark.parametrize(("arms", "models"), [(2, 1), (4, 3), (12, 1), (2, 10)])
def test_the_screen_has_at_most_20_lines_of_the_terminal_s_width(arms: int, models: int) -> None:
    comparison = replace(
        study(arms=arms, models=models), question="Does masking pay off? " * 8, caveats=("A long caveat. " * 20,) * 4
    )
    for width in (80, 120):
        lines = screen(comparison, width).splitlines()
        assert len(lines) <= 20
        assert max(map(len, lines)) <= width
        assert lines[-1].startswith("more in --full: ")


def test_an_arm_has_its_three_answers_side_by_side_and_the_asked_one_first() -> None:
    comparison = study()
    rows = [line for line in screen(comparison).splitlines() if line.startswith("mask 1 %")]
    (row,) = rows
    assert row.count("(") == 3
    heads = [screen(replace(comparison, answer=answer)).splitlines()[0].split() for answer in ("speedup", "gain")]
    assert [head[1] for head in heads] == ["speed-up", "4k"]


def test_arms_that_do_not_fit_are_counted_beside_claims_that_could_not_be_judged() -> None:
    mask = Contrast({"mask_ratio": 0.01}, {"mask_ratio": 0.0})
    claims = [StatedClaim(name, mask, None, Expectation.FASTER, None, score=0.9) for name in ("one", "other")]
    stated = judge_claims(rows_of(arms=12), claims, score="zero_shot_top1", margin=1)
    comparison = replace(study(arms=12), stated=stated, answer="speedup")
    assert screen(comparison).endswith("more in --full: 3 other rows; 2 claims: 2 not tested")
    assert "2 claims: 2 not tested." in comparison_markdown(comparison)


def test_a_claim_of_level_has_a_90_percent_ci_and_power_counts_the_looks() -> None:
    mask = Contrast({"mask_ratio": 0.01}, {"mask_ratio": 0.0})
    claims = [
        StatedClaim("level", mask, None, Expectation.LEVEL, None),
        StatedClaim("worse", mask, None, Expectation.WORSE, None),
    ]
    rows = rows_of(noise=0.01).query("samples == 4000")
    said = []
    for looks in (1, 4):
        stated = judge_claims(rows, claims, score="zero_shot_top1", margin=1, looks=looks)
        said.append(screen(replace(study(), stated=stated)))
    (level,) = [line for line in said[0].splitlines() if line.startswith("level ")]
    assert ") 90 % CI" in level
    assert said[0].count("90 % CI") == 1
    detected = [re.findall(r"3 seeds\s+detect ([\d.]+)", one) for one in said]
    assert float(detected[0][0]) < float(detected[1][0])


def test_an_interval_wider_than_the_scale_is_no_verdict() -> None:
    comparison = study(seeds=2, noise=0.2)
    assert re.search(r"[+-][\d.]+ \(no verdict: 2 seeds\)", screen(comparison))
    assert "no verdict" not in screen(study(seeds=2))


def test_labels_of_a_study_name_its_arms() -> None:
    comparison = replace(study(), labels={"mask_ratio": {"0.01": "hardly a mask"}})
    assert comparison.arm_name("mask_ratio=0.01") == "hardly a mask"
    assert "hardly a mask" in screen(comparison)
    assert "hardly a mask" in comparison_markdown(comparison)


def test_the_baselines_score_stands_in_the_heading_only_where_all_rows_have_one() -> None:
    table = rows_of(arms=4, models=3, noise=0.0)
    table.loc[table["cell"].str.startswith("model=ViT-w0"), "zero_shot_top1"] -= 0.1
    comparison = replace(compare(table, baseline={"mask_ratio": 0}), answer="gain")
    assert "over no mask (50.0 %)" in " ".join(screen(comparison).split())  # one model's rows
    assert "over no mask (" not in comparison_text(comparison, full=True)


def test_what_seeds_detect_names_its_cell_unless_it_is_the_base() -> None:
    table = rows_of()
    elsewhere = screen(compare(table, baseline={"mask_ratio": 0}))
    assert "At ViT-w0, 4k samples, 3 seeds detect" in " ".join(elsewhere.split())
    at_base = screen(compare(table, baseline={"mask_ratio": 0}, base_cell="model=ViT-w0, samples=2k"))
    assert "cells. 3 seeds detect" in " ".join(at_base.split())


def test_all_of_it_has_every_cell_and_arm() -> None:
    comparison = study(arms=3, models=2)
    text = comparison_text(comparison, full=True)
    assert sum(line.startswith("ViT-w") and " samples  mask " in line for line in text.splitlines()) == 12


PARTS: list[Part] = [
    "A <sentence>.",
    PrintedTable("Title", ("arm", "gain (points)"), (("mask 50 %", "+1.9"), ("a|b", "-3.2")), ("A note.",)),
    Listing("Notes", ("one", "two")),
]


def test_one_record_is_text_and_markdown() -> None:
    assert as_text(PARTS) == (
        "A <sentence>.\n\nTitle:\narm        gain (points)\nmask 50 %  +1.9\na|b        -3.2\nA note.\n\n"
        "Notes:\n- one\n- two"
    )
    assert as_markdown(PARTS) == (
        "A <sentence>.\n\nTitle:\n\n| arm | gain (points) |\n| --- | --- |\n| mask 50 % | +1.9 |\n| a\\|b | -3.2 |\n\n"
        "A note.\n\nNotes:\n\n- one\n- two"
    )


def test_a_narrow_terminal_wraps_sentences_and_names_and_no_number() -> None:
    name = "a very long name of an arm " * 3
    table = PrintedTable("", ("arm", "gain"), ((name, "+1.9 (+0.2, +3.6)"),), wraps=True)
    _, _, _, head, first, *more = as_text(["Many words. " * 10, table], 60).splitlines()
    assert max(map(len, (head, first, *more))) <= 60
    assert first.endswith("  +1.9 (+0.2, +3.6)")
    assert " ".join([first.removesuffix("+1.9 (+0.2, +3.6)"), *more]).split() == name.split()


def test_a_table_of_gains_and_one_of_speedups_have_units_in_their_columns() -> None:
    comparison = study()
    table, speedups = comparison.table, comparison.speedups
    assert list(table.columns[3:8]) == [
        "baseline (%)",
        "zero_shot_top1 (%)",
        "gain (points)",
        "low (points)",
        "high (points)",
    ]
    pair = comparison.pairs[0]
    assert pair.gain.corrected is not None
    first = table.iloc[0]
    assert (first["arm"], first["seeds"], first["effect"]) == ("mask 1 %", 3, "behind")
    assert first["gain (points)"] == pytest.approx(100 * (pair.gain.mean or 0))
    assert first["low (points)"] == pytest.approx(100 * (pair.gain.corrected.interval.low or 0))
    assert first["gpu_hours (x)"] == pytest.approx(0.6)
    read = comparison.first_curves[0].speedup
    assert read is not None
    (stated,) = (row for _, row in speedups.iterrows() if row["stated"])
    assert (stated["zero_shot_top1 (%)"], stated["speedup (x)"]) == (100 * read.score, read.speedup.mean)
    assert (stated["low (x)"], stated["high (x)"]) == read.speedup.interval
    assert speedups["zero_shot_top1 (%)"].is_monotonic_increasing
