import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.interpolate import PchipInterpolator

from flipscale.analysis.comparing import Effect, compare, compare_table, comparison_json, speed_cell, speedups
from flipscale.analysis.comparing.estimates import NOT_REACHED
from flipscale.analysis.comparing.speedups import LEVELS, read_line
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
    comparison = compare_table(table, baseline={"mask": 0}, x="hours", y="acc", **{"at": "samples", **options})
    return comparison.curves[0], comparison.first_curves[0]


@pytest.mark.parametrize("points", [3, 4, 7])
@pytest.mark.parametrize("rising", [True, False])
def test_curves_between_their_points_are_scipy_s_monotone_cubic(points, rising):
    rng = np.random.default_rng(points)
    xs = np.cumsum(rng.uniform(0.2, 2, points))
    ys = np.cumsum(rng.uniform(0.1, 1, (20, points)) if rising else rng.normal(size=(20, points)), axis=1)
    at = np.linspace(xs[0], xs[-1], 30)
    read, exact = read_line(xs, ys), PchipInterpolator(xs, ys, axis=1)
    assert read.scores_at(at) == pytest.approx(exact(at), abs=0.01)
    targets = ys[:, 0] + 0.3 * (ys.max(axis=1) - ys[:, 0])
    reached = read.reach(targets)
    assert np.array([PchipInterpolator(xs, y)(x) for x, y in zip(reached, ys, strict=True)]) == pytest.approx(
        targets, abs=0.01
    )


def test_a_score_that_is_never_reached_or_passed_before_the_first_point_is_infinitely_far():
    line = read_line(np.array([0.0, 1.0, 2.0]), np.array([[1.0, 3.0, 2.0]] * 4))
    assert line.reach(np.array([0.5, 1.0, 3.0, 3.5])).tolist() == [-np.inf, 0.0, pytest.approx(1.0), np.inf]


def test_draws_of_a_curve_are_not_kept_beside_those_of_the_next(monkeypatch):
    kept = []
    read = speedups._read

    def watched(asked, lines, comparisons):
        found = read(asked, lines, comparisons)
        kept.append({"draws", "_drawn"} & vars(lines).keys())
        return found

    monkeypatch.setattr(speedups, "_read", watched)
    assert curve(table_of(lambda cost: law(1.4 * cost)))[0].speedup.speedup.interval
    assert kept == [set()]


def test_the_target_is_the_mean_over_seeds_at_the_last_but_one_length():
    rows = [(mask, s, seed, s * (1 - mask), y + 0.1 * seed) for seed in SEEDS for mask, s, y in
            [(0, 1, 0.2), (0, 2, 0.4), (0, 4, 0.5), (0.5, 1, 0.1), (0.5, 2, 0.3), (0.5, 4, 0.5)]]  # fmt: skip
    found, _ = curve(pd.DataFrame(rows, columns=["mask", "samples", "seed", "hours", "acc"]))
    assert (found.speedup.score, found.speedup.at) == (pytest.approx(0.5), 2)
    bends = PchipInterpolator(np.log([0.5, 1, 2]), [0.2, 0.4, 0.6])
    assert bends(math.log(2 / found.speedup.speedup.mean)) == pytest.approx(0.5, abs=1e-3)
    assert found.speedup_straight == pytest.approx(4 / 2)


@pytest.mark.parametrize("shift", [1.5, 2.5, 3.5])
def test_a_speedup_is_that_of_the_law(shift):
    found, _ = curve(table_of(lambda cost: law(shift * cost), wobble=0.0, spends=0.9))
    assert found.speedup.speedup.mean == pytest.approx(shift, rel=0.02)


def test_a_speedup_is_the_cheaper_sample_over_as_many_samples():
    found, _ = curve(table_of(lambda cost: law(1.6 * cost), spends=0.5), at="samples")
    parts = found.speedup
    assert parts.cheaper.mean == pytest.approx(2)
    assert parts.samples.mean == pytest.approx(2 / 1.6, rel=0.02)
    assert parts.speedup.mean == pytest.approx(parts.cheaper.mean / parts.samples.mean)
    assert parts.cheaper.interval == (pytest.approx(2), pytest.approx(2))  # costs do not scatter here
    assert parts.samples.interval.low < 1.25 < parts.samples.interval.high


