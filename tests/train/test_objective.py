import numpy as np
import pytest
import torch
from torch.nn import functional

from flipscale.errors import FlipscaleError
from flipscale.train.model import build, encode_text, pixels
from flipscale.train.objective import Objective

CPU = torch.device("cpu")
FULL = {
    "mask_ratio": 0.5,
    "mask_shape": "block",
    "text_mask_ratio": 0.5,
    "text_mask": "random",
    "reconstruction": {"weight": 0.5, "width": None, "depth": 1},
}
"""Everything a row can draw."""


def batch(rows=6):
    images = np.random.default_rng(0).integers(0, 256, (rows, 3, 28, 28), dtype=np.uint8)
    tokens = np.zeros((rows, 16), np.int64)
    tokens[:, :4] = [[49406, 320 + row, 500, 49407] for row in range(rows)]
    return torch.from_numpy(images), torch.from_numpy(tokens)


def objective_of(settings, **changes):
    return Objective(build(settings(**changes)), settings(**changes))


def test_without_extras_it_is_both_towers_on_the_masked_batch(settings):
    objective = objective_of(settings, mask_ratio=0.5)
    images, tokens = batch()
    image, text, extra = objective(images, tokens, 3, 0, 6)
    model = objective.model
    model.visual.patch_dropout.draw(3, 0, 6, CPU)
    assert torch.equal(image, model.encode_image(pixels(images, CPU), normalize=True))
    assert torch.equal(text, encode_text(model, tokens, normalize=True))
    assert float(extra) == 0
    assert not extra.requires_grad
    assert torch.allclose(image.norm(dim=1), torch.ones(6))


def test_any_split_of_the_batch_gives_the_rows_of_the_whole(settings):
    objective = objective_of(settings, **FULL)
    images, tokens = batch()
    with torch.no_grad():
        whole = objective(images, tokens, 3, 0, 6)
        parts = [objective(images[i : i + 2], tokens[i : i + 2], 3, i, 6) for i in (0, 2, 4)]
        other = objective(images, tokens, 4, 0, 6)
    for tower in (0, 1):
        assert torch.allclose(torch.cat([part[tower] for part in parts]), whole[tower], atol=1e-6)
        assert not torch.allclose(other[tower], whole[tower], atol=1e-4)
    # The extra loss is a mean of rows, so that of the whole is the mean of those of equal parts.
    assert torch.allclose(torch.stack([part[2] for part in parts]).mean(), whole[2])


def test_the_extra_loss_is_the_reconstruction_times_its_weight(settings):
    images, tokens = batch()
    losses = []
    for weight in (0.5, 2.0):
        objective = objective_of(settings, reconstruction={"weight": weight, "width": None, "depth": 1})
        image, _, extra = objective(images, tokens, 0, 0, 6)
        losses.append(extra.detach())
    plain, _, _ = objective_of(settings)(images, tokens, 0, 0, 6)
    assert torch.allclose(losses[1], 4 * losses[0])
    assert torch.equal(image, plain)


def test_all_that_is_trained_gets_a_gradient(settings):
    objective = objective_of(settings, **FULL)
    image, text, extra = objective(*batch(), 0, 0, 6)
    logits = objective.model.logit_scale.exp() * image @ text.T
    (functional.cross_entropy(logits, torch.arange(6)) + extra).backward()
    assert [name for name, value in objective.named_parameters() if value.requires_grad and value.grad is None] == []
    names = {name.split(".")[0] for name, _ in objective.named_parameters()}
    assert names == {"model", "reconstruction"}


def test_the_decoder_is_no_part_of_the_model_and_does_not_change_its_start(settings):
    plain, extended = objective_of(settings), objective_of(settings, **FULL)
    one, other = plain.model.state_dict(), extended.model.state_dict()
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_pixels_are_normalised_as_the_settings_say(settings):
    images, tokens = batch()
    seen = {}
    for normalization in ("imagenet", "openai"):
        objective = objective_of(settings, normalization=normalization)
        objective.model.visual.register_forward_pre_hook(
            lambda module, inputs, name=normalization: seen.update({name: inputs[0]})
        )
        objective(images, tokens, 0, 0, 6)
        assert torch.equal(seen[normalization], pixels(images, CPU, normalization))
    assert not torch.allclose(seen["imagenet"], seen["openai"], atol=1e-2)


def test_reconstruction_without_a_mask_is_refused(settings):
    with pytest.raises(FlipscaleError, match=r"nothing to reconstruct: mask_ratio 0 drops none of the 49 patches"):
        objective_of(settings, mask_ratio=0, reconstruction={"weight": 1.0, "width": None, "depth": 2})


def test_activation_checkpointing_changes_no_gradient(settings):
    gradients = []
    for checkpointing in (False, True):
        objective = objective_of(settings, **FULL)
        objective.model.set_grad_checkpointing(checkpointing)
        image, text, extra = objective(*batch(), 0, 0, 6)
        ((image @ text.T).square().sum() + extra).backward()
        gradients.append({name: value.grad for name, value in objective.named_parameters() if value.requires_grad})
    one, other = gradients
    assert all(value is None or torch.allclose(value, other[name], atol=1e-6) for name, value in one.items())
    assert one["model.visual.conv1.weight"].abs().sum() > 0
