"""A data set of some 300,000 captioned icons, built from the npm package @iconify/json into webdataset shards.

    DIR/train-00000.tar ...     KEY.png, KEY.txt (the icon's name in words), KEY.json (set, name, concept, licence)
    DIR/test-00000.tar ...      the same, of sets that are not trained on, and with captions that are all different
    DIR/concepts-00000.tar ...  KEY.png, KEY.cls: labelled icons of those sets, the names of the classes in concepts.txt
    DIR/README.md               counts, and by set its author, licence and part

The icons of a shard, and of all shards, are in the order of a hash of their set and name, so the first n training pairs
are a random sample of all sets, whatever n, and stay nearly the same from one version of the package to the next. From
the same package, and with the same releases of resvg-py and Pillow, every file comes out the same to the last byte.

Run it as `python studies/data/icons.py DIR`, with resvg-py installed (pip install 'flipscale[icons]').
"""

import argparse
import hashlib
import importlib.metadata
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from shards import PAIRS_PER_SHARD, end_on_error, unfinished_folder, write_tar

from flipscale import randomness
from flipscale.errors import DataError

# Icons of the npm package @iconify/json, in its format:
#
#     json/PREFIX.json   {"prefix", "icons": {NAME: {"body", "left", "top", "width", "height", "hidden"}},
#                         "aliases": {NAME: {"parent", "rotate", "hFlip", "vFlip"}}, and defaults for the four numbers}
#     collections.json   {PREFIX: {"name", "author", "license": {"title", "spdx", "url"}, ...}}
#
# A body is the inside of an <svg>. Single-colour icons have the colour `currentColor`, which is black here, on white.

try:
    import resvg_py
except ModuleNotFoundError:
    raise DataError("icons are drawn by resvg-py, which is not installed: pip install 'flipscale[icons]'") from None

STYLES = frozenset({
    "baseline", "bold", "broken", "color", "colored", "duo", "duotone", "fill", "filled", "flat", "icon", "light",
    "line", "linear", "logo", "medium", "outline", "outlined", "print", "regular", "remix", "round", "rounded",
    "sharp", "solid", "stroke", "thin", "twotone",
})  # fmt: skip
"""Words that say how a thing is drawn if they end, or begin, many of a set's names. Elsewhere they may name it."""

PIXEL_SIZES = frozenset(["8", "10", "12", "14", "15", "16", "18", "20", "24", "28", "32", "36", "40", "48"])
"""Numbers that say for how many pixels an icon is drawn, if they end many of a set's names."""

STYLE_SHARE, SIZE_SHARE = 0.05, 1 / 3
"""The share that counts as many. In sets whose names have sizes, half of them or more do; in others under a tenth."""

SYNONYMS = {
    "account": "user", "add": "plus", "alarm clock": "alarm", "bar chart": "chart bar", "bin": "trash",
    "bulb": "lightbulb", "cog": "settings", "comment": "chat", "cross": "close", "document": "file", "edit": "pencil",
    "email": "mail", "envelope": "mail", "gear": "settings", "house": "home", "light bulb": "lightbulb",
    "line chart": "chart line", "magnifying glass": "search", "map marker": "map pin", "message": "chat",
    "padlock": "lock", "pen": "pencil", "people": "users", "person": "user", "photo": "image", "picture": "image",
    "pie chart": "chart pie", "plane": "airplane", "reload": "refresh", "sync": "refresh", "television": "tv",
    "times": "close", "trash can": "trash", "x": "close",
}  # fmt: skip
"""Concepts that most sets draw alike, so no model could tell them apart, and the one that stands for both."""

_INVISIBLE = 40
"""A picture shows nothing if no pixel differs from the background by this much, of 255."""

_BOX = ("left", "top", "width", "height", "hidden")


@dataclass(frozen=True)
class Icon:
    """A picture of a set: the inside of an <svg>, and the box of it that is shown."""

    body: str
    left: float = 0
    top: float = 0
    width: float = 16
    height: float = 16
    rotate: int = 0
    """Quarter turns clockwise, after the flips."""
    h_flip: bool = False
    v_flip: bool = False
    hidden: bool = False


