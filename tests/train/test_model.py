import logging

import numpy as np
import open_clip
import pytest
import torch
from torch.nn import functional

from flipscale.errors import FlipscaleError
from flipscale.settings.architecture import architecture
from flipscale.train.mask import PatchMask
from flipscale.train.model import build, encode_text, load, pixels, save, tokenize, weights
from flipscale.train.objective import Objective

pytestmark = pytest.mark.slow

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
    stock = open_clip.create_model("ViT-S-32-alt", str(tmp_path / "model.pt")).eval()
    assert list(stock.state_dict()) == list(model.state_dict())
    batch, tokens = pixels(images(2, 224), torch.device("cpu")), open_clip.tokenize(TEXTS)
    with torch.no_grad():
        torch.testing.assert_close(stock.encode_image(batch), model.encode_image(batch), atol=1e-5, rtol=1e-4)
        assert torch.allclose(stock.encode_text(tokens), encode_text(model, tokens), atol=1e-6)


def test_weights_of_the_family_load_in_open_clip_with_the_documented_line(settings, tmp_path, quiet_open_clip):
    vocabulary = np.unique(tokenize(TEXTS, 16))
    model = build(settings(), vocabulary).eval()
    with open(tmp_path / "model.pt", "wb") as file:
        save(model, file)
    stock = open_clip.create_model(
        "ViT-B-16", str(tmp_path / "model.pt"), **architecture("ViT-w16d1-4").open_clip_config
    ).eval()
    batch, tokens = pixels(images(2, 28), torch.device("cpu")), open_clip.tokenize(TEXTS, context_length=32)
    with torch.no_grad():
        torch.testing.assert_close(stock.encode_image(batch), model.encode_image(batch), atol=1e-5, rtol=1e-4)
        assert torch.allclose(stock.encode_text(tokens), encode_text(model, tokens), atol=1e-6)


def test_the_open_clip_weights_of_a_compact_model_are_those_of_the_full_one(settings):
    full, compact = build(settings()), build(settings(), np.array([0, 320, 49406, 49407]))
    expected, found = full.state_dict(), weights(compact)
    assert compact.token_embedding.weight.shape == (5, 32)
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("grad_clip", [None, 0.5])
def test_a_compact_vocabulary_trains_as_the_full_one(settings, grad_clip):
    """30 steps at a rate and decay that take the unused rows to half: the model ends up the same."""

    def trained(vocabulary):
        objective = Objective(build(settings(), vocabulary), settings())
        optimizer = torch.optim.AdamW(objective.parameters(), weight_decay=5.0, fused=True)
        for step in range(30):
            optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 30)
            image, text, _ = objective(batch, tokens, step, 0, 8)
            functional.cross_entropy(10 * image @ text.T, torch.arange(8)).backward()
            if grad_clip:
                torch.nn.utils.clip_grad_norm_(objective.parameters(), grad_clip)
            optimizer.step()
            optimizer.zero_grad()
        return weights(objective.model)

    batch = torch.from_numpy(images(8, 28))
    tokens = torch.from_numpy(
        tokenize([f"a {word} star" for word in ("red", "blue", "new", "old", "odd", "big", "tiny", "dim")], 16)
    )
    full, compact = trained(None), trained(np.unique(tokens.numpy()))
    start = build(settings()).token_embedding.weight
    assert 0.4 < float((full["token_embedding.weight"][7] / start[7]).mean().detach()) < 0.6
    assert all(torch.allclose(compact[name], value, rtol=1e-4, atol=1e-5) for name, value in full.items())


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


def test_the_vocabulary_takes_no_part_in_the_initialisation(settings):
    full, compact = build(settings()).state_dict(), build(settings(), np.array([0, 320, 49406, 49407])).state_dict()
    rows = full.pop("token_embedding.weight")[[0, 320, 49406, 49407]]
    assert torch.equal(compact.pop("token_embedding.weight")[:-1], rows)
    assert all(torch.equal(compact[name], value) for name, value in full.items())


def test_the_mask_of_the_settings_reaches_the_image_tower(settings):
    mask = build(settings(mask_ratio=0.75, seed=5, mask_shape="grid")).visual.patch_dropout
    assert isinstance(mask, PatchMask)
    assert (mask.mask_ratio, mask.seed, mask.patches, mask.shape, mask.training) == (0.75, 5, 49, "grid", True)


@pytest.mark.parametrize("vocabulary", [None, np.array([0, 320, 49406, 49407])])
def test_a_run_starts_from_a_checkpoint_of_open_clips_training_program(settings, tmp_path, vocabulary):
    """That one puts optimizer and epoch beside the weights, whose names begin with module."""
    theirs = open_clip.CLIP(**architecture("ViT-w16d1-4").open_clip_config)
    state = {f"module.{name}": value for name, value in theirs.state_dict().items()}
    torch.save({"epoch": 3, "name": "theirs", "state_dict": state, "optimizer": {}}, tmp_path / "epoch_3.pt")
    model = build(settings(init={"path": str(tmp_path / "epoch_3.pt"), "name": None}), vocabulary)
    found = weights(model)
    assert all(torch.equal(found[name], value) for name, value in theirs.state_dict().items())
    assert model.training


def test_a_run_starts_from_the_weights_of_another_run(settings, tmp_path):
    first = build(settings(seed=3), np.array([0, 320, 49406, 49407]))
    with torch.no_grad():
        first.token_embedding.weight.mul_(0.5)  # rows in use and, by the last row, the decay of all others
    with open(tmp_path / "model.pt", "wb") as file:
        save(first, file)
    for changes, start in (({"init": {"path": str(tmp_path / "model.pt"), "name": None}}, None), ({}, tmp_path)):
        model = build(settings(**changes), np.array([0, 5, 320, 49406, 49407]), start and start / "model.pt")
        assert all(torch.equal(value, weights(first)[name]) for name, value in weights(model).items())
        assert torch.equal(model.token_embedding.weight[1], build(settings(seed=3)).token_embedding.weight[5] / 2)


