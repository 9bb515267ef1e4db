"""Training pairs and held-out items of a data set by its declaration, as numpy arrays.

    {"shapes": {"pairs": 0.3, "seed": 0}}           drawn on the spot, endless                          shapes.py
    {"fashion": {"folder": None}}                   Fashion-MNIST from a folder                         fashion.py
    {"webdataset": {"urls": "...", "name": None}}   tar shards of images and captions on a local disk   webdataset.py

    data = open_data(settings["data"], data_size=None, samples=32768, image_size=28, text_length=16, cache=None,
                     tokenize=tokenize)
    images, tokens = data.batch(order(seed, data.size, start=0, count=64))

Everything is stateless: which pair is seen at which position follows from the seed, what it looks like from its index.
So a resumed run sees what it would have seen, and two runs of one seed see the same pairs in the same order whatever
their mask ratio. So they do whatever their batch size; of an endless set, if it comes to the same number of samples.
"""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from flipscale.errors import DataError, did_you_mean
from flipscale.train.data import draw, fashion, shapes, webdataset
from flipscale.train.data.pairs import MEAN, STD, Data, HeldOut, Images, Integers, Tokenize

__all__ = [
    "MEAN",
    "STD",
    "Data",
    "HeldOut",
    "Images",
    "Integers",
    "Tokenize",
    "open_data",
    "open_held_out",
    "order",
]


def open_data(
    data: dict[str, Any],
    *,
    data_size: int | None,
    samples: int,
    image_size: int,
    text_length: int,
    cache: Path | None,
    tokenize: Tokenize,
) -> Data:
    """The pairs to train on: an exact subset of `data_size`, or all there are. A bigger subset holds the smaller.

    samples: how many the schedule sees; an endless set without a data_size has just so many pairs, and repeats none.
    cache: a folder for decoded pairs that are worth keeping; None for a data set that needs it is an error.
    Raises DataError for data that is missing, corrupt or too small.
    """
    kind, options = _kind(data)
    if kind == "shapes":
        return shapes.training(
            options,
            data_size=data_size,
            samples=samples,
            image_size=image_size,
            text_length=text_length,
            tokenize=tokenize,
        )
    if kind == "fashion":
        return fashion.training(options, data_size=data_size, image_size=image_size, tokenize=tokenize)
    return webdataset.training(
        options, data_size=data_size, image_size=image_size, text_length=text_length, cache=cache, tokenize=tokenize
    )


def open_held_out(
    data: dict[str, Any],
    *,
    images: int,
    image_size: int,
    text_length: int,
    templates: list[str] | None,
    cache: Path | None,
    tokenize: Tokenize,
    trained_on: bool = True,
) -> HeldOut | None:
    """The items to score on, at most `images` of a kind; None if the data set has none.

    trained_on: `data` is also what the run trains on, so its held-out split is meant. Shapes and fashion have one and
        give the same either way. A webdataset has none: it is None, unless it is declared for evaluation alone
        (trained_on=False), when all of it counts as held out.
    templates: prompt templates with {} for the class name; None for the data set's own.
    """
    kind, options = _kind(data)
    if kind == "shapes":
        return shapes.held_out(options, images=images, image_size=image_size, templates=templates, tokenize=tokenize)
    if kind == "fashion":
        return fashion.held_out(options, images=images, image_size=image_size, templates=templates, tokenize=tokenize)
    if trained_on:
        return None
    return webdataset.held_out(
        options, images=images, image_size=image_size, text_length=text_length, cache=cache, tokenize=tokenize
    )


def order(seed: int, size: int, start: int, count: int) -> Integers:
    """The indices of the pairs seen at positions start .. start + count - 1 of the run with this seed: int64 [count].

    Each epoch is another permutation of the `size` pairs.
    """
    epochs, within = np.divmod(np.arange(start, start + count, dtype=np.int64), size)
    indices = np.empty(count, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        indices[here] = _permutation(seed, int(epoch), size)[within[here]]
    return indices


@functools.lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, size: int) -> Integers:
    """Sorting by random words: unlike numpy's own shuffles it stays the same from version to version."""
    words = draw.bits(draw.key("order", seed, epoch), np.arange(size, dtype=np.int64), 1)[:, 0]
    return np.argsort(words, kind="stable")


def _kind(data: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if len(data) != 1:
        raise DataError(f"data names {len(data)} data sets ({', '.join(data) or 'none'}); name exactly one.")
    ((kind, options),) = data.items()
    if kind not in ("shapes", "fashion", "webdataset"):
        raise DataError(f"unknown data set {kind!r}, {did_you_mean(kind, ['shapes', 'fashion', 'webdataset'])}")
    return kind, options
