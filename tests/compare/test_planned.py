"""What a plan says of its seeds before anything runs."""

from pathlib import Path

import pandas as pd
import pytest

from flipscale.analysis.comparing import compare_study, planned_sensitivity
from flipscale.collecting.record import results_of
from flipscale.planning.runs import plan
from flipscale.study import read_study
from flipscale.workflow.opened import open_study, say_power
from flipscale.workspace import Workspace

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["fashion", "paper/table4_datasets"])
def test_what_seeds_detect_is_unknown_until_seeds_exist(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The noise of one study says nothing about another, least of all Fashion-MNIST's about ImageNet."""
    say_power(open_study(ROOT / f"studies/{name}.yaml", Workspace(tmp_path)))
    seeds = "3 seeds detect" if name == "fashion" else "1 seed detects"
    assert capsys.readouterr().err == (
        f"The difference that {seeds} is unknown until seeds exist: finished runs show how far twins differ.\n"
    )


def test_finished_runs_say_how_far_twins_differ() -> None:
    study = read_study(ROOT / "studies/fashion.yaml")
    found = planned_sensitivity(results_of(pd.read_csv(ROOT / "tests/recipe_1/fashion.csv"), study, plan(study)))
    assert found is not None
    assert found.finished == 90
    assert found.at == pytest.approx(0.81, abs=0.001)
    assert found.sensitivity.detectable == pytest.approx(0.0332, abs=1e-4)


def test_a_plan_promises_what_the_comparison_of_its_runs_says() -> None:
    study, results = read_study(ROOT / "studies/fashion.yaml"), pd.read_csv(ROOT / "tests/recipe_1/fashion.csv")
    comparison = compare_study(results_of(results, study, plan(study)))
    promised = planned_sensitivity(results_of(results, study, plan(study)))
    assert promised is not None
    assert comparison.head is not None
    assert promised.sensitivity == comparison.head.sensitivity


def test_plan_reads_no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    study = read_study(ROOT / "studies/fashion.yaml")
    monkeypatch.setattr("flipscale.analysis.comparing.speedups.two_lines", None)
    assert (
        planned_sensitivity(results_of(pd.read_csv(ROOT / "tests/recipe_1/fashion.csv"), study, plan(study)))
        is not None
    )


def test_a_study_without_twins_is_promised_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "one.yaml"
    file.write_text("schema: 1\nbase: {data: shapes, model: ViT-w16d1-4, samples: 640, batch_size: 64, lr: 1e-3}\n")
    say_power(open_study(file, Workspace(tmp_path)))
    assert capsys.readouterr().err == ""


def test_a_single_finished_seed_shows_no_noise() -> None:
    study, results = read_study(ROOT / "studies/fashion.yaml"), pd.read_csv(ROOT / "tests/recipe_1/fashion.csv")
    assert planned_sensitivity(results_of(results[results["seed"] == 0], study, plan(study))) is None


def test_finished_runs_say_how_far_the_losses_of_twins_differ(tmp_path: Path) -> None:
    file = tmp_path / "fashion.yaml"
    file.write_text((ROOT / "studies/fashion.yaml").read_text().replace("zero_shot_top1", "held_out_loss"))
    study = read_study(file)
    found = planned_sensitivity(results_of(pd.read_csv(ROOT / "tests/recipe_1/fashion.csv"), study, plan(study)))
    assert found is not None
    assert (found.finished, found.fraction) == (90, False)
