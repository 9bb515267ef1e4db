"""While training, the image tower sees a subset of each image's patches (FLIP, arXiv 2212.00794).

The mask has no parameters and replaces open_clip's own patch dropout, so weights load at every mask ratio. It differs
from open_clip's in one thing: the kept patches depend on the run's seed, the step and the image's place in the batch,
and on nothing else. A run that resumes from a checkpoint therefore draws the masks it would have drawn, and the
processes and micro-batches that share a batch draw together the masks that one would have drawn.

`mask_shape` decides which patches are kept, and never how many (`patches_kept`), so shapes compare at equal cost:

    random     any, each set as likely as any other: FLIP's
    grid       a regular lattice, with a different phase for each image
    block      one block, as near to a square as the count allows, at a random place
    gaussian   any, those near the middle of the image more often: GLIP's (Gaussian-masked, not Grounded LIP)
    resize     all of a smaller image, so there is no mask; see `MaskedTower` and `training_view` of flipscale/cost/

CLIPA compares random, grid, block and resize (arXiv 2305.07017); grid and block are after MAE's (arXiv 2111.06377,
figure 6). CLIPA's released model has no grid and no block, so the exact forms of these are ours, see `_grid` and
`_block`. MAE drops a block; here the block is kept, so that the visible patches are connected.

Evaluation sees all patches, unless a caller gives those to see. To encode with a part of the patches:

    mask = model.visual.patch_dropout
    views = complementary(mask.patches, mask_ratio, seed, first=0, images=len(batch))
    for kept in views:
        with mask.seeing(kept):
            model.encode_image(batch)
"""

import contextlib
import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from flipscale.settings.architecture import patches_kept

_TRAINING = 0x6D61736B
"""Keeps the masks' random numbers apart from others that come from the same seed."""

_COMPLEMENTARY = 0x76696577

_COVARIANCE = 0.2
"""GLIP's, of the density of kept patches; half the image's width is 1."""


