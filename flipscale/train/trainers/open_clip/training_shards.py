"""The shards that open_clip's own program trains on: the user's, or shards of what flipscale's own trainer sees.

Written shards hold the images as PNG, as large as the model takes them, and the captions as far as text_length reaches,
as the tokenizer spells them: it gives the same tokens for them. They lie in <results>/cache/open_clip-<hash>, are
written once for all runs that see the same pairs, and may be deleted at any time between runs.
"""

import hashlib
import io
import json
import os
import shlex
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image

from flipscale.data.open_clip_flags import Shards
from flipscale.data.pairs import Data
from flipscale.data.shards import ShardSource, check_own, sources
from flipscale.errors import DataError
from flipscale.guard import locked, make_folder
from flipscale.plain_files import or_none, read_json
from flipscale.run import RunFolder, write_json
from flipscale.settings.declarations import Settings, WebDataset, plain
from flipscale.train.sources import open_training_data
from flipscale.workspace import Workspace

_WRITTEN_FORMAT = 1
"""Goes into the hash: a change to how shards are written must not find what was written before it."""

SHARD_PAIRS = 512
"""Pairs in a written shard, at least: several loaders share the shards."""

MOST_SHARDS = 256

_PAIRS_AT_A_TIME = 256
"""Pairs that are read at a time."""


def shards_of(run: RunFolder, settings: Settings) -> Shards:
    """The shards for the run: a webdataset's own if `crop` is set, else written ones. Raises DataError."""
    data = open_training_data(run, settings)
    if isinstance(settings.data, WebDataset) and settings.crop is not None:
        return users_shards(settings.data.urls, data.size)
    return _written(run, settings, data)


# The user's own


def users_shards(urls: str, pairs: int) -> Shards:
    """Paths are made absolute, from FLIPSCALE_DATA on. URLs and commands stay, except s3:, which webdataset lacks."""
    patterns = []
    for pattern in urls.split("::"):
        if pattern.startswith("s3:"):
            pattern = f"pipe:aws s3 cp {shlex.quote(pattern)} -"
        elif "'" in pattern and not ShardSource(pattern).local and not pattern.startswith("pipe:"):
            # webdataset, with which the program reads them, puts URLs between single quotes on a command line.
            raise DataError(
                f"{pattern}: open_clip's program cannot read a URL with a single quote in it; write it as %27, or set "
                f"crop: null, with which flipscale writes the shards."
            )
        patterns.append(str(_absolute(pattern)) if ShardSource(pattern).local else pattern)
    shards = sources(urls)
    if shards[0].local:
        check_own(shards[0].url)
    return Shards("::".join(patterns), len(shards), pairs)


def _absolute(pattern: str) -> Path:
    return Path(os.environ.get("FLIPSCALE_DATA", ""), pattern).absolute()


# Written ones


def _written(run: RunFolder, settings: Settings, data: Data) -> Shards:
    """The shards of what flipscale's own trainer would see, written unless they are there."""
    cache = Workspace.of_run(run.path).cache
    digest = hashlib.sha256(json.dumps(_content(settings, data), sort_keys=True).encode()).hexdigest()[:16]
    folder = cache / f"open_clip-{digest}"
    make_folder(cache)
    with locked(folder.with_name(f"{folder.name}.lock")):  # One process writes them while others wait for it.
        shards = or_none(read_json, folder / "index.json", Shards) or _write(folder, data, settings.image_size)
    last = shards.count - 1
    return replace(shards, urls=f"{folder}/{{00000..{last:05}}}.tar" if last else f"{folder}/00000.tar")


def _content(settings: Settings, data: Data) -> list[Any]:
    """The inputs that decide the pairs."""
    files = [source.key for source in sources(settings.data.urls)] if isinstance(settings.data, WebDataset) else []
    return [_WRITTEN_FORMAT, plain(settings.data), files, data.size, settings.image_size, settings.text_length]


def _write(folder: Path, data: Data, image_size: int) -> Shards:
    """Write the shards and their index; the URLs in it do not count, as folders may be moved."""
    expected = data.size * 3 * image_size**2
    free = shutil.disk_usage(folder.parent).free
    if expected > free:
        raise DataError(
            f"{folder.parent}: shards of {data.size} pairs take up to {expected / 1e9:.1f} GB and the disk has "
            f"{free / 1e9:.1f} GB free; make room, or set crop (open_clip's is 0.9) to have your own shards read."
        )
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    for leftover in (unfinished, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    make_folder(unfinished)
    count = max(1, min(MOST_SHARDS, data.size // SHARD_PAIRS))
    ends = [round(data.size * (number + 1) / count) for number in range(count)]
    for number, (first, end) in enumerate(zip([0, *ends], ends, strict=False)):
        with tarfile.open(unfinished / f"{number:05}.tar", "w") as tar:
            for index, image, caption in _pairs(data, first, end):
                _add(tar, f"{index:08}.png", image)
                _add(tar, f"{index:08}.txt", caption.encode())
    written = Shards("", count, data.size, data.corrupt())
    write_json(unfinished / "index.json", asdict(written))
    unfinished.rename(folder)
    return written


def _pairs(data: Data, first: int, end: int) -> Iterator[tuple[int, bytes, str]]:
    """Index, PNG and caption of the pairs first .. end - 1."""
    words = SimpleTokenizer()
    for start in range(first, end, _PAIRS_AT_A_TIME):
        indices = np.arange(start, min(start + _PAIRS_AT_A_TIME, end))
        images, tokens = data.batch(indices, None)
        for index, image, row in zip(indices.tolist(), images, tokens, strict=True):
            yield index, _png(image), _caption(words, row)


def _png(image: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    # The least compression: files are a tenth larger and take a third of the time.
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _caption(words: SimpleTokenizer, tokens: npt.NDArray[np.int64]) -> str:
    """The caption of tokens [T]: what stands between the start and the end, which has the largest id."""
    caption: str = words.decode(tokens[1 : int(tokens.argmax())].tolist())
    return caption.strip()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