def test_samples_are_those_seen_in_tuning_too():
    table = table_of(lambda cost: law(1.6 * cost), spends=0.5)
    table["samples_seen"] = table["samples"] + 4 * (table["mask"] > 0)
    alone, _ = curve(table.drop(columns="samples_seen"), at="samples")
    found, _ = curve(table, at="samples")
    assert found.speedup.speedup == alone.speedup.speedup
    longer = alone.speedup.samples.mean * 32  # The arm's schedule that reaches the baseline's score at 32.
    assert found.speedup.samples.mean == pytest.approx((longer + 4) / 32, rel=0.01)
    assert found.speedup.cheaper.mean == pytest.approx(found.speedup.speedup.mean * found.speedup.samples.mean)


def test_costs_that_scatter_widen_the_speedup_and_the_cost_a_sample():
    table = table_of(lambda cost: law(1.6 * cost), wobble=0.0)
    table["hours"] *= np.exp(0.1 * np.random.default_rng(0).standard_normal(len(table)))
    found, _ = curve(table, at="samples")
    assert found.speedup.cheaper.interval.low < 2 < found.speedup.cheaper.interval.high
    assert found.speedup.samples.interval.low == pytest.approx(found.speedup.samples.interval.high)


def test_exchanged_arms_give_inverse_speedups_at_one_score_and_gains_of_the_other_sign():
    table = table_of(lambda cost: law(1.3 * cost), wobble=0.01)
    there, back = (compare_table(table, baseline={"mask": mask}, x="hours", y="acc", at="samples") for mask in (0, 0.5))
    for one, other in zip(there.pairs, back.pairs, strict=True):
        assert one.gain.mean == pytest.approx(-other.gain.mean)
        assert one.gain.interval == pytest.approx((-other.gain.interval.high, -other.gain.interval.low))
        assert (one.gain.p, one.gain.corrected.p) == pytest.approx((other.gain.p, other.gain.corrected.p))
    scores = [{round(at.score, 9): at for at in of.curves[0].speedup_at} for of in (there, back)]
    shared = scores[0].keys() & scores[1].keys()  # The score of the statement is that of the baseline.
    assert len(shared) == LEVELS
    for one, other in ((scores[0][score], scores[1][score]) for score in shared):
        assert one.speedup.mean == pytest.approx(1 / other.speedup.mean)
        assert one.speedup.interval.low == pytest.approx(1 / other.speedup.interval.high)
        assert one.samples.mean == pytest.approx(1 / other.samples.mean)
        assert one.samples.interval.low == pytest.approx(1 / other.samples.interval.high)


def test_an_arm_whose_shortest_length_passes_the_score_is_at_least_so_much_faster():
    found, _ = curve(table_of(lambda cost: law(30 * cost)), at="samples")
    assert found.speedup.speedup.at_least
    assert found.speedup.speedup.mean == pytest.approx(32 / 4)
    assert found.speedup.speedup.interval.high == math.inf


def test_an_arm_that_never_reaches_the_score_has_no_speedup():
    found, _ = curve(table_of(lambda cost: 0.3 * law(cost)), at="samples")
    assert found.speedup.speedup.why == NOT_REACHED
    assert found.speedup.speedup.mean is None
    assert speed_cell(found.speedup) == "not reached"


def test_a_baseline_that_its_own_first_length_beats_is_no_miss_of_the_arm():
    scores = {0: (0.8, 0.7, 0.9), 0.5: (0.75, 0.85, 0.88)}
    rows = [(mask, at, score) for mask, of in scores.items() for at, score in zip((4, 8, 16), of, strict=True)]
    table = pd.DataFrame(rows, columns=["mask", "samples", "acc"]).assign(hours=lambda t: t["samples"])
    (found,) = compare_table(table, baseline={"mask": 0}, x="hours", y="acc", at="samples").curves
    assert "the baseline's curve does not pass" in found.speedup.speedup.why
    assert speed_cell(found.speedup) == "-"


def test_one_seed_gives_no_interval():
    found, _ = curve(table_of(lambda cost: law(3 * cost), seeds=(0,)))
    assert (found.speedup.speedup.interval, found.speedup.speedup.why) == (None, "one seed gives no interval")


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
    low, high = cross.interval
    # The gain's standard error is 0.03 sqrt(2 / 3): 0.1 hours at 2 of them, and less between two points.
    assert 3.8 < low < 4 < high < 4.2


def test_without_a_change_of_sign_there_is_no_crossover():
    found, _ = curve(table_of(lambda cost: law(3 * cost)))
    assert found.crossover is None


