"""One forward of training: a slice of the global batch to the features of both towers and what is added to the loss.

The masks of a row follow from the run's seed, the step and the row's place in the global batch. Any split of a batch
into processes or micro-batches therefore draws the masks of the whole batch.
"""

import torch
import torch.nn.functional as F
from open_clip import CLIP
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from flipscale.cost.arithmetic import training_view
from flipscale.settings.architecture import architecture
from flipscale.settings.declarations import Settings
from flipscale.train.model import channels, pixels
from flipscale.train.reconstruction import ReconstructionHead, image_tokens
from flipscale.train.text import TextMask, encode_text


class Objective(nn.Module):
    """The computation of training. All its parameters are trained; those under `model` are kept at the end.

    Raises FlipscaleError if the settings ask for a reconstruction and their mask leaves nothing to reconstruct.
    """

    channels: Tensor

    def __init__(self, model: CLIP, settings: Settings):
        super().__init__()
        self.model = model
        self.register_buffer("channels", channels(settings.normalization), persistent=False)
        self.text_mask = TextMask(settings.text_mask_ratio, settings.text_mask, settings.seed)
        self.reconstruction: ReconstructionHead | None = None
        asked = settings.reconstruction
        if asked is not None:
            shape = architecture(settings.model, settings.image_size)
            self.weight: float = asked.weight
            self.reconstruction = ReconstructionHead(
                shape, training_view(settings).mask_ratio, settings.seed, width=asked.width, depth=asked.depth
            )

    def forward(
        self, images: Tensor, tokens: Tensor, step: int, first: int, batch_size: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Image features [b, E] and text features [b, E], of length 1 and float32 whatever the towers compute in, and a
        scalar to add to the loss, a mean of rows.

        images: uint8 [b, 3, S, S], with `mask_shape: resize` of a smaller S, and tokens: int64 [b, T], rows `first` to
        `first + b` of the `batch_size` of `step`.
        """
        assert first + len(images) <= batch_size
        kept = self.draw(images, tokens, step, first)
        image_features, extra_loss = self.image(images)
        return image_features, self.text(tokens, kept), extra_loss

    def image(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the images, as the masks drawn last show them, and the summand of the loss."""
        values = pixels(images, images.device, self.channels)
        if self.reconstruction is None:
            features = self.model.encode_image(values)
            return _unit(features), features.new_zeros((), dtype=torch.float32)
        features, out = image_tokens(self.model.visual, values)
        extra_loss = self.weight * self.reconstruction(out, self.model.visual.patch_dropout.kept, values)
        return _unit(features), extra_loss

    def text(self, tokens: Tensor, kept: Tensor | None) -> Tensor:
        """Features of the texts, of the positions kept; None for all."""
        return _unit(encode_text(self.model, tokens, kept=kept))

    # NumPy draws random numbers, which torch.compile would make part of the graph, or break the graph in the towers.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def draw(self, images: Tensor, tokens: Tensor, step: int, first: int) -> Tensor | None:
        """Draw the masks of these rows; the positions kept of each text, None for all."""
        self.model.visual.patch_dropout.draw(step, first, len(images), images.device)
        return self.text_mask.draw(self.model, tokens, step, first)


def pooled_features(visual: VisionTransformer, pixels: Tensor) -> Tensor:
    """An image tower's features before its projection: [b, W] of normalised pixels [b, 3, S, S], of any length."""
    features: Tensor = visual._pool(visual.transformer(visual._embeds(pixels)))[0]
    return features


def _unit(features: Tensor) -> Tensor:
    """Features [b, E] at length 1, in float32: bf16 and fp16 are for the towers alone."""
    return F.normalize(features.float(), dim=-1)
