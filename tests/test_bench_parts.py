"""Long benchmarks are done in parts, which outlive a run that was cut short; coverage is one of them."""

import json
from pathlib import Path

import pytest

from bench import coverage
from bench.parts import Part, digest, run_parts


def note(log: Path, number: int) -> dict[str, int]:
    """Work that leaves a line; the third is interrupted as long as there is a file that says so."""
    if number == 3 and log.with_name("stop").exists():
        raise KeyboardInterrupt
    with log.open("a") as lines:
        lines.write(f"{number}\n")
    return {"number": number}


def parts_of(log: Path, numbers: range) -> list[Part]:
    return [Part(f"part {number}", note, (log, number)) for number in numbers]


def test_a_run_that_was_cut_short_goes_on_where_it_stopped(tmp_path: Path) -> None:
    log, folder = tmp_path / "log", tmp_path / "kept"
    log.with_name("stop").touch()
    with pytest.raises(KeyboardInterrupt):
        run_parts(parts_of(log, range(5)), folder=folder, code="1")
    log.with_name("stop").unlink()
    found = run_parts(parts_of(log, range(5)), folder=folder, code="1")
    assert found == [{"number": number} for number in range(5)]
    assert log.read_text().split() == ["0", "1", "2", "3", "4"]


def test_parts_of_other_code_or_of_other_arguments_are_done_anew(tmp_path: Path) -> None:
    log, folder = tmp_path / "log", tmp_path / "kept"
    run_parts(parts_of(log, range(1)), folder=folder, code="1")
    run_parts(parts_of(log, range(1)), folder=folder, code="2")
    run_parts([Part("part 0", note, (log, 7))], folder=folder, code="2")
    assert log.read_text().split() == ["0", "0", "7"]


def test_parts_done_in_several_processes_keep_their_order(tmp_path: Path) -> None:
    found = run_parts(parts_of(tmp_path / "log", range(3)), folder=None, code="1", jobs=2)
    assert [facts["number"] for facts in found] == [0, 1, 2]


def test_the_digest_of_code_changes_with_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.parts.ROOT", tmp_path)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").write_text("1")
    before = digest("code")
    assert digest("code") == before
    (tmp_path / "code" / "a.py").write_text("2")
    assert digest("code") != before


def test_coverage_is_measured_and_what_is_outside_its_limits_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "tiny.json"
    asked = ["--studies", "40", "--draws", "60", "--only", "power, 12 settings, 3 seeds, effect 0.03, 15"]
    facts = coverage.main([*asked, "--out", str(out)])
    (design,) = facts["designs"]
    # 95 % nominal: of 40 intervals fewer than 32 hold it in 1 of 10,000 cases.
    assert min(design["covered"].values()) >= 0.8
    assert json.loads(out.read_text())["designs"] == facts["designs"]
    assert out.with_suffix(".svg").read_text().startswith("<?xml")
    assert not out.with_suffix(".parts").exists()
    monkeypatch.setattr("bench.coverage.LEAST", 1.5)  # no interval holds the truth that often
    with pytest.raises(SystemExit):
        coverage.main(
            ["--studies", "1", "--draws", "60", "--only", "power, 12 settings, 3 seeds, effect 0.03, 15", "--check"]
        )