def test_a_crossover_that_may_lie_beyond_the_curves_has_an_open_end():
    found, _ = curve(table_of(lambda cost: law(cost) + 0.02 - 0.0007 * cost, wobble=0.02))
    low, high = found.crossover.interval
    assert low == 0 or high == math.inf


def test_a_seed_without_one_of_the_schedules_narrows_the_curves_to_what_all_share():
    table = table_of(lambda cost: law(3 * cost))
    lost = table[(table["seed"] == 2) & (table["samples"] == 16) & (table["mask"] == 0)].index
    found, _ = curve(table.drop(index=lost))
    assert found.seeds == (0, 1, 2)
    found, _ = curve(table[(table["seed"] != 2) | (table["samples"] == 64)])
    assert found.seeds == (0, 1)  # one schedule is not a curve, and the others keep theirs


def test_a_cost_of_0_gives_no_curve():
    table = table_of(lambda cost: law(3 * cost))
    table.loc[table["samples"] == 8, "hours"] = 0.0
    found, _ = curve(table)
    assert (found.speedup, found.why) == (None, "a cost of 0 has no logarithm")


def test_the_correction_takes_back_what_one_of_many_comparisons_cannot_show():
    gains = {0.1: (0.010, 0.012, 0.020), 0.2: (0.009, -0.014, 0.002), 0.3: (0.014, -0.013, 0.001)}
    rows = [
        {"mask_ratio": mask, "seed": seed, "samples": 1000, "gpu_hours": 1.0, "train_flops": 1.0,
         "zero_shot_top1": 0.5 + 0.02 * seed + gains.get(mask, (0, 0, 0))[seed], "id": f"{mask}-{seed}"}
        for mask in (0, *gains) for seed in SEEDS
    ]  # fmt: skip
    alone = compare(pd.DataFrame([row for row in rows if row["mask_ratio"] < 0.15]), baseline={"mask_ratio": 0})
    assert alone.first_curves[0].pair.gain.effect is Effect.AHEAD  # by its own three seeds
    among = compare(pd.DataFrame(rows), baseline={"mask_ratio": 0})
    assert among.first_curves[0].pair.gain.effect is Effect.NOT_SIGNIFICANT
    assert comparison_json(among)["corrected"] == {"method": "Holm", "gains": 3, "speedups": 0}


def test_tuning_counts_with_its_parent_in_a_comparison(tmp_path):
    tuning = {"samples": 128, "lr": None, "warmup": None, "batch_size": None, "mask_ratio": 0.0}
    base, masked = planned("b"), replace(planned("m", mask_ratio=0.5), cell=None)
    tuned = replace(planned("t", mask_ratio=0.5, tuning=tuning), parents=("m",))
    tuned = replace(tuned, cost=replace(COST, train_flops=1.0e21))
    masked = replace(masked, cost=replace(COST, train_flops=2.0e21))
    write_run(tmp_path, base, {**RESULT, "gpu_hours": 4.5})
    took = {"samples_seen": 1024, "train_seconds": 8.0, "cpu_seconds": 7.0, "gpu_hours": 2.0}
    write_run(tmp_path, masked, {**RESULT, **took})
    own = {"samples_seen": 128, "train_seconds": 1.0, "cpu_seconds": 0.5, "gpu_hours": 0.25}
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
        claimed += any(curve.pair.gain.significant for curve in comparison.first_curves)
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


def test_where_costs_are_equal_the_gain_at_equal_cost_is_that_at_equal_samples() -> None:
    table = lengths_of_equal_cost(1.0)
    (curve,) = compare_table(table, baseline={"arm": "base"}, x="hours", y="acc", at="samples").first_curves
    assert curve.pair
    assert curve.gain is curve.pair.gain
    cheaper = lengths_of_equal_cost(0.5)
    (curve,) = compare_table(cheaper, baseline={"arm": "base"}, x="hours", y="acc", at="samples").first_curves
    assert curve.gain
    assert curve.gain.corrected is None


def lengths_of_equal_cost(price: float) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (arm, samples, seed, samples * (price if arm == "new" else 1), 0.5 + 0.05 * i + rng.normal(0, 0.01))
        for arm in ("base", "new")
        for i, samples in enumerate((8, 16, 32))
        for seed in range(3)
    ]
    return pd.DataFrame(rows, columns=["arm", "samples", "seed", "hours", "acc"])
