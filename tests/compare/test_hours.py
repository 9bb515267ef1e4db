"""Which hours claims along time go by, and what is said where the arms ran under unlike load."""

import pandas as pd
import pytest

from flipscale.analysis.comparing import comparison_json, warnings
from flipscale.analysis.comparing.build import compare
from flipscale.analysis.comparing.roles import fair_hours
from tests.compare.test_compare import logarithmic, rows


def timed(load=lambda mask: 1.0, device="cpu", probed=None):
    """Runs that took as much processor time as their FLOPs say, and these multiples of it in wall time."""
    table = rows(logarithmic).assign(device=device)
    table["cpu_seconds"] = 3600 * table["gpu_hours"]
    table["train_seconds"] = table["cpu_seconds"] * table["mask_ratio"].map(load)
    if probed is not None:
        table["gpu_hours_probed"] = table["gpu_hours"] * table["mask_ratio"].map(probed)
    return table


def compared(table):
    return compare(table, baseline={"mask_ratio": 0})


def test_arms_under_unlike_load_are_named_with_their_load():
    comparison = compared(timed(load=lambda mask: 1.07 if mask else 2.19))
    assert comparison.hours_note == (
        "The arms ran under unlike load (wall time over CPU time is 2.2 in the baseline and 1.07 with mask_ratio=0.5), "
        "so gains and speed-ups along hours may owe part of it to that; `flipscale probe` times all arms alike."
    )
    assert comparison.hours_note in warnings(comparison)
    assert comparison_json(comparison)["hours_note"] == comparison.hours_note


def test_of_many_arms_those_of_the_least_and_the_most_load_are_named():
    arms = pd.Series(["", "a", "b", "c", "d"])
    table = pd.DataFrame({"device": "cpu", "cpu_seconds": 1.0, "train_seconds": [3.0, 2.5, 2.0, 3.3, 2.4]})
    assert fair_hours(table, arms).note.startswith(
        "The arms ran under unlike load (wall time over CPU time is between 2.0 with b and 3.3 with c), so gains"
    )


def test_arms_under_like_load_are_not_spoken_of():
    assert compared(timed(load=lambda mask: 3.0 if mask else 2.6)).hours_note == ""


def test_wall_time_of_a_gpu_says_nothing_of_load():
    assert compared(timed(load=lambda mask: 1.0 if mask else 2.0, device="NVIDIA H100")).hours_note == ""


def test_a_probes_hours_take_the_place_of_the_runs_own():
    own, probed = compared(timed(load=lambda mask: 3.0 - 4 * mask)), compared(timed(probed=lambda mask: 1 + 2 * mask))
    assert own.costs == probed.costs == ("gpu_hours", "train_flops")
    ratio = probed.pairs[0].ratios["gpu_hours"].mean / own.pairs[0].ratios["gpu_hours"].mean
    assert ratio == pytest.approx(2)
    assert probed.pairs[0].ratios["train_flops"] == own.pairs[0].ratios["train_flops"]
    assert probed.hours_note.startswith("Hours are those of a probe")
    speedups = [each.first_curves[0].factor.value for each in (own, probed)]
    assert speedups[1] == pytest.approx(speedups[0] / 2)


def test_runs_that_no_probe_timed_keep_all_at_their_own_hours():
    table = timed(probed=lambda mask: 3.0)
    table.loc[table.index[0], "gpu_hours_probed"] = float("nan")
    assert compared(table).pairs == compared(timed()).pairs
    assert compared(table).hours_note == ""
