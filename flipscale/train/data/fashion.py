"""Fashion-MNIST (Zalando, MIT licence): 60,000 training and 10,000 held-out grey pictures of 10 kinds of clothing.

Captions are the class name in one of eight templates, so there are only 80 of them: zero-shot accuracy means something,
retrieval does not, and a contrastive batch is full of false negatives. Pictures are 28 px; other sizes are resized.
"""

import gzip
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from flipscale.errors import DataError
from flipscale.train.data import draw
from flipscale.train.data.pairs import Data, HeldOut, Images, Integers, Tokenize, prompt_tokens

FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts it."""

CLASSES = (
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
TEMPLATES = [
    "a photo of a {}",
    "a picture of a {}",
    "an image of a {}",
    "a grey photo of a {}",
    "a small photo of a {}",
    "a {} on a black background",
    "a {} for sale",
    "one {}",
]
# The idx format: two zero bytes, the type of a number (8: unsigned byte), how many axes, then their lengths.
_IMAGES, _LABELS = 0x0803, 0x0801


def training(options: dict[str, Any], *, data_size: int | None, image_size: int, tokenize: Tokenize) -> Data:
    """The subset of a data_size is pseudo-random, with the classes as even as can be, and the same for every run."""
    folder = _folder(options)
    images, labels = _read(folder, "train")
    size = len(images) if data_size is None else data_size
    if size > len(images):
        raise DataError(
            f"{folder}: data_size is {size}, but Fashion-MNIST has {len(images)} training images; lower it."
        )
    chosen = _nested(labels)[:size]
    # Captions are few: every class in every template is put into tokens here, once.
    captions = prompt_tokens(CLASSES, TEMPLATES, tokenize)
    template = draw.bits(draw.key("fashion", "template"), chosen, 1)[:, 0] % np.uint64(len(TEMPLATES))
    tokens = captions[labels[chosen], template]

    def batch(indices: Integers) -> tuple[Images, Integers]:
        rows = chosen[indices]
        return _pictures(images[rows], image_size), tokens[indices]

    return Data(size=size, batch=batch)


def held_out(
    options: dict[str, Any], *, images: int, image_size: int, templates: list[str] | None, tokenize: Tokenize
) -> HeldOut:
    """The first of the 10,000 test images."""
    grey, labels = _read(_folder(options), "t10k")
    pictures, labels = _pictures(grey[:images], image_size), labels[:images]
    template = draw.bits(draw.key("fashion", "held out"), np.arange(len(labels)), 1)[:, 0] % np.uint64(len(TEMPLATES))
    return HeldOut(
        pairs=(pictures, prompt_tokens(CLASSES, TEMPLATES, tokenize)[labels, template]),
        retrieval=False,
        labelled=(pictures, labels),
        classes=CLASSES,
        prompts=prompt_tokens(CLASSES, templates or TEMPLATES, tokenize),
    )


def _nested(labels: Integers) -> Integers:
    """All indices in an order of which every beginning is a random subset with even classes: int64 [n].

    Sorted by each image's random rank in its class, and within a rank at random.
    """
    words = draw.bits(draw.key("fashion", "subset"), np.arange(len(labels)), 1)[:, 0]
    rank = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        rank[of_class[np.argsort(words[of_class])]] = np.arange(len(of_class))
    return np.lexsort((words, rank))


def _pictures(grey: npt.NDArray[np.uint8], image_size: int) -> Images:
    """[n, 28, 28] -> [n, 3, image_size, image_size]."""
    side = (image_size, image_size)
    if grey.shape[1:] != side:
        resized = [np.asarray(Image.fromarray(image).resize(side, Image.Resampling.BICUBIC)) for image in grey]
        grey = np.stack(resized)
    return np.repeat(grey[:, None], 3, axis=1)


# Files


def _folder(options: dict[str, Any]) -> Path:
    """The folder of the declaration, else of the environment, else Debian's."""
    named = options.get("folder") or os.environ.get("FLIPSCALE_FASHION")
    folder = Path(named) if named else FOLDER
    if not folder.is_dir():
        raise DataError(
            f"{folder}: there is no such folder, so no Fashion-MNIST. Type `apt-get install dataset-fashion-mnist`, "
            f"or set data.fashion.folder in the study, or FLIPSCALE_FASHION, to a folder with its four idx files."
        )
    return folder


def _read(folder: Path, split: str) -> tuple[npt.NDArray[np.uint8], Integers]:
    """Grey images [n, 28, 28] and labels [n] of a split, "train" or "t10k"."""
    images = _idx(folder / f"{split}-images-idx3-ubyte", _IMAGES)
    labels = _idx(folder / f"{split}-labels-idx1-ubyte", _LABELS)
    if len(images) != len(labels):
        raise DataError(
            f"{folder}: the {split} split has {len(images)} images but {len(labels)} labels; "
            f"its files are not of one set, copy both again."
        )
    if labels.max(initial=0) >= len(CLASSES):
        raise DataError(
            f"{folder}: the {split} split has a label {labels.max()}; Fashion-MNIST has 0 to {len(CLASSES) - 1}."
        )
    return images, labels.astype(np.int64)


def _idx(path: Path, magic: int) -> npt.NDArray[np.uint8]:
    """The array in an idx file, compressed (.gz) or plain."""
    zipped = path.with_name(path.name + ".gz")
    path = zipped if zipped.exists() else path
    try:
        data = gzip.decompress(path.read_bytes()) if path is zipped else path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{zipped}: there is no such file, and none without .gz. Fashion-MNIST has four: "
            f"{{train,t10k}}-images-idx3-ubyte.gz and {{train,t10k}}-labels-idx1-ubyte.gz."
        ) from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: not a whole gzip file ({error}); copy it again.") from error
    found, axes = int.from_bytes(data[:4], "big"), magic & 0xFF
    if found != magic or len(data) < 4 + 4 * axes:
        raise DataError(
            f"{path}: begins with {data[:4].hex() or 'nothing'}, an idx file of this kind with {magic:08x}."
        )
    shape = [int.from_bytes(data[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(axes)]
    body = np.frombuffer(data, np.uint8, offset=4 + 4 * axes)
    if body.size != np.prod(shape):
        raise DataError(
            f"{path}: declares {' x '.join(map(str, shape))} = {np.prod(shape)} bytes but holds {body.size}; "
            f"copy it again."
        )
    return body.reshape(shape)
