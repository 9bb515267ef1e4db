"""Real runs on small images and short texts, tuned on full ones or with other patches, as RECLIP and CLIPA are."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from flipscale.cost.arithmetic import parameters
from flipscale.planning.identity import parent_of, run_id
from flipscale.run import RunFolder, RunRequest
from flipscale.settings.architecture import architecture
from flipscale.settings.declarations import Resources, plain
from flipscale.study.settings import read_settings
from flipscale.train import train
from flipscale.train.distributed import Group
from flipscale.train.evaluate import evaluate
from flipscale.train.model import build, encode_text, pixels, weights
from flipscale.train.requests import request_of, scored_settings, start_of
from flipscale.train.sources import evaluations_of, open_training_data
from flipscale.train.trainers.builtin.loop import batches
from flipscale.train.trainers.builtin.training import Training
from tests.train.conftest import SETTINGS

pytestmark = pytest.mark.slow

Ask = Callable[..., RunFolder]

SMALL = {"model": "ViT-w16d1-7", "image_size": 14, "text_length": 8, "mask_ratio": 0.5}
TUNING = {"samples": 64, "lr": 1e-9, "batch_size": 32, "image_size": 28, "text_length": 16}
"""With hardly any learning rate, so that the scores are those of the parent's resized weights."""


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """A run folder by its settings, with its parent as the plan names it."""

    def asked(**changes: Any) -> RunFolder:
        settings = read_settings({**SETTINGS, **SMALL, **changes})
        parent = parent_of(settings)
        run = RunFolder(tmp_path / "runs" / run_id(settings))
        run.ask(RunRequest(run.id, plain(settings), () if parent is None else (run_id(parent),)))
        return run

    return asked


def state_of(run: RunFolder) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(run.path / "model.pt")["state_dict"]
    return state


def rescored(run: RunFolder, start_from: RunFolder) -> dict[str, float]:
    """The scores of the weights that `start_from` begins with, by the settings of `run`."""
    settings = scored_settings(run)
    return evaluate(build(settings, start=start_of(start_from)), evaluations_of(run, settings), settings).scores


def test_a_small_run_is_tuned_and_scored_at_full_size(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    parent, child = ask(), ask(tuning=TUNING, evaluation={"images": 160, "inference": ["masked"]})
    assert train([parent.path, child.path]) == 0
    result, before = child.result(), parent.result()
    assert (result.steps, result.samples_seen) == (2, 64)
    assert (before.params, result.params) == (
        parameters(architecture("ViT-w16d1-7", 14)),
        parameters(architecture("ViT-w16d1-7", 28)),
    )
    assert result.parent.samples_seen == 640
    assert result.parent.gpu_hours == before.gpu_hours > 0
    assert state_of(parent)["visual.positional_embedding"].shape == (5, 16)
    assert state_of(child)["visual.positional_embedding"].shape == (17, 16)
    assert result.scores == pytest.approx(rescored(child, child), rel=1e-3, abs=0.02)
    assert result.scores["held_out_loss"] != pytest.approx(before.scores["held_out_loss"], rel=1e-4)
    # Masked inference of the tuned run sees a half of its 16 patches, not of its parent's 4.
    seen: list[int] = []
    look = torch.nn.functional.embedding
    monkeypatch.setattr(
        torch.nn.functional,
        "embedding",
        lambda at, table, *more: (seen.append(at.shape[1]) if table.shape[0] == 16 else None) or look(at, table, *more),
    )
    rescored(child, child)
    assert set(seen) == {8, 16} if 16 in seen else {8}


def test_pairs_come_at_the_size_and_length_of_the_tuning(ask: Ask) -> None:
    child = ask(tuning=TUNING)
    settings, _ = request_of(child)
    training = Training(settings, Group(), Resources())
    images, tokens = next(batches(open_training_data(child, settings), training, 1))
    assert (images.shape, tokens.shape) == ((32, 3, 28, 28), (32, 16))
    held_out = evaluations_of(child, settings)[""]
    assert (held_out.labelled[0].shape[1:], held_out.pairs[1].shape[-1]) == ((3, 28, 28), 16)


def test_a_tuned_run_has_other_patches_and_loads_in_open_clip_by_its_configuration(ask: Ask) -> None:
    tuning = {**TUNING, "model": "ViT-w16d1-14", "lr": 1e-4}
    parent, child = ask(), ask(tuning=tuning)
    assert train([parent.path, child.path]) == 0
    config = architecture("ViT-w16d1-14", 28).open_clip_config
    stock = open_clip.create_model("ViT-B-16", str(child.path / "model.pt"), **config, load_weights=True).eval()
    assert stock.visual.conv1.weight.shape == (16, 3, 14, 14)
    settings, _ = request_of(child)
    model = build(replace(settings, tuning=None), start=child.path / "model.pt").eval()
    images = pixels(torch.randint(0, 255, (2, 3, 28, 28), dtype=torch.uint8), torch.device("cpu"))
    tokens = open_clip.tokenize(["a big red star"] * 2, context_length=32)
    with torch.no_grad():
        torch.testing.assert_close(stock.encode_image(images), model.encode_image(images), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(stock.encode_text(tokens), encode_text(model, tokens), atol=1e-5, rtol=1e-4)


def test_a_tuning_of_the_same_sizes_starts_from_the_weights_as_they_are(ask: Ask) -> None:
    parent, child = ask(), ask(tuning={**TUNING, "image_size": 14, "text_length": None})
    assert train([parent.path]) == 0
    found = weights(build(request_of(child)[0], start=start_of(child)))
    assert all(torch.equal(found[name], value) for name, value in state_of(parent).items())


def test_a_masked_tuning_of_other_patches_goes_on_after_a_stop(ask: Ask) -> None:
    """Its checkpoint has its own shapes, so the parent's weights are resized once only."""
    parent, child = ask(), ask(tuning={**TUNING, "model": "ViT-w16d1-4", "mask_ratio": 0.25, "lr": 1e-3})
    assert train([parent.path]) == 0
    settings, _ = request_of(child)
    once, again = (Training(settings, Group(), Resources(), start=start_of(child)) for _ in range(2))
    images, tokens = next(batches(open_training_data(child, settings), once, 1))
    once.step(images, tokens)
    with child.hold() as lease:
        assert lease is not None
        once.save(lease)
    assert again.resume(child)
    assert again.progress.step == 1
    pairs = zip(once.model.parameters(), again.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert once.model.visual.patch_dropout.patches == 49
