"""Runs with each shape of mask and each text mask: what training and evaluation show, and that losses fall."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from flipscale.data.formats import open_data
from flipscale.data.pairs import Form
from flipscale.data.views import views
from flipscale.errors import FlipscaleError
from flipscale.run import RunFolder
from flipscale.settings.declarations import Resources, Shapes
from flipscale.train import evaluate as evaluation
from flipscale.train import train
from flipscale.train.distributed import Group
from flipscale.train.mask import masked_view
from flipscale.train.model import build, pixels
from flipscale.train.objective import Objective
from flipscale.train.requests import request_of
from flipscale.train.sources import open_training_data
from flipscale.train.trainers.builtin.loop import batches
from flipscale.train.trainers.builtin.training import Training

RESIZE = {"mask_ratio": 0.75, "mask_shape": "resize"}
"""7 x 7 patches of 4 x 4 pixels become 3 x 3."""


def tokenize(texts: list[str]) -> npt.NDArray[np.int64]:
    return np.array([[len(text)] * 8 for text in texts], np.int64)


def images_of(count: int, size: int = 28) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 3, size, size), dtype=np.uint8)


def lengths(model: torch.nn.Module) -> list[int]:
    """Filled with how many tokens the image blocks saw, a number a forward pass."""
    seen: list[int] = []
    model.visual.transformer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    return seen


# What training shows


@pytest.mark.parametrize(("mask_ratio", "size"), [(0.75, 12), (0.5, 20), (0.9, 8)])
@pytest.mark.parametrize("changes", [{}, {"crop": 0.5, "flip": True}])
def test_batches_of_a_resized_run_are_small_and_come_from_the_crop(run, changes, mask_ratio, size):
    """Pixels of the same crop as its twin's, resized once, with Pillow's bicubic filter, which antialiases."""
    folders = [run(name, mask_ratio=mask_ratio, mask_shape=name, **changes) for name in ("resize", "random")]
    found, twin = (next(batches_of(folder)) for folder in folders)
    assert (found[0].shape, twin[0].shape) == ((32, 3, size, size), (32, 3, 28, 28))
    assert torch.equal(found[1], twin[1])
    settings, _ = request_of(folders[0])
    data = open_data(settings.data, Form(28, 8, tokenize), data_size=None, samples=640)
    whole, _ = data.batch(data.order(0, 0, 32), None)
    shown = views(settings, 0, 32)
    for row in range(4):
        image = Image.fromarray(whole[row].transpose(1, 2, 0))
        box = (0, 0, 28, 28) if shown is None else shown.box(row, 28, 28)
        expected = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box)).transpose(2, 0, 1)
        if shown is not None and shown.flipped(row):
            expected = expected[:, :, ::-1]
        assert np.array_equal(found[0][row].numpy(), expected)


def batches_of(folder: RunFolder):
    settings, _ = request_of(folder)
    data = open_training_data(folder, settings)
    return batches(data, Training(settings, Group(), Resources(), data.vocabulary), 20)


def test_what_is_drawn_or_kept_in_a_cache_has_the_full_size():
    form = Form(28, 8, tokenize, shown_size=12)
    assert (form.image_size, form.view_size, Form(28, 8, tokenize).view_size) == (28, 12, 28)
    whole, small = (
        open_data(Shapes(0.0, seed=0), made, data_size=8, samples=8).batch(np.arange(8), None)[0]
        for made in (Form(28, 8, tokenize), form)
    )
    expected = Image.fromarray(whole[0].transpose(1, 2, 0)).resize((12, 12), Image.Resampling.BICUBIC)
    assert np.array_equal(small[0], np.asarray(expected).transpose(2, 0, 1))


@pytest.mark.parametrize("model", ["ViT-w16d1-4", "ViT-S-32-alt"])
def test_a_resized_step_trains_every_weight_that_an_unmasked_one_does(settings, model):
    """The table of positions is the full one, where it is learnt; that of the small family is fixed."""
    size = 28 if model == "ViT-w16d1-4" else 224
    trained = []
    for changes in (RESIZE, {"mask_ratio": 0.0}):
        asked = settings(model=model, image_size=size, **changes)
        objective = Objective(build(asked), asked)
        seen = lengths(objective.model)
        small = torch.from_numpy(images_of(4, 3 * size // 7 if changes is RESIZE else size))
        tokens = torch.zeros(4, 16, dtype=torch.int64)
        tokens[:, 1] = 49407
        image, text, _ = objective(small, tokens, 0, 0, 4)
        (image * text.roll(1, 0)).sum().backward()
        assert seen == [10 if changes is RESIZE else 50]
        shapes = {name: weight.shape for name, weight in objective.model.named_parameters()}
        trained.append(({name for name, weight in objective.named_parameters() if weight.grad is not None}, shapes))
    assert trained[0] == trained[1]
    assert ("model.visual.positional_embedding" in trained[0][0]) == (model != "ViT-w16d1-4")


@pytest.mark.parametrize("resources", [Resources(accumulate=4), Resources(activation_checkpointing=True)])
def test_resized_steps_are_the_same_in_parts_and_with_checkpointing(settings, resources):
    asked = settings(**RESIZE, model="ViT-S-32-alt", image_size=224, precision="fp32")
    images, tokens = torch.from_numpy(images_of(8, 96)), torch.zeros(8, 16, dtype=torch.int64)
    tokens[:, 0], tokens[:, 1] = torch.arange(8), 49407
    tables = []
    for how in (Resources(), resources):
        training = Training(settings(**{**vars_of(asked), "batch_size": 8}), Group(), how)
        training.begin()
        for _ in range(3):
            training.step(images, tokens)
        tables.append(training.model.visual.positional_embedding.detach())
    torch.testing.assert_close(*tables, rtol=1e-3, atol=1e-5)


def vars_of(asked):
    return {"mask_ratio": asked.mask_ratio, "mask_shape": asked.mask_shape, "model": asked.model, "image_size": 224}


def test_a_reconstruction_of_resized_images_is_refused(settings):
    asked = settings(**RESIZE, reconstruction={})
    with pytest.raises(FlipscaleError, match="reconstruction has nothing to reconstruct"):
        Objective(build(asked), asked)


# Inference by mask shape


def encoded(model, images, asked, inference):
    asked = replace(asked, evaluation=replace(asked.evaluation, inference=[inference] if inference else []))
    encoders = evaluation.encoders_of(model, asked)
    return evaluation._encode_images(encoders, asked, f"images {inference}".rstrip(), images)


@pytest.mark.parametrize(
    ("shape", "inference", "tokens"),
    [
        *((shape, "", [50]) for shape in ("random", "grid", "block", "gaussian", "resize")),
        *((shape, "masked", [13]) for shape in ("random", "grid", "block", "gaussian")),
        ("resize", "masked", [10]),
        *((shape, "ensemble", [14] * 4) for shape in ("random", "grid", "block", "gaussian")),
    ],
)
def test_each_inference_sees_its_share_after_each_mask_shape(settings, shape, inference, tokens):
    asked = settings(mask_ratio=0.75, mask_shape=shape)
    model = build(asked).eval()
    seen = lengths(model)
    with torch.no_grad():
        features = encoded(model, images_of(5), asked, inference)
    assert seen == tokens
    torch.testing.assert_close(features.norm(dim=1), torch.ones(5))


def test_masked_inference_after_resizing_sees_images_as_small_as_in_training(settings):
    asked = settings(**RESIZE)
    model, images = build(asked).eval(), images_of(5)
    small = [Image.fromarray(image.transpose(1, 2, 0)).resize((12, 12), Image.Resampling.BICUBIC) for image in images]
    stacked = np.stack([np.asarray(image).transpose(2, 0, 1) for image in small])
    with torch.no_grad():
        expected = model.encode_image(pixels(stacked, torch.device("cpu")), normalize=True)
        torch.testing.assert_close(encoded(model, images, asked, "masked"), expected)


def test_masked_inference_after_a_gaussian_mask_sees_one(settings):
    asked = settings(mask_ratio=0.75, mask_shape="gaussian")
    model, images = build(asked).eval(), images_of(5)
    with torch.no_grad():
        with model.visual.patch_dropout.seeing(masked_view(49, 0.75, 0, "gaussian", images=5)):
            expected = model.encode_image(pixels(images, torch.device("cpu")), normalize=True)
        torch.testing.assert_close(encoded(model, images, asked, "masked"), expected)


# Whole runs


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"mask_ratio": 0.5, "mask_shape": "gaussian"},
        {"mask_ratio": 0.5, "mask_shape": "resize", "crop": 0.5, "flip": True, "text_mask_ratio": 0.5},
        {"mask_ratio": 0.0, "text_mask_ratio": 0.5, "text_mask": "block"},
    ],
    ids=["gaussian", "resized crops", "block of text"],
)
def test_the_loss_of_a_run_falls_and_its_weights_are_the_stock_models(run, changes):
    folder = run(**{"samples": 3200, "lr": 3e-3, **changes})
    assert train([folder.path]) == 0
    losses = [record["loss"] for record in folder.records()[0] if "loss" in record]
    # A loss of log(32), 3.47, is a guess.
    assert np.mean(losses[:5]) > 3.3
    assert np.mean(losses[-5:]) < 3.1
    assert folder.result().scores["zero_shot_top1"] > 0
    weights = torch.load(folder.path / "model.pt")["state_dict"]
    assert weights["visual.positional_embedding"].shape == (50, 16)
