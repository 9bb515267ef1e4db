"""The data set in words: counts, how it was made, and every set with its author, licence and part."""

import importlib.metadata
from collections import Counter
from collections.abc import Mapping

from flipscale.icons.collections import IconSet
from flipscale.icons.drawing import DrawnSet
from flipscale.icons.parts import CONCEPT_IMAGES, HELD_OUT_SETS, Parts
from flipscale.icons.shards import pattern


def readme(version: str, size: int, sets: Mapping[str, IconSet], drawn: Mapping[str, DrawnSet], parts: Parts) -> str:
    """README.md of the data set. `sets` are all of the package, `drawn` those whose licence is permissive."""
    used = Counter(icon.prefix for icon in {*parts.training, *parts.test, *parts.labelled})
    made_by = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("resvg-py", "pillow"))
    lines = [
        f"# Icons with captions, {size} px",
        "",
        f"Built by `flipscale data icons` from the npm package @iconify/json {version}, with {made_by}.",
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
