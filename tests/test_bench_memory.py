"""Published memory and how it is predicted: the committed result is what a rerun gives."""

import json

import pytest

from bench import memory as bench
from bench.report import RESULTS
from flipscale.cost import arithmetic as cost


def test_the_committed_result_is_what_a_rerun_gives() -> None:
    found = json.loads(json.dumps(bench.result()))
    committed = json.loads((RESULTS / "memory.json").read_text())
    assert committed.pop("table") == bench.as_markdown(found).splitlines()
    assert committed == found


def test_every_row_is_predicted_within_1_3_times_and_what_ran_on_a_card_fits_it() -> None:
    assert bench.main(["--check"]) == 0
    rows = bench.result()["rows"]
    assert sum(row["published"] is not None for row in rows) >= 15
    assert sum(row["published"] is None for row in rows) >= 18


@pytest.mark.parametrize("allocator", [1.0, 1.5])
def test_check_fails_where_the_rule_is_off(monkeypatch: pytest.MonkeyPatch, allocator: float) -> None:
    monkeypatch.setattr(cost, "ALLOCATOR", allocator)
    assert bench.main(["--check"]) == 1
