"""The model of a run is open_clip's own, with FLIP's patch mask in it and its text cut to `text_length` tokens.

Both changes leave the state dict exactly open_clip's: the mask has no parameters, and short texts use the first rows
of the model's positional table. So a run's model.pt loads in open_clip as it is:

    open_clip.create_model("ViT-B-16", pretrained="results/runs/ID/model.pt")
"""

from collections.abc import Mapping
from typing import IO, Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip import CLIP, CustomTextCLIP
from open_clip.transformer import text_global_pool
from torch import Tensor, nn

from flipscale.architecture import architecture
from flipscale.errors import FlipscaleError
from flipscale.train.data import MEAN, STD, Images, Integers
from flipscale.train.mask import PatchMask

_VOCABULARY = 49408
"""Words of the tokenizer that comes with open_clip; its largest id is the end of the text."""


def build(settings: Mapping[str, Any]) -> CLIP:
    """The run's model, in training mode on the CPU, initialised as open_clip does it, from the run's seed alone.

    Mask ratio, batch and text length take no part in the initialisation: a run and its unmasked twin start equal.
    """
    shape = architecture(settings["model"], settings["image_size"])
    if settings["text_length"] > shape.text.context_length:
        raise FlipscaleError(
            f"text_length {settings['text_length']} is longer than the {shape.text.context_length} positions of "
            f"{settings['model']}; set text_length: {shape.text.context_length} or less."
        )
    if shape.text.vocab_size < _VOCABULARY:
        raise FlipscaleError(
            f"{settings['model']} has {shape.text.vocab_size} words, for another tokenizer than the one that comes "
            f"with open_clip ({_VOCABULARY} words); choose a model such as ViT-B-16."
        )
    config = shape.open_clip_config
    kind = CustomTextCLIP if config.pop("custom_text", False) else CLIP
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings["seed"])
        model = kind(**config)
    model.visual.patch_dropout = PatchMask(settings["mask_ratio"], settings["seed"])
    return model.train()


def pixels(images: Images, device: torch.device) -> Tensor:
    """Images as the model takes them: uint8 [B, 3, S, S] goes to the device as it is and becomes normalised float32."""
    scale = torch.tensor([1 / (255 * std) for std in STD], device=device)[:, None, None]
    shift = torch.tensor([-mean / std for mean, std in zip(MEAN, STD, strict=True)], device=device)[:, None, None]
    return torch.from_numpy(images).to(device, non_blocking=True).float().mul_(scale).add_(shift)


def encode_text(model: CLIP, tokens: Tensor, normalize: bool = False) -> Tensor:
    """Text features [B, E] of tokens [B, T]: open_clip's `encode_text`, for any T up to the model's context length.

    open_clip's takes the full context only. Here the first T positions are used, as FLIP does with T = 32, and the
    feature is picked before the last LayerNorm instead of after, which is the same, as LayerNorm acts on each token.
    """
    tower = _text_tower(model)
    length = tokens.shape[1]
    x = tower.token_embedding(tokens) + tower.positional_embedding[:length]
    causal = None if tower.attn_mask is None else tower.attn_mask[:length, :length]
    x = tower.transformer(x, attn_mask=causal)
    pool_type, eos = (tower.text_pool_type, tower.text_eos_id) if tower is model else (tower.pool_type, tower.eos_id)
    x = tower.ln_final(text_global_pool(x, tokens, pool_type, eos_token_id=eos))
    if isinstance(tower.text_projection, nn.Linear):
        x = tower.text_projection(x)
    elif tower.text_projection is not None:
        x = x @ tower.text_projection
    return F.normalize(x, dim=-1) if normalize else x


def _text_tower(model: CLIP) -> Any:
    """The module that holds the text tower: CLIP keeps it in itself, CustomTextCLIP in `text`."""
    return getattr(model, "text", model)


def tokenize(texts: list[str], length: int) -> Integers:
    """Tokens [B, length] of open_clip's own tokenizer, whose vocabulary comes with it; longer texts are cut."""
    tokens: Integers = open_clip.tokenize(texts, context_length=length).numpy()
    return tokens


def save(model: CLIP, file: IO[bytes]) -> None:
    """Write the weights in the form open_clip's `pretrained=` takes: {"state_dict": ...}, on the CPU."""
    torch.save({"state_dict": {name: value.cpu() for name, value in model.state_dict().items()}}, file)
