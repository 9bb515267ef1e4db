"""A data set by its declaration: the module of data/ that has the name of its kind checks and opens it.

    data: {fashion: DIR}                            fashion.py
    evaluation: {sets: {NAME: {folder: DIR}}}       folder.py

A further kind is its record in settings.py and its module.
"""

import contextlib
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol, cast

from flipscale.data.inspection import Look
from flipscale.data.labelled import ClassifiedSet
from flipscale.data.pairs import Data, Form, HeldOutItems, Scoring
from flipscale.errors import FlipscaleError
from flipscale.settings.declarations import DataSet, EvaluationSet, FineTuningSet


class Format(Protocol):
    """The functions of such a module. `data` is the record of settings.py that declares the set.

    All modules have the first two; `DataSet`, `EvaluationSet` and `FineTuningSet` need the others as they say. Those
    that open a set raise DataError for data that is missing, corrupt or too small.
    """

    def check(self, data: Any, look: Look, probe: bool) -> None:
        """Have `look` note what is wrong with a set to score on or to fine-tune on, without reading all of it.

        probe: whether the images that are learned from are read too, not just those to score on.
        """

    def content(self, data: Any, probe: bool) -> Any:
        """What a change of the items to score on changes, as JSON without places; None where that is unknown.

        probe: whether the images that a linear probe learns from count too.
        """

    def count(self, data: Any, most: int) -> int:
        """How many images to score on there are at most, or `most` if it takes long to find out. Sets whose images are
        drawn do not have this function.
        """

    def check_training(self, data: Any, look: Look, *, data_size: int | None, batch_size: int) -> None:
        """DataSet: have `look` note what is wrong with pairs to train on, and whether there are enough of them."""

    def training(
        self, data: Any, form: Form, *, data_size: int | None, samples: int, before: int, crop: float | None
    ) -> Data:
        """DataSet: the pairs to train on, an exact subset of `data_size`, or all. A bigger subset holds the smaller.

        samples: pairs that the schedule sees; an endless set without a data_size has exactly that number and repeats
            none.
        before: samples that the runs it starts from have seen, in whole batches of this one. They come first in the
            order of all data sets, whose steps are counted from there; the pairs of an endless set after them are new.
        crop: the run's setting, which the views will have: random crops are taken from the original images.
        """

    def held_out(self, data: Any, form: Form, scoring: Scoring) -> HeldOutItems | None:
        """DataSet, EvaluationSet: the items to score on; None if there are none."""

    def classified(self, data: Any, form: Form, *, images: int, samples: int) -> ClassifiedSet:
        """FineTuningSet: the images to fine-tune on, and at most `images` to score on: a subset with even classes, the
        same for every run.

        samples: images that the schedule sees; a drawn set has exactly that number and repeats none.
        """


def format_of(data: DataSet | EvaluationSet | FineTuningSet) -> Format:
    """The module of a data set."""
    return cast(Format, import_module(f"flipscale.data.{data.kind}"))


def open_data(
    data: DataSet, form: Form, *, data_size: int | None, samples: int, before: int = 0, crop: float | None = None
) -> Data:
    """The pairs to train on, see `Format.training`."""
    return format_of(data).training(data, form, data_size=data_size, samples=samples, before=before, crop=crop)


def open_held_out(
    data: DataSet | EvaluationSet,
    form: Form,
    *,
    images: int,
    templates: Sequence[str] | None,
    trained_on: bool = True,
    probe: int = 0,
) -> HeldOutItems | None:
    """The items to score on, see `Scoring`. Decoded items are kept for the process's next run on the set."""
    return format_of(data).held_out(data, form, Scoring(images, templates, trained_on, probe))


def open_classified(data: FineTuningSet, form: Form, *, images: int, samples: int) -> ClassifiedSet:
    """The images to fine-tune on, see `Format.classified`."""
    return format_of(data).classified(data, form, images=images, samples=samples)


def count_images(data: DataSet | EvaluationSet | FineTuningSet, most: int) -> int:
    """How many images of a set are scored if it is at most this many; `most` where they cannot be counted here."""
    key = repr((data, most))
    if key not in _counts:
        _counts[key] = most
        count = getattr(format_of(data), "count", None)
        with contextlib.suppress(FlipscaleError, OSError):
            if count:
                _counts[key] = min(most, count(data, most) or most)
    return _counts[key]


_counts: dict[str, int] = {}
