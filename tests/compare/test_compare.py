import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy.interpolate import PchipInterpolator

from flipscale.analysis.comparing import (
    compare,
    compare_table,
    comparison_json,
    comparison_text,
    varying_axes,
)
from flipscale.analysis.comparing.estimates import NOT_REACHED
from flipscale.errors import ResultsError
from flipscale.words import short

# FLIP (arXiv 2212.00794) Figs 1 and 3, ViT-L/16 on LAION-400M: mask percent, epochs, hours on 256 TPU-v3 cores,
# zero-shot ImageNet top-1; the masked rows after unmasked tuning, whose time is counted.
FLIP = pd.DataFrame(
    [
        (0, 6.4, 46.7, 68.6),
        (0, 12.8, 93.3, 71.1),
        (0, 32, 233.5, 72.4),
        (50, 6.4, 25.7, 70.1),
        (50, 12.8, 48.4, 71.9),
        (50, 32, 117.8, 73.3),
        (75, 6.4, 17.9, 69.5),
        (75, 12.8, 33.3, 71.3),
        (75, 32, 80.1, 73.0),
    ],
    columns=["mask_percent", "epochs", "hours", "top1"],
)


def flip():
    return compare_table(FLIP, baseline={"mask_percent": 0}, x="hours", y="top1", at="epochs")


def rows(score, seeds=(0, 1, 2), masks=(0, 0.5), samples=(1000, 2000, 4000), cost=lambda mask: 1 - 0.6 * mask, **fixed):
    """Runs whose score is score(mask, samples, seed)."""
    return pd.DataFrame(
        [
            {
                "id": f"m{mask}-s{s}-{seed}",
                "cell": f"samples={short(s)}",
                "samples": s,
                "mask_ratio": mask,
                "seed": seed,
                "gpu_hours": s / 1000 * cost(mask),
                "train_flops": s * 1e9 * (1 - 0.7 * mask),
                "zero_shot_top1": score(mask, s, seed),
                "device": "cpu",
                **fixed,
            }
            for mask in masks
            for s in samples
            for seed in seeds
        ]
    )


def logarithmic(mask, samples, seed):
    return 0.1 * math.log2(samples / 500) + 0.001 * seed - 0.02 * mask


BASELINE = {"mask_ratio": 0}


# FLIP's own numbers


def test_speedup_at_equal_accuracy_is_flip_s_3_7():
    of_75 = flip().curves[1]
    assert of_75.arm == "mask_percent=75"
    assert round(of_75.speedup_straight, 1) == 3.7
    assert of_75.speedup_straight == pytest.approx(233.5 / (33.3 + (80.1 - 33.3) * 1.1 / 1.7))
    assert (of_75.speedup.score, of_75.speedup.at) == (71.1, 12.8)
    bends = PchipInterpolator(np.log([17.9, 33.3, 80.1]), [69.5, 71.3, 73.0])
    assert bends(math.log(93.3 / of_75.speedup.speedup.mean)) == pytest.approx(71.1, abs=2e-3)


@pytest.mark.parametrize(("arm", "speedup", "gain"), [("mask_percent=50", 2.0, 0.9), ("mask_percent=75", 2.9, 0.6)])
def test_gain_and_speedup_at_equal_epochs_are_flip_s(arm, speedup, gain):
    (pair,) = (pair for pair in flip().pairs if pair.arm == arm and pair.at == 32)
    assert round(1 / pair.ratios["hours"].mean, 1) == speedup
    assert round(pair.gain.mean, 1) == gain


def test_one_run_a_cell_gives_no_interval():
    comparison = flip()
    assert all(
        pair.gain.interval is None and pair.gain.why == "one seed gives no interval" for pair in comparison.pairs
    )


def test_gain_at_equal_hours_is_read_where_both_curves_end():
    of_75 = flip().curves[1]
    assert of_75.equal_at == pytest.approx(80.1)
    straight = 73.0 - (68.6 + 2.5 * (80.1 - 46.7) / (93.3 - 46.7))
    assert of_75.gain.mean == pytest.approx(straight, abs=0.4)
    assert of_75.gain.mean < straight  # the baseline's curve is above its chord


def test_speedup_curve_stays_inside_the_overlap():
    of_75 = flip().curves[1]
    first, *_, last = of_75.speedup_at
    assert (first.score, last.score) == (69.5, 72.4)
    assert last.speedup.mean > first.speedup.mean > 2.5


# Pairs


def test_twins_share_cell_and_seed():
    table = rows(lambda mask, s, seed: 0.5 + 0.1 * seed + (0.02 if mask else 0), samples=(1000,))
    (pair,) = compare(table, baseline=BASELINE).pairs
    assert pair.seeds == (0, 1, 2)
    assert pair.gain.values == pytest.approx((0.02, 0.02, 0.02))  # the spread of seeds is gone: it is paired
    assert pair.gain.interval.high - pair.gain.interval.low == pytest.approx(0, abs=1e-12)
    assert pair.ratios["train_flops"].mean == pytest.approx(0.65)
    assert pair.ratios["gpu_hours"].mean == pytest.approx(0.7)


