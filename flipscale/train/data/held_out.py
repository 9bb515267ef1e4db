"""The items to score on of a data set by its declaration: one that is trained on, or one for evaluation alone.

    {"shapes": {...}}, {"fashion": {...}}                  the data sets' own held-out parts
    {"webdataset": {"urls": ..., "classes": ...}}          tar shards with a .cls or with captions     tar_sets.py
    {"folder": {"path": ..., "classes": ...}}              a folder of images for each class           folder.py
    {"idx": {"images": ..., "labels": ..., "classes"}}     IDX files, as MNIST's                       idx.py
    {"captions": {"file": ..., "image", "caption"}}        a table of image paths and captions         captions.py

What was decoded is kept for the next run of the process that is scored on the same.
"""

from pathlib import Path
from typing import Any

import numpy as np

from flipscale.errors import DataError, did_you_mean
from flipscale.inputs.idx import check_train_labels
from flipscale.inputs.labelled import check_choice, names_in_order, same_folders
from flipscale.train.data import captions, fashion, folder, idx, shapes, tar_sets, webdataset
from flipscale.train.data.captions import Captioned
from flipscale.train.data.labelled import Labelled
from flipscale.train.data.pairs import HeldOut, Tokenize, prompt_tokens
from flipscale.train.data.webdataset import DISTINCT_SHARE

TEMPLATES = ["a photo of a {}"]
"""The prompts of a labelled set for which nobody says any."""


def open_held_out(
    data: dict[str, Any],
    *,
    images: int,
    image_size: int,
    text_length: int,
    templates: list[str] | None,
    cache: Path | None,
    tokenize: Tokenize,
    trained_on: bool = True,
    probe: int = 0,
) -> HeldOut | None:
    """The items to score on, at most `images` of a kind; None if the data set has none.

    trained_on: `data` is also what the run trains on, so its held-out split is meant. Shapes and fashion have one and
        give the same either way. A webdataset has none: it is None, unless it is declared for evaluation alone
        (trained_on=False), when all of it counts as held out.
    images: of a labelled folder, IDX or webdataset set with more, a subset with even classes that is the same for every
        run; of the rest the first.
    templates: prompt templates with {} for the class name; None for the data set's own.
    probe: how many labelled images at most the linear probe learns from, of the sets that have some; 0 opens none.
    """
    if len(data) != 1:
        raise DataError(f"data names {len(data)} data sets ({', '.join(data) or 'none'}); name exactly one.")
    ((kind, options),) = data.items()
    if kind in ("shapes", "fashion"):
        own = shapes.held_out if kind == "shapes" else fashion.held_out
        return own(options, images=images, image_size=image_size, templates=templates, tokenize=tokenize, probe=probe)
    if kind == "webdataset" and "classes" not in options:
        # Declared as something to train on: decoded as for training, with one caption an image.
        if trained_on:
            return None
        pairs = webdataset.held_out(
            options, images=images, image_size=image_size, text_length=text_length, cache=cache, tokenize=tokenize
        )
        return _with_choice(pairs, options["urls"])
    if kind == "captions" or (kind == "webdataset" and options["classes"] is None):
        pairs = _captioned(kind, options, images, image_size, cache, tokenize)
        return _with_choice(pairs, options["urls"] if kind == "webdataset" else options["file"])
    if kind in ("webdataset", "folder", "idx"):
        found, examples = _labelled(kind, options, images, image_size, cache, probe)
        check_choice(found.classes, options.get("urls") or options.get("path") or options["images"])
        return HeldOut(
            pairs=None,
            retrieval=False,
            labelled=(found.images, found.labels),
            classes=found.classes,
            prompts=prompt_tokens(found.classes, templates or TEMPLATES, tokenize),
            probe=None if examples is None else (examples.images, examples.labels),
            corrupt=found.corrupt + (examples.corrupt if examples else 0),
        )
    kinds = ["shapes", "fashion", "webdataset", "folder", "idx", "captions"]
    raise DataError(f"unknown data set {kind!r}, {did_you_mean(kind, kinds)}")


def _captioned(
    kind: str, options: dict[str, Any], count: int, image_size: int, cache: Path | None, tokenize: Tokenize
) -> HeldOut:
    found: Captioned
    if kind == "webdataset":
        found = tar_sets.read_captioned(options["urls"], count, image_size, cache)
    else:
        found = captions.read(options["file"], options["image"], options["caption"], options["root"], count, image_size)
    tokens = tokenize(list(found.captions))
    return HeldOut(
        pairs=(found.images, tokens),
        retrieval=len(np.unique(tokens, axis=0)) >= DISTINCT_SHARE * len(tokens),
        image_of=found.image_of,
        corrupt=found.corrupt,
    )


def _with_choice(found: HeldOut, where: str) -> HeldOut:
    """The same, or DataError if there is one image only."""
    assert found.pairs is not None
    if len(found.pairs[0]) < 2:
        raise DataError(
            f"{where}: gives one image to score on, and any model would find it; name a set of two images or more, and "
            f"set evaluation.images to 2 or more."
        )
    return found


def _labelled(
    kind: str, options: dict[str, Any], count: int, image_size: int, cache: Path | None, probe: int
) -> tuple[Labelled, Labelled | None]:
    """The images to score on, and those that the linear probe learns from, if it is wanted and the set has some."""
    if kind == "webdataset":
        classes = names_in_order(options["classes"], options["urls"])
        return tar_sets.read_labelled(options["urls"], classes, count, image_size, cache), None
    examples: Labelled | None = None
    if kind == "idx":
        classes = tuple(options["classes"])
        found = idx.read(options["images"], options["labels"], classes, count, image_size)
        if probe and options["train_images"] is not None:
            check_train_labels(options)
            examples = idx.read(options["train_images"], options["train_labels"], classes, probe, image_size)
    else:
        found = folder.read(options["path"], count, image_size)
        if probe and options["train"] is not None:
            examples = folder.read(options["train"], probe, image_size)
            same_folders(options["path"], found.classes, options["train"], examples.classes)
        found = folder.named(found, options["classes"], options["path"])
    return found, examples