def test_a_start_takes_the_place_of_init(settings, tmp_path):
    with open(tmp_path / "model.pt", "wb") as file:
        save(build(settings(seed=3)), file)
    model = build(settings(init={"path": "gone.pt", "name": None}), start=str(tmp_path / "model.pt"))
    assert torch.equal(model.visual.proj, build(settings(seed=3)).visual.proj)


def test_tables_of_positions_are_resized_as_open_clip_does(settings, tmp_path, quiet_open_clip):
    theirs = open_clip.create_model("ViT-S-32-alt")
    torch.save(theirs.state_dict(), tmp_path / "stock.pt")
    config = settings(model="ViT-S-32-alt", image_size=96, init={"path": str(tmp_path / "stock.pt"), "name": None})
    resized = open_clip.create_model("ViT-S-32-alt", str(tmp_path / "stock.pt"), force_image_size=96)
    found = build(config).state_dict()
    assert found["visual.positional_embedding"].shape == (10, 384)
    assert all(torch.equal(found[name], value) for name, value in resized.state_dict().items())


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        ("ViT-w32d1-4", r"size mismatch for visual\.ln_post\.bias: .*\[16\].*\[32\]\)"),
        ("ViT-w16d2-4", r"Missing key.*\"visual\.transformer\.resblocks\.1\.ln_1\.weight\".*"),
        ("ViT-w16d1-7", r"size mismatch for visual\.conv1\.weight: .*\[16, 3, 4, 4\].*\[16, 3, 7, 7\]\)"),
    ],
)
def test_weights_of_another_model_are_refused_by_one_that_differs(settings, tmp_path, model, complaint):
    with open(tmp_path / "model.pt", "wb") as file:
        save(build(settings()), file)
    with pytest.raises(FlipscaleError, match=rf"is not a checkpoint of {model}: {complaint}\. Set model to the one"):
        build(settings(model=model, init={"path": str(tmp_path / "model.pt"), "name": None}))


def test_weights_that_the_model_does_not_have_are_refused(settings, tmp_path):
    with open(tmp_path / "model.pt", "wb") as file:
        save(build(settings(model="ViT-w16d2-4")), file)
    with pytest.raises(FlipscaleError, match=r"Unexpected key.*\"visual\.transformer\.resblocks\.1\.ln_1\.weight\""):
        build(settings(init={"path": str(tmp_path / "model.pt"), "name": None}))


@pytest.mark.parametrize("content", [b"", b"half a file", b"PK\x03\x04 torn"])
def test_a_file_that_is_no_checkpoint_is_refused(settings, tmp_path, content):
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(FlipscaleError, match=r"weights\.pt: is not a checkpoint of open_clip \(\w+\); give a file"):
        build(settings(init={"path": str(tmp_path / "weights.pt"), "name": None}))


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("ViT-w16d1-4", "open_clip has no pretrained weights of ViT-w16d1-4"),
        ("ViT-B-16", "its tags are openai, laion400m_e31"),
    ],
)
def test_a_start_that_is_neither_file_nor_tag_is_refused_with_the_tags_there_are(settings, model, known):
    with pytest.raises(FlipscaleError, match=f"laoin400m is neither a file nor a tag of .* for {model}; {known}"):
        load(None, architecture(model), "laoin400m")


def test_weights_with_another_activation_are_refused(settings):
    with pytest.raises(FlipscaleError, match="another activation than ViT-B-16 has; set model: ViT-B-16-quickgelu"):
        load(None, architecture("ViT-B-16"), "openai")


def test_a_text_longer_than_the_positions_is_refused(settings):
    with pytest.raises(FlipscaleError, match="text_length 33 is longer than the 32 positions of ViT-w16d1-4; set"):
        build(settings(text_length=33))


def test_a_model_for_another_tokenizer_is_refused(settings):
    with pytest.raises(FlipscaleError, match="ViT-L-14-CLIPA has 32000 words, which need another tokenizer"):
        build(settings(model="ViT-L-14-CLIPA", image_size=224))


def test_pixels_are_normalised_by_channel():
    black_and_white = np.stack([np.zeros((3, 1, 1), np.uint8), np.full((3, 1, 1), 255, np.uint8)])
    values = pixels(black_and_white, torch.device("cpu"))[:, :, 0, 0]
    expected = torch.tensor([[-2.1179, -2.0357, -1.8044], [2.2489, 2.4286, 2.6400]])
    assert torch.allclose(values, expected, atol=1e-4)


def test_pixels_are_normalised_as_open_clip_does_on_demand():
    batch = images(2, 28)
    theirs = open_clip.image_transform(28, is_train=False).transforms[-1](torch.from_numpy(batch) / 255)
    assert torch.allclose(pixels(batch, torch.device("cpu"), "openai"), theirs, atol=1e-6)
    assert torch.equal(pixels(torch.from_numpy(batch), torch.device("cpu")), pixels(batch, torch.device("cpu")))


def test_a_caption_is_cut_to_the_length_and_keeps_its_end():
    tokens = tokenize(["a big red star", "a small blue ring left of a big red star"], length=7)
    assert tokens.shape == (2, 7)
    assert tokens.dtype == np.int64
    assert tokens[0].tolist() == [49406, 320, 1205, 736, 1565, 49407, 0]
    assert tokens[1, -1] == 49407
