"""Every benchmark can be started; that their predictions hold is tested in test_bench_hours.py and _memory.py."""

import importlib
from pathlib import Path

import pytest

from docs.parts import benchmarks

ROOT = Path(__file__).parents[1]

MODULES = sorted({one.module for one in benchmarks.BENCHMARKS})


@pytest.mark.parametrize("module", MODULES)
def test_a_benchmark_names_its_options(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"bench.{module}").main(["--help"])
    assert end.value.code == 0
    assert "usage: " in capsys.readouterr().out


def test_make_bench_runs_every_benchmark_of_the_page() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    elsewhere = {module for module in MODULES if f"-m bench.{module}" not in makefile}
    assert elsewhere == {"gpu", "fed"}  # make test-gpu runs these


def test_a_benchmark_without_a_result_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, "RESULTS", tmp_path)
    lines = benchmarks.summary().splitlines()[2:]
    assert len(lines) == len(benchmarks.BENCHMARKS)
    assert all(benchmarks.NOT_MEASURED in line for line in lines)
    assert "Not measured yet." in benchmarks.tables()
