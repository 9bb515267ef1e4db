import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from flipscale.compare import compare, compare_table, comparison_json, comparison_text, verdicts
from flipscale.compare.claims import claimed_levels
from tests.test_collect import COST, RESULT, collect, planned, write_run

pytestmark = pytest.mark.slow

SEEDS = (0, 1, 2)


def law(cost):
    """Accuracy that follows an odds law of the cost."""
    odds = (cost / 20) ** 0.8
    return odds / (1 + odds)


def logarithm(cost):
    return 0.1 * math.log2(cost)


def table_of(arm, schedules=(8, 16, 32, 64), seeds=SEEDS, spends=0.5, wobble=0.002, base=law):
    """Rows of the law and of arm(cost), whose seeds differ a little, and differently at each point."""
    rows = [
        (mask, samples, seed, samples * (spends if mask else 1), y)
        for mask, truth in ((0, base), (0.5, arm))
        for i, samples in enumerate(schedules)
        for seed in seeds
        for y in [truth(samples * (spends if mask else 1)) + wobble * math.sin(5 * seed + 3 * i + 7 * mask)]
    ]
    return pd.DataFrame(rows, columns=["mask", "samples", "seed", "hours", "acc"])


def curve(table, **options):
    comparison = compare_table(table, baseline={"mask": 0}, x="hours", y="acc", **options)
    return comparison.curves[0], verdicts(comparison)[0]


def test_a_curve_is_the_mean_over_seeds_and_a_speedup_is_read_off_it():
    rows = [(mask, s, seed, s * (1 - mask), y + 0.1 * seed) for seed in SEEDS for mask, s, y in
            [(0, 1, 0.2), (0, 2, 0.4), (0.5, 1, 0.3), (0.5, 2, 0.5)]]  # fmt: skip
    found, _ = curve(pd.DataFrame(rows, columns=["mask", "samples", "seed", "hours", "acc"]))
    assert found.target == pytest.approx(0.5)
    # 50 % is half of the way from 40 to 60 % on the logit, and so from 0.5 to 1 hours on the logarithm.
    assert found.speedup.mean == pytest.approx(2 / math.sqrt(0.5))
    assert found.speedup_straight == pytest.approx(2 / 0.75)


@pytest.mark.parametrize("shift", [1.5, 2.5, 3.5])
def test_a_speedup_is_that_of_the_law_where_straight_lines_are_3_to_10_percent_low(shift):
    found, _ = curve(table_of(lambda cost: law(shift * cost), wobble=0.0, spends=0.9))
    assert found.speedup.mean == pytest.approx(shift, rel=1e-3)
    assert 0.90 < found.speedup_straight / shift < 0.97
    assert found.speedup.interval == [pytest.approx(shift, rel=1e-3)] * 2


def test_two_seeds_have_the_certainty_of_all_curves_of_the_study():
    narrow = pd.concat([table_of(lambda cost: law(2.5 * cost), seeds=(0, 1)).assign(size=size) for size in range(3)])
    narrow["acc"] += 0.01 * np.random.default_rng(0).standard_normal(len(narrow))
    many = compare_table(narrow, baseline={"mask": 0}, x="hours", y="acc", series=["size"], at="samples")
    for found in many.curves:
        assert found.speedup.high / found.speedup.low < 1.6  # 1.5 expected; Student t of 1 degree of freedom: over 5


def test_one_shift_is_not_rejected_where_it_is_true_however_the_points_lie():
    # Read straight in hours, these two curves are up to 8 % from one shift, only for how their points lie.
    for shift in (1.5, 2.0, 3.0):
        table = table_of(lambda cost, by=shift: logarithm(by * cost), wobble=0.0, base=logarithm)
        table["acc"] += 0.002 * np.random.default_rng(1).standard_normal(len(table))
        found, verdict = curve(table)
        assert not found.one_shift.rejected
        assert found.one_shift.shift == pytest.approx(shift, rel=0.06)
        assert "depends on the score" not in verdict


