"""A table of image paths and captions: .csv, .tsv, or .jsonl with an object a line; columns as open_clip names them."""

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flipscale.errors import DataError, did_you_mean
from flipscale.inputs.paths import reason_of
from flipscale.plain_files import open_plain


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
            f"{path.resolve()}: there is no such file. Correct its path, or set FLIPSCALE_DATA to the folder that "
            f"paths start from."
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot be read as a table of captions ({reason_of(error)}); write it in UTF-8."
        ) from error


def no_rows(path: Path, image: str, caption: str) -> DataError:
    return DataError(f"{path}: has no row with {image} and {caption}; write one for each caption.")


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
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{line}: is not JSON ({error}); write an object on each line.") from error
        if not isinstance(row, dict):
            example = json.dumps({image: "PATH", caption: "TEXT"}, ensure_ascii=False)
            raise DataError(f"{path}:{line}: is not an object; write {example}.")
        texts = row.get(caption)
        yield line, row.get(image), texts if isinstance(texts, list) else [texts]
