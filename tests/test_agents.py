"""AGENTS.md and docs/agents.md: their commands run in order, in an empty folder, and print what the pages say."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flipscale.analysis.comparing.estimates import Effect
from flipscale.analysis.comparing.stated import Verdict
from flipscale.cli import main
from flipscale.run import State
from tests.followed import follow

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "AGENTS.md").read_text(encoding="utf-8")

GIT = {f"GIT_{role}_{what}": "a@b.example" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def words(pattern: str) -> list[str]:
    (listed,) = re.findall(pattern, TEXT)
    return re.split(", | or ", listed)


def rows(first: str) -> Iterator[list[str]]:
    """The rows of the table whose head begins with this word."""
    for line in TEXT.partition(f"\n| {first} |")[2].splitlines()[2:]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


def found(data: Any, path: str) -> list[Any]:
    """The values at 'runs[].state'. KeyError where there are none."""
    values = [data]
    for name in path.split("."):
        values = [value[name.removesuffix("[]")] for value in values]
        if name.endswith("[]"):
            values = [each for value in values for each in value]
    return values


@pytest.mark.slow
def test_the_commands_of_agents_md_run_in_order_and_print_the_fields_that_it_names(tmp_path: Path) -> None:
    done = {line.split()[1]: said for line, said, _ in follow(ROOT / "AGENTS.md", tmp_path, os.environ) if said}
    printed = {verb: json.loads(done[verb]) for verb in ("plan", "status", "collect", "compare")}
    for _, says in rows("step"):
        verb, *fields = re.findall(r"`([\w.\[\]]+)`", says)
        assert len(fields) >= 3
        for field in fields:
            found(printed[verb], field)
    assert found(printed["plan"], "check.problems") == [[]]
    assert printed["status"]["counts"] == {"finished": printed["plan"]["total"]["runs"]}
    assert set(found(printed["compare"], "claims.claims[].verdict")) <= set(Verdict)
    assert (tmp_path / "plots/study/report.html").exists()


@pytest.mark.slow
def test_the_loop_keeps_what_is_better_and_discards_what_is_not(tmp_path: Path) -> None:
    *_, first, better, same = follow(ROOT / "docs/agents.md", tmp_path, {**os.environ, **GIT})
    assert [done.stdout.split()[-2] for done in (first, better, same)] == ["kept", "kept", "discarded"]
    log = subprocess.run(["git", "log", "--format=%s"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert log.stdout.splitlines() == ["Twice the rate", "Start"]
    assert "rate = 0.2\n" in (tmp_path / "train.py").read_text()


def test_agents_md_lists_all_states_and_verdicts_and_is_one_page() -> None:
    assert words(r"The states are ([\w, ]+)\.") == list(State)
    assert words(r"`claims.claims\[\].verdict` \(([\w, ]+)\)") == list(Verdict)
    assert words(r"`pairs\[\].effect` \(([\w, ]+)\)") == [effect.name.lower() for effect in Effect]
    assert len(TEXT.splitlines()) <= 60


def test_exit_codes_are_those_of_agents_md(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [code for code, _ in rows("code")] == ["0", "1", "2", "130"]
    assert main(["plan", "missing.yaml"]) == 1
    assert main(["compare", "missing.csv", "--baseline", "arm=base", "--y", "loss", "--gate"]) == 2
    with pytest.raises(SystemExit, match="2"):
        main(["plan", "study.yaml", "--jsn"])
