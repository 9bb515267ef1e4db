"""Published device-hours and how they are predicted: the committed result is what a rerun gives."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench import hours as bench
from bench.report import RESULTS
from flipscale.settings.devices import BALANCE, DEVICES, Device

TRAININGS = bench.read_trainings()


@pytest.fixture(scope="module")
def found() -> dict[str, object]:
    return json.loads(json.dumps(bench.result(TRAININGS)))


def test_the_committed_result_is_what_a_rerun_gives(found: dict[str, object]) -> None:
    committed = json.loads((RESULTS / "hours.json").read_text())
    assert committed.pop("table") == bench.as_markdown(found).splitlines()
    assert committed == found


def test_85_percent_of_the_rows_of_other_sources_are_predicted_within_1_5_times(tmp_path: Path) -> None:
    assert bench.main(["--check"]) == 0
    assert bench.main(["--out", str(tmp_path / "hours.json")]) == 0
    summary = json.loads((tmp_path / "hours.json").read_text())["summary"]
    assert summary["rows"] >= 60
    assert summary["within_1.5_times"] >= 0.85
    assert 0.8 <= summary["median_ratio"] <= 1.25


def test_check_fails_where_the_rule_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    off = [replace(one, hours=one.hours * (3 if one.source == "CLIPA" else 1)) for one in TRAININGS]
    monkeypatch.setattr(bench, "read_trainings", lambda: tuple(off))
    assert bench.main(["--check"]) == 1


def test_a_row_is_predicted_without_its_source() -> None:
    one = next(training for training in TRAININGS if training.source == "CLIPA")
    cheaper = [replace(other, hours=other.hours / 9) if other.source == "CLIPA" else other for other in TRAININGS]
    assert bench.predict(one, cheaper).predicted == bench.predict(one, TRAININGS).predicted


@pytest.mark.parametrize(("chip", "is_todays"), [("A100", True), ("A100", False), ("TPU-v3", True), ("V100", True)])
def test_the_shares_of_devices_are_those_of_the_rows(chip: str, is_todays: bool) -> None:
    device = DEVICES[chip]
    assert isinstance(device, Device)
    rows = [one for one in TRAININGS if one.counted and one.group == (chip, is_todays)]
    fitted = bench.median_of_sources(rows, lambda one: one.u0)
    assert device.share(1024, None if is_todays else 2022) == pytest.approx(fitted, rel=0.15)


def test_the_rule_of_bandwidth_is_that_of_the_rows() -> None:
    assert bench.balance(one for one in TRAININGS if one.counted) == pytest.approx(BALANCE, rel=0.15)


def test_flops_of_a_training_in_stages_are_those_of_its_stages() -> None:
    """CLIPA-v2's H/14 (arXiv 2306.15658): 12.8B pairs at 84 pixels and 512M at 224, checkpointed."""
    one = next(training for training in TRAININGS if training.name == "CLIPA ViT-H-14-CLIPA 84 px")
    assert one.samples == 13_312_000_000
    assert one.flops / one.samples == pytest.approx(178.0e9 * 4 / 3, rel=0.01)
