"""A table of image paths and captions: .csv, .tsv, or .jsonl with an object a line; columns as open_clip names them.

An image may have several captions, as in COCO and Flickr30k: its path then stands in several rows, or its caption is
a list in .jsonl.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flipscale.errors import DataError, did_you_mean
from flipscale.train.data.decode import decode_paths, located, reason_of, tolerated
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
    rows, bad = 0, []
    for line, name, texts in _rows(path, image, caption):
        rows += 1
        texts = [text.strip() for text in texts if isinstance(text, str) and text.strip()]
        if not isinstance(name, str) or not name or not texts:
            bad.append(line)
        elif name in captions or len(captions) < count:
            captions.setdefault(name, []).extend(texts)
    if bad and len(bad) > tolerated(rows):
        raise DataError(
            f"{path}:{bad[0]}: {len(bad)} of {rows} rows lack {image} or {caption}, this one first; {tolerated(rows)} "
            f"of so many are passed over. Fill them in, or take them out."
        )
    if not captions:
        raise DataError(f"{path}: has no row with {image} and {caption}; write one for each caption.")
    folder = path.parent if root is None else located(root)
    names = list(captions)
    images, good = decode_paths([folder / name for name in names], image_size, str(path))
    return gather(images, [captions[names[i]] for i in good], corrupt=len(bad) + len(names) - len(good))


def gather(images: Images, captions: list[list[str]], corrupt: int) -> Captioned:
    """Images with the captions of each."""
    image_of = np.repeat(np.arange(len(captions)), [len(texts) for texts in captions])
    return Captioned(images, tuple(text for texts in captions for text in texts), image_of, corrupt)


def _rows(path: Path, image: str, caption: str) -> Iterator[tuple[int, Any, list[Any]]]:
    """Line, image path and captions of each row, unchecked; what is missing is None."""
    if path.suffix not in (".csv", ".tsv", ".jsonl"):
        raise DataError(f"{path}: ends in {path.suffix or 'nothing'}; a table of captions is .csv, .tsv or .jsonl.")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".jsonl":
                yield from _objects(file, path, image, caption)
            else:
                yield from _table(file, path, image, caption)
    except FileNotFoundError:
        raise DataError(
            f"{path.resolve()}: there is no such file. Correct its path, or set FLIPSCALE_DATA to the folder that "
            f"paths start from."
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot be read as a table of captions ({reason_of(error)}); write it in UTF-8."
        ) from error


def _table(file: Any, path: Path, image: str, caption: str) -> Iterator[tuple[int, Any, list[Any]]]:
    header = file.readline()
    file.seek(0)
    # open_clip's own default for a .csv is the tab.
    table = csv.DictReader(file, delimiter="\t" if "\t" in header else ",")
    for column in (image, caption):
        if column not in (table.fieldnames or ()):
            raise DataError(f"{path}:1: has no column {column!r}; {did_you_mean(column, table.fieldnames or ())}")
    for row in table:
        if None in row:
            raise DataError(
                f"{path}:{table.line_num}: has {len(row) - 1 + len(row[None])} cells, and the header {len(row) - 1}; "
                f'put a caption that has the delimiter in it into quotes: "an owl, awake".'
            )
        yield table.line_num, row[image], [row[caption]]


def _objects(file: Any, path: Path, image: str, caption: str) -> Iterator[tuple[int, Any, list[Any]]]:
    for line, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError as error:
            raise DataError(f"{path}:{line}: is no JSON ({error}); write an object on each line.") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{line}: is no object; write {{{image!r}: path, {caption!r}: text}}.")
        texts = row.get(caption)
        yield line, row.get(image), texts if isinstance(texts, list) else [texts]
