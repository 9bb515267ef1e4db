"""Pictures of every set, each set's PNGs in a file of its own until they go into shards."""

import hashlib
import io
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from flipscale import randomness
from flipscale.icons.collections import IconSet, read_json
from flipscale.icons.iconify import Name, draw, read_names, visible_icons

PROGRESS_SECONDS = 5.0


@dataclass(frozen=True)
class DrawnIcon:
    """A picture, and where its PNG lies."""

    prefix: str
    name: str
    words: Name
    """The parts of its name."""
    order: int
    digest: bytes
    """Digest of its pixels."""
    file: Path
    start: int
    length: int


@dataclass(frozen=True)
class DrawnSet:
    """The pictures of one set, and how many of its icons gave none."""

    icons: tuple[DrawnIcon, ...]
    sizes: int
    """Left out because the same set draws them for more pixels too."""
    blank: int
    """Nothing can be seen on white or on black."""
    broken: tuple[str, ...]
    """Those that resvg cannot read: name and reason."""


Each = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], Iterator[Any]]
"""The results of a function for each tuple of arguments, as they come."""


def draw_all(
    package: Path, sets: Mapping[str, IconSet], room: Path, size: int, each: Each, say: Callable[[str], None]
) -> dict[str, DrawnSet]:
    """Every set's pictures, by prefix; their PNGs in `room`, one file a set."""
    room.mkdir()
    # The largest sets first, so that no worker is left with one at the end.
    tasks = [
        (package / "json" / f"{prefix}.json", room / prefix, size)
        for prefix in sorted(sets, key=lambda prefix: (-sets[prefix].total, prefix))
    ]
    drawn: dict[str, DrawnSet] = {}
    total, last = sum(icon_set.total for icon_set in sets.values()), time.monotonic()
    say(f"drawing about {total:,} icons of {len(tasks)} sets at {size} px")
    for prefix, drawn_set in each(_draw_set, tasks):
        drawn[prefix] = drawn_set
        if time.monotonic() - last >= PROGRESS_SECONDS:
            last = time.monotonic()
            done = sum(sets[prefix].total for prefix in drawn)
            say(f"drew {done:,} of {total:,} icons ({len(drawn)} of {len(tasks)} sets)")
    return dict(sorted(drawn.items()))


def _draw_set(path: Path, file: Path, size: int) -> tuple[str, DrawnSet]:
    """Draw a set's icons into `file`, one PNG after the other."""
    prefix, named = path.stem, list(visible_icons(read_json(path)))
    names = read_names([name for name, _ in named])
    largest = _largest(names)
    drawn: list[DrawnIcon] = []
    blank, broken = 0, []
    with open(file, "wb") as pngs:
        for (name, icon), words in zip(named, names, strict=True):
            if words.size != largest.get(words.caption, words.size):
                continue
            try:
                picture = draw(icon, size)
            except ValueError as error:
                broken.append(f"{prefix}:{name}: {error}")
                continue
            if picture is None:
                blank += 1
                continue
            png = io.BytesIO()
            Image.fromarray(picture).save(png, "PNG")
            order = randomness.key("icons", prefix, name)
            digest = hashlib.sha256(picture.tobytes()).digest()
            drawn.append(DrawnIcon(prefix, name, words, order, digest, file, pngs.tell(), len(png.getvalue())))
            pngs.write(png.getvalue())
    sizes = len(named) - len(drawn) - blank - len(broken)
    return prefix, DrawnSet(tuple(drawn), sizes, blank, tuple(broken))


def _largest(names: Sequence[Name]) -> dict[str, int | None]:
    """By caption, the size to draw, where a set has sizes; a name without a size is the main one."""
    found: dict[str, set[int | None]] = defaultdict(set)
    for name in names:
        found[name.caption].add(name.size)
    return {
        caption: None if None in sizes else max(size for size in sizes if size is not None)
        for caption, sizes in found.items()
    }
