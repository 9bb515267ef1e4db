"""The pairs to train on of a data set by its declaration."""

from typing import Any

from flipscale.errors import DataError, did_you_mean
from flipscale.train.data import fashion, shapes, webdataset
from flipscale.train.data.pairs import Data, Form


def open_data(
    data: dict[str, Any], form: Form, *, data_size: int | None, samples: int, crop: float | None = None
) -> Data:
    """The pairs to train on: an exact subset of `data_size`, or all there are. A bigger subset holds the smaller.

    samples: how many the schedule sees; an endless set without a data_size has just so many pairs, and repeats none.
    crop: the run's setting, which the views will have: random crops are made of images as they were found.
    Raises DataError for data that is missing, corrupt or too small.
    """
    if len(data) != 1:
        raise DataError(f"data names {len(data)} data sets ({', '.join(data) or 'none'}); name exactly one.")
    ((kind, options),) = data.items()
    if kind == "shapes":
        return shapes.training(options, form, size=data_size or samples)
    if kind == "fashion":
        return fashion.training(options, form, data_size)
    if kind == "webdataset":
        return webdataset.training(options, form, data_size, crop)
    raise DataError(f"unknown data set {kind!r}, {did_you_mean(kind, ['shapes', 'fashion', 'webdataset'])}")
