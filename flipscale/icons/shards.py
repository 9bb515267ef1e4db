"""The tar files of the data set."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from flipscale.icons.drawing import DrawnIcon
from flipscale.written_shards import PAIRS_PER_SHARD, write_tar

ShardSample = tuple[str, DrawnIcon, dict[str, str]]
"""A key, its picture, and its texts by extension."""


def shards(
    out: Path, part: str, icons: Sequence[DrawnIcon], texts: Callable[[DrawnIcon], dict[str, str]]
) -> Iterator[tuple[Path, list[ShardSample]]]:
    """The paths and samples of a part's shards. Keys are numbers, the shard's and the sample's, as in img2dataset."""
    for shard, first in enumerate(range(0, len(icons), PAIRS_PER_SHARD)):
        chosen = icons[first : first + PAIRS_PER_SHARD]
        samples = [(f"{shard:05}{within:04}", icon, texts(icon)) for within, icon in enumerate(chosen)]
        yield out / f"{part}-{shard:05}.tar", samples


def pattern(part: str, icons: Sequence[DrawnIcon]) -> str:
    """The shards of a part, as a study file writes them under `urls`."""
    last = max(0, len(icons) - 1) // PAIRS_PER_SHARD
    return f"{part}-{{00000..{last:05}}}.tar"


def caption_and_facts(icon: DrawnIcon, licence: str | None) -> dict[str, str]:
    facts = {"set": icon.prefix, "name": icon.name, "concept": icon.words.concept, "license": licence}
    return {"txt": icon.words.caption, "json": json.dumps(facts)}


def label(icon: DrawnIcon, classes: Sequence[str]) -> dict[str, str]:
    return {"cls": str(classes.index(icon.words.concept))}


def write_shard(path: Path, samples: list[ShardSample]) -> None:
    write_tar(path, map(_files_of, samples))


def _files_of(sample: ShardSample) -> tuple[str, dict[str, bytes]]:
    key, icon, texts = sample
    with open(icon.file, "rb") as pngs:
        pngs.seek(icon.start)
        return key, {"png": pngs.read(icon.length), **{kind: text.encode() for kind, text in texts.items()}}
