"""A checkpoint to start from: an open_clip file, which is read without torch, or a tag of its pretrained weights."""

import importlib.util
import struct
import zipfile
from pathlib import Path

from flipscale.errors import FlipscaleError
from flipscale.settings.architecture import architecture

_OLD_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
"""The beginning of files of torch before 1.6, after the two bytes of the pickle's protocol."""


def check_weights(start: str, model: str, parameters: int) -> bool:
    """Whether `start` is a file; if it is not it is a tag, and the weights are downloaded when a run starts.

    Raises FlipscaleError for anything else, and for a file that is not a checkpoint or too small for the model.
    """
    path = Path(start)
    if not path.is_file():
        if importlib.util.find_spec("open_clip"):
            pretrained_config(start, model)
        return False
    wrong = _flaw(path)
    size = path.stat().st_size
    if wrong:
        raise FlipscaleError(
            f"{path}: is not a checkpoint of open_clip ({wrong}); give a file of weights that "
            f"open_clip.create_model(pretrained=...) takes."
        )
    # Weights take two bytes or four each, and no known form takes less than one.
    if size < parameters:
        raise FlipscaleError(
            f"{path}: has {size:,} bytes, too few for the {parameters:,} weights of {model}. Set model to the "
            f"one that these weights belong to, or give a checkpoint of {model}."
        )
    return True


def pretrained_config(tag: str, model: str) -> dict[str, object]:
    """What open_clip says of a tag of its pretrained weights. FlipscaleError where the model has none of that name, or
    has another activation. Loads torch."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    tags = list_pretrained_tags_by_model(model)
    if tag not in tags:
        known = f"its tags are {', '.join(tags)}" if tags else f"open_clip has no pretrained weights of {model}"
        raise FlipscaleError(f"init: {tag} is neither a file nor a tag of open_clip's weights for {model}; {known}.")
    config: dict[str, object] = get_pretrained_cfg(model, tag)
    if config.get("quick_gelu", False) != architecture(model).open_clip_config.get("quick_gelu", False):
        other = model.removesuffix("-quickgelu") if model.endswith("-quickgelu") else f"{model}-quickgelu"
        raise FlipscaleError(f"init: {tag} was trained with another activation than {model} has; set model: {other}.")
    return config


def _flaw(path: Path) -> str | None:
    """Why a file cannot be a checkpoint; None if it looks like one."""
    with open(path, "rb") as file:
        beginning = file.read(16)
    if not beginning:
        return "it is empty"
    if path.suffix == ".safetensors" or beginning[2:].startswith(_OLD_TORCH):
        return None
    if not beginning.startswith(b"PK"):
        return f"it begins with {beginning[:8]!r}"
    try:
        with zipfile.ZipFile(path) as archive:
            is_whole = any(name.endswith("data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error):
        return "it was cut off, or is damaged"
    return None if is_whole else "it is a zip file of something else"
