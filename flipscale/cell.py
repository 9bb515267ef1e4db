"""A cell of a study: the axes that tell its runs from others, how results.csv writes them, and in which words.

'model=ViT-B-16, tuning=(samples=1.6k, lr=0.0001)' is the cell (("model", "ViT-B-16"), ("tuning", "(samples=1.6k,
lr=0.0001)")): a comma inside parentheses belongs to a value.
"""

import contextlib
import functools
import re
from collections.abc import Mapping

from flipscale.words import percent, short

Cell = tuple[tuple[str, str], ...]
"""(axis, value as a person writes it) in the order of the study's axes; empty where a study has one cell."""

SettingLabels = Mapping[str, Mapping[str, str]]
"""Words for values of settings, as a study has them: {'image_size': {'14': 'small images'}}."""

_SHARES = {"mask_ratio": "mask", "text_mask_ratio": "text mask"}
"""Settings that are written as a percentage."""

_SEPARATOR = re.compile(r", |[()]")


def write_cell(cell: Cell) -> str:
    """The cell as results.csv writes it."""
    return ", ".join(f"{axis}={value}" if axis else value for axis, value in cell)


@functools.lru_cache(maxsize=65536)
def read_cell(text: str) -> Cell:
    """The cell that `write_cell` wrote. A part that names no axis, as in other people's tables, gets the axis ''."""
    return tuple(
        (axis, value) if equals else ("", part)
        for part in _parts(text)
        for axis, equals, value in [part.partition("=")]
        if part
    )


def without(cell: Cell, axis: str) -> Cell:
    """The cell without one axis."""
    return tuple(part for part in cell if part[0] != axis)


def arm_words(
    settings: Mapping[str, object], baseline: Mapping[str, object], labels: SettingLabels | None = None
) -> str:
    """An arm in words: how it differs from the baseline; for the baseline its mask and what the study has words for, or
    all its settings."""
    different = {name: value for name, value in settings.items() if short(value) != short(baseline[name])}
    if not different and len(settings) > 1:
        named = {name for name, value in settings.items() if short(value) in (labels or {}).get(name, {})}
        different = {name: value for name, value in settings.items() if name in {"mask_ratio", *named}}
    words = [setting_words(name, value, labels) for name, value in (different or settings).items()]
    return ", ".join(words) or "all runs"


def cell_words(cell: str) -> str:
    """A cell in words: 'ViT-B-16, 60k pairs, 32k samples'."""
    return run_words(read_cell(cell))


def run_words(axes: Cell, labels: SettingLabels | None = None) -> str:
    """The axes of a run in words."""
    return ", ".join(setting_words(axis, value, labels) for axis, value in axes)


def setting_words(name: str, value: object, labels: SettingLabels | None = None) -> str:
    """A setting in words: 'mask 50 %', '60k pairs', 'batch size 128', or the study's own words for it.

    A data_size of null is all the data there is.
    """
    text = short(value)
    if label := (labels or {}).get(name, {}).get(text):
        return label
    if name in ("", "model"):
        return text
    if name in _SHARES:
        with contextlib.suppress(ValueError):
            share = float(text)
            return "no mask" if name == "mask_ratio" and share == 0 else f"{_SHARES[name]} {percent(share)}"
    if name == "data_size":
        return "all data" if text == "null" else f"{text} pairs"
    if name == "samples":
        return f"{text} samples"
    if name == "tuning" and text[0].isdigit():
        return f"then {text} unmasked"
    if name == "stages" and text != "null":
        return "stages " + ", then ".join(map(_stage_words, re.findall(r"\([^()]*\)|\S+", text)))
    return f"{name.replace('_', ' ')} {value_words(text)}"


def without_seed(name: str) -> str:
    """The name of a run in words, without its seed: that of its cell."""
    return re.sub(r"(, )?seed -?\d+$", "", name)


def _stage_words(text: str) -> str:
    """'(samples=0.6, image_size=14)' as '60 % image size 14'."""
    (_, length), *others = [option.rpartition("=")[::2] for option in text.strip("()").split(", ")]
    length = percent(float(length)) if length.startswith("0.") else length
    return ", ".join([length, *(setting_words(*option).removesuffix(" true") for option in others)]).replace(",", "", 1)


def value_words(value: object) -> str:
    """A value in words; options as '(samples=1.6k, image_size=28)' as 'samples 1.6k, image size 28'."""
    text = short(value)
    if text == "null":
        return "none"
    options = text[1:-1] if text.startswith("(") else text
    return re.sub(r"(\w+)=", lambda option: option[1].replace("_", " ") + " ", options)


def _parts(text: str) -> list[str]:
    """The text between commas that stand outside of all parentheses; between all commas where one never closes."""
    parts = []
    start = 0
    depth = 0
    for separator in _SEPARATOR.finditer(text):
        depth += {"(": 1, ")": -1}.get(separator[0], 0)
        if separator[0] == ", " and depth == 0:
            parts.append(text[start : separator.start()])
            start = separator.end()
    return text.split(", ") if depth else [*parts, text[start:]]