@dataclass(frozen=True)
class Name:
    """The parts of an icon's name."""

    caption: str
    """Its words: the thing and the visible style, without the size in pixels."""

    concept: str
    """The thing: the caption without style and without numbers at its end, synonyms made one."""

    size: int | None
    """For how many pixels it is drawn, where the name says so."""


def visible_icons(collection: dict[str, Any]) -> Iterator[tuple[str, Icon]]:
    """The icons of a set by name. Hidden ones, which were renamed or withdrawn, and plain aliases are left out.

    An alias that turns or flips its parent is a picture of its own; flips cancel out and turns add up along a chain.
    """
    icons, aliases = collection["icons"], collection.get("aliases", {})
    defaults = Icon("", **{key: collection[key] for key in _BOX if key in collection})

    def resolve(name: str, seen: frozenset[str]) -> Icon | None:
        if name in icons:
            return _changed(replace(defaults, body=icons[name]["body"]), icons[name])
        if name in seen or name not in aliases:
            return None
        parent = resolve(aliases[name]["parent"], seen | {name})
        return parent and _changed(parent, aliases[name])

    for name in [*icons, *(name for name, alias in aliases.items() if alias.keys() - {"parent"})]:
        icon = resolve(name, frozenset())
        if icon is not None and not icon.hidden:
            yield name, icon


def _changed(icon: Icon, entry: dict[str, Any]) -> Icon:
    """The icon with what an entry of "icons" or "aliases" says of its box, its turns and its flips."""
    return replace(
        icon,
        rotate=(icon.rotate + entry.get("rotate", 0)) % 4,
        h_flip=icon.h_flip != entry.get("hFlip", False),
        v_flip=icon.v_flip != entry.get("vFlip", False),
        **{key: entry[key] for key in _BOX if key in entry},
    )


def svg(icon: Icon, size: int) -> str:
    """The icon as a whole document of size x size px, fitted into the middle. Follows iconToSVG of @iconify/utils."""
    left, top, width, height = icon.left, icon.top, icon.width, icon.height
    moves, turns = [], icon.rotate
    if icon.h_flip and icon.v_flip:
        turns += 2
    elif icon.h_flip:
        moves.append(f"translate({width + left} {-top}) scale(-1 1)")
        left = top = 0
    elif icon.v_flip:
        moves.append(f"translate({-left} {height + top}) scale(1 -1)")
        left = top = 0
    if turns % 4 == 1:
        moves.insert(0, f"rotate(90 {height / 2 + top} {height / 2 + top})")
    elif turns % 4 == 2:
        moves.insert(0, f"rotate(180 {width / 2 + left} {height / 2 + top})")
    elif turns % 4 == 3:
        moves.insert(0, f"rotate(-90 {width / 2 + left} {width / 2 + left})")
    if turns % 2:
        left, top, width, height = top, left, height, width
    body = f'<g transform="{" ".join(moves)}">{icon.body}</g>' if moves else icon.body
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="black" '
        f'width="{size}" height="{size}" viewBox="{left} {top} {width} {height}">{body}</svg>'
    )


def draw(icon: Icon, size: int) -> npt.NDArray[np.uint8] | None:
    """The picture [size, size, 3] on white; on black if it does not show on white; None if it shows on neither.

    Raises ValueError for a body that is not SVG.
    """
    document = svg(icon, size)
    for background, value in (("white", 255), ("black", 0)):
        # Without fonts, which differ from machine to machine: nearly all icons are drawn in paths.
        png = resvg_py.svg_to_bytes(svg_string=document, background=background, skip_system_fonts=True)
        picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        if np.abs(picture.astype(np.int16) - value).max() >= _INVISIBLE:
            return picture
    return None


