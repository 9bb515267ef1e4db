"""The parts of a run's training: its data, its model, how it is scored, and which weights are kept.

Pairs and texts for a pre-training and a tuning, labelled images and a head for a fine-tuning.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import IO

from flipscale.architecture import architecture
from flipscale.cost import parameters
from flipscale.data.digest import digests
from flipscale.data.pairs import Data, HeldOutItems
from flipscale.identity import labelled_set, labelled_test_images, show_setting
from flipscale.run import RunFolder
from flipscale.settings import Resources, Settings
from flipscale.train.classify import score_classifier
from flipscale.train.evaluate import Evaluated, evaluate
from flipscale.train.model import save
from flipscale.train.processes import Group
from flipscale.train.requests import course, scored_settings, start_of, steps_before
from flipscale.train.sources import (
    corrupt_images,
    evaluations_of,
    open_labelled_data,
    open_training_data,
    vocabulary,
)
from flipscale.train.trainers.builtin.fine_tuning import HeadTraining
from flipscale.train.trainers.builtin.training import Training


@dataclass(frozen=True)
class Prepared:
    """The parts of a run's training."""

    training: Training
    data: Data
    score: Callable[[Group], Evaluated] | None
    """None where nothing is scored. All processes of the group call it; process 0 gets the scores."""
    save: Callable[[IO[bytes]], None]
    """Writes the weights."""
    parameters: int
    """How many are trained."""
    corrupt: int
    """Samples that were known to be unreadable before the training began."""
    corrupt_images: int
    """Images to score on that were skipped."""
    pairs_before: int | None
    """Pairs of earlier runs that are not pairs of this one; None for a fine-tuning, which sees other images."""


def prepare(run: RunFolder, settings: Settings, resources: Resources, group: Group, *, leads: bool) -> Prepared:
    """Open the data and build the model, from the parent's weights if there is a parent. All processes call it.

    settings: of the stage. leads: whether this is the process that has the items to score. Raises on all processes what
    fails on one.
    """
    if settings.fine_tuning is not None:
        return _labelled(run, settings, resources, group)
    return _pairs(run, settings, resources, group, leads=leads)


def _pairs(run: RunFolder, settings: Settings, resources: Resources, group: Group, *, leads: bool) -> Prepared:
    with group.together():
        data = open_training_data(run, settings)
        evaluations = evaluations_of(run, settings) if leads else {}
    words = group.share(vocabulary(data, evaluations))
    known_corrupt = data.corrupt()
    with group.together():
        before = steps_before(run, settings.batch_size)
        training = Training(settings, group, resources, words, start_of(run), steps_before=before, course=course(run))
    return Prepared(
        training=training,
        data=data,
        score=partial(_score, training, evaluations, scored_settings(run)) if group.share(bool(evaluations)) else None,
        save=partial(save, training.model),
        parameters=parameters(architecture(settings.model, settings.image_size)),
        corrupt=known_corrupt,
        corrupt_images=corrupt_images(evaluations),
        pairs_before=_pairs_before(training, data),
    )


def _score(training: Training, evaluations: Mapping[str, HeldOutItems], settings: Settings, group: Group) -> Evaluated:
    found = evaluate(training.model, evaluations, settings, group)
    if not (settings.average and training.progress.step == training.steps):
        return found
    with training.averaged():
        return found.beside(evaluate(training.model, evaluations, settings, group, averaged=True))


def _pairs_before(training: Training, data: Data) -> int:
    """How many pairs the runs before saw and this one does not: together they go along one order."""
    samples = training.steps * training.settings.batch_size
    before = training.steps_before * training.settings.batch_size
    return min(data.size, before + samples) - min(data.size, samples)


def _labelled(run: RunFolder, settings: Settings, resources: Resources, group: Group) -> Prepared:
    with group.together():
        opened = open_labelled_data(run, settings)
    classes = opened.test.classes
    with group.together():
        training = HeadTraining(settings, group, resources, start_of(run), len(classes))
    source = f"{show_setting(labelled_set(settings))}, images {labelled_test_images(settings)}"
    known = digests(settings)

    def score(group: Group) -> Evaluated:
        found = score_classifier(training.classifier, opened.test, source, settings.precision, group)
        return replace(found, digests=known)

    def keep(file: IO[bytes]) -> None:
        head = {name: value.detach().cpu() for name, value in training.classifier.head.state_dict().items()}
        save(training.model, file, head=head, classes=list(classes))

    return Prepared(
        training=training,
        data=opened.training,
        score=score,
        save=keep,
        parameters=training.trained_parameters,
        corrupt=0,
        corrupt_images=opened.test.corrupt,
        pairs_before=None,
    )
