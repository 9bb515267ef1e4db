"""A checkpoint is scored as it is: samples 0. Stock open_clip makes the checkpoint here, and scores it too."""

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from flipscale.planning.runs import plan
from flipscale.run import RunFolder, RunRequest, State
from flipscale.settings.architecture import architecture
from flipscale.study import read_study
from flipscale.train import scoring, train
from flipscale.workspace import Workspace
from tests import commands
from tests.commands import flipscale
from tests.test_other_data import put_colours

NAMES = ("boot", "coat", "dress", "shirt", "bag")
TEMPLATE = "a photo of a {}."

STUDY = """\
schema: 1
question: How good are these weights?
base: {model: ViT-w16d1-4, samples: 0, init: stock.pt, normalization: openai}
evaluation: {sets: {noise: {folder: {path: noise, templates: ['a photo of a {}.']}}}}
"""

WHERE = ("--results", "results")


@pytest.fixture
def stock(tmp_path: Path) -> open_clip.CLIP:
    """A model of open_clip's own making; its weights are in stock.pt, and noise/ has 20 pictures of each class."""
    torch.manual_seed(0)
    config = architecture("ViT-w16d1-4").open_clip_config
    model: open_clip.CLIP = open_clip.create_model("ViT-B-16", **config)
    torch.save(model.state_dict(), tmp_path / "stock.pt")
    random = np.random.default_rng(0)
    for name in NAMES:
        (tmp_path / "noise" / name).mkdir(parents=True)
        for number in range(20):
            picture = Image.fromarray(random.integers(0, 256, (28, 28, 3), dtype=np.uint8))
            picture.save(tmp_path / "noise" / name / f"{number:02}.png")
    return model.eval()


def rows(folder: Path, study: str) -> list[dict[str, str]]:
    with open(folder / "results" / study / "results.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@torch.no_grad()
def accuracy(model: open_clip.CLIP, root: Path) -> float:
    """Zero-shot accuracy by open_clip alone."""
    names = sorted(NAMES)
    words = partial(open_clip.get_tokenizer("ViT-B-16"), context_length=32)
    classifier = open_clip.build_zero_shot_classifier(model, words, names, [TEMPLATE.format], device="cpu")
    look = open_clip.image_transform(28, is_train=False)
    right = 0
    for place, name in enumerate(names):
        images = torch.stack([look(Image.open(path)) for path in sorted((root / name).iterdir())])
        right += int(((model.encode_image(images, normalize=True) @ classifier).argmax(dim=1) == place).sum())
    return right / 100


def test_a_checkpoint_is_scored_as_open_clip_scores_it_and_nothing_is_trained(
    stock: open_clip.CLIP, tmp_path: Path
) -> None:
    (tmp_path / "weights.yaml").write_text(STUDY)
    planned = flipscale("plan", "weights.yaml", *WHERE, "--check", cwd=tmp_path)
    assert 'nothing to train; 1 to score on "noise" (about ' in planned.stdout
    flipscale("submit", "weights.yaml", *WHERE, cwd=tmp_path)
    assert "1 to score" not in flipscale("plan", "weights.yaml", *WHERE, cwd=tmp_path).stdout
    flipscale("collect", "weights.yaml", *WHERE, "--no-mlflow", cwd=tmp_path)
    (row,) = rows(tmp_path, "weights")
    assert float(row["noise.zero_shot_top1"]) == accuracy(stock, tmp_path / "noise")
    assert (row["samples_seen"], row["steps"], row["zero_shot_top1"]) == ("0", "0", "")
    (folder,) = Workspace(tmp_path / "results").runs.iterdir()
    assert not (folder / "metrics.jsonl").exists()

    put_colours(tmp_path / "two", "red", "blue")
    (tmp_path / "weights.yaml").write_text(STUDY.replace("{sets: {", "{sets: {two: {folder: {path: two}}, "))
    planned = flipscale("plan", "weights.yaml", *WHERE, cwd=tmp_path)
    assert 'nothing to train; 1 to score on "two"\n' in planned.stdout
    (tmp_path / "stock.pt").unlink()  # The run has the weights.
    flipscale("submit", "weights.yaml", *WHERE, cwd=tmp_path)
    flipscale("collect", "weights.yaml", *WHERE, "--no-mlflow", cwd=tmp_path)
    (again,) = rows(tmp_path, "weights")
    assert again["two.zero_shot_top1"] in ("0.5", "1.0", "0.0")
    assert again["noise.zero_shot_top1"] == row["noise.zero_shot_top1"]


def test_a_checkpoint_is_compared_with_trained_runs_and_fine_tuned(stock: open_clip.CLIP, tmp_path: Path) -> None:
    (tmp_path / "both.yaml").write_text(
        """\
schema: 1
question: What does training add?
base: {model: ViT-w16d1-4, batch_size: 32, lr: 1e-3, init: stock.pt}
axes: {samples: [0, 640]}
baseline: {samples: 0}
seeds: 2
evaluation: {data: shapes, images: 64}
"""
    )
    commands.train("both.yaml", tmp_path)
    flipscale("collect", "both.yaml", *WHERE, "--no-mlflow", cwd=tmp_path)
    flipscale("compare", "both.yaml", *WHERE, cwd=tmp_path)
    (pair,) = json.loads((tmp_path / "results" / "both" / "comparison.json").read_text())["pairs"]
    scores = {(row["samples"], row["seed"]): float(row["zero_shot_top1"]) for row in rows(tmp_path, "both")}
    assert pair["baseline"] == (scores["0", "0"] + scores["0", "1"]) / 2
    assert pair["gain"]["values"] == pytest.approx([scores["640", seed] - scores["0", seed] for seed in "01"])

    (tmp_path / "tuned.yaml").write_text(
        """\
schema: 1
question: What do labels add?
base: {model: ViT-w16d1-4, samples: 0, init: stock.pt, fine_tuning: {samples: 64, batch_size: 32, data: shapes}}
evaluation: {images: 64}
"""
    )
    commands.train("tuned.yaml", tmp_path)
    flipscale("collect", "tuned.yaml", *WHERE, "--no-mlflow", cwd=tmp_path)
    (row,) = rows(tmp_path, "tuned")
    assert (row["samples_seen"], bool(row["fine_tune_top1"])) == ("64", True)


class Killed(BaseException):
    """Nothing catches it."""


def test_a_checkpoint_whose_scoring_was_killed_goes_on(
    stock: open_clip.CLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights.yaml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    (run,) = plan(read_study("weights.yaml")).runs
    folder = RunFolder(tmp_path / "results" / "runs" / run.id)
    folder.ask(RunRequest.of(run))
    with monkeypatch.context() as patched:
        patched.setattr(scoring, "evaluate", die)
        with pytest.raises(Killed):
            train([folder.path])
    assert folder.state() is State.PLANNED
    assert train([folder.path]) == 0
    assert folder.state() is State.FINISHED