def read_names(names: list[str]) -> list[Name]:
    """The parts of each name of one set; the set's names together show which words are style or size.

    >>> read_names(["arrow-left-24-filled", "arrow-left-24-regular"])[0]
    Name(caption='arrow left filled', concept='arrow left', size=24)
    """
    split = [name.replace("two-tone", "twotone").split("-") for name in names]
    last = Counter(word for words in split for word in set(words[1:][-3:]) | {words[0]})
    styles = {word for word in STYLES if last[word] >= max(2, STYLE_SHARE * len(names))}
    sized = [_size(words, styles) for words in split]
    has_sizes = sum(place is not None for place in sized) >= SIZE_SHARE * len(names)
    return [
        _read(words, place if place and (has_sizes or words[place].endswith("px")) else None, styles)
        for words, place in zip(split, sized, strict=True)
    ]


def _size(words: list[str], styles: set[str]) -> int | None:
    """The place of the last word that may be a size: only styles come after it, and something before it."""
    for place in range(len(words) - 1, 0, -1):
        if words[place].removesuffix("px") in PIXEL_SIZES:
            return place
        if words[place] not in styles:
            return None
    return None


def _read(words: list[str], place: int | None, styles: set[str]) -> Name:
    size = None if place is None else int(words[place].removesuffix("px"))
    words = [word for at, word in enumerate(words) if at != place]
    if len(words) > 1 and _counts_drawings(words[-1]):
        words = words[:-1]
    concept = " ".join(_thing(words, styles))
    return Name(" ".join(words), SYNONYMS.get(concept, concept), size)


def _counts_drawings(word: str) -> bool:
    """Whether a word counts drawings, as in search-01 and search-02, whose pictures show no digit."""
    return len(word) == 2 and word[0] == "0" and word.isdigit()


def _thing(words: list[str], styles: set[str]) -> list[str]:
    """The words without those of style around them and without numbers at the end; one word is left in any case."""
    while len(words) > 1 and (words[-1] in styles or words[-1].isdigit()):
        words = words[:-1]
    while len(words) > 1 and words[0] in styles:
        words = words[1:]
    return words


# The sets of the package @iconify/json, as it describes them.

PERMISSIVE = frozenset({
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-3.0", "CC-BY-4.0", "CC0-1.0", "ISC", "MIT",
    "MIT-0", "OFL-1.1", "Unlicense",
})  # fmt: skip
"""Licences, by their SPDX names, under which pictures of a set may be passed on if at most its author is named."""


@dataclass(frozen=True)
class IconSet:
    """A set of icons, its author and its licence."""

    name: str
    total: int
    """How many icons it has."""
    author: str
    author_url: str | None
    licence: str | None
    """Its SPDX name, if it has one."""
    licence_url: str | None

    @property
    def is_permissive(self) -> bool:
        return self.licence in PERMISSIVE


def read_sets(package: Path) -> dict[str, IconSet]:
    """Every set of the package, by its prefix."""
    return {prefix: _icon_set(info) for prefix, info in read_json(package / "collections.json").items()}


def _icon_set(info: dict[str, Any]) -> IconSet:
    author, licence = info["author"], info["license"]
    return IconSet(
        name=info["name"],
        total=info["total"],
        author=author["name"],
        author_url=author.get("url"),
        licence=licence.get("spdx"),
        licence_url=licence.get("url"),
    )


def read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch the package @iconify/json again.") from None
    return content


# Pictures of every set, each set's PNGs in a file of its own until they go into shards.

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


# Which pictures are trained on, held out, labelled.

HELD_OUT_SETS = frozenset({
    "ant-design", "carbon", "clarity", "f7", "gravity-ui", "iconoir", "marketeq", "nimbus", "pixelarticons",
    "teenyicons", "twemoji", "vaadin", "zondicons",
})  # fmt: skip
"""Sets that are not trained on: outlined, solid, pixelled, coloured and emoji, by authors who drew them for themselves.

Many sets are copies, forks or new editions of others, which would turn the test into one of memory. For 250 icons of
each set the nearest picture of the training sets was therefore looked up, in 16 x 16 grey levels. In these sets 1 to
4 % of the icons have one that is nearly the same (.04 apart of 1, root mean square): dots and chevrons, which can be
drawn in one way only, and logos. Training takes sets with 7 to 22 %: ri, si, uil and its like, jam, majesticons,
radix-icons, iconamoon, grommet-icons. It also takes those that share an author or an origin with others: fluent-mdl2,
octicon, flat-color-icons, cil; and all sets of logos or flags.
"""

