"""docs/benchmarks.md: `make bench` measures what it lists, and what is not measured says so."""

from pathlib import Path

import pytest

from bench import commands
from tests import benchmarks

ROOT = Path(__file__).parents[1]


def test_make_bench_runs_every_benchmark_of_the_page() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    modules = {one.module for one in benchmarks.BENCHMARKS} - {"gpu"}  # make test-gpu runs that
    assert {module for module in modules if f"-m bench.{module}" not in makefile} == set()


def test_a_benchmark_without_a_result_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, "RESULTS", tmp_path)
    lines = benchmarks.summary().splitlines()[2:]
    assert len(lines) == len(benchmarks.BENCHMARKS)
    assert all(benchmarks.NOT_MEASURED in line for line in lines)
    assert "Not measured yet." in benchmarks.tables()


def test_the_page_has_a_line_for_each_command_that_is_measured() -> None:
    facts = {
        "commands": [
            {"name": chore.name, "ratio": 2.0, "least": {"flipscale": 0.5, "peer": 1.0}} for chore in commands.CHORES
        ]
    }
    lines = [one.read(facts) for one in benchmarks.BENCHMARKS if one.module == "commands"]
    assert lines == ["2.0x (0.5 s against 1.0 s of CPU)"] * len(commands.CHORES)


@pytest.mark.slow
def test_a_command_and_its_peer_are_measured_in_turns(tmp_path: Path) -> None:
    facts = commands.measure(commands.CHORES[0], tmp_path, 2)
    assert [len(taken) for taken in facts["cpu_seconds"].values()] == [2, 2]
    assert facts["least"] == {name: min(taken) for name, taken in facts["cpu_seconds"].items()}
    assert facts["ratio"] == facts["least"]["peer"] / facts["least"]["flipscale"]
