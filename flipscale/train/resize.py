"""Weights of a model in the shapes of one with other patches, another image size, or texts of another length.

RECLIP (arXiv 2304.06028) and CLIPA (arXiv 2305.07017) train on small images, CLIPA on short texts too, and then tune on
full ones; FLIP's ViT-L/14 is its ViT-L/16 tuned at a patch of 14 (arXiv 2212.00794, table 2). Everything but the patch
convolution and the positions keeps its shape.
"""

from types import SimpleNamespace

from open_clip import CLIP, CustomTextCLIP
from open_clip.model import resize_pos_embed, resize_text_pos_embed
from timm.layers.patch_embed import resample_patch_embed
from torch import Tensor

_PATCHES = "visual.conv1.weight"


def resize(state: dict[str, Tensor], model: CLIP | CustomTextCLIP, text_lengths: tuple[int, int]) -> None:
    """Change a state dict in place so that it fits `model`, whose towers differ only in what is resized here.

    The patch convolution is resampled by FlexiViT's pseudo-inverse resize (arXiv 2212.08013, timm's). Positions of
    patches are interpolated as open_clip's loader does it, bicubic, the class token's apart. Fixed sine-cosine
    positions are interpolated too, as that loader does: a patch keeps the position of its place in the image.

    text_lengths: tokens of the texts that the weights were trained on, and of those to come. That many rows of the
    table of positions are interpolated, linearly; the rows after them stay, as no text reaches these.
    """
    patch_size = list(model.visual.conv1.weight.shape[-2:])
    state[_PATCHES] = resample_patch_embed(state[_PATCHES], patch_size)
    resize_pos_embed(state, model)
    name = "positional_embedding" if "positional_embedding" in state else "text.positional_embedding"
    state[name] = _stretch(state[name], *text_lengths)


def _stretch(table: Tensor, before: int, now: int) -> Tensor:
    """The table of positions, [context, width], with its first `before` rows interpolated to its first `now` rows."""
    rows = {"positional_embedding": table[:before]}
    # open_clip's function reads only the table of the model.
    resize_text_pos_embed(rows, SimpleNamespace(positional_embedding=table[:now]))
    stretched = table.clone()
    stretched[:now] = rows["positional_embedding"]
    return stretched