CONCEPTS, CONCEPT_IMAGES = 200, 5
"""Number of classes, the concepts that the most training sets draw, and the held-out icons that each must have."""


@dataclass(frozen=True)
class Parts:
    """Which pictures go where, each part in the order of the shards."""

    training: tuple[DrawnIcon, ...]
    test: tuple[DrawnIcon, ...]
    labelled: tuple[DrawnIcon, ...]
    classes: tuple[str, ...]
    doubles: int
    """Left out because the same picture, pixel by pixel, is already in."""
    shared: int
    """Left out of training because a held-out set has the same picture."""


def part(drawn: Mapping[str, DrawnSet]) -> Parts:
    """Sort the pictures into training and held-out ones; each occurs once, and no held-out one is trained on."""
    icons = sorted((icon for drawn_set in drawn.values() for icon in drawn_set.icons), key=lambda icon: icon.order)
    held_out = _once(icon for icon in icons if icon.prefix in HELD_OUT_SETS)
    for_training = _once(icon for icon in icons if icon.prefix not in HELD_OUT_SETS)
    held = {icon.digest for icon in held_out}
    training = [icon for icon in for_training if icon.digest not in held]
    classes = _classes(training, held_out)
    return Parts(
        training=tuple(training),
        test=_one_a_caption(held_out),
        labelled=tuple(icon for icon in held_out if icon.words.concept in classes),
        classes=classes,
        doubles=len(icons) - len(held_out) - len(for_training),
        shared=len(for_training) - len(training),
    )


def _one_a_caption(icons: Iterable[DrawnIcon]) -> tuple[DrawnIcon, ...]:
    captions: dict[str, DrawnIcon] = {}
    for icon in icons:
        captions.setdefault(icon.words.caption, icon)
    return tuple(captions.values())


def _once(icons: Iterable[DrawnIcon]) -> list[DrawnIcon]:
    """The icons; of several with the same picture, the first."""
    pictures: dict[bytes, DrawnIcon] = {}
    for icon in icons:
        pictures.setdefault(icon.digest, icon)
    return list(pictures.values())


def _classes(training: Iterable[DrawnIcon], held_out: Iterable[DrawnIcon]) -> tuple[str, ...]:
    """The concepts that most training sets draw, of those with enough held-out pictures; in alphabetical order."""
    sets: dict[str, set[str]] = defaultdict(set)
    for icon in training:
        sets[icon.words.concept].add(icon.prefix)
    pictures = Counter(icon.words.concept for icon in held_out)
    enough = [concept for concept, count in pictures.items() if count >= CONCEPT_IMAGES and concept in sets]
    return tuple(sorted(sorted(enough, key=lambda concept: (-len(sets[concept]), concept))[:CONCEPTS]))


# The tar files of the data set.

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


# The data set in words: counts, how it was made, and every set with its author, licence and part.


def readme(version: str, size: int, sets: Mapping[str, IconSet], drawn: Mapping[str, DrawnSet], parts: Parts) -> str:
    """README.md of the data set. `sets` are all of the package, `drawn` those whose licence is permissive."""
    used = Counter(icon.prefix for icon in {*parts.training, *parts.test, *parts.labelled})
    made_by = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("resvg-py", "pillow"))
    lines = [
        f"# Icons with captions, {size} px",
        "",
        f"Built by studies/data/icons.py from the npm package @iconify/json {version}, with {made_by}.",
        "",
        *_counts(parts, used),
        "",
        *_left_out(drawn, parts),
        "",
        "## Sets, their authors and licences",
        "",
        f"The pictures are the authors' icons, drawn as {size} x {size} pixels and otherwise unchanged.",
        "",
        "| set | name | author | licence | part | pictures |",
        "|---|---|---|---|---|---|",
        *(_row(prefix, sets[prefix], used[prefix]) for prefix in sorted(used)),
        "",
        "## Sets left out for their licence",
        "",
        *(
            f"- {prefix} ({icon_set.name}, {icon_set.total:,} icons): {icon_set.licence or 'no SPDX name'}"
            for prefix, icon_set in sorted(sets.items())
            if prefix not in drawn
        ),
    ]
    return "".join(f"{line}\n" for line in lines)


