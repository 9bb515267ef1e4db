"""A study with other values of some keys, as a file of its own."""

import json
from pathlib import Path

import pytest

from flipscale.cli import main
from flipscale.errors import StudyError
from flipscale.study import read_study, write_changed

STUDY = """\
schema: 1
question: Does masking pay off?
base: {data: shapes, model: ViT-w32d2-4, samples: 2k, batch_size: 32}
axes: {mask_ratio: [0, 0.5]}
couple: {lr: 1e-3 * batch_size / 32}
seeds: 2
baseline: {mask_ratio: 0}
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(STUDY)
    return path


def test_a_setting_is_changed_wherever_the_study_says_it(study: Path) -> None:
    changed = read_study(write_changed(study, ["lr=3e-3", "seeds=[5]", "samples=[1k, 2k]"], "other"))
    assert changed.name == "other"
    cells = {(each.mask_ratio, each.samples, each.lr, each.seed) for each in changed.cells}
    assert cells == {(mask, samples, 3e-3, 5) for mask in (0, 0.5) for samples in (1000, 2000)}


def test_other_keys_are_named_with_dots(study: Path) -> None:
    changed = read_study(write_changed(study, ["evaluation.images=100", "couple.lr=2e-3 * batch_size / 32"], "other"))
    assert {each.evaluation.images for each in changed.cells} == {100}
    assert {each.lr for each in changed.cells} == {2e-3}


def test_the_same_change_twice_is_the_same_file_and_another_is_refused(study: Path) -> None:
    assert write_changed(study, ["seeds=5"], "other") == write_changed(study, ["seeds=5"], "other")
    with pytest.raises(StudyError, match=r"other\.yaml: is there already and says something else"):
        write_changed(study, ["seeds=6"], "other")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("sead=3", "sead=3: did you mean 'seed'"),
        ("lr", "write KEY=VALUE, as in lr=1e-3"),
        ("mask_ratio=[0, 1.5]", "1.5 is out of range"),
    ],
)
def test_a_change_that_no_study_may_have_leaves_no_file(study: Path, change: str, says: str) -> None:
    with pytest.raises(StudyError, match=says.replace("(", r"\(")):
        write_changed(study, [change], "other")
    assert list(study.parent.iterdir()) == [study]


# On the command line


def written(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_plan_takes_changes_and_writes_nothing(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(study.parent)
    before = written(study.parent)
    assert main(["plan", "small.yaml", "samples=[1k, 2k]", "seeds=3", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert len(planned["runs"]) == 12
    assert main(["plan", "small.yaml", "samples=1k"]) == 0
    assert written(study.parent) == before
    assert main(["plan", "small.yaml", "sead=1"]) == 1
    assert "sead=1: did you mean 'seed'" in capsys.readouterr().err


def test_submit_takes_changes_and_a_name_as_run_does(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(study.parent)
    assert main(["submit", "small.yaml", "lr=2e-3", "--dry-run"]) == 1
    assert "flipscale submit STUDY KEY=VALUE ... --name NAME" in capsys.readouterr().err
    assert main(["submit", "small.yaml", "lr=2e-3", "seeds=1", "--name", "fast", "--dry-run"]) == 0
    assert "for 2 runs" in capsys.readouterr().out
    assert not Path("fast.yaml").exists()  # a dry run writes nothing
    monkeypatch.setattr("flipscale.cli.jobs._submit", lambda args: 0)
    assert main(["submit", "small.yaml", "lr=2e-3", "seeds=1", "--name", "fast"]) == 0
    assert "wrote fast.yaml" in capsys.readouterr().err
    assert {each.lr for each in read_study("fast.yaml").cells} == {2e-3}
