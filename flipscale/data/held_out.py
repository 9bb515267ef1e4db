"""The items to score on of a data set by its declaration: one that is trained on, or one for evaluation alone.

    Shapes, Fashion   the data sets' own held-out parts
    WebDataset        its first pairs, decoded as for training
    ShardSet          tar shards with a .cls or with captions     tar_sets.py
    FolderSet         a folder of images for each class           labelled.py
    IdxSet            IDX files, as MNIST's                       idx.py
    CaptionSet        a table of image paths and captions         captions.py

Decoded items are kept for the process's next run that is scored on the same set.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from flipscale.data import captions, fashion, idx, shapes, tar_sets, webdataset
from flipscale.data.idx import train_labels_of
from flipscale.data.labelled import (
    Labelled,
    check_choice,
    names_in_order,
    names_of_folders,
    read_folder,
    same_folders,
)
from flipscale.data.pairs import Form, HeldOutItems, Images, Integers, prompt_tokens
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

DISTINCT_SHARE = 0.95
"""With a smaller share of distinct captions among held-out pairs retrieval is not scored: right answers would not
count."""


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
    size = form.image_size
    examples: Labelled | None = None
    match data:
        case Shapes():
            return shapes.held_out(data, form, images=images, templates=templates, probe=probe)
        case Fashion():
            return fashion.held_out(data, form, images=images, templates=templates, probe=probe)
        case WebDataset():
            return None if trained_on else _pairs(*webdataset.held_out(data, form, images), data.urls)
        case CommandSet():
            return None  # Its program opens what it reads.
        case CaptionSet() | ShardSet(classes=None):
            if isinstance(data, CaptionSet):
                where, captioned = data.file, captions.read(data, images, size)
            else:
                where, captioned = data.urls, tar_sets.read_captioned(data.urls, images, size, form.cache)
            tokens = form.tokenize(list(captioned.captions))
            return _pairs(captioned.images, tokens, captioned.corrupt, where, captioned.image_of)
        case ShardSet():
            assert data.classes is not None
            where, classes = data.urls, names_in_order(data.classes, data.urls)
            scored = tar_sets.read_labelled(where, classes, images, size, form.cache, data.metric)
        case FolderSet():
            where, scored = data.path, read_folder(data.path, images, size)
            if probe and data.train is not None:
                examples = read_folder(data.train, probe, size)
                same_folders(where, scored.classes, data.train, examples.classes)
            scored = replace(scored, classes=names_of_folders(scored.classes, data.classes, where))
        case IdxSet():
            where, classes = data.images, tuple(data.classes)
            scored = idx.read(where, data.labels, classes, images, size)
            if probe and data.train_images is not None:
                examples = idx.read(data.train_images, train_labels_of(data), classes, probe, size)
    check_choice(scored.classes, where, data.metric)
    if data.metric == "roc_auc" and len(set(scored.labels.tolist())) < 2:
        raise DataError(
            f"{where}: roc_auc needs images of both classes, but those to score are all of one; add some of the other."
        )
    return HeldOutItems(
        pairs=None,
        retrieval=False,
        labelled=(scored.images, scored.labels),
        classes=scored.classes,
        prompts=prompt_tokens(scored.classes, templates or PLAIN_TEMPLATES, form.tokenize),
        probe=None if examples is None else (examples.images, examples.labels),
        corrupt=scored.corrupt + (examples.corrupt if examples else 0),
        shown=scored.shown,
        metric=data.metric,
    )


def _pairs(
    images: Images, tokens: Integers, corrupt: int, where: str, image_of: Integers | None = None
) -> HeldOutItems:
    """Images with captions: for the held-out loss, and for retrieval if their captions tell them apart."""
    if len(images) < 2:
        raise DataError(
            f"{where}: gives one image to score on, so any model would find it; name a set of two images or more, and "
            f"set evaluation.images to 2 or more."
        )
    distinct = len(np.unique(tokens, axis=0)) >= DISTINCT_SHARE * len(tokens)
    return HeldOutItems(pairs=(images, tokens), retrieval=distinct, image_of=image_of, corrupt=corrupt)
