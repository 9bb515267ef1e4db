"""The data and the evaluation sets of a run, opened in the form its model takes."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from flipscale.cost.arithmetic import steps_of, training_view
from flipscale.data.formats import open_classified, open_data
from flipscale.data.labelled import ClassifiedSet
from flipscale.data.pairs import Data, Form, HeldOutItems, Integers
from flipscale.errors import DataError
from flipscale.planning.identity import labelled_set, labelled_test_images
from flipscale.run import RunFolder
from flipscale.settings.declarations import OpenClipTrainer, Settings
from flipscale.train.evaluate import open_evaluations
from flipscale.train.failure import say
from flipscale.train.model import tokenize
from flipscale.train.requests import steps_before
from flipscale.workspace import Workspace


def open_training_data(run: RunFolder, settings: Settings) -> Data:
    """The pairs that a run trains on. Raises DataError for less than one batch, which would hold a pair twice."""
    data = open_data(
        settings.data,
        replace(_form(run, settings), shown_size=training_view(settings).shape.image.image_size),
        data_size=settings.data_size,
        samples=steps_of(settings) * settings.batch_size,
        before=steps_before(run, settings.batch_size) * settings.batch_size,
        crop=settings.crop,
    )
    # open_clip's program refuses what is too small for it in its own words.
    if not isinstance(settings.trainer, OpenClipTrainer) and data.size < settings.batch_size:
        raise DataError(
            f"data has {data.size} pairs, less than one batch of {settings.batch_size}, which would hold a pair "
            f"twice; add pairs, or lower batch_size."
        )
    return data if data.vocabulary is not None else replace(data, reopen=partial(open_training_data, run, settings))


def open_labelled_data(run: RunFolder, settings: Settings) -> ClassifiedSet:
    """The data that a run with a fine_tuning is trained and scored on. The log names unreadable parts."""
    opened = open_classified(
        labelled_set(settings),
        _form(run, settings),
        images=labelled_test_images(settings),
        samples=steps_of(settings) * settings.batch_size,
    )
    if opened.test.corrupt:
        say(run, f"fine_tuning.data: {opened.test.corrupt} test images are skipped, as they cannot be read")
    return opened


def vocabulary(data: Data, evaluations: Mapping[str, HeldOutItems]) -> Integers | None:
    """The ids of all tokens that training and evaluation will see; None if that is not known."""
    if data.vocabulary is None:
        return None
    return np.unique(np.concatenate([data.vocabulary, *(held_out.vocabulary for held_out in evaluations.values())]))


def evaluations_of(run: RunFolder, settings: Settings, only: Collection[str] | None = None) -> dict[str, HeldOutItems]:
    """The sets that the run is scored on, by name, or `only` these. The log names those that cannot be read."""
    evaluations = open_evaluations(settings, _form(run, settings), only)
    for name, held_out in evaluations.items():
        if held_out.corrupt:
            where = f"evaluation.sets.{name}" if name else "evaluation.data"
            say(run, f"{where}: {held_out.corrupt} images are skipped, as they or their captions cannot be read")
    return evaluations


def corrupt_images(evaluations: Mapping[str, HeldOutItems]) -> int:
    """How many images of all sets were skipped."""
    return sum(held_out.corrupt for held_out in evaluations.values())


def _form(run: RunFolder, settings: Settings) -> Form:
    length = settings.text_length
    return Form(settings.image_size, length, partial(tokenize, length=length), Workspace.of_run(run.path).cache)
