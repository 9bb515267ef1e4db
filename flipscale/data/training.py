"""The pairs to train on of a data set by its declaration."""

from flipscale.data import fashion, shapes, webdataset
from flipscale.data.pairs import Data, Form
from flipscale.settings import DataSet, Fashion, Shapes, WebDataset


def open_data(
    data: DataSet, form: Form, *, data_size: int | None, samples: int, before: int = 0, crop: float | None = None
) -> Data:
    """The pairs to train on: an exact subset of `data_size`, or all there are. A bigger subset holds the smaller.

    samples: pairs that the schedule sees; an endless set without a data_size has exactly that number and repeats none.
    before: samples that the runs it starts from have seen, in whole batches of this one. They come first in the order
        of all data sets, whose steps are counted from there; the pairs of an endless set after them are new.
    crop: the run's setting, which the views will have: random crops are taken from the original images.
    Raises DataError for data that is missing, corrupt or too small.
    """
    match data:
        case Shapes():
            return shapes.training(data, form, size=data_size or before + samples, first=0 if data_size else before)
        case Fashion():
            return fashion.training(data, form, data_size)
        case WebDataset():
            return webdataset.training(data, form, data_size, crop)
