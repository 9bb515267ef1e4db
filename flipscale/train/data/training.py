"""The pairs to train on of a data set by its declaration."""

from flipscale.settings import DataSet, Fashion, Shapes, WebDataset
from flipscale.train.data import fashion, shapes, webdataset
from flipscale.train.data.pairs import Data, Form


def open_data(
    data: DataSet, form: Form, *, data_size: int | None, samples: int, before: int = 0, crop: float | None = None
) -> Data:
    """The pairs to train on: an exact subset of `data_size`, or all there are. A bigger subset holds the smaller.

    samples: how many the schedule sees; an endless set without a data_size has just so many pairs, and repeats none.
    before: samples that the runs it goes on from have seen, in whole batches of this one. They come first in the order
        of all data sets, whose steps are counted from there; of an endless set the pairs after them are new ones.
    crop: the run's setting, which the views will have: random crops are made of images as they were found.
    Raises DataError for data that is missing, corrupt or too small.
    """
    match data:
        case Shapes():
            return shapes.training(data, form, size=data_size or before + samples, first=0 if data_size else before)
        case Fashion():
            return fashion.training(data, form, data_size)
        case WebDataset():
            return webdataset.training(data, form, data_size, crop)
