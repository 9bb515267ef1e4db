"""Icons of the npm package @iconify/json: read as Iconify's format says, named in words, and drawn by resvg.

    json/PREFIX.json   {"prefix", "icons": {NAME: {"body", "left", "top", "width", "height", "hidden"}},
                        "aliases": {NAME: {"parent", "rotate", "hFlip", "vFlip"}}, and defaults for the four numbers}
    collections.json   {PREFIX: {"name", "author", "license": {"title", "spdx", "url"}, ...}}

A body is the inside of an <svg>. Single-colour icons have the colour `currentColor`, which is black here, on white.
"""

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from flipscale.errors import DataError

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
