"""A checkpoint to start from: an open_clip file, which is read without torch, or a tag of its pretrained weights."""

import importlib.util
import json
import os
import struct
import zipfile
from pathlib import Path

from flipscale.architecture import architecture
from flipscale.data.paths import reason_of
from flipscale.errors import FlipscaleError

_OLD_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
"""The beginning of files of torch before 1.6, after the two bytes of the pickle's protocol."""

_MOST_HEADER_BYTES = 100_000_000
"""safetensors itself reads no larger header."""


def check_weights(start: str, model: str, parameters: int) -> bool:
    """Whether `start` is a file; if it is not it is a tag, and the weights are downloaded when a run starts.

    Raises FlipscaleError for anything else, and for a file that is not a checkpoint or too small for the model.
    """
    path = Path(start)
    if not path.is_file():
        if importlib.util.find_spec("open_clip"):
            pretrained_config(start, model)
        return False
    try:
        wrong = _flaw(path)
        size = path.stat().st_size
    except OSError as error:
        raise FlipscaleError(f"{path}: cannot be read ({reason_of(error)}); fix its permissions.") from error
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
    size = path.stat().st_size
    with open(path, "rb") as file:
        beginning = file.read(16)
        if not beginning:
            return "it is empty"
        if path.suffix == ".safetensors":
            return _safetensors_flaw(file.fileno(), size)
    if beginning[2:].startswith(_OLD_TORCH):
        return None
    if not beginning.startswith(b"PK"):
        return f"it begins with {beginning[:8]!r}"
    try:
        with zipfile.ZipFile(path) as archive:
            whole = any(name.endswith("data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error):
        return "it was cut off, or is damaged"
    return None if whole else "it is a zip file of something else"


def _safetensors_flaw(file: int, size: int) -> str | None:
    length = int.from_bytes(os.pread(file, 8, 0), "little")
    try:
        if not 0 < length <= min(size - 8, _MOST_HEADER_BYTES):
            raise ValueError
        header = json.loads(os.pread(file, length, 8))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        is_whole = not ends or 8 + length + max(ends) == size
    except (ValueError, AttributeError, KeyError, TypeError, IndexError, RecursionError):
        return "it has no safetensors header"
    if not ends:
        return "it holds no weights"
    return None if is_whole else "it was cut off, or is damaged"
