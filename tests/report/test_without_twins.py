"""The report of a study without masked runs says what it can: scores, curves, costs; and why it compares nothing."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from flipscale.analysis.comparing import compare, comparison_json, comparison_markdown, comparison_text
from flipscale.analysis.plotting import figure_data, plot_all
from flipscale.analysis.reporting.charts import chart_data
from flipscale.cli import main
from flipscale.collecting import read_results
from flipscale.planning.runs import Plan, plan
from flipscale.study import Study, read_study
from flipscale.workflow.reported import write_report
from tests.commands import flipscale, train
from tests.report.synthetic import SCORES, write_results

pytestmark = pytest.mark.slow

BASE = "schema: 1\nbase: {data: shapes, model: ViT-w16d1-4, text_length: 16, samples: 320, batch_size: 32, lr: 1e-3}\n"

SINGLE = BASE + "evaluation: {images: 100}\n"

KINDS = {
    "single": (SINGLE, ("zero_shot_top1",), "The study names no baseline, so these are its scores."),
    "sweep": (
        BASE.replace(", lr: 1e-3", "") + "axes: {lr: [1e-4, 1e-3, 1e-2]}\nseeds: 2\n",
        SCORES,
        "The study names no baseline, so these are its scores.",
    ),
    "command": (
        BASE.replace("lr: 1e-3", "lr: 1e-3, trainer: {command: {arguments: [python, train.py]}}"),
        ("held_out_loss",),
        "The study names no baseline, so these are its scores.",
    ),
    "baselines": (
        BASE + "axes: {mask_ratio: [0, 0.5], weight_decay: [0.1, 0.2]}\nseeds: 2\n",
        SCORES,
        "Every run with zero_shot_top1 is the baseline mask_ratio=0, so these are its scores.",
    ),
}
"""A study, the scores of its runs, and why nothing is compared."""


@pytest.fixture
def study(tmp_path: Path) -> Callable[[str, str, Sequence[str]], tuple[Study, Plan, Path]]:
    """Writes a study whose unmasked runs have finished."""

    def write(name: str, written: str, scores: Sequence[str]) -> tuple[Study, Plan, Path]:
        file = tmp_path / f"{name}.yaml"
        file.write_text(written)
        read = read_study(file)
        planned = plan(read)
        write_results(tmp_path, read, [run for run in planned.cells if not run.settings.mask_ratio], scores)
        return read, planned, file

    return write


def section(page: str, name: str) -> str:
    """The words of a section of the page."""
    found = re.search(rf'<section id="{name}".*?</section>', page, re.DOTALL)
    assert found, name
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", found[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_study_without_masked_runs_is_reported_with_scores_and_costs(study, tmp_path: Path, kind: str) -> None:
    written, scores, why = KINDS[kind]
    read, planned, file = study(kind, written, scores)
    report = write_report(read, planned, file, tmp_path / "results", tmp_path / "plots")
    page = report.path.read_text()
    answer = section(page, "answer")
    assert why in answer
    assert why in section(page, "comparison")
    assert ("Held-out loss, nats" if kind == "command" else "Zero-shot accuracy, top 1") in answer
    assert f"({len(report.evidence.results)} run" in section(page, "cost")
    assert 'id="chart-scores"' in page
    assert "gains-figure" not in page[: page.index("<script")]
    assert '"pairs":[]' in chart_data(report.evidence)


@pytest.mark.parametrize("kind", KINDS)
def test_a_study_without_masked_runs_is_printed_by_its_scores_and_plotted(study, tmp_path: Path, kind: str) -> None:
    written, scores, why = KINDS[kind]
    read, _, _ = study(kind, written, scores)
    table = read_results(tmp_path / "results" / kind / "results.csv")
    comparison = compare(table, baseline=dict(read.baseline))
    for words in (comparison_text(comparison), comparison_markdown(comparison)):
        assert why in " ".join(words.split())
        assert ("held-out loss" if kind == "command" else "zero-shot accuracy, top 1") in words
    assert comparison_json(comparison)["notes"] == [why]
    drawn = plot_all(figure_data(table, study=kind, baseline=read.baseline, or_loss=True), tmp_path / "plots")
    assert "no run has a twin" in drawn.skipped["gains"]


def test_a_sweep_names_its_best_and_its_worst_cell(study, tmp_path: Path) -> None:
    read, planned, file = study("sweep", *KINDS["sweep"][:2])
    report = write_report(read, planned, file, tmp_path / "results", tmp_path / "plots")
    answer = section(report.path.read_text(), "answer")
    means = report.evidence.results.groupby("cell")["zero_shot_top1"].mean()
    best, worst = (
        f"{100 * value:.1f} % ({cell}; mean of 2 runs)"
        for cell, value in ((means.idxmax(), means.max()), (means.idxmin(), means.min()))
    )
    assert f"best {best}, worst {worst}, of 3 cells." in answer


def test_a_study_without_scores_is_reported_by_its_training_loss(study, tmp_path: Path) -> None:
    read, planned, file = study("loss", BASE + "axes: {weight_decay: [0.1, 0.2]}\nbaseline: {weight_decay: 0.1}\n", ())
    out = tmp_path / "plots" / "loss"
    table = read_results(tmp_path / "results/loss/results.csv")
    drawn = plot_all(figure_data(table, study="loss", baseline=read.baseline, or_loss=True), out)
    assert drawn.files == ()
    assert drawn.skipped["accuracy_vs_samples"] == "no run has a score"
    page = write_report(read, planned, file, tmp_path / "results", tmp_path / "plots").path.read_text()
    assert "Training loss at the end, nats (lower is better): 2." in section(page, "answer")
    assert "No run of these results has a score" in section(page, "answer")
    assert "final_loss" in section(page, "figures")


def test_run_of_a_single_run_ends_well_and_writes_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.yaml").write_text(SINGLE)
    train("one.yaml", tmp_path)
    done = flipscale("run", "one.yaml", "--no-mlflow", cwd=tmp_path)
    assert "The study names no baseline, so these are its scores." in done.stdout
    page = (tmp_path / "plots/one/report.html").read_text()
    assert "1 of 1 run finished" in page
    assert "Zero-shot accuracy, top 1:" in section(page, "answer")
    monkeypatch.chdir(tmp_path)
    assert [main([verb, "one.yaml"]) for verb in ("plot", "compare", "fit")] == [0, 0, 1]
    assert "there is no curve to fit" in capsys.readouterr().err
