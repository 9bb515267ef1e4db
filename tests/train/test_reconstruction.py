import pytest
import torch

from flipscale.errors import FlipscaleError
from flipscale.settings.architecture import architecture
from flipscale.train.model import build
from flipscale.train.reconstruction import ReconstructionHead, image_tokens

SHAPE = architecture("ViT-w32d2-4")
CPU = torch.device("cpu")


def decoder(mask_ratio=0.5, seed=0, width=None, depth=2, shape=SHAPE):
    return ReconstructionHead(shape, mask_ratio, seed, width=width, depth=depth)


def seen(settings, count=4, **changes):
    """A model, pixels, and what the image tower puts out of them."""
    model = build(settings(model="ViT-w32d2-4", **changes))
    pixels = torch.randn(count, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    model.visual.patch_dropout.draw(0, 0, count, CPU)
    return model, pixels, *image_tokens(model.visual, pixels)


@pytest.mark.parametrize("model", ["ViT-w32d2-4", "ViT-S-32-alt"])
def test_one_forward_gives_the_features_of_encode_image_and_its_tokens(settings, model):
    size = architecture(model).image.image_size
    clip = build(settings(model=model, image_size=size))
    clip.visual.patch_dropout.draw(0, 0, 2, CPU)
    pixels, blocks = torch.randn(2, 3, size, size), []
    clip.visual.transformer.resblocks[0].register_forward_hook(lambda *_: blocks.append(1))
    features, tokens = image_tokens(clip.visual, pixels)
    assert blocks == [1]
    assert torch.equal(features, clip.encode_image(pixels))
    assert tokens.shape == (2, 25, architecture(model).image.width)
    pooled = tokens[:, 1:].mean(1) if model == "ViT-w32d2-4" else tokens[:, 0]
    assert torch.allclose(pooled @ clip.visual.proj, features, atol=1e-6)


@pytest.mark.parametrize(("width", "depth", "used"), [(None, 2, 16), (48, 1, 48)])
def test_the_parameters_are_those_of_the_formula(width, depth, used):
    count = sum(parameter.numel() for parameter in decoder(width=width, depth=depth).parameters())
    d, w, p = used, 32, 4
    assert count == w * d + d + d + depth * (12 * d * d + 13 * d) + 2 * d + 3 * p * p * d + 3 * p * p


def test_the_flops_are_those_of_the_formula():
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    head = decoder(width=32, depth=2)
    kept = torch.arange(24).expand(2, -1)
    # On a CPU the counter misses fused attention, so attention is computed step by step.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        head(torch.randn(2, 25, 32), kept, torch.randn(2, 3, 28, 28))
    n, k, w, d, p, depth = 49, 24, 32, 32, 4, 2
    forward = 2 * (k + 1) * w * d + depth * (24 * (n + 1) * d**2 + 4 * (n + 1) ** 2 * d) + 6 * (n - k) * p**2 * d
    assert counter.get_total_flops() == 2 * forward


def test_the_loss_is_the_error_of_the_normalised_pixels_of_dropped_patches():
    """A decoder that predicts one value everywhere: the loss follows from the pixels alone."""
    head = decoder()
    torch.nn.init.zeros_(head.prediction.weight)
    torch.nn.init.constant_(head.prediction.bias, 0.5)
    pixels = torch.randn(3, 3, 28, 28)
    kept = torch.stack([torch.randperm(49)[:24] for _ in range(3)])
    errors = []
    for image, row in zip(pixels, kept.tolist(), strict=True):
        for patch in set(range(49)) - set(row):
            y, x = 4 * (patch // 7), 4 * (patch % 7)
            values = image[:, y : y + 4, x : x + 4].flatten()
            errors.append(((values - values.mean()) / (values.var() + 1e-6).sqrt() - 0.5).square().mean())
    loss = head(torch.randn(3, 25, 32), kept, pixels).detach()
    assert float(loss) == pytest.approx(float(torch.stack(errors).mean()), rel=1e-5)


def test_what_is_predicted_is_in_the_order_of_the_tokens_and_their_patches(settings):
    """The order in which kept patches come carries nothing."""
    torch.manual_seed(0)
    model, pixels, _, tokens = seen(settings)
    head, kept = decoder(), model.visual.patch_dropout.kept
    order = torch.randperm(24)
    loss = head(tokens, kept, pixels)
    assert torch.allclose(head(torch.cat([tokens[:, :1], tokens[:, 1:][:, order]], 1), kept[:, order], pixels), loss)
    assert not torch.allclose(head(tokens, kept[:, order], pixels), loss, rtol=1e-4)


def test_pixels_of_kept_patches_are_not_predicted(settings):
    model, pixels, _, tokens = seen(settings)
    head, kept = decoder(), model.visual.patch_dropout.kept
    image = pixels.clone()
    for row, places in enumerate(kept.tolist()):
        for place in places:
            y, x = 4 * (place // 7), 4 * (place % 7)
            image[row, :, y : y + 4, x : x + 4] = 0
    assert torch.equal(head(tokens, kept, image), head(tokens, kept, pixels))


def test_the_loss_teaches_the_image_tower_and_the_decoder(settings):
    model, pixels, _, tokens = seen(settings)
    head = decoder()
    head(tokens, model.visual.patch_dropout.kept, pixels).backward()
    assert all(parameter.grad.abs().sum() > 0 for name, parameter in head.named_parameters() if "in_proj" not in name)
    assert model.visual.conv1.weight.grad.abs().sum() > 0


def test_training_lowers_the_loss(settings):
    model, pixels, _, _ = seen(settings, count=16, mask_ratio=0.5)
    smooth = torch.nn.functional.interpolate(pixels[:, :, ::7, ::7], scale_factor=7, mode="bilinear")
    head = decoder()
    optimizer = torch.optim.AdamW([*model.visual.parameters(), *head.parameters()], lr=3e-3)
    losses = []
    for step in range(40):
        model.visual.patch_dropout.draw(step, 0, 16, CPU)
        _, tokens = image_tokens(model.visual, smooth)
        loss = head(tokens, model.visual.patch_dropout.kept, smooth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_the_decoder_starts_from_the_seed_alone_and_leaves_the_global_random_state_alone():
    before = torch.random.get_rng_state()
    one = decoder(seed=3).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(5)
    again, other = decoder(seed=3).state_dict(), decoder(seed=4).state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["embedding.weight"], other["embedding.weight"])


@pytest.mark.parametrize("mask_ratio", [0, 1e-9])
def test_without_dropped_patches_there_is_nothing_to_reconstruct(mask_ratio):
    if mask_ratio:
        shape = architecture("ViT-w16d1-28")
        assert shape.image.patches == 1
    else:
        shape = SHAPE
    with pytest.raises(FlipscaleError, match=r"nothing to reconstruct: mask_ratio .* drops none of the .* patches\."):
        decoder(mask_ratio, shape=shape)


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(FlipscaleError, match=r"reconstruction\.width 40 is not a multiple of 16, .* write (32|48)\."):
        decoder(width=40)
