"""A table of image paths and captions: .csv, .tsv, or .jsonl with an object a line; columns as open_clip names them.

An image may have several captions, as in COCO and Flickr30k: its path then stands in several rows, or its caption is
a list in .jsonl.
"""

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flipscale.data.decode import decode_paths, tolerated
from flipscale.data.digest import hashed
from flipscale.data.inspection import Look
from flipscale.data.pairs import Captioned, Form, HeldOutItems, Scoring, captioned_items, located
from flipscale.errors import DataError, did_you_mean, reason_of
from flipscale.plain_files import open_plain, parsed
from flipscale.settings.declarations import CaptionSet

_ROWS_CHECKED = 20
"""At most this many images of a table are looked for before a run starts."""


def rows(path: Path, image: str, caption: str) -> Iterator[tuple[int, Any, list[Any]]]:
    """Line, image path and captions of each row, unchecked; missing values are None."""
    if path.suffix not in (".csv", ".tsv", ".jsonl"):
        raise DataError(f"{path}: ends in {path.suffix or 'nothing'}; a table of captions is .csv, .tsv or .jsonl.")
    try:
        with os.fdopen(open_plain(path, follow=True), encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".jsonl":
                yield from _objects(file, path, image, caption)
            else:
                yield from _table(file, path, image, caption)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{path.absolute()}: there is no such file. Correct its path, or set FLIPSCALE_DATA to the folder that "
            f"paths start from."
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot be read as a table of captions ({reason_of(error)}); write it in UTF-8."
        ) from error


def _no_rows(path: Path, image: str, caption: str) -> DataError:
    return DataError(f"{path}: has no row with {image} and {caption}; write one for each caption.")


def check(data: CaptionSet, look: Look, probe: bool) -> None:
    """Look for the table's first images."""
    look.once(_check, data)


def _check(data: CaptionSet) -> None:
    file, folder = _places(data)
    images: dict[Path, None] = {}
    for _, name, texts in rows(file, data.image, data.caption):
        if isinstance(name, str) and name and _texts(texts):
            images[folder / name] = None
        if len(images) == _ROWS_CHECKED:
            break
    if not images:
        raise _no_rows(file, data.image, data.caption)
    if not any(path.is_file() for path in images):
        raise DataError(
            f"{next(iter(images))} does not exist, and neither do the images of the next rows of {file}; "
            f"correct root, the folder that paths in the table start from."
        )


def count(data: CaptionSet, most: int) -> int:
    return len(_captions_by_image(_places(data)[0], data.image, data.caption, most)[0])


def content(data: CaptionSet, probe: bool) -> Any:
    """The bytes of the table, and the size of each image."""
    file, folder = _places(data)
    names = dict.fromkeys(str(name) for _, name, _ in rows(file, data.image, data.caption))
    images = [folder / name for name in names]
    return hashed([file]), [path.is_file() and path.stat().st_size for path in images]


def held_out(data: CaptionSet, form: Form, scoring: Scoring) -> HeldOutItems:
    """The first images of the table, each with all its captions."""
    return captioned_items(_read(data, scoring.images, form.image_size), form, data.file)


def _places(data: CaptionSet) -> tuple[Path, Path]:
    """The table, and the folder that its image paths start from."""
    file = located(data.file)
    return file, file.parent if data.root is None else located(data.root)


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
                f'put captions that contain the delimiter in quotes: "an owl, awake".'
            )
        yield table.line_num, row[image], [row[caption]]


def _objects(file: Any, path: Path, image: str, caption: str) -> Iterator[tuple[int, Any, list[Any]]]:
    for line, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            row = parsed(text.encode())
        except ValueError as error:
            raise DataError(f"{path}:{line}: is not JSON ({error}); write an object on each line.") from error
        if not isinstance(row, dict):
            example = json.dumps({image: "PATH", caption: "TEXT"}, ensure_ascii=False)
            raise DataError(f"{path}:{line}: is not an object; write {example}.")
        texts = row.get(caption)
        yield line, row.get(image), texts if isinstance(texts, list) else [texts]


def _read(data: CaptionSet, count: int, image_size: int) -> Captioned:
    path, folder = _places(data)
    captions, bad = _captions_by_image(path, data.image, data.caption, count)
    names = list(captions)
    images, good = decode_paths([folder / name for name in names], image_size, str(path))
    return images, [captions[names[i]] for i in good], bad + len(names) - len(good)


def _captions_by_image(path: Path, image: str, caption: str, count: int) -> tuple[dict[str, list[str]], int]:
    """The captions of the first `count` images by their paths, and how many rows lack one of the two."""
    captions: dict[str, list[str]] = {}
    seen = 0
    bad = []
    for line, name, cells in rows(path, image, caption):
        seen += 1
        texts = _texts(cells)
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
        raise _no_rows(path, image, caption)
    return captions, len(bad)


def _texts(cells: list[Any]) -> list[str]:
    return [text.strip() for text in cells if isinstance(text, str) and text.strip()]
