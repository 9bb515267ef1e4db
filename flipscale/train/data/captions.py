"""A table of image paths and captions: .csv, .tsv, or .jsonl with an object a line; columns as open_clip names them.

An image may have several captions, as in COCO and Flickr30k: its path then stands in several rows, or its caption is
a list in .jsonl.
"""

from dataclasses import dataclass

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
    captions: dict[str, list[str]] = {}
    seen, bad = 0, []
    for line, name, texts in rows(path, image, caption):
        seen += 1
        texts = [text.strip() for text in texts if isinstance(text, str) and text.strip()]
        if not isinstance(name, str) or not name or not texts:
            bad.append(line)
        elif name in captions or len(captions) < count:
            captions.setdefault(name, []).extend(texts)
    if bad and len(bad) > tolerated(seen):
        raise DataError(
            f"{path}:{bad[0]}: {len(bad)} of {seen} rows lack {image} or {caption}, this one first; {tolerated(seen)} "
            f"of so many are passed over. Fill them in, or take them out."
        )
    if not captions:
        raise no_rows(path, image, caption)
    folder = path.parent if root is None else located(root)
    names = list(captions)
    images, good = decode_paths([folder / name for name in names], image_size, str(path))
    return gather(images, [captions[names[i]] for i in good], corrupt=len(bad) + len(names) - len(good))


def gather(images: Images, captions: list[list[str]], corrupt: int) -> Captioned:
    """Images with the captions of each."""
    image_of = np.repeat(np.arange(len(captions)), [len(texts) for texts in captions])
    return Captioned(images, tuple(text for texts in captions for text in texts), image_of, corrupt)
