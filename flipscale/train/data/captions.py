"""A table of image paths and captions: .csv, .tsv, or .jsonl with an object a line; columns as open_clip names them.

An image may have several captions, as in COCO and Flickr30k: its path then stands in several rows, or its caption is
a list in .jsonl.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flipscale.errors import DataError
from flipscale.inputs.captions import no_rows, rows
from flipscale.inputs.paths import located
from flipscale.train.data.decode import decode_paths, tolerated
from flipscale.train.data.pairs import Images, Integers


@dataclass(frozen=True)
class Captioned:
    """Images [n, 3, S, S] and their captions, the captions of an image one after the other."""

    images: Images
    captions: tuple[str, ...]
    image_of: Integers
    """The image of each caption."""
    corrupt: int = 0
    """How many more samples were wanted and could not be read."""


def read(file: str, image: str, caption: str, root: str | None, count: int, image_size: int) -> Captioned:
    """The first `count` images of the table, each with all its captions.

    image, caption: the names of the columns.
    root: the folder that image paths start from; None for the table's own.
    """
    path = located(file)
    captions, bad = _captions_by_image(path, image, caption, count)
    folder = path.parent if root is None else located(root)
    names = list(captions)
    images, good = decode_paths([folder / name for name in names], image_size, str(path))
    return gather(images, [captions[names[i]] for i in good], corrupt=bad + len(names) - len(good))


def _captions_by_image(path: Path, image: str, caption: str, count: int) -> tuple[dict[str, list[str]], int]:
    """The captions of the first `count` images by their paths, and how many rows lack one of the two."""
    captions: dict[str, list[str]] = {}
    seen, bad = 0, []
    for line, name, found in rows(path, image, caption):
        seen += 1
        texts = _texts(found)
        if not isinstance(name, str) or not name or not texts:
            bad.append(line)
        elif name in captions or len(captions) < count:
            captions.setdefault(name, []).extend(texts)
    if len(bad) > tolerated(seen):
        raise DataError(
            f"{path}:{bad[0]}: {len(bad)} of {seen} rows lack {image} or {caption}, this one first; at most "
            f"{tolerated(seen)} may be skipped. Fill them in, or remove them."
        )
    if not captions:
        raise no_rows(path, image, caption)
    return captions, len(bad)


def _texts(found: list[Any]) -> list[str]:
    return [text.strip() for text in found if isinstance(text, str) and text.strip()]


def gather(images: Images, captions: list[list[str]], corrupt: int) -> Captioned:
    """Images with the captions of each."""
    image_of = np.repeat(np.arange(len(captions)), [len(texts) for texts in captions])
    return Captioned(images, tuple(text for texts in captions for text in texts), image_of, corrupt)
