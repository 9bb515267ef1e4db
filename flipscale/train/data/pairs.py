"""What every data set gives: training pairs by index, and held-out items to score a model on. Numpy only."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
"""[n, 3, image_size, image_size], red green blue."""

Integers = npt.NDArray[np.int64]
"""Indices [n], labels [n] or tokens [..., text_length]."""

Tokenize = Callable[[list[str]], Integers]
"""Captions -> tokens [n, text_length]. Data sets call it once for each distinct caption."""

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""A model sees (image / 255 - MEAN) / STD by channel: ImageNet's values, as in FLIP (arXiv 2212.00794)."""


@dataclass(frozen=True)
class Data:
    """Image-text pairs to train on, by index. No state: the same index gives the same pair in any batch."""

    size: int
    """How many unique pairs there are; their indices are 0 .. size - 1."""

    batch: Callable[[Integers], tuple[Images, Integers]]
    """Indices [B] -> images [B, 3, S, S] and tokens [B, text_length]."""

    corrupt: int = 0
    """How many samples were passed over because they could not be read."""


@dataclass(frozen=True)
class HeldOut:
    """Items never trained on. What a data set cannot give is None or empty, and its scores stay missing."""

    pairs: tuple[Images, Integers] | None
    """Images and the tokens of their captions, in the same order: the held-out contrastive loss, and retrieval."""

    retrieval: bool
    """Whether the captions of `pairs` tell its images apart, so that retrieval means something."""

    labelled: tuple[Images, Integers] | None = None
    """Images and their class, an index into `classes`: zero-shot classification."""

    classes: tuple[str, ...] = ()
    """The name of each class."""

    prompts: Integers | None = None
    """Tokens [classes, templates, text_length]: each class name put into each prompt template."""


def prompt_tokens(classes: tuple[str, ...], templates: list[str], tokenize: Tokenize) -> Integers:
    """The tokens [classes, templates, text_length] of every class name in every template ('a photo of a {}')."""
    tokens = tokenize([template.replace("{}", name) for name in classes for template in templates])
    return tokens.reshape(len(classes), len(templates), -1)
