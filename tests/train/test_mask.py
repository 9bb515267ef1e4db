import open_clip.transformer
import pytest
import torch

from flipscale.architecture import patches_kept
from flipscale.train.mask import PatchMask

TOKENS = torch.arange(50).float().expand(8, 50)[:, :, None].repeat(1, 1, 3)
"""8 images of a class token, 0, and 49 patches, 1 to 49."""


@pytest.mark.parametrize(
    ("patches", "mask_ratio", "kept"),
    [(49, 0, 49), (49, 0.5, 24), (49, 0.75, 12), (50, 0.9, 4), (100, 0.7, 30), (49, 0.99, 1), (196, 0.5, 98)],
)
def test_as_many_patches_are_kept_as_open_clip_keeps(patches, mask_ratio, kept):
    assert patches_kept(patches, mask_ratio) == kept
    tokens = torch.zeros(2, 1 + patches, 3)
    assert open_clip.transformer.PatchDropout(mask_ratio).train()(tokens).shape == (2, 1 + kept, 3)
    assert PatchMask(mask_ratio, seed=0).train()(tokens).shape == (2, 1 + kept, 3)


def test_the_class_token_and_different_patches_are_kept():
    kept = PatchMask(0.5, seed=0)(TOKENS)[:, :, 0]
    assert kept.shape == (8, 25)
    assert (kept[:, 0] == 0).all()
    assert all(len(set(row.tolist())) == 25 for row in kept)


def test_every_image_has_patches_of_its_own():
    kept = PatchMask(0.5, seed=0)(TOKENS)[:, :, 0]
    assert len({frozenset(row.tolist()) for row in kept}) == 8


def test_patches_follow_from_seed_and_step_alone():
    def kept(seed, step):
        mask = PatchMask(0.5, seed)
        mask.step = step
        return mask(TOKENS)

    torch.manual_seed(1)
    first = kept(seed=3, step=7)
    torch.manual_seed(2)
    assert torch.equal(first, kept(seed=3, step=7))
    assert not torch.equal(first, kept(seed=3, step=8))
    assert not torch.equal(first, kept(seed=4, step=7))


def test_every_patch_is_kept_equally_often():
    mask = PatchMask(0.75, seed=0)
    counts = torch.zeros(50)
    for mask.step in range(500):
        counts += torch.bincount(mask(TOKENS)[:, :, 0].long().flatten(), minlength=50)
    # 4,000 images keep 12 of 49: 980 times each, with a standard deviation of 27.
    assert counts[0] == 4000
    assert counts[1:].min() > 980 - 5 * 27
    assert counts[1:].max() < 980 + 5 * 27


def test_in_evaluation_and_without_a_ratio_nothing_is_masked():
    assert PatchMask(0.5, seed=0).eval()(TOKENS) is TOKENS
    assert PatchMask(0, seed=0).train()(TOKENS) is TOKENS


def test_the_mask_adds_nothing_to_the_state_dict():
    assert not PatchMask(0.5, seed=0).state_dict()


def test_gradients_reach_the_kept_patches_only():
    tokens = TOKENS.clone().requires_grad_()
    kept = PatchMask(0.5, seed=0)(tokens)
    kept.sum().backward()
    assert tokens.grad is not None
    touched = tokens.grad[:, :, 0]
    assert touched.sum() == 8 * 25
    assert all(
        set(row.nonzero().flatten().tolist()) == set(k.tolist()) for row, k in zip(touched, kept[:, :, 0], strict=True)
    )
