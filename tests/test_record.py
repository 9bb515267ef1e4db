"""results.json, by which a table says what its study asked."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from flipscale.cli import main
from flipscale.collecting.record import record_of
from flipscale.door.record import read_record
from flipscale.workflow.opened import open_study
from flipscale.workspace import Workspace

ROOT = Path(__file__).parents[1]

COMMITTED = [path.with_name("results.json") for path in sorted((ROOT / "results").glob("*/runs.tar.bz2"))]


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_a_committed_record_says_what_its_study_says(path: Path) -> None:
    record = read_record(path)
    opened = open_study(ROOT / "studies" / f"{record.study}.yaml", Workspace(ROOT / "results"))
    assert record == record_of(opened.study, opened.plan, record.scored_by)


def test_a_folder_is_compared_as_its_study_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    said = []
    for what in ("studies/isoflop_tuned.yaml", "results/isoflop_tuned"):
        assert main(["compare", what, "--full"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "Scored on" in said[0]


def test_a_folder_whose_study_is_under_way_says_how_many_runs_it_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = (ROOT / "results/equal_memory/results.csv").read_text().splitlines()
    (tmp_path / "results.csv").write_text("\n".join(table[:11]) + "\n")
    (tmp_path / "results.json").write_bytes((ROOT / "results/equal_memory/results.json").read_bytes())
    assert main(["compare", str(tmp_path)]) == 0
    assert "results.csv has 10 of 25 runs" in capsys.readouterr().err


def test_collect_mends_a_record_and_follows_its_study(ran: Path, tmp_path: Path) -> None:
    """A damaged record is written anew; a question that changes is in it though no run has."""
    shutil.copytree(ran, tmp_path / "ran")
    path = next((tmp_path / "ran" / "results").glob("*/results.json"))
    before = read_record(path)
    path.write_text("{")
    study_file = tmp_path / "ran" / "mask.yaml"
    study_file.write_text(study_file.read_text().replace(before.question, "Which is it?"))
    assert main(["collect", str(study_file), "--results", str(tmp_path / "ran/results"), "--no-mlflow"]) == 0
    assert read_record(path) == replace(before, question="Which is it?")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "results.json: there is no such file. `flipscale collect STUDY` writes it beside the table"),
        ("{", "results.json"),
        (json.dumps({"study": 3}), "results.json"),
    ],
)
def test_a_folder_without_a_record_is_refused_in_a_sentence(
    text: str | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results.csv").write_bytes((ROOT / "results/equal_memory/results.csv").read_bytes())
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    assert main(["compare", str(tmp_path)]) == 1
    found = capsys.readouterr().err
    assert said in found
    assert "Traceback" not in found
