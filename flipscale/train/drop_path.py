"""Stochastic depth (arXiv 1603.09382): in training each row skips some branches of the blocks, the last most often.

As in MAE and timm, the rate grows evenly from 0 at the first block to the whole at the last, attention and MLP are
skipped independently, and branches that stay are scaled so that the mean stays. The branches that a row skips follow
from the run's seed, the step and the row's place in the global batch.
"""

from functools import partial

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from flipscale.train.mask import uniform

_DROP_STREAM = 0x64726F70
"""Keeps these random numbers apart from others that come from the same seed."""


class DropPath:
    """Skips branches of an image tower in training, as they were drawn last."""

    def __init__(self, visual: VisionTransformer, rate: float, seed: int):
        """rate: how often the last block's branches are skipped; 0 leaves the tower as it is."""
        blocks = visual.transformer.resblocks
        self.seed = seed
        self.rates = torch.linspace(0, rate, len(blocks)).repeat_interleave(2)
        """The rate of each block's attention and MLP."""
        self.scale: Tensor | None = None
        """The factors of each row's branches in the next forward: [b, 2 blocks]; None is 1."""
        if rate:
            for number, block in enumerate(blocks):
                for half, end in enumerate((block.ls_1, block.ls_2)):
                    end.register_forward_hook(partial(self._scaled, 2 * number + half))

    def draw(self, step: int, first: int, rows: int, device: torch.device) -> None:
        """Choose what the next forward skips: of rows `first` to `first + rows` of the batch of `step`."""
        if not self.rates.any():
            return
        chance = uniform(_DROP_STREAM, self.seed, step, first, rows, len(self.rates))
        self.scale = ((chance >= self.rates) / (1 - self.rates)).to(device, non_blocking=True)

    def _scaled(self, branch: int, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not module.training or self.scale is None:
            return output
        return output * self.scale[:, branch, None, None].to(output.dtype)
