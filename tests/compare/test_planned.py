"""What a plan says of its seeds before anything runs."""

from pathlib import Path

import pandas as pd
import pytest

from flipscale.compare import compare_study, planned_sensitivity
from flipscale.compare.of_study import scatter_of_study
from flipscale.plan import plan
from flipscale.sensitivity import planned_words, usual_sensitivity
from flipscale.study import read_study

ROOT = Path(__file__).parents[2]


def test_of_a_study_that_has_not_run_a_usual_noise_stands_in() -> None:
    study = read_study(ROOT / "studies/fashion.yaml")
    found = usual_sensitivity(study, plan(study))
    assert found is not None
    assert (found.finished, found.sensitivity.seeds, found.sensitivity.comparisons) == (0, 3, 20)
    assert found.sd == pytest.approx(0.0105)
    assert planned_words(found) == (
        "3 seeds would detect 3.8 points (80 % power, corrected for 20 comparisons); 5 would detect 2.5, 10 would "
        "detect 1.6 and 1 point takes 21 seeds. This is where the baseline has 75.0 % and twins differ by 1.1 points "
        "(SD) from seed to seed, as those of the fashion study did on 2,000 test images."
    )


def test_finished_runs_say_how_far_twins_differ() -> None:
    study = read_study(ROOT / "studies/fashion.yaml")
    found = planned_sensitivity(study, plan(study), pd.read_csv(ROOT / "tests/recipe_1/fashion.csv"))
    assert found is not None
    assert found.finished == 90
    assert found.at == pytest.approx(0.81, abs=0.001)
    assert found.sensitivity.detectable == pytest.approx(0.0332, abs=1e-4)


def test_finished_runs_give_the_noise_that_their_comparison_has() -> None:
    """The comparison reads curves as well, which takes most of its time and says nothing about seeds."""
    study, results = read_study(ROOT / "studies/fashion.yaml"), pd.read_csv(ROOT / "tests/recipe_1/fashion.csv")
    planned = plan(study)
    comparison = compare_study(results, study, planned)
    found = scatter_of_study(results, study, planned)
    assert found is not None
    assert comparison.gain_noise is not None
    assert comparison.head is not None
    assert found.gain_noise.noise.prior_sd == comparison.gain_noise.noise.prior_sd
    assert found.base.cell == comparison.head.base_cell
    assert found.margin == comparison.margin
    promised = planned_sensitivity(study, planned, results)
    assert promised is not None
    assert promised.sensitivity == comparison.head.sensitivity


def test_plan_reads_no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    study = read_study(ROOT / "studies/fashion.yaml")
    read: list[object] = []
    monkeypatch.setattr("flipscale.compare.build.curves_of", lambda *given, **_: read.append(given))
    assert planned_sensitivity(study, plan(study), pd.read_csv(ROOT / "tests/recipe_1/fashion.csv")) is not None
    assert read == []


def test_a_study_without_twins_is_promised_nothing(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text("schema: 1\nbase: {data: shapes, model: ViT-w16d1-4, samples: 640, batch_size: 64, lr: 1e-3}\n")
    study = read_study(file)
    assert usual_sensitivity(study, plan(study)) is None


def test_a_usual_noise_of_accuracies_does_not_stand_in_for_that_of_a_loss(tmp_path: Path) -> None:
    text = (ROOT / "studies/fashion.yaml").read_text()
    assert "score: zero_shot_top1" in text
    promised = {}
    for score in ("held_out_loss", "image_retrieval_r1"):
        file = tmp_path / f"{score}.yaml"
        file.write_text(text.replace("score: zero_shot_top1", f"score: {score}"))
        study = read_study(file)
        assert study.score == score
        promised[score] = usual_sensitivity(study, plan(study)) is not None
    assert promised == {"held_out_loss": False, "image_retrieval_r1": True}


def test_finished_runs_say_how_far_the_losses_of_twins_differ(tmp_path: Path) -> None:
    file = tmp_path / "fashion.yaml"
    file.write_text((ROOT / "studies/fashion.yaml").read_text().replace("zero_shot_top1", "held_out_loss"))
    study = read_study(file)
    found = planned_sensitivity(study, plan(study), pd.read_csv(ROOT / "tests/recipe_1/fashion.csv"))
    assert found is not None
    assert (found.finished, found.fraction) == (90, False)