def _counts(parts: Parts, used: Mapping[str, int]) -> list[str]:
    return [
        "| part | shards | pictures | files of a sample |",
        "|---|---|---|---|",
        f"| training | {pattern('train', parts.training)} | {len(parts.training):,} | png, txt, json |",
        f"| held out | {pattern('test', parts.test)} | {len(parts.test):,} | png, txt, json; each caption once |",
        f"| labelled | {pattern('concepts', parts.labelled)} | {len(parts.labelled):,} "
        f"| png, cls: a line of concepts.txt, from 0 |",
        "",
        "- A caption is the icon's name in words: the thing and its style, without the size in px it is drawn for.",
        "- The order is that of a hash of set and name: the first n training pairs are a random sample of all sets.",
        f"- Held out, captioned or labelled, are sets not trained on: {', '.join(sorted(HELD_OUT_SETS & set(used)))}.",
        f"- The {len(parts.classes)} classes are the concepts that most training sets draw, of those with "
        f"{CONCEPT_IMAGES} held-out pictures or more. Synonyms are one class (gear and cog are settings), yet some "
        f"classes look alike (timer and stopwatch), so no model can get all of them right.",
        "- Icons that leave their colour open are black on white; what would not show on white is on black. Wide and "
        "tall ones are fitted into the middle.",
    ]


def _left_out(drawn: Mapping[str, DrawnSet], parts: Parts) -> list[str]:
    broken = [line for drawn_set in drawn.values() for line in drawn_set.broken]
    blank = sum(drawn_set.blank for drawn_set in drawn.values())
    sizes = sum(drawn_set.sizes for drawn_set in drawn.values())
    icons = sizes + blank + len(broken) + sum(len(drawn_set.icons) for drawn_set in drawn.values())
    return [
        f"Left out of {icons:,} icons in sets with a permissive licence: {sizes:,} that the same set draws for more "
        f"pixels too, {parts.doubles:,} whose picture is already in, {parts.shared:,} for training whose picture is "
        f"held out, {blank:,} that show nothing, {len(broken):,} that resvg cannot read{':' if broken else '.'}",
        "",
        *(f"- {line}" for line in broken),
    ]


def _row(prefix: str, icon_set: IconSet, pictures: int) -> str:
    part = "held out" if prefix in HELD_OUT_SETS else "training"
    return (
        f"| {prefix} | {icon_set.name} | {_link(icon_set.author, icon_set.author_url)} "
        f"| {_link(icon_set.licence or '', icon_set.licence_url)} | {part} | {pictures:,} |"
    )


def _link(text: str, url: str | None) -> str:
    return f"[{text}]({url})" if url else text


# The whole of building the data set: fetch, draw, sort, write.


@dataclass(frozen=True)
class Icons:
    """The data set that was built."""

    folder: Path
    train: int
    test: int
    concepts: int
    """The number of classes."""
    labelled: int
    """The number of pictures of these classes."""


