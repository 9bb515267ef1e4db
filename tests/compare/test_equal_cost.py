"""Runs of other schedules that took as much, and the best of several sizes."""

import json

import pandas as pd
import pytest

from flipscale.compare import compare, comparison_json, comparison_text
from flipscale.compare.equal_cost import SizeChoice

BASELINE = {"mask_ratio": 0}
SIZES = ("S", "B")


def runs(score, seeds=(0, 1, 2), batches=(None,), memory=lambda mask, batch: 1e9):
    """Masked runs see twice the samples for the same FLOPs and 1.3 of the time; score is score(size, mask, seed)."""
    return pd.DataFrame(
        [
            {
                "id": f"{size}{budget}{mask}{batch}{seed}",
                "cell": f"model={size}, " + (f"batch_size={batch}, " if batch else "") + f"samples={samples}",
                "model": size,
                "samples": samples,
                "mask_ratio": mask,
                "seed": seed,
                "gpu_hours": budget * (1.3 if mask else 1.0) * (1 + 0.02 * seed),
                "train_flops": budget * (1.01 if mask else 1.0),
                "peak_memory_bytes": memory(mask, batch),
                "zero_shot_top1": score(size, mask, seed) + 0.01 * budget,
                "device": "cpu",
            }
            for size in SIZES
            for batch in batches
            for budget in (1, 2, 4)
            for mask in (0, 0.5)
            for samples in [100 * budget * (2 if mask else 1) // (1 if size == "S" else 4) + (1 if mask else 0)]
            for seed in seeds
        ]
    )


def wobble(size, mask, seed):
    return 0.5 + 0.02 * mask + 0.001 * ((seed * 7 + int(mask * 4) * 3 + len(size)) % 5)


def test_masked_runs_meet_the_baseline_of_equal_flops_at_other_samples():
    comparison = compare(runs(wobble), baseline=BASELINE)
    assert not comparison.pairs  # no cell has both
    (flops,) = comparison.equal_cost
    assert (flops.held, flops.tolerance) == ("train_flops", 0.03)
    assert [(equal.baseline_cell, equal.pair.cell) for equal in flops.pairs][:2] == [
        ("model=S, samples=100", "model=S, samples=201"),
        ("model=S, samples=200", "model=S, samples=401"),
    ]
    assert len(flops.pairs) == 6
    assert all(equal.pair.gain.mean == pytest.approx(0.01, abs=0.003) for equal in flops.pairs)
    assert all(equal.pair.gain.corrected.of == 6 for equal in flops.pairs)


def test_costs_that_are_not_equal_make_no_pair():
    table = runs(wobble)
    table.loc[table["mask_ratio"] > 0, "train_flops"] *= 1.1
    assert compare(table, baseline=BASELINE).equal_cost == ()


def test_at_equal_memory_a_larger_batch_with_a_mask_meets_a_smaller_one_without():
    table = runs(wobble, batches=(64, 128), memory=lambda mask, batch: batch * (0.5 if mask else 1.0) * 1e6)
    table["cell"] = [
        f"{cell.rpartition(', ')[0]}, samples={samples}"
        for cell, samples in zip(table["cell"], 100 * table["train_flops"].round(), strict=True)
    ]
    table["samples"] = 100 * table["train_flops"].round()
    (memory,) = (found for found in compare(table, baseline=BASELINE).equal_cost if found.held == "peak_memory_bytes")
    assert {(equal.baseline_cell.split(", ")[1], equal.pair.cell.split(", ")[1]) for equal in memory.pairs} == {
        ("batch_size=64", "batch_size=128")
    }


def test_the_best_size_is_chosen_on_the_other_seeds():
    # S is better in seed 0 by luck and B in the others, by less.
    def lucky(size, mask, seed):
        return 0.5 + (0.09 if seed == 0 else 0.0) * (size == "S") + (0.02 if seed else 0.0) * (size == "B")

    (flops,) = compare(runs(lucky), baseline=BASELINE).equal_cost
    best = flops.best[0]
    assert (best.sizes, best.budget) == (2, pytest.approx(1.005, rel=1e-4))
    assert best.chosen == (
        SizeChoice(0, "model=B", "model=B"),
        SizeChoice(1, "model=S", "model=S"),
        SizeChoice(2, "model=S", "model=S"),
    )
    assert best.pair.twins[0] == pytest.approx((0.51, 0.51))  # B at seed 0, though S had 0.59 on it
    assert best.pair.gain.mean == pytest.approx(0)


def test_the_table_and_json_have_them():
    comparison = compare(runs(wobble), baseline=BASELINE)
    text = comparison_text(comparison)
    assert "At equal cost, though samples differ:" in text
    assert "train_flops 4.02, best of 2" in text
    (found,) = json.loads(json.dumps(comparison_json(comparison), allow_nan=False))["equal_cost"]
    assert len(found["pairs"]) == 6
    assert found["best_of_sizes"][0]["chosen"][0]["seed"] == 0
