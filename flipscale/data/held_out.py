"""The items to score on of a data set by its declaration: one that is trained on, or one for evaluation alone.

    Shapes, Fashion   the data sets' own held-out parts
    WebDataset        its first pairs, decoded as for training
    ShardSet          tar shards with a .cls or with captions     tar_sets.py
    FolderSet         a folder of images for each class           folder.py
    IdxSet            IDX files, as MNIST's                       idx.py
    CaptionSet        a table of image paths and captions         captions.py

Decoded items are kept for the process's next run that is scored on the same set.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flipscale.data import captions, fashion, folder, idx, shapes, tar_sets, webdataset
from flipscale.data.captions import Captioned
from flipscale.data.idx import train_labels_of
from flipscale.data.labelled import Labelled, check_choice, names_in_order, same_folders
from flipscale.data.pairs import Form, HeldOutItems, prompt_tokens
from flipscale.data.webdataset import DISTINCT_SHARE
from flipscale.errors import DataError
from flipscale.settings import (
    CaptionSet,
    CommandSet,
    DataSet,
    EvaluationSet,
    Fashion,
    FolderSet,
    IdxSet,
    Shapes,
    ShardSet,
    WebDataset,
)

PLAIN_TEMPLATES = ["a photo of a {}"]
"""The prompts of a labelled set for which none are given."""


@dataclass(frozen=True)
class _Selection:
    """How much to open, and with which prompts."""

    images: int
    templates: Sequence[str] | None
    probe: int


def open_held_out(
    data: DataSet | EvaluationSet,
    form: Form,
    *,
    images: int,
    templates: Sequence[str] | None,
    trained_on: bool = True,
    probe: int = 0,
) -> HeldOutItems | None:
    """The items to score on, at most `images` of a kind; None if the data set has none.

    trained_on: `data` is also what the run trains on, so its held-out split is meant. Shapes and fashion have one and
        give the same either way. A webdataset has none: it is None, unless it is declared for evaluation alone
        (trained_on=False), when all of it counts as held out.
    images: of a labelled folder, IDX or webdataset set with more, a subset with even classes that is the same for every
        run; of the rest the first.
    templates: prompt templates with {} for the class name; None for the data set's own.
    probe: how many labelled images at most the linear probe learns from, of the sets that have some; 0 opens none.
    """
    wanted = _Selection(images, templates, probe)
    match data:
        case Shapes():
            return shapes.held_out(data, form, images=images, templates=templates, probe=probe)
        case Fashion():
            return fashion.held_out(data, form, images=images, templates=templates, probe=probe)
        case WebDataset():
            return None if trained_on else _with_choice(webdataset.held_out(data, form, images), data.urls)
        case ShardSet():
            return _shards(data, form, wanted)
        case FolderSet():
            return _folder(data, form, wanted)
        case IdxSet():
            return _idx(data, form, wanted)
        case CaptionSet():
            return _table(data, form, images)
        case CommandSet():
            return None  # Its program opens what it reads.


def _shards(data: ShardSet, form: Form, wanted: _Selection) -> HeldOutItems:
    urls = data.urls
    if data.classes is None:
        return _captioned(tar_sets.read_captioned(urls, wanted.images, form.image_size, form.cache), form, urls)
    classes = names_in_order(data.classes, urls)
    images = tar_sets.read_labelled(urls, classes, wanted.images, form.image_size, form.cache, data.metric)
    return _labelled(images, None, form, wanted.templates, urls, data.metric)


def _folder(data: FolderSet, form: Form, wanted: _Selection) -> HeldOutItems:
    path, train = data.path, data.train
    images = folder.read(path, wanted.images, form.image_size)
    examples: Labelled | None = None
    if wanted.probe and train is not None:
        examples = folder.read(train, wanted.probe, form.image_size)
        same_folders(path, images.classes, train, examples.classes)
    return _labelled(folder.named(images, data.classes, path), examples, form, wanted.templates, path, data.metric)


def _idx(data: IdxSet, form: Form, wanted: _Selection) -> HeldOutItems:
    classes = tuple(data.classes)
    images = idx.read(data.images, data.labels, classes, wanted.images, form.image_size)
    examples: Labelled | None = None
    if wanted.probe and data.train_images is not None:
        train_labels = train_labels_of(data)
        examples = idx.read(data.train_images, train_labels, classes, wanted.probe, form.image_size)
    return _labelled(images, examples, form, wanted.templates, data.images, data.metric)


def _table(data: CaptionSet, form: Form, images: int) -> HeldOutItems:
    found = captions.read(data.file, data.image, data.caption, data.root, images, form.image_size)
    return _captioned(found, form, data.file)


def _captioned(found: Captioned, form: Form, where: str) -> HeldOutItems:
    """The scores of images with captions: the held-out loss, and retrieval if their captions tell them apart."""
    tokens = form.tokenize(list(found.captions))
    pairs = HeldOutItems(
        pairs=(found.images, tokens),
        retrieval=len(np.unique(tokens, axis=0)) >= DISTINCT_SHARE * len(tokens),
        image_of=found.image_of,
        corrupt=found.corrupt,
    )
    return _with_choice(pairs, where)


def _labelled(
    found: Labelled, examples: Labelled | None, form: Form, templates: Sequence[str] | None, where: str, metric: str
) -> HeldOutItems:
    """The scores of labelled images: zero-shot accuracy, and the linear probe if there are examples to learn from."""
    check_choice(found.classes, where, metric)
    if metric == "roc_auc" and len(set(found.labels.tolist())) < 2:
        raise DataError(
            f"{where}: roc_auc needs images of both classes, but those to score are all of one; add some of the other."
        )
    return HeldOutItems(
        pairs=None,
        retrieval=False,
        labelled=(found.images, found.labels),
        classes=found.classes,
        prompts=prompt_tokens(found.classes, templates or PLAIN_TEMPLATES, form.tokenize),
        probe=None if examples is None else (examples.images, examples.labels),
        corrupt=found.corrupt + (examples.corrupt if examples else 0),
        shown=found.shown,
        metric=metric,
    )


def _with_choice(found: HeldOutItems, where: str) -> HeldOutItems:
    """The same, or DataError if there is one image only."""
    assert found.pairs is not None
    if len(found.pairs[0]) < 2:
        raise DataError(
            f"{where}: gives one image to score on, so any model would find it; name a set of two images or more, and "
            f"set evaluation.images to 2 or more."
        )
    return found
