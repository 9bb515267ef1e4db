"""`from flipscale import plan, submit, ...`: the functions, the packages of the same names, and what help says."""

import contextlib
import io
import json
import pydoc
import warnings
from pathlib import Path

import pytest

import flipscale
from flipscale import Study, Workspace, compare, fit, plan, plot, read_study, report, results, submit
from flipscale.errors import FlipscaleError, ResultsError
from flipscale.workflow import verbs
from tests.commands import Process, on_one_core

ROOT = Path(__file__).parents[1]

STUDY = """\
schema: 1
question: Does Python give what the command line gives?
base: {data: shapes, model: ViT-w16d1-4, text_length: 16, batch_size: 32, lr: 1e-3}
axes:
  samples: [320, 640]
  mask_ratio: [0, 0.5]
evaluation: {images: 100}
"""


@pytest.fixture
def here(tmp_path: Path) -> Workspace:
    (tmp_path / "mask.yaml").write_text(STUDY)
    return Workspace(tmp_path / "results", tmp_path / "plots")


def go_from_file_to_page(file: Path, here: Workspace) -> None:
    planned = plan(file, here)
    assert len(planned.runs) == 4
    assert not here.results.exists()
    done = flipscale.run_study(file, here, tracking=None)
    assert (done.rows, done.unfinished, done.mlflow) == (4, 0, None)
    assert done.comparison is not None
    assert len(done.comparison.pairs) == 2
    assert json.loads(done.files.comparison(".json").read_text())["y"] == done.comparison.score
    assert done.figures
    assert all(path.exists() for path in (*done.figures, done.files.report))
    assert len(done.files.results.read_text().splitlines()) == 5
    assert not (here.results / "mlflow.db").exists()
    warnings.simplefilter("error")  # as in every test, but not in trainings
    assert flipscale.run_study(file, here, tracking=None).comparison == done.comparison

    for made in (done.files.results, *done.figures, done.files.report):
        made.unlink()
    assert submit(file, here).counts == "4 of 4 finished"
    table = results(file, here.results)  # collects, as there is no table
    assert sorted(table["mask_ratio"]) == [0, 0, 0.5, 0.5]
    assert compare(file, here) == done.comparison
    drawn = plot(file, here)
    assert drawn.files
    assert plot(file, here).files == drawn.files
    with pytest.raises(ResultsError, match="No law can be fitted"):
        fit(file, here)
    assert report(file, here) == done.files.report
    assert done.files.report.exists()


@pytest.mark.slow
def test_a_study_goes_from_its_file_to_its_page(here: Workspace) -> None:
    with on_one_core():
        said = Process(go_from_file_to_page, here.results.parent / "mask.yaml", here).end()
    assert said.stdout == ""
    talk, again = said.stderr.split("submitted 4 runs", 1)[1].split("submitted 0 runs", 1)
    assert "4 of 4 finished" in talk
    assert again.startswith(", left alone 4 finished")


def test_a_study_that_was_read_stands_for_its_file(here: Workspace) -> None:
    study = read_study(here.results.parent / "mask.yaml")
    assert isinstance(study, Study)
    assert [run.id for run in plan(study, here).runs] == [run.id for run in plan(study.place().file, here).runs]


def test_what_is_wrong_is_a_flipscale_error(here: Workspace) -> None:
    with pytest.raises(FlipscaleError, match="there is no such file"):
        plan(here.results / "nowhere.yaml", here)
    with pytest.raises(ResultsError, match="flipscale collect"):
        compare(here.results.parent / "mask.yaml", here)
    with pytest.raises(ResultsError, match="flipscale collect"):
        results(here.results.parent / "mask.yaml", here.results)


def test_a_function_of_the_package_is_that_of_the_verbs() -> None:
    for name in ("collect", "compare", "fit", "plan", "plot", "report"):
        assert getattr(flipscale, name) is getattr(verbs, name)


def test_results_of_a_study_without_finished_runs_are_refused_and_nothing_is_collected(
    here: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    file = here.results.parent / "mask.yaml"
    here.run(plan(file, here).runs[0].id).mkdir(parents=True)
    with pytest.raises(ResultsError, match="flipscale collect"):
        results(file, here.results)
    assert not here.study("mask").results.exists()
    assert capsys.readouterr() == ("", "")


def test_help_says_how_to_go_from_a_study_to_a_figure() -> None:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        pydoc.Helper(output=said).help(flipscale)
    text = said.getvalue()
    assert "from flipscale import Study, plan, submit, results, fit, compare, plot, report" in text
    for name in ("submit", "results", "run_study", "read_study"):
        assert f"\n    {name}(" in text
    assert "Start every run of a study that is not finished yet" in text


def test_every_function_is_described_with_an_example() -> None:
    for name in ("plan", "submit", "collect", "results", "compare", "fit", "plot", "report"):
        assert f"flipscale.{name}(" in (getattr(verbs, name).__doc__ or ""), name


def test_the_functions_and_their_names_are_all_public() -> None:
    assert set(flipscale.__all__) >= {"Study", "plan", "submit", "results", "fit", "compare", "plot", "report"}
    assert (ROOT / "docs" / "python.md").read_text().count("\n### ") >= 12
