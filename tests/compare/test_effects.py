import json
import math

import pandas as pd
import pytest

from flipscale.analysis.comparing import deltas
from flipscale.errors import ResultsError

# FLIP (arXiv 2212.00794) Table 8, zero-shot ImageNet top-1; L/16, 2B, 25.6B is from the README of its repository.
TABLE_8 = pd.DataFrame(
    [
        ("L", "400M", "12.8B", 74.3),
        ("H", "400M", "12.8B", 75.5),
        ("L", "2B", "12.8B", 75.8),
        ("L", "400M", "25.6B", 73.9),
        ("H", "2B", "12.8B", 77.6),
        ("H", "2B", "25.6B", 78.8),
        ("L", "2B", "25.6B", 76.6),
    ],
    columns=["model", "data", "samples", "top1"],
)
REFERENCE = {"model": "L", "data": "400M", "samples": "12.8B"}


def table_8(table=TABLE_8):
    return {cell.name: cell for cell in deltas(table, baseline=REFERENCE, y="top1").cells}


@pytest.mark.parametrize(
    ("cell", "delta"),
    [
        ("model=H", 1.2),
        ("data=2B", 1.5),
        ("samples=25.6B", -0.4),
        ("model=H, data=2B", 3.3),
        ("model=H, data=2B, samples=25.6B", 4.5),
    ],
)
def test_the_deltas_of_flip_s_table_8_come_out(cell, delta):
    found = table_8()[cell]
    assert found.delta.mean == pytest.approx(delta)
    assert (found.delta.interval, found.delta.why) == (None, "one seed gives no interval")


def test_joint_scaling_is_more_than_the_sum_of_its_steps_by_2_2():
    joint = table_8()["model=H, data=2B, samples=25.6B"]
    assert joint.singles.mean == pytest.approx(2.3)
    assert joint.interaction.mean == pytest.approx(2.2)
    assert table_8()["model=H, data=2B"].interaction.mean == pytest.approx(0.6)


def test_a_schedule_on_top_of_data_gains_0_8_and_on_top_of_model_and_data_1_2():
    steps = {step.onto: step.delta.mean for cell in table_8().values() for step in cell.steps if step.axis == "samples"}
    assert steps == {"data=2B": pytest.approx(0.8), "model=H, data=2B": pytest.approx(1.2)}


def test_a_missing_single_step_leaves_the_interaction_absent_and_is_named():
    joint = table_8(TABLE_8.drop(index=3))["model=H, data=2B, samples=25.6B"]
    assert joint.delta.mean == pytest.approx(4.5)
    assert joint.interaction.mean is None
    assert joint.interaction.why == "there is no row of samples=25.6B"


def test_the_step_onto_a_missing_cell_is_absent():
    (step,) = [s for s in table_8()["model=H, data=2B, samples=25.6B"].steps if s.axis == "data"]
    assert step.onto == "model=H, samples=25.6B"
    assert step.delta.why == "there is no row of model=H, samples=25.6B"


def test_seeds_are_paired_and_an_interaction_has_their_interval():
    table = pd.DataFrame(
        [
            (a, b, seed, 10 * seed + a + 2 * b + 3 * a * b + (0.1 * seed if a and b else 0))
            for a in (0, 1)
            for b in (0, 1)
            for seed in (0, 1, 2)
        ],
        columns=["a", "b", "seed", "y"],
    )
    one, other, joint = deltas(table, baseline={"a": 0, "b": 0}, y="y").cells
    assert {cell.name: cell.delta.mean for cell in (one, other)} == {"a=1": pytest.approx(1), "b=1": pytest.approx(2)}
    assert joint.interaction.values == pytest.approx((3.0, 3.1, 3.2))
    # Seeds differ by 10, but their differences by 0.1: they are paired. 4.303 is Student's t of 2 degrees of freedom.
    assert joint.interaction.interval.high - joint.interaction.mean == pytest.approx(4.302653 * 0.1 / math.sqrt(3))


def test_a_lower_loss_is_a_gain_here_too():
    table = pd.DataFrame({"data": [1, 2], "loss": [3.0, 2.5]})
    (cell,) = deltas(table, baseline={"data": 1}, y="loss").cells
    assert cell.delta.mean == 0.5


def test_a_row_without_a_score_and_a_second_of_one_seed_are_left_out_by_name():
    table = pd.DataFrame({"data": [1, 2, 2, 3], "seed": [0, 0, 0, 0], "y": [3.0, 2.5, 9.0, None]})
    found = deltas(table, baseline={"data": 1}, y="y")
    assert found.left_out == {"row 3": "a second row of data=2 at seed 0", "row 4": "no y"}
    assert [cell.delta.mean for cell in found.cells] == [-0.5]


def test_rows_of_a_cell_that_differ_in_a_setting_nobody_named_are_not_averaged():
    table = pd.DataFrame(
        [(mask, lr, seed, 70 - 10 * mask + 1e4 * lr) for mask in (0, 0.5) for lr in (1e-3, 3e-4) for seed in (0, 1)],
        columns=["mask", "lr", "seed", "y"],
    )
    with pytest.raises(ResultsError, match=r"Rows of mask=0 differ in lr \(0.001, 0.0003\).* Add lr=VALUE to the base"):
        deltas(table, baseline={"mask": 0}, y="y")
    cells = {cell.name: cell.delta.mean for cell in deltas(table, baseline={"mask": 0, "lr": 1e-3}, y="y").cells}
    assert cells == {"mask=0.5": -5, "lr=0.0003": -7, "mask=0.5, lr=0.0003": -12}


def test_a_tuned_row_is_no_second_row_of_its_seed():
    table = pd.DataFrame({"mask": [0, 0.5, 0.5], "tuning": [None, None, "samples=1k"], "seed": 0, "y": [70.0, 65, 69]})
    rows = pd.concat([table, table.assign(seed=1)])
    with pytest.raises(ResultsError, match=r"Rows of mask=0.5 differ in tuning \(null, samples=1k\)"):
        deltas(rows, baseline={"mask": 0}, y="y")


def test_deltas_are_json_with_their_reasons():
    data = json.loads(json.dumps(deltas(TABLE_8, baseline=REFERENCE, y="top1").to_dict(), allow_nan=False))
    assert data["reference"] == 74.3
    joint = data["cells"][-1]
    assert joint["cell"] == {"model": "H", "data": "2B", "samples": "25.6B"}
    assert joint["interaction"]["value"] == pytest.approx(2.2)
    assert joint["interaction"]["interval"] is None
    assert joint["on_top_of_others"][2] == {
        "axis": "samples",
        "value": "25.6B",
        "onto": "model=H, data=2B",
        "delta": pytest.approx(1.2),
        "n": 1,
        "interval": None,
        "why": "one seed gives no interval",
    }


def test_a_reference_that_no_row_has_is_named_with_what_there_is():
    with pytest.raises(ResultsError, match=r"No row is the baseline model=B, data=400M; there is model=L, data=400M;"):
        deltas(TABLE_8, baseline={"model": "B", "data": "400M"}, y="top1")
    without = TABLE_8.assign(top1=TABLE_8["top1"].where(TABLE_8["model"] == "H"))
    with pytest.raises(ResultsError, match=r"No row of model=L, data=400M, samples=12\.8B has top1"):
        deltas(without, baseline=REFERENCE, y="top1")
