"""The pairs to train on of a data set by its declaration."""

from flipscale.settings import DataSet, Fashion, Shapes, WebDataset
from flipscale.train.data import fashion, shapes, webdataset
from flipscale.train.data.pairs import Data, Form


def open_data(data: DataSet, form: Form, *, data_size: int | None, samples: int, crop: float | None = None) -> Data:
    """The pairs to train on: an exact subset of `data_size`, or all there are. A bigger subset holds the smaller.

    samples: how many the schedule sees; an endless set without a data_size has just so many pairs, and repeats none.
    crop: the run's setting, which the views will have: random crops are made of images as they were found.
    Raises DataError for data that is missing, corrupt or too small.
    """
    match data:
        case Shapes():
            return shapes.training(data, form, size=data_size or samples)
        case Fashion():
            return fashion.training(data, form, data_size)
        case WebDataset():
            return webdataset.training(data, form, data_size, crop)
