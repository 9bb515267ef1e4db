"""A training command's own scores: those that the study names are columns, and are compared."""

import csv
import json
import sys
from pathlib import Path

import pytest

from flipscale.errors import StudyError
from flipscale.study import read_study
from tests.commands import flipscale

PROGRAM = """\
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
asked = json.loads((folder / "run.json").read_text())["settings"]
cider = 1 + asked["mask_ratio"] + asked["seed"] / 16
scores = {"mine.cider": cider, "mine.wer": 0.5, "bleu": 0.25}
(folder / "outcome.json").write_text(json.dumps({"scores": scores}))
"""

STUDY = """\
schema: 1
question: Do masks help my program?
base: {{model: ViT-w16d1-4, samples: 640, batch_size: 32, trainer: {{command: ['{python}', train.py]}}}}
axes: {{mask_ratio: [0, 0.5]}}
baseline: {{mask_ratio: 0}}
seeds: 3
evaluation: {{sets: {{mine: {{command: {{scores: {scores}}}}}}}}}
score: mine.cider
"""

WHERE = ("study.yaml", "--results", "results")


def test_named_scores_of_a_training_command_are_columns_and_are_compared(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PROGRAM)
    study = STUDY.format(python=sys.executable, scores="{cider: higher}")
    (tmp_path / "study.yaml").write_text(study)
    assert "to score" not in flipscale("plan", *WHERE, "--check", cwd=tmp_path).stdout
    flipscale("submit", *WHERE, cwd=tmp_path)
    said = flipscale("collect", *WHERE, "--no-mlflow", cwd=tmp_path).stderr
    assert ["bleu" in said, "mine.wer" in said, "mine.cider" in said] == [True, True, False]
    flipscale("compare", *WHERE, cwd=tmp_path)
    comparison = json.loads((tmp_path / "results" / "study" / "comparison.json").read_text())
    assert (comparison["y"], comparison["lower_is_better"]) == ("mine.cider", False)
    assert [pair["gain"]["values"] for pair in comparison["pairs"]] == [[0.5, 0.5, 0.5]]

    # Named later, a score gets its column without another training.
    (tmp_path / "study.yaml").write_text(STUDY.format(python=sys.executable, scores="{cider: higher, wer: lower}"))
    assert "to score" not in flipscale("plan", *WHERE, cwd=tmp_path).stdout
    flipscale("collect", *WHERE, "--no-mlflow", cwd=tmp_path)
    with open(tmp_path / "results" / "study" / "results.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted({(row["mask_ratio"], row["mine.wer"]) for row in rows}) == [("0.0", "0.5"), ("0.5", "0.5")]
    assert "bleu" not in rows[0]


def test_scores_of_a_trainer_need_a_training_command(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(
        "schema: 1\nbase: {model: ViT-w16d1-4, samples: 640, batch_size: 32}\n"
        "evaluation: {sets: {mine: {command: {scores: {cider: higher}}}}}\n"
    )
    with pytest.raises(StudyError, match=r"study\.yaml:3: no program gives these scores, as no command trains"):
        read_study(tmp_path / "study.yaml")
