"""A study from a program instead of the command line."""

import json
import warnings
from pathlib import Path

import pytest

import flipscale
from flipscale import Workspace
from flipscale.run import State
from flipscale.words import hours_or_seconds
from flipscale.workflow.submitted import unfinished_in_words
from flipscale.workspace import StudyFiles
from tests.commands import Process, on_one_core

STUDY = """\
schema: 1
question: Does a program get what the command line prints?
base: {data: shapes, model: ViT-w16d1-4, text_length: 16, batch_size: 32, lr: 1e-3, samples: 320}
axes:
  mask_ratio: [0, 0.5]
evaluation: {images: 100}
"""


def test_a_workspace_owns_every_path() -> None:
    workspace = Workspace(Path("r"), Path("p"))
    files = workspace.study("mask")
    assert (workspace.run("a-1"), workspace.artifacts) == (Path("r/runs/a-1"), Path("r/mlartifacts"))
    assert files == StudyFiles(Path("r/mask"), Path("p/mask"))
    tables = [files.plan, files.results, files.curves, files.fits, files.report]
    assert [path.name for path in tables] == ["plan.json", "results.csv", "curves.parquet", "fits.json", "report.html"]
    assert files.comparison(".md") == Path("r/mask/comparison.md")
    assert files.comparison(".json", "top5") == Path("r/mask/comparison-top5.json")


def test_a_workspace_without_names_is_where_the_command_line_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLIPSCALE_RESULTS", raising=False)
    assert Workspace() == Workspace(Path("results"), Path("plots"))
    monkeypatch.setenv("FLIPSCALE_RESULTS", "/elsewhere")
    assert Workspace().results == Path("/elsewhere")


def run_twice(file: Path, workspace: Workspace) -> None:
    done = flipscale.run_study(file, workspace, tracking=None)
    assert (done.rows, done.unfinished, done.mlflow) == (2, 0, None)
    assert done.comparison is not None
    assert done.comparison.pairs
    assert json.loads(done.files.comparison(".json").read_text())["y"] == done.comparison.score
    assert done.figures
    assert all(path.exists() for path in done.figures)
    assert done.files.report.exists()
    assert len(done.files.results.read_text().splitlines()) == 3
    assert not (workspace.results / "mlflow.db").exists()
    warnings.simplefilter("error")  # as in every test, but not in trainings
    again = flipscale.run_study(file, workspace, tracking=None)
    assert again.comparison == done.comparison


@pytest.mark.slow
def test_run_study_does_all_that_run_does(tmp_path: Path) -> None:
    file = tmp_path / "mask.yaml"
    file.write_text(STUDY)
    with on_one_core():
        said = Process(run_twice, file, Workspace(tmp_path / "results", tmp_path / "plots")).end()
    assert said.stdout == ""
    talk, again = said.stderr.split("submitted 2 runs", 1)[1].split("submitted 0 runs", 1)
    assert "2 of 2 finished" in talk
    assert again.startswith(", left alone 2 finished")


def test_how_runs_ended_is_one_sentence() -> None:
    assert unfinished_in_words({State.FAILED: 8}) == "8 of 8 runs failed"
    assert unfinished_in_words({State.FAILED: 2, State.FINISHED: 6}) == "2 of 8 runs failed"
    ended = {State.FINISHED: 3, State.FAILED: 3, State.LOST: 2}
    assert unfinished_in_words(ended) == "5 of 8 runs did not finish (2 lost, 3 failed)"


def test_a_short_device_time_is_in_seconds() -> None:
    assert [hours_or_seconds(hours) for hours in (1.183e-05, 0.00304)] == [("seconds", 3600)] * 2
    assert [hours_or_seconds(hours) for hours in (0.0, 0.005, 12)] == [("hours", 1)] * 3
