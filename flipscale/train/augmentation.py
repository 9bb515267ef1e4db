"""RandAugment (arXiv 1909.13719), mixup (1710.09412) and CutMix (1905.04899) as MAE and FLIP fine-tune: timm's.

timm draws from the generators of Python and NumPy that a whole process shares. They are seeded here for each image,
and for each step's mix: what is drawn follows from the run's seed and the place in the run alone, so a resumed run
and any split of a batch see the same. Batches are made by threads, so a lock holds while timm draws, not while it
computes.
"""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from timm.data import Mixup  # type: ignore[attr-defined]
from timm.data.auto_augment import rand_augment_transform

from flipscale.data.pairs import Images, Integers
from flipscale.randomness import key
from flipscale.settings.declarations import FineTuning

_DRAWING = threading.Lock()

_MOST_MAGNITUDE = 9.99
"""At 10 timm's posterize keeps no bits, which newer Pillows refuse."""

PixelWeights = npt.NDArray[np.float32]
"""How much of each pixel is the other image's, from 0 to 1 [S, S]."""


def augment(images: Images, magnitude: float, seed: int, positions: Integers, fill: Integers) -> Images:
    """The images [B, 3, S, S] with two operations of about `magnitude`, from 0 to 10, as MAE's "rand-m9-mstd0.5-inc1".

    positions: where in the run each image is, [B].
    fill: the colour, [3] from 0 to 255, of what was outside of the image.
    """
    options = {
        "img_mean": tuple(fill.tolist()),
        "interpolation": Image.Resampling.BICUBIC,
        "magnitude_max": _MOST_MAGNITUDE,
    }
    transform = rand_augment_transform("rand-mstd0.5-inc1", options)
    for operation in transform.ops:
        operation.magnitude = magnitude
        operation.aug_fn = partial(_note, operation.aug_fn)
    augmented = np.empty_like(images)
    for row, position in enumerate(positions.tolist()):
        with _seeded("augment", seed, position):
            operations = transform([])
        image = Image.fromarray(np.ascontiguousarray(images[row].transpose(1, 2, 0)))
        for operation in operations:
            image = operation(image)
        augmented[row] = np.asarray(image).transpose(2, 0, 1)
    return augmented


def _note(operation: Callable[..., Any], noted: list[Any], *arguments: Any, **options: Any) -> list[Any]:
    """Note an operation in place of doing it."""
    return [*noted, lambda image: operation(image, *arguments, **options)]


def mix_of(fine_tuning: FineTuning, seed: int, step: int, image_size: int) -> PixelWeights | None:
    """How the images of a step are mixed with others, all alike; None if they are not."""
    if not (fine_tuning.mixup or fine_tuning.cutmix):
        return None
    mixer = Mixup(fine_tuning.mixup, fine_tuning.cutmix, label_smoothing=0, num_classes=2)  # type: ignore[no-untyped-call]
    pair = torch.stack([torch.zeros(1, image_size, image_size), torch.ones(1, image_size, image_size)])
    with _seeded("mix", seed, step):
        mixer(pair, torch.tensor([0, 1]))
    weights: PixelWeights = pair[0, 0].numpy()
    return weights


def mixed(images: Images, others: Images, weights: PixelWeights) -> Images:
    """The images [b, 3, S, S] with their others mixed in."""
    return np.rint((1 - weights) * images + weights * others).astype(np.uint8)


@contextmanager
def _seeded(*purpose: str | int) -> Iterator[None]:
    """Random numbers of Python and NumPy that follow from a purpose, for one thread."""
    seed = key(*purpose)
    with _DRAWING:
        random.seed(seed)
        np.random.seed(seed % 2**32)
        yield