def test_a_speedup_that_falls_along_the_curve_is_told_as_a_range():
    found, verdict = curve(table_of(lambda cost: law(4 * cost * (cost / 8) ** -0.5)))
    assert found.one_shift.rejected
    assert found.speedup_at[0].speedup.mean > 1.5 * found.speedup_at[-1].speedup.mean
    first, last = claimed_levels(found)
    assert (first.score, last.score) == (found.speedup_at[0].score, found.speedup_at[-1].score)
    assert "its speed-up in hours depends on the score (one shift is rejected, p" in verdict
    assert "x faster" not in verdict.partition("; at equal")[0]


def test_one_seed_gives_no_interval_and_no_test():
    found, verdict = curve(table_of(lambda cost: law(3 * cost), seeds=(0,)))
    assert (found.speedup.interval, found.speedup.why) == (None, "one seed gives no interval")
    assert (found.one_shift.p, found.one_shift.why) == (None, "one seed gives no test")
    assert found.crossover.none is None
    assert "one seed, no CI" in verdict


def test_a_crossover_is_where_the_gain_changes_its_sign_with_its_interval():
    # Baseline y = x and arm y = 2 + x / 2, from 1 to 8 hours: they cross at 4, where the gain falls by 0.5 an hour.
    noise = np.random.default_rng(0)
    rows = [
        (mask, hours, seed, hours, y + 0.03 * noise.standard_normal())
        for seed in SEEDS
        for hours in (1, 2, 3, 3.9, 4.1, 5, 8)
        for mask, y in ((0, hours), (0.5, 2 + hours / 2))
    ]
    found, _ = curve(pd.DataFrame(rows, columns=["mask", "samples", "seed", "hours", "acc"]))
    cross = found.crossover
    assert cross.at == pytest.approx(4, abs=0.08)
    assert cross.turns == "behind"
    assert cross.changes == 1
    low, high = cross.interval
    # The gain's standard error is 0.03 sqrt(2 / 3): 0.1 hours at 2 of them, and less between two points.
    assert 3.8 < low < 4 < high < 4.2
    assert (cross.open, cross.none) == ((False, False), pytest.approx(0, abs=0.01))


def test_without_a_change_of_sign_there_is_no_crossover_and_the_share_says_how_sure():
    found, _ = curve(table_of(lambda cost: law(3 * cost)))
    assert found.crossover.at is None
    assert found.crossover.why == "mask=0.5 is ahead over all hours that both have"
    assert found.crossover.none > 0.95


def test_a_crossover_that_may_lie_beyond_the_curves_has_an_open_end():
    found, _ = curve(table_of(lambda cost: law(cost) + 0.02 - 0.0007 * cost, wobble=0.02))
    assert found.crossover.at is not None
    assert any(found.crossover.open)
    assert 0 < found.crossover.none < 1


def test_a_seed_without_one_of_the_schedules_narrows_the_curves_to_what_all_share():
    table = table_of(lambda cost: law(3 * cost))
    lost = table[(table["seed"] == 2) & (table["samples"] == 16) & (table["mask"] == 0)].index
    found, _ = curve(table.drop(index=lost))
    assert found.seeds == (0, 1, 2)
    found, _ = curve(table[(table["seed"] != 2) | (table["samples"] == 64)])
    assert found.seeds == (0, 1)  # one schedule is not a curve, and the others keep theirs


def test_a_cost_of_0_gives_no_speedup_but_gains():
    table = table_of(lambda cost: law(3 * cost))
    table.loc[table["samples"] == 8, "hours"] = 0.0
    found, _ = curve(table)
    assert found.speedup.why == "a cost of 0 has no speed-up"
    assert found.speedup_at == ()
    assert found.gain.mean is not None


