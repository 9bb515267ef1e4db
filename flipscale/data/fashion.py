"""Fashion-MNIST (Zalando, MIT licence): 60,000 training and 10,000 held-out grey pictures of 10 kinds of clothing.

Captions are the class name in one of eight templates, so there are only 80 of them: zero-shot accuracy means something,
retrieval does not, and a contrastive batch is full of false negatives. Pictures are 28 px; other sizes are resized.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flipscale import randomness
from flipscale.data import idx
from flipscale.data.digest import hashed
from flipscale.data.idx import IMAGES, LABELS
from flipscale.data.inspection import Look, check_batch
from flipscale.data.labelled import ClassifiedSet, Labelled, even, images_in_memory, subset
from flipscale.data.pairs import Data, Form, HeldOutItems, Images, Integers, Scoring, prompt_tokens
from flipscale.data.shuffle import Shuffle
from flipscale.data.views import Views, view_stored
from flipscale.errors import DataError
from flipscale.settings.declarations import Fashion

FASHION_CLASSES = (
    "t-shirt",
    "pair of trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)

FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts it."""


def folder_of(data: Fashion) -> Path:
    """The folder of the declaration, else of the environment, else Debian's."""
    named = data.folder or os.environ.get("FLIPSCALE_FASHION")
    folder = Path(named) if named else FASHION_FOLDER
    if not folder.is_dir():
        raise DataError(
            f"{folder}: there is no such folder, so Fashion-MNIST cannot be read. Run `apt-get install "
            "dataset-fashion-mnist`, or set the option folder of fashion in the study, or FLIPSCALE_FASHION, to "
            "a folder with its four idx files."
        )
    return folder


def files_of(folder: Path, split: str) -> tuple[Path, Path]:
    """The images and the labels of a split, "train" or "t10k", each of them with .gz or without."""
    return folder / f"{split}-images-idx3-ubyte", folder / f"{split}-labels-idx1-ubyte"


def check(data: Fashion, look: Look, probe: bool) -> None:
    """Read the test split, and the training split."""
    for part in ("t10k", "train")[: 1 + probe]:
        look.once(_count, data, part, look)


def check_training(data: Fashion, look: Look, *, data_size: int | None, batch_size: int) -> None:
    """Read the training split."""
    images = look.once(_count, data, "train", look)
    if images is None:
        return
    if data_size is None:
        look.at("batch_size").once(check_batch, "Fashion-MNIST", images, batch_size)
    else:
        look.at("data_size").once(_check_data_size, folder_of(data), data_size, images)


def _count(data: Fashion, part: str, look: Look) -> int:
    folder = folder_of(data)
    count = len(split(folder, part)[0])
    look.count("data_sets", folder)
    return count


def content(data: Fashion, probe: bool) -> Any:
    """The bytes of the files."""
    splits = [files_of(folder_of(data), part) for part in ("t10k", "train")[: 1 + probe]]
    return FASHION_CLASSES, hashed(idx.file_of(path) for files in splits for path in files)


def _check_data_size(folder: Path, data_size: int, images: int) -> None:
    if data_size > images:
        raise DataError(
            f"{folder}: data_size is {data_size}, but Fashion-MNIST has {images} training images; lower it."
        )


FASHION_TEMPLATES = [
    "a photo of a {}",
    "a picture of a {}",
    "an image of a {}",
    "a grey photo of a {}",
    "a small photo of a {}",
    "a {} on a black background",
    "a {} for sale",
    "one {}",
]


def training(
    data: Fashion, form: Form, *, data_size: int | None, samples: int, before: int, crop: float | None
) -> Data:
    """The subset of a data_size is pseudo-random, with the classes as even as can be, and the same for every run."""
    folder = folder_of(data)
    images, labels = split(folder, "train")
    size = len(images) if data_size is None else data_size
    _check_data_size(folder, size, len(images))
    chosen = even(labels, randomness.key("fashion", "subset"))[:size]
    # Captions are few: every class in every template is put into tokens here, once.
    captions = prompt_tokens(FASHION_CLASSES, FASHION_TEMPLATES, form.tokenize)
    tokens = captions[labels[chosen], _templates("template", chosen)]

    def batch(indices: Integers, views: Views | None = None) -> tuple[Images, Integers]:
        pictures = view_stored(images[chosen[indices]][:, None], form.view_size, views)
        return np.repeat(pictures, 3, axis=1), tokens[indices]

    return Data(size=size, batch=batch, order=Shuffle([size]), vocabulary=np.unique(captions))


def held_out(data: Fashion, form: Form, scoring: Scoring) -> HeldOutItems:
    """The first of the 10,000 test images; the linear probe learns from training images."""
    folder = folder_of(data)
    test = _test_images(folder, scoring.images, form.image_size)
    template = _templates("held out", np.arange(len(test.labels)))
    captions = prompt_tokens(FASHION_CLASSES, FASHION_TEMPLATES, form.tokenize)
    examples = None
    if scoring.probe:
        grey, labels = split(folder, "train")
        chosen = subset(labels, scoring.probe)
        examples = idx.pictures(grey[chosen], form.image_size), labels[chosen]
    return HeldOutItems(
        pairs=(test.images, captions[test.labels, template]),
        retrieval=False,
        labelled=(test.images, test.labels),
        classes=FASHION_CLASSES,
        prompts=prompt_tokens(FASHION_CLASSES, scoring.templates or FASHION_TEMPLATES, form.tokenize),
        probe=examples,
    )


def classified(data: Fashion, form: Form, *, images: int, samples: int) -> ClassifiedSet:
    """The training images, and the first of the 10,000 test images."""
    folder = folder_of(data)
    grey, labels = split(folder, "train")
    return ClassifiedSet(images_in_memory(grey, labels, form.image_size), _test_images(folder, images, form.image_size))


def _test_images(folder: Path, count: int, image_size: int) -> Labelled:
    grey, labels = split(folder, "t10k")
    return Labelled(idx.pictures(grey[:count], image_size), labels[:count], FASHION_CLASSES)


def _templates(purpose: str, indices: Integers) -> npt.NDArray[np.uint64]:
    """Which template the caption of each picture is in."""
    words: npt.NDArray[np.uint64] = randomness.bits(randomness.key("fashion", purpose), indices, 1)[:, 0]
    return words % np.uint64(len(FASHION_TEMPLATES))


def split(folder: Path, part: str) -> tuple[npt.NDArray[np.uint8], Integers]:
    """Grey images [n, 28, 28] and labels [n] of a split, "train" or "t10k"."""
    of_images, of_labels = files_of(folder, part)
    images = idx.array(of_images, IMAGES)
    labels = idx.array(of_labels, LABELS)
    if len(images) != len(labels):
        raise DataError(
            f"{folder}: the {part} split has {len(images)} images but {len(labels)} labels; "
            f"its files do not belong together, copy both again."
        )
    if not len(images):
        raise DataError(f"{folder}: the {part} split has no images; copy its files again.")
    if labels.max(initial=0) >= len(FASHION_CLASSES):
        raise DataError(
            f"{folder}: the {part} split has a label {labels.max()}; Fashion-MNIST has 0 to {len(FASHION_CLASSES) - 1}."
        )
    return images, labels.astype(np.int64)