def build_icons(out: Path, source: Path | None, size: int, workers: int, say: Callable[[str], None]) -> Icons:
    """Build the data set in the folder `out`, which appears when all is in it.

    source: the package as a folder or as the .tgz file that npm packs; None to have npm fetch it.
    size: width and height of the pictures in px.
    Raises DataError if the folder exists, if the source is not such a package, or if npm is needed and missing.
    """
    if size < 8 or workers < 1:
        raise DataError(f"size is {size} and workers {workers}; icons need 8 px or more, and one worker or more.")
    unfinished = unfinished_folder(out)
    package = _package(source, unfinished / "package", say)
    version, sets = read_json(package / "package.json")["version"], read_sets(package)
    allowed = {prefix: icon_set for prefix, icon_set in sets.items() if icon_set.is_permissive}

    def with_caption(icon: DrawnIcon) -> dict[str, str]:
        return caption_and_facts(icon, allowed[icon.prefix].licence)

    with _processes(workers) as each:
        drawn = draw_all(package, allowed, unfinished / "drawn", size, each, say)
        parts = part(drawn)
        say(f"writing {len(parts.training):,} training pairs and {len(parts.test):,} held-out ones")
        files = [
            *shards(unfinished, "train", parts.training, with_caption),
            *shards(unfinished, "test", parts.test, with_caption),
            *shards(unfinished, "concepts", parts.labelled, lambda icon: label(icon, parts.classes)),
        ]
        list(each(write_shard, files))
    (unfinished / "concepts.txt").write_text("".join(f"{name}\n" for name in parts.classes), encoding="utf-8")
    (unfinished / "README.md").write_text(readme(version, size, sets, drawn, parts), encoding="utf-8")
    for used in ("drawn", "package"):
        shutil.rmtree(unfinished / used, ignore_errors=True)
    unfinished.rename(out)
    return Icons(out, len(parts.training), len(parts.test), len(parts.classes), len(parts.labelled))


def _package(source: Path | None, room: Path, say: Callable[[str], None]) -> Path:
    """The folder of the package; what has to be unpacked first is unpacked in `room`."""
    room.mkdir()
    if source is None:
        source = _fetch(room, say)
    if not source.exists():
        raise DataError(f"{source}: not found; --from takes a folder or .tgz of @iconify/json.")
    if source.is_file():
        say(f"unpacking {source.name}")
        try:
            with tarfile.open(source) as tar:
                tar.extractall(room, filter="data")
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise DataError(f"{source}: not a .tgz file as `npm pack @iconify/json` writes it ({error}).") from None
        source = room / "package"
    if not all((source / name).exists() for name in ("collections.json", "package.json", "json")):
        raise DataError(
            f"{source}: not the package @iconify/json, which has collections.json, package.json and a folder json. "
            f"Give its folder or its .tgz file with --from; without --from npm fetches it."
        )
    return source


def _fetch(room: Path, say: Callable[[str], None]) -> Path:
    """The package as npm fetches it: a .tgz file in `room`."""
    npm = shutil.which("npm")
    if npm is None:
        raise DataError(
            "npm is not installed. Install Node.js, or run `npm pack @iconify/json` on a machine that has npm "
            "and give the .tgz file it writes with --from."
        )
    say("fetching @iconify/json, about 105 MB, with npm")
    done = subprocess.run(
        [npm, "pack", "@iconify/json", "--silent"],
        cwd=room,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    found = list(room.glob("*.tgz"))
    if done.returncode or not found:
        reason = (done.stderr.strip() or done.stdout.strip() or "it gave no reason").splitlines()[-1]
        raise DataError(
            f"`npm pack @iconify/json` failed: {reason}. Run it where it works and give the .tgz file with --from."
        )
    return found[0]


@contextmanager
def _processes(workers: int) -> Iterator[Each]:
    """Calls a function in a pool of processes that start once; with one worker, in this process."""
    if workers == 1:
        yield lambda function, tasks: (function(*task) for task in tasks)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:

        def each(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
            return (call.result() for call in as_completed([pool.submit(function, *task) for task in tasks]))

        try:
            yield each
        except BrokenProcessPool:
            raise DataError(
                "a worker was killed or could not start, perhaps because memory ran out; set fewer --workers."
            ) from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="DIR", type=Path, help="where the files go")
    parser.add_argument("--from", dest="source", metavar="PATH", type=Path, help="the npm package, a folder or a .tgz")
    parser.add_argument("--size", type=int, default=32, help="side of a picture in pixels (32)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that draw (one a core)")
    args = parser.parse_args()
    build_icons(args.folder, args.source, args.size, args.workers, lambda line: print(line, file=sys.stderr))


if __name__ == "__main__":
    with end_on_error():
        main()