def test_the_verdict_takes_back_what_one_of_many_comparisons_cannot_show():
    gains = {0.1: (0.010, 0.012, 0.020), 0.2: (0.001, -0.004, 0.002), 0.3: (0.004, -0.003, 0.001)}
    rows = [
        {"mask_ratio": mask, "seed": seed, "samples": 1000, "gpu_hours": 1.0, "train_flops": 1.0,
         "zero_shot_top1": 0.5 + 0.02 * seed + gains.get(mask, (0, 0, 0))[seed], "id": f"{mask}-{seed}"}
        for mask in (0, *gains) for seed in SEEDS
    ]  # fmt: skip
    alone = compare(pd.DataFrame([row for row in rows if row["mask_ratio"] < 0.15]), baseline={"mask_ratio": 0})
    assert "it is 1.4 points better (95 % CI +0.1 to +2.7)" in verdicts(alone)[0]
    among = compare(pd.DataFrame(rows), baseline={"mask_ratio": 0})
    assert among.pairs[0].gain.interval == pytest.approx(alone.pairs[0].gain.interval, rel=2e-3)
    assert (
        "at equal samples (1k) no significant difference (+1.4 points, 95 % CI -1.0 to +3.8, corrected for 3 "
        "comparisons)"
    ) in verdicts(among)[0]
    assert "CIs of 3 gains are corrected for that (Holm)" in comparison_text(among)
    assert comparison_json(among)["corrected"] == {"method": "Holm", "gains": 3, "speedups": 0}


def test_tuning_counts_with_its_parent_in_a_comparison(tmp_path):
    tuning = {"samples": 128, "lr": None, "warmup": None, "batch_size": None, "mask_ratio": 0.0}
    base, masked = planned("b"), replace(planned("m", mask_ratio=0.5), cell=None)
    tuned = replace(planned("t", mask_ratio=0.5, tuning=tuning), parents=("m",))
    tuned = replace(tuned, cost=replace(COST, train_flops=1.0e21))
    masked = replace(masked, cost=replace(COST, train_flops=2.0e21))
    write_run(tmp_path, base, {**RESULT, "gpu_hours": 4.5})
    took = {"samples": 1024, "train_seconds": 8.0, "cpu_seconds": 7.0, "gpu_hours": 2.0}
    write_run(tmp_path, masked, {**RESULT, **took})
    own = {"samples": 128, "train_seconds": 1.0, "cpu_seconds": 0.5, "gpu_hours": 0.25}
    write_run(tmp_path, tuned, {**RESULT, **own, "parent": {"id": "m", **took}})
    results = collect([base, masked, tuned], tmp_path, tmp_path / "mask").results
    (pair,) = compare(results, baseline={"mask_ratio": 0, "tuning": None}).pairs
    assert pair.arm == "mask_ratio=0.5, tuning=128"
    assert pair.ratios["gpu_hours"].mean == pytest.approx((2.0 + 0.25) / 4.5)
    assert pair.ratios["train_flops"].mean == pytest.approx((2.0e21 + 1.0e21) / 5.0e21)


def test_of_100_studies_without_a_difference_about_one_in_20_claims_any():
    rng = np.random.default_rng(0)
    arms = (0, 0.1, 0.2, 0.3, 0.4, 0.5)
    cells = pd.DataFrame([(arm, seed) for arm in arms for seed in range(4)], columns=["mask", "seed"]).assign(hours=1.0)
    claimed = alone = 0
    for _ in range(100):
        comparison = compare_table(
            cells.assign(acc=50 + rng.normal(size=len(cells))), baseline={"mask": 0}, x="hours", y="acc"
        )
        claimed += any("it is" in verdict for verdict in verdicts(comparison))
        alone += any(pair.gain.p < 0.05 for pair in comparison.pairs)
    assert claimed <= 11  # 5 are expected at most; more than 11 come in 1 of 200 cases
    assert alone >= 12  # uncorrected; the correction holds them back


def test_a_comparison_has_no_number_that_json_lacks():
    for table in (
        table_of(lambda cost: law(3 * cost)),
        table_of(law, seeds=(0,)),
        table_of(law, schedules=(8,), seeds=(0, 1)),
    ):
        comparison = compare_table(table, baseline={"mask": 0}, x="hours", y="acc")
        assert json.loads(json.dumps(comparison_json(comparison), allow_nan=False))["series"]
