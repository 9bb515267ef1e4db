"""The shape of a model follows from its name, read without importing torch or open_clip.

Two kinds of names are known:

    ViT-B-16           a configuration that open_clip ships, if both towers are open_clip's own transformers
    ViT-w48d3-4        the small family: image width 48 (a multiple of 16), depth 3, patches of 4 pixels

The family is for studies that run on a CPU. Its models are FLIP's ViT (arXiv 2212.00794: no LayerNorm before the
blocks, fixed 2-D sine-cosine positions, the mean of the patches, text without a causal mask) on images of 28 pixels,
with heads of width 16 and a text tower of the same width, at least 32, and a third of the depth, at least 1.

The trainer builds its model from `Architecture.open_clip_config`, so `cost` counts exactly the model that is trained.
"""

import difflib
import functools
import importlib.util
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flipscale.errors import FlipscaleError, did_you_mean, require

FAMILY_EXAMPLE = "ViT-w48d3-4"
_FAMILY = re.compile(r"ViT-w([1-9]\d*)d([1-9]\d*)-([1-9]\d*)")
_HEAD_WIDTH = 16

Config = dict[str, Any]
"""A model as open_clip's JSON describes it."""


@dataclass(frozen=True)
class ImageTower:
    """A ViT on square images: a patch convolution, a class token, blocks, a projection."""

    image_size: int
    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    layer_scale: bool
    ln_pre: bool

    @property
    def side(self) -> int:
        """Patches along a side of the image."""
        return self.image_size // self.patch_size

    @property
    def patches(self) -> int:
        """Patches of an unmasked image."""
        return self.side**2


@dataclass(frozen=True)
class TextTower:
    """A transformer on token ids: an embedding and a positional table, blocks, a projection."""

    context_length: int
    vocab_size: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    layer_scale: bool


@dataclass(frozen=True)
class Architecture:
    """The shape of a model: two towers that end in features of `embed_dim`. Made by `architecture`."""

    name: str
    embed_dim: int
    image: ImageTower
    text: TextTower
    quick_gelu: bool
    """Whether the MLPs of both towers compute x sigmoid(1.702 x), as OpenAI's models do, instead of GELU."""
    config_json: str = field(repr=False)

    @property
    def open_clip_config(self) -> Config:
        """The model's open_clip configuration, a new dict at each call: embed_dim, vision_cfg, text_cfg, ...

        It holds the arguments of open_clip's CLIP; if it has a true `custom_text`, which is not an argument, of
        CustomTextCLIP.
        """
        config: Config = json.loads(self.config_json)
        return config

    def tokens(self, mask_ratio: float) -> int:
        """Tokens that the image blocks see: the kept patches and the class token."""
        return 1 + patches_kept(self.image.patches, mask_ratio)


def patches_kept(patches: int, mask_ratio: float) -> int:
    """The patches of an image that are kept, out of `patches`: rounded down, and at least one.

    The rounding is that of open_clip's PatchDropout: int() of the float product, so 100 patches at 0.7 keep 30
    and 50 at 0.9 keep 4.
    """
    assert 0 <= mask_ratio < 1
    return max(1, int(patches * (1 - mask_ratio))) if mask_ratio else patches


def resized_side(side: int, mask_ratio: float) -> int:
    """Patches along a side of an image that is resized instead of masked, out of `side`.

    Their square is as near to `patches_kept` as a square can be: 7 of 14 at 0.75, and 10 of 14 at 0.5, 100 for 98.
    """
    kept = patches_kept(side**2, mask_ratio)
    below = math.isqrt(kept)
    return min(below, below + 1, key=lambda near: abs(near**2 - kept))