class PatchMask(nn.Module):
    """Keeps the class token and `patches_kept` patches of each image in training; in evaluation all, or those given."""

    def __init__(self, mask_ratio: float, seed: int, patches: int, shape: str = "random"):
        super().__init__()
        assert shape in ("random", "grid", "block", "gaussian")
        self.mask_ratio = mask_ratio
        self.seed = seed
        self.patches = patches
        self.shape = shape
        self.kept: Tensor | None = None
        """Patches that the next forward in training keeps, int64 [b, kept], each in 0 .. patches - 1; None: all."""
        self.seen: Tensor | None = None
        """The same for evaluation."""

    def draw(self, step: int, first: int, rows: int, device: torch.device) -> None:
        """Choose what the next forward in training keeps: of rows `first` to `first + rows` of the batch of `step`.

        Drawing is apart from `forward`, so that the towers compile to one graph and a second forward, as of activation
        checkpointing, keeps the same patches.
        """
        if not self.mask_ratio:
            return
        columns = 3 if self.shape in ("grid", "block") else self.patches
        chance = uniform(_TRAINING, self.seed, step, first, rows, columns).to(device, non_blocking=True)
        count = patches_kept(self.patches, self.mask_ratio)
        side = math.isqrt(self.patches)
        if self.shape == "grid":
            chance = _grid(chance, side)
        elif self.shape == "block":
            chance = _block(chance, side, count)
        elif self.shape == "gaussian":
            chance = _gaussian(chance, side)
        self.kept = chance.topk(count).indices

    @contextlib.contextmanager
    def seeing(self, kept: Tensor) -> Iterator[None]:
        """In this context a forward in evaluation sees the patches `kept`: int64 [B, k], or [1, k] for all images."""
        self.seen = kept
        try:
            yield
        finally:
            self.seen = None

    def chosen(self) -> Tensor | None:
        """The patches that the next forward sees, int64 [B, k], or [1, k] for all images; None: all."""
        if not self.training:
            return self.seen
        assert self.kept is not None or not self.mask_ratio, "draw comes before a forward in training"
        return self.kept

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [B, 1 + patches, W] with the class token first to [B, 1 + kept, W], the patches in the order kept.

        Their positions were added before, so the order carries nothing.
        """
        kept = self.chosen()
        if kept is None:
            return tokens
        # One gather, the class token's index in front: measured 1.4 to 4 times as fast on a CPU as slicing the class
        # token off, gathering and joining.
        kept = torch.cat([kept.new_zeros(len(kept), 1), kept + 1], dim=1)
        return tokens[torch.arange(len(tokens), device=tokens.device)[:, None], kept]


class MaskedTower(VisionTransformer):  # type: ignore[misc]
    """open_clip's image tower, which takes smaller images too, and on a CPU embeds the kept patches alone.

    That is the same up to rounding: its patch convolution acts on each patch, so it is a product of matrices that takes
    any number of patches. A smaller image gets its positions from the table of the full size, see `positions_on`. So
    the table that is trained is the full one, and an image of the full size needs nothing new.
    """

    embeds_kept_on: tuple[str, ...] = ("cpu",)
    """Types of device on which the kept patches alone are embedded; `make test-gpu` measures what "cuda" would gain."""

    def _embeds(self, x: Tensor) -> Tensor:
        """Pixels [B, 3, S, S] to the tokens that the blocks take, [B, 1 + kept, W]."""
        side = x.shape[-1] // self.patch_size[-1]
        if side != self.grid_size[-1]:
            return self._embeds_resized(x, side)
        kept = self.patch_dropout.chosen()
        if kept is None or x.device.type not in self.embeds_kept_on:
            tokens: Tensor = super()._embeds(x)
            return tokens
        rows, columns = self.grid_size
        height, width = self.patch_size
        cells = x.reshape(len(x), 3, rows, height, columns, width).permute(0, 2, 4, 1, 3, 5)
        cells = cells[torch.arange(len(x), device=x.device)[:, None], kept // columns, kept % columns].flatten(2)
        first = self.positional_embedding[:1]
        others = self.positional_embedding[1:]
        patches = F.linear(cells, self.conv1.weight.flatten(1))
        # Positions are rounded as on a GPU, and without a mask: else the residual stream would be float32 here alone.
        patches = patches + F.embedding(kept, others).to(patches.dtype)
        classes = (self.class_embedding.to(patches.dtype) + first.to(patches.dtype)).expand(len(x), 1, -1)
        embedded: Tensor = self.ln_pre(torch.cat([classes, patches], dim=1))
        return embedded

    def _embeds_resized(self, x: Tensor, side: int) -> Tensor:
        """All patches of images of side * side patches, where the tower has another number: [B, 1 + side**2, W]."""
        assert self.patch_dropout.chosen() is None, "an image that is resized has no mask"
        patches = self.conv1(x).flatten(2).transpose(1, 2)
        classes = self.class_embedding.to(patches.dtype).expand(len(x), 1, -1)
        positions = positions_on(self.positional_embedding, side).to(patches.dtype)
        embedded: Tensor = self.ln_pre(torch.cat([classes, patches], dim=1) + positions)
        return embedded


def positions_on(table: Tensor, side: int) -> Tensor:
    """The positions of side * side patches, [1 + side**2, W], from the table of a square of others, [1 + N, W].

    Bicubic with antialias, as open_clip's `resize_pos_embed` does when it loads a checkpoint; gradients pass through.
    The first row, of the class token, stays.
    """
    first = table[:1]
    others = table[1:]
    full = math.isqrt(len(others))
    grid = others.T.reshape(1, -1, full, full)
    grid = F.interpolate(grid, size=(side, side), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([first, grid[0].flatten(1).T])


def complementary(patches: int, mask_ratio: float, seed: int, *, first: int = 0, images: int = 1) -> list[Tensor]:
    """Views of images `first` to `first + images` of a set, which together see every patch: each int64 [images, k].

    There are ceil(1 / (1 - mask_ratio)) of them, 2 at 0.5 and 4 at 0.75 (FLIP, Table 1d). Each sees k patches: as many
    as training does, or as many as it takes for all to be seen, 25 of 49 at 0.5. The last may repeat patches of another
    to reach k. An image's views follow from the seed and its place in the set. They are random whatever the shape of
    the training's mask was: no other shape leaves views that are alike and see all.
    """
    # Rounding first: 1 / (1 - 0.9) comes out above 10.
    views = math.ceil(round(1 / (1 - mask_ratio), 6))
    count = max(patches_kept(patches, mask_ratio), -(-patches // views))
    order = uniform(_COMPLEMENTARY, seed, 0, first, images, patches).argsort(dim=1)
    starts = (min(view * count, patches - count) for view in range(views))
    return [order[:, start : start + count] for start in starts]


def masked_view(
    patches: int, mask_ratio: float, seed: int, shape: str = "random", *, first: int = 0, images: int = 1
) -> Tensor:
    """The patches that masked inference sees of images `first` to `first + images`: int64 [images, patches_kept].

    gaussian is drawn as in training, as GLIP evaluates; the other shapes use the first of the complementary views.
    """
    count = patches_kept(patches, mask_ratio)
    if shape != "gaussian":
        return complementary(patches, mask_ratio, seed, first=first, images=images)[0][:, :count]
    chance = uniform(_COMPLEMENTARY, seed, 0, first, images, patches)
    return _gaussian(chance, math.isqrt(patches)).topk(count).indices


def uniform(stream: int, seed: int, step: int, first: int, rows: int, columns: int) -> Tensor:
    """Rows `first` to `first + rows` of the random numbers of a step: float32 [rows, columns], from 0 to below 1."""
    # NumPy's generator takes the whole key; torch's CPU generator uses 32 bits of its seed, where steps would collide.
    bits = np.random.PCG64((stream, seed, step))
    # 64 bits make two numbers, so those of the rows before are skipped without being drawn.
    skipped = first * columns
    bits.advance(skipped // 2)
    generator = np.random.Generator(bits)
    if skipped % 2:
        generator.random(dtype=np.float32)
    return torch.from_numpy(generator.random((rows, columns), dtype=np.float32))


def _grid(chance: Tensor, side: int) -> Tensor:
    """How much each patch is wanted for a lattice of random phase, whatever the count: [rows, side * side].

    Patches are taken in the order in which ordered dithering darkens a picture (Bayer, 1973), which stays as even as
    the count allows: a quarter is every second patch of every second line, one of each 2 x 2; a half is a chessboard.
    The phase is one of n x n, n the power of two that is not below `side`.
    """
    order = torch.zeros(1, 1, dtype=torch.int64, device=chance.device)
    while len(order) < side:
        order = torch.cat([torch.cat([4 * order, 4 * order + 2], 1), torch.cat([4 * order + 3, 4 * order + 1], 1)])
    size = len(order)
    phase = (chance[:, :2] * size).long()[:, :, None]
    places = (phase + torch.arange(side, device=chance.device)) % size
    return -order[places[:, 0, :, None], places[:, 1, None, :]].flatten(1)


def _gaussian(chance: Tensor, side: int) -> Tensor:
    """How much each patch is wanted for a mask that is denser in the middle, from `chance` [rows, side * side].

    GLIP's (https://github.com/MingliangLiang3/GLIP, src/open_clip/transformer.py): uniform numbers, less 1, plus the
    density of a bivariate normal on linspace(-1, 1, side)^2. Its mean is 0 and its covariance 0.2 in both directions,
    which the code calls `std`: the deviation is 0.447 of half the image. It is fixed there, and so here.
    """
    place = torch.linspace(-1, 1, side, dtype=torch.float64)
    squares = place.square()[:, None] + place.square()
    density = torch.exp(-squares / (2 * _COVARIANCE)) / (2 * math.pi * _COVARIANCE)
    return chance - (1 - density).flatten().to(chance.device, chance.dtype)


def _block(chance: Tensor, side: int, count: int) -> Tensor:
    """How much each patch is wanted for a block of `count` at a random place: [rows, side * side].

    The block is ceil(sqrt(count)) long and has as many lines as it takes; the last line is only begun if the count asks
    for it: 24 are 4 lines of 5 and one of 4. Half the blocks have lines along rows, half along columns. Every place in
    the image is equally likely, so the middle is seen more often than the edge.
    """
    length = math.ceil(math.sqrt(count))
    lines = -(-count // length)
    patch = torch.arange(side * side, device=chance.device)
    row = patch // side
    column = patch % side
    turned = chance[:, 2:] < 0.5
    line = torch.where(turned, column, row) - (chance[:, :1] * (side - lines + 1)).long()
    place = torch.where(turned, row, column) - (chance[:, 1:2] * (side - length + 1)).long()
    inside = (line >= 0) & (line < lines) & (place >= 0) & (place < length)
    return torch.where(inside, -(line * length + place), -side * side)
