"""Training pairs and held-out items of a data set by its declaration, as numpy arrays.

    {"shapes": {"pairs": 0.3, "seed": 0}}           drawn on the spot, endless                          shapes.py
    {"fashion": {"folder": None}}                   Fashion-MNIST from a folder                         fashion.py
    {"webdataset": {"urls": "...", "name": None}}   tar shards of images and captions, here or far off  webdataset.py

    data = open_data(settings["data"], data_size=None, samples=32768, image_size=28, text_length=16, crop=None,
                     cache=None, tokenize=tokenize)
    rows = slice(rank * 16, (rank + 1) * 16)
    images, tokens = data.batch(data.order(seed, step, 64)[rows], views(settings, step * 64 + rows.start, 16))

Everything is stateless: which pair is seen at which position follows from the seed, what it looks like from its index,
how it is cropped from seed and position. So a resumed run sees what it would have seen, any number of processes see
together what one would, and two runs of one seed see the same pairs in the same order whatever their mask ratio. So
they do whatever their batch size, of more than shuffle.WINDOW pairs if it is a multiple of 64; of an endless set, if it
comes to the same number of samples.
"""

from pathlib import Path
from typing import Any

from flipscale.errors import DataError, did_you_mean
from flipscale.train.data import fashion, shapes, webdataset
from flipscale.train.data.held_out import open_held_out
from flipscale.train.data.pairs import Data, HeldOut, Images, Integers, Tokenize
from flipscale.train.data.shuffle import order
from flipscale.train.data.views import Views, views

__all__ = [
    "Data",
    "HeldOut",
    "Images",
    "Integers",
    "Tokenize",
    "Views",
    "open_data",
    "open_held_out",
    "order",
    "views",
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
    crop: float | None = None,
) -> Data:
    """The pairs to train on: an exact subset of `data_size`, or all there are. A bigger subset holds the smaller.

    samples: how many the schedule sees; an endless set without a data_size has just so many pairs, and repeats none.
    cache: a folder for what is worth keeping of shards; None for a data set that needs it is an error.
    crop: the run's setting, which the views will have: random crops are made of images as they were found.
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
        options,
        data_size=data_size,
        image_size=image_size,
        text_length=text_length,
        crop=crop,
        cache=cache,
        tokenize=tokenize,
    )


def _kind(data: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if len(data) != 1:
        raise DataError(f"data names {len(data)} data sets ({', '.join(data) or 'none'}); name exactly one.")
    ((kind, options),) = data.items()
    if kind not in ("shapes", "fashion", "webdataset"):
        raise DataError(f"unknown data set {kind!r}, {did_you_mean(kind, ['shapes', 'fashion', 'webdataset'])}")
    return kind, options
