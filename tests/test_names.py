"""Runs found by a part of their id."""

import pytest

from flipscale.cli.names import matching_id
from flipscale.errors import FlipscaleError


@pytest.mark.parametrize(
    ("number", "listed"),
    [
        (2, "could be any of 2 runs: run-0, run-1. Give more of it."),
        (5, "could be any of 5 runs: run-0, run-1, run-2, run-3, run-4. Give more of it."),
        (6, "could be any of 6 runs: run-0, run-1, run-2, run-3, run-4, ... Give more of it."),
    ],
)
def test_a_name_of_several_runs_lists_them_and_says_whether_there_are_more(number: int, listed: str) -> None:
    with pytest.raises(FlipscaleError) as refused:
        matching_id("run", [f"run-{each}" for each in range(number)])
    assert str(refused.value) == f"'run' {listed}"
