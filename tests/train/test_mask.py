from types import SimpleNamespace

import numpy as np
import open_clip.transformer
import pytest
import torch
from open_clip.model import resize_pos_embed
from scipy.stats import multivariate_normal

from flipscale.settings.architecture import architecture, patches_kept
from flipscale.train.mask import MaskedTower, PatchMask, complementary, masked_view, positions_on
from flipscale.train.model import build
from tests.asked import settings_of

CPU = torch.device("cpu")
TOKENS = torch.arange(50).float().expand(8, 50)[:, :, None].repeat(1, 1, 3)
"""8 images of a class token, 0, and 49 patches, 1 to 49."""
SHAPES = ("random", "grid", "block", "gaussian")


def drawn(mask_ratio=0.5, seed=0, patches=49, shape="random", step=0, first=0, rows=8):
    mask = PatchMask(mask_ratio, seed, patches, shape)
    mask.draw(step, first, rows, CPU)
    return mask


def picture(kept, side):
    """Rows of # for kept patches and . for dropped."""
    cells = np.full(side * side, ".")
    cells[kept.numpy()] = "#"
    return ["".join(row) for row in cells.reshape(side, side)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("patches", "mask_ratio", "kept"),
    [(49, 0, 49), (49, 0.5, 24), (49, 0.75, 12), (64, 0.9, 6), (100, 0.7, 30), (49, 0.99, 1), (196, 0.5, 98)],
)
def test_as_many_patches_are_kept_as_open_clip_keeps(patches, mask_ratio, kept, shape):
    assert patches_kept(patches, mask_ratio) == kept
    tokens = torch.arange(1 + patches).float().expand(2, -1)[:, :, None]
    assert open_clip.transformer.PatchDropout(mask_ratio).train()(tokens).shape == (2, 1 + kept, 1)
    seen = drawn(mask_ratio, patches=patches, shape=shape, rows=2)(tokens)
    assert seen.shape == (2, 1 + kept, 1)
    assert all(len(set(row.flatten().tolist())) == 1 + kept for row in seen)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_class_token_comes_first(shape):
    assert (drawn(shape=shape)(TOKENS)[:, 0] == 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_images_have_patches_of_their_own(shape):
    kept = drawn(shape=shape, rows=64).kept
    # A block of 5 x 5 has 9 places, grids and random sets have more.
    assert len({frozenset(row.tolist()) for row in kept}) >= 9


def test_random_patches_are_the_largest_of_numpys_numbers_of_seed_and_step():
    """What finished runs drew: it stays, whatever is added."""
    chance = np.random.default_rng((0x6D61736B, 3, 7)).random((8, 49), dtype=np.float32)
    assert torch.equal(drawn(seed=3, step=7).kept, torch.from_numpy(chance).topk(24).indices)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("patches", [49, 64])
def test_slices_of_a_batch_draw_what_the_whole_batch_draws(shape, patches):
    whole = drawn(seed=3, patches=patches, shape=shape, step=7, rows=9).kept
    for first, rows in ((0, 9), (0, 1), (3, 3), (5, 4)):
        part = drawn(seed=3, patches=patches, shape=shape, step=7, first=first, rows=rows).kept
        assert torch.equal(part, whole[first : first + rows])


@pytest.mark.parametrize("shape", SHAPES)
def test_patches_follow_from_seed_and_step_alone(shape):
    torch.manual_seed(1)
    first = drawn(seed=3, step=7, shape=shape).kept
    torch.manual_seed(2)
    assert torch.equal(first, drawn(seed=3, step=7, shape=shape).kept)
    assert not torch.equal(first, drawn(seed=3, step=8, shape=shape).kept)
    assert not torch.equal(first, drawn(seed=4, step=7, shape=shape).kept)


def test_every_patch_is_kept_equally_often_at_random():
    counts = torch.zeros(49)
    for step in range(500):
        counts += torch.bincount(drawn(0.75, step=step).kept.flatten(), minlength=49)
    # 4,000 images keep 12 of 49: 980 times each, with a standard deviation of 27.
    assert counts.min() > 980 - 5 * 27
    assert counts.max() < 980 + 5 * 27


def test_every_patch_is_kept_about_equally_often_by_grids():
    counts = torch.bincount(drawn(0.75, shape="grid", rows=4000).kept.flatten(), minlength=49)
    # 16 of 49 patches are on even lines and columns: that lattice has 4 too many and is kept in part.
    assert counts.min() > 0.9 * 980
    assert counts.max() < 1.1 * 980


def glip_density(side):
    """The density in GLIP's PatchDropout.normal_distribution: mean 0, and a covariance of 0.2 named std."""
    x = np.linspace(-1, 1, side)
    return multivariate_normal(mean=[0, 0], cov=[[0.2, 0], [0, 0.2]]).pdf(np.stack(np.meshgrid(x, x), axis=-1)).ravel()


@pytest.mark.parametrize(("patches", "mask_ratio"), [(49, 0.5), (196, 0.75), (196, 0.918), (1, 0.5)])
def test_gaussian_patches_are_those_of_glips_score(patches, mask_ratio):
    """rand - (1 - pdf), the largest kept, of numpy's numbers of seed and step."""
    chance = np.random.default_rng((0x6D61736B, 3, 7)).random((64, patches), dtype=np.float32)
    score = chance - (1 - glip_density(round(patches**0.5)))
    count = max(1, int(patches * (1 - mask_ratio)))
    expected = np.sort(np.argsort(-score, axis=1)[:, :count], axis=1)
    kept = drawn(mask_ratio, seed=3, patches=patches, shape="gaussian", step=7, rows=64).kept
    assert np.array_equal(np.sort(kept.numpy(), axis=1), expected)


def test_gaussian_patches_are_kept_as_often_as_another_generators():
    """How often each of 7 x 7 patches is kept, against GLIP's score of numbers that are not ours: chi-squared."""
    images, kept = 20_000, 12
    score = np.random.default_rng(99).random((images, 49)) - (1 - glip_density(7))
    expected = np.bincount(np.argsort(-score, axis=1)[:, :kept].ravel(), minlength=49)
    found = torch.bincount(drawn(0.75, shape="gaussian", rows=images).kept.flatten(), minlength=49).numpy()
    assert found.sum() == expected.sum() == images * kept
    # An image keeps a patch or not, so each count is binomial; 48 patches are free, as the counts have one sum.
    share = (found + expected) / (2 * images)
    chi2 = ((found - expected) ** 2 / (2 * images * share * (1 - share))).sum()
    assert 20 < chi2 < 90
    counts = found.reshape(7, 7)
    assert counts[3, 3] > 1.5 * counts[0, 3] > 1.5 * counts[0, 0] > 0


def test_masked_inference_of_a_gaussian_mask_is_one_and_of_others_a_random_one():
    assert torch.equal(masked_view(49, 0.75, 3, "grid", images=5), complementary(49, 0.75, 3, images=5)[0][:, :12])
    whole = masked_view(49, 0.75, 3, "gaussian", images=2000)
    assert whole.shape == (2000, 12)
    assert torch.equal(masked_view(49, 0.75, 3, "gaussian", first=5, images=2), whole[5:7])
    counts = torch.bincount(whole.flatten(), minlength=49)
    assert counts[24] > 1.5 * counts[3] > 1.5 * counts[0] > 0


def test_a_quarter_of_a_grid_is_one_patch_of_each_square_of_four():
    kept = drawn(0.75, patches=64, shape="grid", rows=100).kept
    assert len({frozenset(row.tolist()) for row in kept}) == 4
    for row in kept:
        squares = (row // 8 // 2) * 4 + row % 8 // 2
        assert sorted(squares.tolist()) == list(range(16))
        assert len(set((row // 8 % 2).tolist())) == len(set((row % 2).tolist())) == 1


def test_half_of_a_grid_is_a_chessboard():
    boards = [["#.#.#.#.", ".#.#.#.#"] * 4, [".#.#.#.#", "#.#.#.#."] * 4]
    assert all(picture(row, 8) in boards for row in drawn(0.5, patches=64, shape="grid", rows=20).kept)


def test_a_grid_that_does_not_come_out_even_has_neighbours_neither_beside_nor_below():
    for row in drawn(0.75, patches=49, shape="grid", rows=50).kept:
        lines = picture(row, 7)
        for line in [*lines, *("".join(column) for column in zip(*lines, strict=True))]:
            assert "##" not in line


def test_a_block_is_a_rectangle_whose_last_line_may_be_short():
    shapes = set()
    for row in drawn(0.5, shape="block", rows=200).kept:
        lines, columns = row // 7, row % 7
        shapes.add((int(lines.max() - lines.min()) + 1, int(columns.max() - columns.min()) + 1))
        cells = [line.strip(".") for line in picture(row, 7) if "#" in line]
        assert all("." not in cell for cell in cells)
        assert sorted(map(len, cells)) == [4, 5, 5, 5, 5]
    assert shapes == {(5, 5)}


def test_blocks_lie_and_stand_at_every_place():
    kept = drawn(0.75, shape="block", rows=2000).kept
    corners = {(int(row.min()) // 7, int((row % 7).min()), len({int(cell) // 7 for cell in row})) for row in kept}
    # 12 patches are 3 lines of 4: 5 x 4 places lying and as many standing.
    assert len(corners) == 40


def test_in_evaluation_and_without_a_ratio_nothing_is_masked():
    assert drawn().eval()(TOKENS) is TOKENS
    assert drawn(0).train()(TOKENS) is TOKENS


def test_the_mask_adds_nothing_to_the_state_dict():
    assert not drawn().state_dict()


def test_gradients_reach_the_kept_patches_only():
    tokens = TOKENS.clone().requires_grad_()
    mask = drawn()
    mask(tokens).sum().backward()
    touched = tokens.grad[:, 1:, 0]
    assert touched.sum() == 8 * 24
    assert all(set(row.nonzero().flatten().tolist()) == set(k.tolist()) for row, k in zip(touched, mask.kept))  # noqa: B905


@pytest.mark.parametrize(
    ("patches", "mask_ratio", "views", "seen"),
    [(196, 0.5, 2, 98), (196, 0.75, 4, 49), (49, 0.5, 2, 25), (49, 0.75, 4, 13), (100, 0.7, 4, 30), (100, 0.9, 10, 10)],
)
def test_complementary_views_see_every_patch_and_as_many_each(patches, mask_ratio, views, seen):
    found = complementary(patches, mask_ratio, 0, images=5)
    assert [view.shape for view in found] == [(5, seen)] * views
    for image in range(5):
        assert all(len(set(view[image].tolist())) == seen for view in found)
        assert set().union(*(view[image].tolist() for view in found)) == set(range(patches))
        # Only the last sees again what another saw.
        assert len(set().union(*(view[image].tolist() for view in found[:-1]))) == (views - 1) * seen


def test_an_images_views_follow_from_the_seed_and_its_place():
    whole = complementary(49, 0.5, 3, images=9)[0]
    assert torch.equal(complementary(49, 0.5, 3, first=5, images=2)[0], whole[5:7])
    assert not torch.equal(complementary(49, 0.5, 4, images=9)[0], whole)
    assert len({frozenset(row.tolist()) for row in whole}) == 9


def test_an_unmasked_run_has_one_view_of_everything():
    (view,) = complementary(49, 0, 0)
    assert sorted(view[0].tolist()) == list(range(49))


def test_evaluation_sees_the_patches_it_is_given(settings):
    model = build(settings(mask_ratio=0.5)).eval()
    mask = model.visual.patch_dropout
    images = torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    changed = images.clone()
    changed[:, :, :4, :4] += 1.0  # patch 0
    without, everything = torch.arange(1, 49)[None], torch.arange(49)[None]
    with torch.no_grad():
        full = model.encode_image(images)
        with mask.seeing(without):
            part = model.encode_image(images)
            assert torch.equal(model.encode_image(changed), part)
        with mask.seeing(everything.expand(3, -1)):
            assert torch.allclose(model.encode_image(images), full, atol=1e-6)
        assert not torch.allclose(part, full, atol=1e-4)
        assert torch.equal(model.encode_image(images), full)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("options", [{}, {"no_ln_pre": True, "pos_embed_type": "sin_cos_2d"}])
def test_embedding_the_kept_patches_is_open_clips_embedding_of_all_with_the_others_dropped(options, shared):
    torch.manual_seed(0)
    tower = open_clip.transformer.VisionTransformer(12, 4, 16, 1, 2, 4.0, **options)
    tower.patch_dropout = drawn(patches=9, rows=3)
    if shared:
        tower.patch_dropout.kept = tower.patch_dropout.kept[:1]
    pixels, found = torch.randn(3, 3, 12, 12), []
    for kind in (open_clip.transformer.VisionTransformer, MaskedTower):
        tower.__class__ = kind
        tower.zero_grad()
        tokens = tower._embeds(pixels)
        tokens.square().sum().backward()
        found.append([tokens, *(p.grad for p in tower.parameters() if p.grad is not None)])
    assert found[0][0].shape == (3, 5, 16)
    assert len(found[0]) == (3 if options else 6)
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


# Images that are resized instead of masked


@pytest.mark.parametrize("side", [3, 5, 7, 10])
def test_positions_are_interpolated_as_open_clip_does_when_it_loads_a_checkpoint(side):
    tower = open_clip.transformer.VisionTransformer(56, 4, 16, 1, 2, 4.0)
    small = open_clip.transformer.VisionTransformer(4 * side, 4, 16, 1, 2, 4.0)
    state = {"visual.positional_embedding": tower.positional_embedding.detach().clone()}
    resize_pos_embed(state, SimpleNamespace(visual=small))
    with torch.no_grad():
        torch.testing.assert_close(
            positions_on(tower.positional_embedding, side), state["visual.positional_embedding"], rtol=0, atol=1e-6
        )


def test_every_position_of_the_full_table_is_trained_by_smaller_images():
    table = torch.randn(1 + 196, 8, dtype=torch.float64, requires_grad=True)
    positions_on(table, 7).square().sum().backward()
    assert (table.grad.abs().sum(dim=1) > 0).all()
    few = torch.randn(17, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda rows: positions_on(rows, 3), few)


@pytest.mark.parametrize("model", ["ViT-w16d1-4", "ViT-M-32-alt"])
@pytest.mark.parametrize("training", [True, False])
def test_a_smaller_image_is_seen_as_by_open_clips_tower_of_that_size(settings, model, training):
    """The same weights, loaded by open_clip into a tower for 4 x 4 patches."""
    patch = architecture(model).image.patch_size
    sizes = (7 * patch, 4 * patch)
    ours = build(settings(model=model, image_size=sizes[0], mask_ratio=0.75, mask_shape="resize")).train(training)
    theirs = open_clip.CLIP(**architecture(model, sizes[1]).open_clip_config)
    state = {name: value.clone() for name, value in ours.state_dict().items()}
    resize_pos_embed(state, theirs)
    theirs.load_state_dict(state)
    images = torch.randn(2, 3, sizes[1], sizes[1], generator=torch.Generator().manual_seed(0))
    seen = []
    ours.visual.transformer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    with torch.no_grad():
        torch.testing.assert_close(ours.encode_image(images), theirs.encode_image(images), rtol=1e-4, atol=1e-5)
    assert seen == [1 + 16]


def test_an_image_of_the_full_size_is_seen_as_without_resizing(settings):
    images = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        resized, plain = (
            build(settings(mask_ratio=ratio, mask_shape=shape)).eval().encode_image(images)
            for ratio, shape in ((0.75, "resize"), (0, "random"))
        )
    assert torch.equal(resized, plain)


@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_the_residual_stream_of_bf16_is_bf16_with_a_mask_as_without(ratio):
    # open_clip rounds positions to the type of the patches, on a GPU and where there is no mask.
    model, streams = build(settings_of(mask_ratio=ratio, precision="bf16")), []
    model.visual.patch_dropout.draw(0, 0, 2, CPU)
    for block in model.visual.transformer.resblocks:
        block.register_forward_hook(lambda block, taken, gives: streams.extend([taken[0].dtype, gives.dtype]))
    with torch.autocast("cpu", torch.bfloat16):
        model.encode_image(torch.rand(2, 3, 28, 28))
    assert set(streams) == {torch.bfloat16}