@functools.cache
def architecture(name: str, image_size: int | None = None) -> Architecture:
    """The shape of the model called `name`, for images of `image_size` pixels or else of the model's own size.

    Raises FlipscaleError for a name that is unknown or cannot be masked, and for a size that patches do not divide.
    """
    config = _config(name)
    vision = config["vision_cfg"]
    if image_size is not None:
        vision["image_size"] = image_size
    size = vision["image_size"]
    patch = vision["patch_size"]
    if size < patch or size % patch:
        below = size // patch * patch
        above = (size // patch + 1) * patch
        near = f"{below} or {above}" if below else str(above)
        given = size if image_size is not None else f"its default of {size}"
        raise FlipscaleError(f"{name} cuts images into patches of {patch} pixels; write image_size {near}, not {given}")
    return _shape(name, config)


@functools.cache
def own_image_size(name: str) -> int:
    """The image size that the model called `name` has where none is given. Its patches may not divide it.

    28 pixels are the family's default, which patches of 8 do not divide: ViT-w48d3-8 takes an image_size of 24 or 64.
    Raises FlipscaleError for a name that is unknown or cannot be masked.
    """
    size: int = _config(name)["vision_cfg"]["image_size"]
    return size


def tower_difference(name: str, other: str) -> str | None:
    """The first difference of the towers of `name` from those of `other`, such as 'vision_cfg.width 64, not 48'.

    None where at most the image size and the patch size differ: such models have weights of the same shapes, except
    for the patch convolution and the positions. Raises FlipscaleError for a name that is unknown or cannot be masked.
    """
    towers = _towers(name)
    expected = _towers(other)
    for key in sorted({*towers, *expected}):
        if towers.get(key) != expected.get(key):
            return f"{key} {_written(towers.get(key))}, not {_written(expected.get(key))}"
    return None


def models_with_the_towers_of(name: str) -> tuple[str, ...]:
    """The models that differ from the one called `name` only in image size and patch size; for the family, a pattern.

    Raises FlipscaleError for a name that is unknown or cannot be masked.
    """
    if _family_config(name) is not None:
        return (name.rpartition("-")[0] + "-PATCH",)
    return tuple(model for model in known_models() if model != name and tower_difference(model, name) is None)


def _towers(name: str) -> dict[str, object]:
    """The configuration of a model without its image size and patch size, by keys such as 'vision_cfg.width'."""
    config = _config(name)
    flat: dict[str, object] = {}
    for key, value in config.items():
        flat |= {f"{key}.{inner}": each for inner, each in value.items()} if isinstance(value, dict) else {key: value}
    return {key: value for key, value in flat.items() if key not in ("vision_cfg.image_size", "vision_cfg.patch_size")}


def _written(value: object) -> str:
    return "unset" if value is None else json.dumps(value)


@functools.cache
def known_models() -> tuple[str, ...]:
    """The names of open_clip's configurations that flipscale can train and count, sorted. Reads them all, once."""
    if importlib.util.find_spec("open_clip") is None:
        return ()
    return tuple(name for name, file in sorted(_stock_files().items()) if _refusal(_read(file)) is None)


def _config(name: str) -> Config:
    """The open_clip configuration of the model called `name`, a new dict at each call."""
    return _family_config(name) or _stock_config(name)


def _shape(name: str, config: Config) -> Architecture:
    # What a configuration leaves out has the defaults of open_clip's CLIPVisionCfg and CLIPTextCfg.
    vision = config["vision_cfg"]
    text = config["text_cfg"]
    image_width = vision.get("width", 768)
    text_width = text.get("width", 512)
    return Architecture(
        name=name,
        embed_dim=config["embed_dim"],
        image=ImageTower(
            image_size=vision["image_size"],
            patch_size=vision["patch_size"],
            width=image_width,
            layers=vision.get("layers", 12),
            heads=image_width // vision.get("head_width", 64),
            mlp_width=int(image_width * vision.get("mlp_ratio", 4.0)),
            layer_scale=vision.get("ls_init_value") is not None,
            ln_pre=not vision.get("no_ln_pre", False),
        ),
        text=TextTower(
            context_length=text.get("context_length", 77),
            vocab_size=text.get("vocab_size", 49408),
            width=text_width,
            layers=text.get("layers", 12),
            heads=text.get("heads", 8),
            mlp_width=int(text_width * text.get("mlp_ratio", 4.0)),
            layer_scale=text.get("ls_init_value") is not None,
        ),
        quick_gelu=bool(config.get("quick_gelu")),
        config_json=json.dumps(config),
    )


def _family_config(name: str) -> Config | None:
    match = _FAMILY.fullmatch(name)
    if match is None:
        return None
    width, depth, patch = (int(number) for number in match.groups())
    if width % _HEAD_WIDTH:
        near = max(_HEAD_WIDTH, round(width / _HEAD_WIDTH) * _HEAD_WIDTH)
        raise FlipscaleError(
            f"the width of {name} is not a multiple of {_HEAD_WIDTH}, the width of its attention heads; "
            f"write ViT-w{near}d{depth}-{patch}"
        )
    text_width = max(32, width)
    return {
        "embed_dim": text_width,
        "vision_cfg": {
            "image_size": 28,
            "layers": depth,
            "width": width,
            "head_width": _HEAD_WIDTH,
            "patch_size": patch,
            "no_ln_pre": True,
            "pos_embed_type": "sin_cos_2d",
            "pool_type": "avg",
            "final_ln_after_pool": False,
        },
        "text_cfg": {
            "context_length": 32,
            "vocab_size": 49408,
            "width": text_width,
            "heads": text_width // _HEAD_WIDTH,
            "layers": max(1, depth // 3),
            "no_causal_mask": True,
            # The end of a text has the largest id of open_clip's vocabulary, so this is the feature at the end.
            "pool_type": "argmax",
        },
    }


def _stock_config(name: str) -> Config:
    files = _stock_files()
    if name not in files:
        raise FlipscaleError(
            f"unknown model {name!r}, {did_you_mean(name, [*known_models(), FAMILY_EXAMPLE])} "
            f"(or any other width, depth and patch in its place)"
        )
    config = _read(files[name])
    refusal = _refusal(config)
    if refusal is not None:
        near = difflib.get_close_matches(name, known_models(), n=3, cutoff=0.55) or ["ViT-B-32", "ViT-B-16", "ViT-L-16"]
        raise FlipscaleError(
            f"{name} cannot be masked and counted: {refusal}; choose a model whose towers are open_clip's own, such as "
            f"{', '.join(near)}"
        )
    return config


# fmt: off
_COUNTED = {
    "vision_cfg": {
        "image_size", "patch_size", "width", "layers", "head_width", "mlp_ratio", "ls_init_value", "no_ln_pre",
        "pos_embed_type", "pool_type", "final_ln_after_pool", "act_kwargs", "norm_kwargs",
    },
    "text_cfg": {
        "context_length", "vocab_size", "width", "layers", "heads", "mlp_ratio", "ls_init_value", "no_causal_mask",
        "pool_type", "final_ln_after_pool", "pad_id", "eos_id", "act_kwargs", "norm_kwargs",
        "hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs",
    },
}
# fmt: on
"""Keys that a tower's configuration may have. Others, like attentional_pool, add parts that `cost` does not count."""


def _refusal(config: Config) -> str | None:
    """Why flipscale cannot mask or count this model, or None if it can."""
    vision = config["vision_cfg"]
    text = config["text_cfg"]
    if "multimodal_cfg" in config:
        return "it is a CoCa model, which has a third tower that learns to write captions"
    if "timm_model_name" in vision:
        return f"its image tower is timm's {vision['timm_model_name']}, whose shape its configuration does not give"
    if isinstance(vision.get("layers"), list):
        return "its image tower is a ResNet, which has no patch tokens to leave out"
    if "hf_model_name" in text:
        return f"its text tower is Hugging Face's {text['hf_model_name']}, whose shape its configuration does not give"
    more = sorted((set(vision) - _COUNTED["vision_cfg"]) | (set(text) - _COUNTED["text_cfg"]))
    return f"its configuration sets {', '.join(more)}" if more else None


@functools.cache
def _stock_files() -> dict[str, Path]:
    """The configuration files that the installed open_clip ships, by model name."""
    require("open_clip")
    spec = importlib.util.find_spec("open_clip")
    assert spec is not None
    assert spec.submodule_search_locations
    return {file.stem: file for file in Path(spec.submodule_search_locations[0], "model_configs").glob("*.json")}


def _read(file: Path) -> Config:
    config: Config = json.loads(file.read_text(encoding="utf-8"))
    return config