def test_the_interval_of_one_cell_is_student_t_over_its_raw_differences():
    gains = {0: 0.01, 1: 0.02, 2: 0.06}
    table = rows(lambda mask, s, seed: 0.5 + (gains[seed] if mask else 0), samples=(1000,))
    (pair,) = compare(table, baseline=BASELINE).pairs
    assert pair.gain.mean == pytest.approx(0.03)
    half = 4.302653 * math.sqrt(0.0007 / 3)
    assert pair.gain.interval == pytest.approx((0.03 - half, 0.03 + half))
    assert pair.gain.df == 2


def test_without_a_cell_coupled_settings_do_not_part_twins():
    table = rows(logarithmic, model="ViT-B-16").drop(columns="cell")
    table["batch_size"] = [64 if mask == 0 else 128 for mask in table["mask_ratio"]]
    table["warmup"] = table["samples"] // 10 + table["batch_size"]
    assert varying_axes(table, BASELINE) == ["samples"]
    comparison = compare(table, baseline=BASELINE)
    assert [pair.cell for pair in comparison.pairs] == ["samples=1k", "samples=2k", "samples=4k"]
    assert not comparison.unpaired


def test_a_batch_size_that_varies_by_itself_makes_cells():
    small, large = rows(logarithmic, batch_size=64), rows(logarithmic, batch_size=128)
    table = pd.concat([small, large]).drop(columns="cell")
    assert varying_axes(table, BASELINE) == ["samples", "batch_size"]


def test_two_runs_for_one_twin_are_an_error_that_names_them():
    table = pd.concat([rows(logarithmic, seeds=(0,)), rows(logarithmic, seeds=(0,)).assign(id="again")])
    with pytest.raises(ResultsError, match=r"m0-s1000-0 and again are both the baseline at seed 0"):
        compare(table, baseline=BASELINE)


def test_a_missing_score_is_left_out_by_name():
    table = rows(logarithmic)
    table.loc[table["id"] == "m0.5-s1000-1", "zero_shot_top1"] = None
    comparison = compare(table, baseline=BASELINE)
    assert comparison.left_out == {"m0.5-s1000-1": "no zero_shot_top1"}
    assert comparison.pairs[0].seeds == (0, 2)
    assert "1 run left out:" in comparison_text(comparison, full=True)


def test_a_run_without_a_twin_is_named_and_stays_on_the_curve():
    table = rows(logarithmic)
    table = table[table["id"] != "m0-s1000-1"]
    comparison = compare(table, baseline=BASELINE)
    assert comparison.unpaired == {"m0.5-s1000-1": "no baseline of the same seed in cell 'samples=1k'"}
    assert comparison.curves[0].seeds == (0, 1, 2)


def test_a_lower_loss_is_a_gain():
    table = rows(lambda mask, s, seed: 2 - logarithmic(mask, s, seed)).rename(
        columns={"zero_shot_top1": "held_out_loss"}
    )
    comparison = compare(table, baseline=BASELINE)
    assert comparison.score == "held_out_loss"
    assert comparison.lower_is_better
    assert comparison.pairs[0].gain.mean == pytest.approx(-0.01)
    found = comparison.curves[0].speedup
    assert found.score == pytest.approx(2 - 0.201)
    # The loss falls by 0.1 where samples double, so masked runs, 0.01 behind, take 2^0.1 times as many.
    assert found.samples.mean == pytest.approx(2**0.1, rel=1e-2)
    assert found.speedup.mean == pytest.approx(2**-0.1 / 0.7, rel=1e-2)


# Curves


@pytest.mark.parametrize(("score", "caveats"), [("held_out_loss", 1), ("zero_shot_top1", 0)])
def test_a_loss_is_said_not_to_compare_loss_functions(score, caveats):
    table = rows(lambda mask, samples, seed: 0.5 - mask / 9 + seed / 99).rename(columns={"zero_shot_top1": score})
    table["loss_function"] = table.pop("mask_ratio").map({0: "softmax", 0.5: "sigmoid"})
    found = compare(table, baseline={"loss_function": "softmax"}, score=score)
    assert len(found.caveats) == caveats
    assert ["does not compare a softmax" in caveat for caveat in found.caveats] == [True] * caveats


def test_what_raises_both_curves_of_a_seed_alike_is_no_spread_of_the_speedup():
    # masked is as good at equal samples and costs 0.7 of it
    table = rows(lambda mask, s, seed: 0.1 * math.log2(s / 500) + 0.01 * seed)
    hours, flops = (curve.speedup.speedup for curve in compare(table, baseline=BASELINE).curves)
    assert hours.mean == pytest.approx(1 / 0.7)
    assert flops.mean == pytest.approx(1 / 0.65)
    assert hours.interval == pytest.approx((1 / 0.7, 1 / 0.7), rel=0.1)


