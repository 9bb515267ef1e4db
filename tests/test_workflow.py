"""A study from a program instead of the command line."""

from pathlib import Path

import pytest

from flipscale import Workspace
from flipscale.run import State
from flipscale.words import hours_or_seconds
from flipscale.workflow.submitted import unfinished_in_words
from flipscale.workspace import StudyFiles


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


def test_how_runs_ended_is_one_sentence() -> None:
    assert unfinished_in_words({State.FAILED: 8}) == "8 of 8 runs failed"
    assert unfinished_in_words({State.FAILED: 2, State.FINISHED: 6}) == "2 of 8 runs failed"
    ended = {State.FINISHED: 3, State.FAILED: 3, State.LOST: 2}
    assert unfinished_in_words(ended) == "5 of 8 runs did not finish (2 lost, 3 failed)"


def test_a_short_device_time_is_in_seconds() -> None:
    assert [hours_or_seconds(hours) for hours in (1.183e-05, 0.00304)] == [("seconds", 3600)] * 2
    assert [hours_or_seconds(hours) for hours in (0.0, 0.005, 12)] == [("hours", 1)] * 3
