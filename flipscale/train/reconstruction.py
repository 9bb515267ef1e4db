"""The dropped patches are predicted from the kept ones by a small decoder, as in MAE (arXiv 2111.06377).

FLIP adds this loss to the contrastive one (arXiv 2212.00794, Table 1f). With N patches of which k are kept, image width
W, decoder width D and depth L, and patches of p x p pixels, the decoder has

    W D + D                     embedding of the k + 1 tokens that the image tower puts out, the class token among them
    D                           the token that stands for every dropped patch
    L (12 D^2 + 13 D)           blocks, on all N + 1 tokens
    2 D                         LayerNorm
    3 p^2 D + 3 p^2             prediction of the pixels of the N - k dropped patches

parameters, and its forward pass takes, with a multiply-add as 2,

    2 (k + 1) W D  +  L (24 (N + 1) D^2 + 4 (N + 1)^2 D)  +  6 (N - k) p^2 D

FLOPs an image; the backward pass takes twice that. The positions are fixed, 2-D sine-cosine, and no parameters.
The decoder is trained with the model but is not part of it: it is in checkpoints and not in model.pt.
"""

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.pos_embed import get_2d_sincos_pos_embed
from open_clip.transformer import Transformer, VisionTransformer
from torch import Tensor, nn

from flipscale.cost.arithmetic import decoder_width
from flipscale.errors import FlipscaleError
from flipscale.settings.architecture import Architecture, patches_kept
from flipscale.train.attention import shorten

_DECODER_STREAM = 0x6D6165
"""Keeps the decoder's initialisation apart from the model's, which comes from the same seed."""


class ReconstructionHead(nn.Module):
    """MAE's decoder and loss: the mean squared error of the pixels of the dropped patches, each patch normalised.

    Blocks are open_clip's, with heads as wide as the image tower's; linear layers start Xavier-uniform, as in MAE.
    """

    positions: Tensor

    def __init__(self, shape: Architecture, mask_ratio: float, seed: int, *, width: int | None, depth: int):
        """Raises FlipscaleError if the mask leaves nothing to reconstruct, and for a width that heads do not divide."""
        super().__init__()
        image = shape.image
        width = decoder_width(shape, width)
        head = image.width // image.heads
        if patches_kept(image.patches, mask_ratio) == image.patches:
            raise FlipscaleError(
                f"reconstruction has nothing to reconstruct: mask_ratio {mask_ratio:g} drops none of the "
                f"{image.patches} patches. Set a mask_ratio such as 0.5, or reconstruction: null."
            )
        if width % head or width % 4:
            # Sine-cosine positions in two dimensions take widths in fours.
            unit = int(np.lcm(head, 4))
            near = max(unit, round(width / unit) * unit)
            raise FlipscaleError(
                f"reconstruction.width {width} is not a multiple of {unit}, for heads of width {head} as in the image "
                f"tower of {shape.name}; write {near}."
            )
        self.patch_size = image.patch_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.SeedSequence((_DECODER_STREAM, seed)).generate_state(1, np.uint64)[0]))
            self.embedding = nn.Linear(image.width, width)
            self.dropped_token = nn.Parameter(0.02 * torch.randn(width))
            self.transformer = Transformer(width, depth, width // head)
            shorten(self.transformer)
            self.norm = nn.LayerNorm(width)
            self.prediction = nn.Linear(width, 3 * image.patch_size**2)
            for name, parameter in self.named_parameters():
                if parameter.ndim == 2:
                    nn.init.xavier_uniform_(parameter)
                elif name.endswith("bias"):
                    nn.init.zeros_(parameter)
        positions = get_2d_sincos_pos_embed(width, image.image_size // image.patch_size, cls_token=True)
        self.register_buffer("positions", torch.from_numpy(positions).float(), persistent=False)

    def forward(self, tokens: Tensor, kept: Tensor, pixels: Tensor) -> Tensor:
        """The loss, a scalar, of what the image tower put out.

        tokens: [b, 1 + k, W], the class token first, then the patches `kept`, int64 [b, k], in that order.
        pixels: [b, 3, S, S], as the tower took them.
        """
        x = self.embedding(tokens)
        patches = self.dropped_token.to(x.dtype).expand(len(x), len(self.positions) - 1, -1)
        patches = patches.scatter(1, kept[:, :, None].expand_as(x[:, 1:]), x[:, 1:])
        x = self.transformer(torch.cat([x[:, :1], patches], dim=1) + self.positions)
        dropped = _others(kept, patches.shape[1])
        x = x.gather(1, 1 + dropped[:, :, None].expand(-1, -1, x.shape[2]))
        target = self._patches(pixels)
        target = target.gather(1, dropped[:, :, None].expand(-1, -1, target.shape[2]))
        # MAE's normalisation: the unbiased variance, and 1e-6 for patches of one colour.
        variance, mean = torch.var_mean(target, dim=2, keepdim=True)
        return F.mse_loss(self.prediction(self.norm(x)).float(), (target - mean) * (variance + 1e-6).rsqrt())

    def _patches(self, pixels: Tensor) -> Tensor:
        """Images [b, 3, S, S] to their patches in the tower's order: [b, N, 3 p^2]."""
        return F.unfold(pixels, self.patch_size, stride=self.patch_size).transpose(1, 2)


def image_tokens(visual: VisionTransformer, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """One forward of the image tower, to its features [b, E] and all its tokens [b, 1 + k, W].

    The features are those of `encode_image`, not yet of length 1; the tokens are those after the last LayerNorm.
    """
    out = visual.forward_intermediates(
        pixels, indices=1, normalize_intermediates=True, output_fmt="NLC", output_extra_tokens=True
    )
    return out["image_features"], torch.cat([out["image_intermediates_prefix"][0], out["image_intermediates"][0]], 1)


def _others(kept: Tensor, patches: int) -> Tensor:
    """The patches that are not kept, int64 [b, patches - k], ascending."""
    is_kept = torch.zeros(len(kept), patches, dtype=torch.uint8, device=kept.device).scatter_(1, kept, 1)
    return is_kept.argsort(dim=1, stable=True)[:, : patches - kept.shape[1]]
