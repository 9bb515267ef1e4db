"""The weights that a tuning with other sizes starts from, against open_clip's loader and timm's resampling."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from timm.layers.patch_embed import resample_patch_embed

from flipscale.settings.architecture import architecture
from flipscale.settings.declarations import Settings
from flipscale.train.model import build, save, weights
from flipscale.train.requests import TrainedWeights

pytestmark = pytest.mark.slow

POSITIONS, TEXT_POSITIONS, PATCHES = "visual.positional_embedding", "positional_embedding", "visual.conv1.weight"

SettingsOf = Callable[..., Settings]


@pytest.fixture
def parent(settings: SettingsOf, tmp_path: Path) -> Callable[..., TrainedWeights]:
    """Saved weights of a run with some settings: of another seed, so that no child has them by itself."""

    def saved(**changes: object) -> TrainedWeights:
        trained = settings(seed=7, **changes)
        with open(tmp_path / "model.pt", "wb") as file:
            save(build(trained), file)
        return TrainedWeights(tmp_path / "model.pt", trained)

    return saved


def state_of(start: TrainedWeights) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(start.path)["state_dict"]
    return state


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> set[str]:
    assert list(one) == list(other)
    return {name for name in one if not torch.equal(one[name], other[name])}


@pytest.mark.parametrize("model", ["ViT-w16d1-7", "ViT-S-32-alt"])
def test_positions_at_another_image_size_are_those_of_open_clips_loader(settings, parent, model: str) -> None:
    """Resizing for a model with fixed sine-cosine positions and one with learnt ones, to larger and smaller grids."""
    patch = 7 if model == "ViT-w16d1-7" else 32
    start = parent(model=model, image_size=2 * patch)
    for size in (4 * patch, 7 * patch, patch):
        asked = settings(model=model, image_size=size)
        found = build(asked, start=start)
        theirs = stock(asked)
        open_clip.load_checkpoint(theirs, str(start.path))
        assert differing(found.state_dict(), theirs.state_dict()) == set()
        assert found.visual.positional_embedding.shape[0] == 1 + (size // patch) ** 2
        assert differing(found.state_dict(), state_of(start)) == {POSITIONS}


def stock(settings: Settings) -> torch.nn.Module:
    """A model with random weights as open_clip makes it for images of this size."""
    name = settings.model
    if name.startswith("ViT-w"):
        return open_clip.CLIP(**architecture(name, settings.image_size).open_clip_config)
    return open_clip.create_model(name, force_image_size=settings.image_size, load_weights=False)


@pytest.mark.parametrize(("before", "now"), [(8, 16), (8, 32), (16, 8)])
def test_positions_of_longer_texts_are_those_of_open_clips_loader(settings, parent, before: int, now: int) -> None:
    """With --force-context-length open_clip interpolates a checkpoint whose context was the texts' length."""
    start = parent(text_length=before)
    found = weights(build(settings(text_length=now), start=start))
    trained = state_of(start)
    cut = {**trained, TEXT_POSITIONS: trained[TEXT_POSITIONS][:before]}
    torch.save(cut, start.path.with_name("cut.pt"))
    config = architecture("ViT-w16d1-4").open_clip_config
    config["text_cfg"]["context_length"] = now
    theirs = open_clip.CLIP(**config)
    open_clip.load_checkpoint(theirs, str(start.path.with_name("cut.pt")))
    assert torch.equal(found[TEXT_POSITIONS][:now], theirs.positional_embedding)
    assert torch.equal(found[TEXT_POSITIONS][now:], trained[TEXT_POSITIONS][now:])
    assert differing(found, trained) == {TEXT_POSITIONS}


@pytest.mark.parametrize(("before", "now"), [(14, 7), (7, 14), (4, 7)])
def test_patches_of_another_size_are_timms_resampled_ones(settings, parent, before: int, now: int) -> None:
    """On images whose grid stays, so that the positions do too."""
    start = parent(model=f"ViT-w16d1-{before}", image_size=2 * before)
    found = build(settings(model=f"ViT-w16d1-{now}", image_size=2 * now), start=start).state_dict()
    trained = state_of(start)
    assert torch.equal(found[PATCHES], resample_patch_embed(trained[PATCHES], [now, now]))
    assert differing(found, trained) == {PATCHES}


def test_a_resampled_patch_sees_in_an_enlarged_image_what_it_saw_before(settings, parent) -> None:
    """What FlexiViT's resize is made for: enlarged bilinearly or bicubically, a patch has the same embedding."""
    start = parent(model="ViT-w16d1-7", image_size=28)
    small = build(start.settings, start=start).visual.conv1
    large = build(settings(model="ViT-w16d1-14", image_size=56), start=start).visual.conv1
    patches = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 3, 7, 7)).astype(np.float32))
    enlarged = torch.nn.functional.interpolate(patches, size=(14, 14), mode="bicubic", antialias=True)
    torch.testing.assert_close(large(enlarged), small(patches), atol=1e-4, rtol=1e-4)


def test_all_three_change_at_once(settings, parent) -> None:
    start = parent(model="ViT-w16d1-14", image_size=28, text_length=8)
    asked = settings(model="ViT-w16d1-7", image_size=56, text_length=16)
    found = build(asked, start=start).state_dict()
    assert found[POSITIONS].shape == (65, 16)
    assert found[PATCHES].shape == (16, 3, 7, 7)
    assert differing(found, state_of(start)) == {POSITIONS, TEXT_POSITIONS, PATCHES}


def test_of_a_parent_with_the_same_sizes_nothing_is_touched(settings, parent) -> None:
    start = parent(text_length=8)
    assert differing(build(settings(text_length=8), start=start).state_dict(), state_of(start)) == set()


def test_a_compact_vocabulary_starts_from_the_resized_weights_too(settings, parent) -> None:
    start = parent(image_size=16, text_length=8)
    asked = settings(image_size=28, text_length=16)
    whole = weights(build(asked, start=start))
    compact = weights(build(asked, np.array([0, 320, 49406, 49407]), start))
    assert all(torch.allclose(compact[name], value) for name, value in whole.items())
