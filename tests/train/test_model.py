import json
import logging

import numpy as np
import open_clip
import pytest
import torch

from flipscale.architecture import architecture
from flipscale.errors import FlipscaleError
from flipscale.train.mask import PatchMask
from flipscale.train.model import build, encode_text, pixels, save, tokenize

TEXTS = ["a big red star", "a small blue ring left of a big red star"]


def images(count, size):
    return np.random.default_rng(0).integers(0, 256, (count, 3, size, size), dtype=np.uint8)


@pytest.fixture
def quiet_open_clip():
    """open_clip warns through logging that it loads no pre-trained weights."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def test_weights_load_in_stock_open_clip_and_give_the_same_features(settings, tmp_path, quiet_open_clip):
    model = build(settings(model="ViT-S-32-alt", image_size=224, mask_ratio=0.75)).eval()
    with open(tmp_path / "model.pt", "wb") as file:
        save(model, file)
    stock = open_clip.create_model("ViT-S-32-alt", pretrained=str(tmp_path / "model.pt")).eval()
    assert list(stock.state_dict()) == list(model.state_dict())
    batch, tokens = pixels(images(2, 224), torch.device("cpu")), open_clip.tokenize(TEXTS)
    with torch.no_grad():
        assert torch.equal(stock.encode_image(batch), model.encode_image(batch))
        assert torch.allclose(stock.encode_text(tokens), encode_text(model, tokens), atol=1e-6)


def test_weights_of_the_family_load_in_open_clip_by_their_configuration(settings, tmp_path, quiet_open_clip):
    model = build(settings()).eval()
    with open(tmp_path / "model.pt", "wb") as file:
        save(model, file)
    (tmp_path / "ViT-w16d1-4.json").write_text(json.dumps(architecture("ViT-w16d1-4").open_clip_config))
    open_clip.add_model_config(tmp_path)
    stock = open_clip.create_model("ViT-w16d1-4", pretrained=str(tmp_path / "model.pt")).eval()
    batch, tokens = pixels(images(2, 28), torch.device("cpu")), open_clip.tokenize(TEXTS, context_length=32)
    with torch.no_grad():
        assert torch.equal(stock.encode_image(batch), model.encode_image(batch))
        assert torch.allclose(stock.encode_text(tokens), encode_text(model, tokens), atol=1e-6)


@pytest.mark.parametrize("kind", [open_clip.CLIP, open_clip.CustomTextCLIP])
@pytest.mark.parametrize("text", [{}, {"no_causal_mask": True}, {"pool_type": "last", "proj_bias": True}])
def test_text_of_the_full_length_is_encoded_as_open_clip_does(kind, text):
    vision = {"image_size": 28, "layers": 1, "width": 16, "head_width": 16, "patch_size": 4}
    model = kind(32, vision, {"context_length": 20, "width": 32, "heads": 2, "layers": 2, **text}).eval()
    tokens = open_clip.tokenize(TEXTS, context_length=20)
    with torch.no_grad():
        for normalize in (False, True):
            ours, theirs = encode_text(model, tokens, normalize), model.encode_text(tokens, normalize)
            assert torch.allclose(ours, theirs, atol=1e-6)


def test_causal_text_gives_the_same_feature_at_any_length_that_holds_it(settings):
    model = build(settings(model="ViT-S-32-alt", image_size=224, text_length=77)).eval()
    with torch.no_grad():
        short, full = (encode_text(model, torch.from_numpy(tokenize(TEXTS, length))) for length in (12, 77))
    assert torch.allclose(short, full, atol=1e-5)


def test_twins_of_any_mask_batch_and_text_length_start_from_the_same_weights(settings):
    torch.manual_seed(1)
    one = build(settings(mask_ratio=0, batch_size=64, text_length=16)).state_dict()
    torch.manual_seed(2)
    other = build(settings(mask_ratio=0.75, batch_size=256, text_length=8)).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_another_seed_starts_from_other_weights(settings):
    one, other = (build(settings(seed=seed)).visual.proj for seed in (0, 1))
    assert not torch.equal(one, other)


def test_building_leaves_the_global_random_state_alone(settings):
    before = torch.random.get_rng_state()
    build(settings())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_mask_ratio_and_seed_reach_the_image_tower(settings):
    mask = build(settings(mask_ratio=0.75, seed=5)).visual.patch_dropout
    assert isinstance(mask, PatchMask)
    assert (mask.mask_ratio, mask.seed, mask.training) == (0.75, 5, True)


def test_a_text_longer_than_the_positions_is_refused(settings):
    with pytest.raises(FlipscaleError, match="text_length 33 is longer than the 32 positions of ViT-w16d1-4; set"):
        build(settings(text_length=33))


def test_a_model_for_another_tokenizer_is_refused(settings):
    with pytest.raises(FlipscaleError, match="ViT-L-14-CLIPA has 32000 words, for another tokenizer"):
        build(settings(model="ViT-L-14-CLIPA", image_size=224))


def test_pixels_are_normalised_by_channel():
    black_and_white = np.stack([np.zeros((3, 1, 1), np.uint8), np.full((3, 1, 1), 255, np.uint8)])
    values = pixels(black_and_white, torch.device("cpu"))[:, :, 0, 0]
    expected = torch.tensor([[-2.1179, -2.0357, -1.8044], [2.2489, 2.4286, 2.6400]])
    assert torch.allclose(values, expected, atol=1e-4)


def test_a_caption_is_cut_to_the_length_and_keeps_its_end():
    tokens = tokenize(["a big red star", "a small blue ring left of a big red star"], length=7)
    assert tokens.shape == (2, 7)
    assert tokens.dtype == np.int64
    assert tokens[0].tolist() == [49406, 320, 1205, 736, 1565, 49407, 0]
    assert tokens[1, -1] == 49407