def test_nothing_is_read_beyond_the_measured_points():
    found = compare(rows(lambda mask, s, seed: s / 1e4 - 0.5 * mask), baseline=BASELINE).curves[0].speedup
    assert (found.speedup.mean, found.speedup.why) == (None, NOT_REACHED)


def test_an_arm_that_begins_above_the_score_is_faster_by_at_least_its_shortest_schedule():
    wobble = {0: 0.01, 1: -0.02, 2: 0.01}
    table = rows(lambda mask, s, seed: s / 1e4 + mask + wobble[seed] * (1 + mask))
    comparison = compare(table, baseline=BASELINE)
    found = comparison.curves[0].speedup
    assert found.speedup.at_least
    assert found.speedup.mean == pytest.approx(2 / 0.7)
    assert found.speedup.interval == (pytest.approx(2 / 0.7), math.inf)
    assert comparison_json(comparison)["series"][0]["costs"]["gpu_hours"]["speedup"]["interval"][1] is None


def test_one_schedule_length_gives_pairs_and_says_why_there_is_no_speedup():
    comparison = compare(rows(lambda mask, s, seed: 0.5 - 0.1 * mask, samples=(1000,)), baseline=BASELINE)
    assert len(comparison.pairs) == 1
    assert comparison.curves[0].why == "one schedule length here, and a curve takes two"


def test_costs_without_overlap_give_no_gain():
    table = rows(logarithmic, cost=lambda mask: 0.01 if mask else 1)
    curve = compare(table, baseline=BASELINE).curves[0]
    assert curve.equal_at is None
    assert curve.gain.mean is None
    assert "no cost in common" in curve.gain.why


def test_times_of_different_devices_are_not_compared_but_flops_are():
    table = rows(logarithmic)
    table["device"] = ["cpu" if mask else "NVIDIA H100" for mask in table["mask_ratio"]]
    comparison = compare(table, baseline=BASELINE)
    assert (
        comparison.pairs[0].ratios["gpu_hours"].why == "gpu_hours was measured on different devices (NVIDIA H100, cpu)"
    )
    assert comparison.pairs[0].ratios["train_flops"].mean is not None
    assert comparison.curves[0].speedup is None


def test_a_series_differs_only_in_schedule_length():
    tables = [rows(logarithmic, model=model) for model in ("A", "B")]
    for table in tables:
        table["cell"] = "model=" + table["model"] + ", " + table["cell"]
        table["id"] += table["model"]
    comparison = compare(pd.concat(tables), baseline=BASELINE)
    assert list(dict.fromkeys(curve.series for curve in comparison.curves)) == ["model=A", "model=B"]
    assert len(comparison.first_curves) == 2


def test_a_comparison_is_json():
    data = json.loads(json.dumps(comparison_json(compare(rows(logarithmic), baseline=BASELINE))))
    assert data["y"] == "zero_shot_top1"
    assert len(data["pairs"][0]["gain"]["values"]) == 3
    assert len(data["series"]) == 1


def test_the_first_measured_score_is_taken_and_an_unknown_one_is_named():
    table = rows(logarithmic).assign(held_out_loss=1.0)
    assert compare(table, baseline=BASELINE).score == "zero_shot_top1"
    with pytest.raises(ResultsError, match="did you mean 'zero_shot_top1'"):
        compare(table, baseline=BASELINE, score="zero_shot_top")
    with pytest.raises(ResultsError, match=r"'model' is not a score\. Measured: zero_shot_top1, held_out_loss"):
        compare(table.assign(model="ViT-B-16"), baseline=BASELINE, score="model")
    with pytest.raises(ResultsError, match="No run of these results has a score"):
        compare(table.assign(zero_shot_top1=None, held_out_loss=None), baseline=BASELINE)
    with pytest.raises(ResultsError, match=r"No run of these results has finished; `flipscale status STUDY` says"):
        compare(table.iloc[:0], baseline=BASELINE, score="zero_shot_top1")


def test_a_baseline_that_no_run_has_is_named_with_what_there_is():
    with pytest.raises(ResultsError, match=r"the baseline mask_ratio=0\.9; there is mask_ratio=0; mask_ratio=0\.5"):
        compare(rows(logarithmic), baseline={"mask_ratio": 0.9})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (16384, "16.38k"),
        (16000, "16k"),
        (4e8, "400M"),
        (12.8e9, "12.8B"),
        (0.5, "0.5"),
        (0, "0"),
        ("L", "L"),
        (None, "null"),
    ],
)
def test_counts_are_short(value, text):
    assert short(value) == text


def test_without_a_baseline_every_setting_that_varies_is_an_axis():
    table = pd.DataFrame({"model": ["a", "a", "b"], "samples": [1, 2, 2], "seed": [0, 0, 0]})
    assert varying_axes(table, {}) == ["model", "samples"]
