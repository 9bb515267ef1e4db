"""Arms, settings and cells as a figure writes them: 'mask 50 %', 'ViT-B-16, 60k pairs'."""

import re
from collections.abc import Mapping

import pandas as pd

from flipscale.cell import read_cell
from flipscale.words import percent, short

AXIS_WORDS = {"model": "model size", "data_size": "unique pairs", "samples": "samples seen"}

_SHARE_WORDS = {"mask_ratio": "mask", "text_mask_ratio": "text mask"}
"""Settings that are written as a percentage."""


def arm_words(settings: Mapping[str, object], baseline: Mapping[str, object]) -> str:
    """An arm in words: how it differs from the baseline; for the baseline its mask, or all its settings."""
    different = {name: value for name, value in settings.items() if short(value) != short(baseline[name])}
    if not different and len(settings) > 1:
        different = {name: value for name, value in settings.items() if name == "mask_ratio"}
    return ", ".join(setting_words(name, value) for name, value in (different or settings).items()) or "all runs"


def setting_words(name: str, value: object) -> str:
    """A setting in words: 'mask 50 %', 'batch size 128', 'tuning 1.6k'."""
    if name in _SHARE_WORDS and isinstance(value, int | float) and not pd.isna(value):
        return "no mask" if name == "mask_ratio" and value == 0 else f"{_SHARE_WORDS[name]} {percent(value)}"
    return f"{name.replace('_', ' ')} {value_words(value)}"


def value_words(value: object) -> str:
    """A value in words; options as '(samples=1.6k, image_size=28)' as 'samples 1.6k, image size 28'."""
    text = short(value)
    if text == "null":
        return "none"
    options = text.removeprefix("(").removesuffix(")")
    return re.sub(r"(\w+)=", lambda option: option[1].replace("_", " ") + " ", options)


def axis_values(cell: str) -> dict[str, str]:
    """The values of a cell by the names of its axes."""
    return {axis: value for axis, value in read_cell(cell) if axis}


def cell_words(cell: str) -> str:
    """A cell in words: 'ViT-B-16, 60k pairs, 32k samples'."""
    return ", ".join(axis_value_words(axis, value) for axis, value in axis_values(cell).items())


def axis_value_words(axis: str, value: str) -> str:
    """One axis of a cell in words. A data_size of null is all the data there is."""
    if axis == "model":
        return value
    if axis == "data_size":
        return "all data" if value == "null" else f"{value} pairs"
    return f"{value} samples" if axis == "samples" else f"{axis.replace('_', ' ')} {value}"


def value_on_axis(cell: str, axis: str) -> str:
    """The value of a cell on one axis, in words."""
    return axis_value_words(axis, axis_values(cell).get(axis, "null"))


def at_words(cell: str) -> str:
    """The second line of a title: where the other axes are held."""
    return f"\nat {cell_words(cell)}" if cell else ""
