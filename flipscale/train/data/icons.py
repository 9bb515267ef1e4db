"""A data set of some 300,000 captioned icons, built from the npm package @iconify/json into webdataset shards.

    DIR/train-00000.tar ...     KEY.png, KEY.txt (the icon's name in words), KEY.json (set, name, concept, licence)
    DIR/test-00000.tar ...      the same, of sets that are not trained on, and with captions that are all different
    DIR/concepts-00000.tar ...  KEY.png, KEY.cls: labelled icons of those sets, the names of the classes in concepts.txt
    DIR/README.md               counts, and by set its author, licence and part

The icons of a shard, and of all shards, are in the order of a hash of their set and name, so the first n training pairs
are a random sample of all sets, whatever n, and stay nearly the same from one version of the package to the next. From
the same package, and with the same releases of resvg-py and Pillow, every file comes out the same to the last byte.
"""

import hashlib
import importlib.metadata
import io
import json
import shutil
import subprocess
import tarfile
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from PIL import Image

from flipscale.errors import DataError
from flipscale.train.data import draw as hashes
from flipscale.train.data.iconify import Name, draw, read_names, visible_icons

PERMISSIVE = frozenset({
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-3.0", "CC-BY-4.0", "CC0-1.0", "ISC", "MIT",
    "MIT-0", "OFL-1.1", "Unlicense",
})  # fmt: skip
"""Licences, by their SPDX names, under which pictures of a set may be passed on if at most its author is named."""

HELD_OUT = frozenset({
    "ant-design", "carbon", "clarity", "f7", "gravity-ui", "iconoir", "marketeq", "nimbus", "pixelarticons",
    "teenyicons", "twemoji", "vaadin", "zondicons",
})  # fmt: skip
"""Sets that are not trained on: outlined, solid, pixelled, coloured and emoji, by authors who drew them for themselves.

Many sets are copies, forks or new editions of others, which would make the test one of memory. So for 250 icons of a
set the nearest picture of the sets trained on was sought, in 16 x 16 grey levels: of these sets 1 to 4 % have one that
is nearly the same (.04 apart of 1, root mean square): dots and chevrons, which can be drawn in one way only, and logos.
Trained on for having 7 to 22 %: ri, si, uil and its like, jam, majesticons, radix-icons, iconamoon, grommet-icons; for
an author or an origin shared with others: fluent-mdl2, octicon, flat-color-icons, cil; and all sets of logos or flags.
"""

SAY_SECONDS = 5.0

PAIRS_PER_SHARD = 10_000

CONCEPTS, CONCEPT_IMAGES = 200, 5
"""The classes are so many concepts, those that the most training sets draw of those with so many held-out icons."""


@dataclass(frozen=True)
class Drawn:
    """A picture, and where its PNG lies."""

    prefix: str
    name: str
    said: Name
    order: int
    digest: bytes
    """Of its pixels."""
    file: Path
    start: int
    length: int


Sample = tuple[str, Drawn, dict[str, str]]
"""A key, its picture, and its texts by extension."""

Each = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], Iterator[Any]]
"""What a function gives for each tuple of arguments, as it comes."""


@dataclass(frozen=True)
class SetDrawn:
    """The pictures of one set, and how many of its icons gave none."""

    drawn: tuple[Drawn, ...]
    sizes: int
    """Left out for being drawn by the same set for more pixels as well."""
    blank: int
    """Nothing is to be seen on white or on black."""
    broken: tuple[str, ...]
    """resvg cannot read them: name and why."""


@dataclass(frozen=True)
class Icons:
    """What was built."""

    folder: Path
    train: int
    test: int
    concepts: int
    """How many classes."""
    labelled: int
    """How many pictures of these classes."""


def build_icons(out: Path, source: Path | None, size: int, workers: int, say: Callable[[str], None]) -> Icons:
    """Build the data set in the folder `out`, which appears when all is in it.

    source: the package as a folder or as the .tgz file that npm packs; None to have npm fetch it.
    size: width and height of the pictures in px.
    Raises DataError for a folder that is taken, a source that is no such package, and without npm where it is needed.
    """
    if size < 8 or workers < 1:
        raise DataError(f"size is {size} and workers {workers}; icons need 8 px or more, and one worker or more.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: is there already; remove it or name another folder.")
    unfinished = out.with_name(f"{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    package = _package(source, unfinished / "package", say)
    version, sets = _read_json(package / "package.json")["version"], _read_json(package / "collections.json")
    allowed = {prefix: info for prefix, info in sets.items() if info["license"].get("spdx") in PERMISSIVE}
    with _processes(workers) as each:
        drawn = _draw_all(package, allowed, unfinished / "drawn", size, each, say)
        parts = _part(drawn)
        say(f"writing {len(parts.training):,} training pairs and {len(parts.test):,} held-out ones")
        shards = [
            *_shards(unfinished, "train", parts.training, lambda icon: _caption_and_facts(icon, allowed)),
            *_shards(unfinished, "test", parts.test, lambda icon: _caption_and_facts(icon, allowed)),
            *_shards(unfinished, "concepts", parts.labelled, lambda icon: _label(icon, parts.classes)),
        ]
        list(each(_write_shard, shards))
    (unfinished / "concepts.txt").write_text("".join(f"{name}\n" for name in parts.classes), encoding="utf-8")
    (unfinished / "README.md").write_text(_readme(version, size, sets, drawn, parts), encoding="utf-8")
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
        raise DataError(f"{source}: there is no such file or folder; --from takes a folder or .tgz of @iconify/json.")
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
            "npm is not installed. Install Node.js; or where there is npm, run `npm pack @iconify/json`, "
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


def _draw_all(
    package: Path, sets: dict[str, Any], room: Path, size: int, each: Each, say: Callable[[str], None]
) -> dict[str, SetDrawn]:
    """Every set's pictures, by prefix; their PNGs in `room`, one file a set."""
    room.mkdir()
    # The largest sets first, so that no worker is left with one at the end.
    tasks = [
        (package / "json" / f"{prefix}.json", room / prefix, size)
        for prefix in sorted(sets, key=lambda prefix: (-sets[prefix]["total"], prefix))
    ]
    drawn: dict[str, SetDrawn] = {}
    total, last = sum(info["total"] for info in sets.values()), time.monotonic()
    say(f"drawing about {total:,} icons of {len(tasks)} sets at {size} px")
    for prefix, of_set in each(_draw_set, tasks):
        drawn[prefix] = of_set
        if time.monotonic() - last >= SAY_SECONDS:
            last = time.monotonic()
            done = sum(sets[prefix]["total"] for prefix in drawn)
            say(f"drew {done:,} of {total:,} icons ({len(drawn)} of {len(tasks)} sets)")
    return dict(sorted(drawn.items()))


def _draw_set(path: Path, file: Path, size: int) -> tuple[str, SetDrawn]:
    """Draw a set's icons into `file`, one PNG after the other."""
    prefix, named = path.stem, list(visible_icons(_read_json(path)))
    said = read_names([name for name, _ in named])
    largest = _largest(said)
    drawn: list[Drawn] = []
    blank, broken = 0, []
    with open(file, "wb") as pngs:
        for (name, icon), words in zip(named, said, strict=True):
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
            order = hashes.key("icons", prefix, name)
            digest = hashlib.sha256(picture.tobytes()).digest()
            drawn.append(Drawn(prefix, name, words, order, digest, file, pngs.tell(), len(png.getvalue())))
            pngs.write(png.getvalue())
    sizes = len(named) - len(drawn) - blank - len(broken)
    return prefix, SetDrawn(tuple(drawn), sizes, blank, tuple(broken))


def _largest(said: Sequence[Name]) -> dict[str, int | None]:
    """By caption, the size to draw, where a set has sizes; no size in the name is the set's main one."""
    found: dict[str, set[int | None]] = defaultdict(set)
    for name in said:
        found[name.caption].add(name.size)
    return {
        caption: None if None in sizes else max(size for size in sizes if size is not None)
        for caption, sizes in found.items()
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch the package @iconify/json again.") from None
    return content


@dataclass(frozen=True)
class Parts:
    """Who goes where, each in the order of the shards."""

    training: tuple[Drawn, ...]
    test: tuple[Drawn, ...]
    labelled: tuple[Drawn, ...]
    classes: tuple[str, ...]
    doubles: int
    """Left out since the same picture, pixel by pixel, is in already."""
    shared: int
    """Left out of training since a held-out set has the same picture."""


def _part(drawn: dict[str, SetDrawn]) -> Parts:
    """Sort the pictures into training and held-out ones; each is there once, and what is held out is not trained on."""
    icons = sorted((icon for of_set in drawn.values() for icon in of_set.drawn), key=lambda icon: icon.order)
    held_out = _once(icon for icon in icons if icon.prefix in HELD_OUT)
    for_training = _once(icon for icon in icons if icon.prefix not in HELD_OUT)
    held = {icon.digest for icon in held_out}
    training = [icon for icon in for_training if icon.digest not in held]
    classes = _classes(training, held_out)
    captions: dict[str, Drawn] = {}
    for icon in held_out:
        captions.setdefault(icon.said.caption, icon)
    return Parts(
        training=tuple(training),
        test=tuple(captions.values()),
        labelled=tuple(icon for icon in held_out if icon.said.concept in classes),
        classes=classes,
        doubles=len(icons) - len(held_out) - len(for_training),
        shared=len(for_training) - len(training),
    )


def _once(icons: Iterable[Drawn]) -> list[Drawn]:
    """The icons, of several with the same picture the first."""
    pictures: dict[bytes, Drawn] = {}
    for icon in icons:
        pictures.setdefault(icon.digest, icon)
    return list(pictures.values())


def _classes(training: Iterable[Drawn], held_out: Iterable[Drawn]) -> tuple[str, ...]:
    """The concepts that most training sets draw, of those with enough held-out pictures; in alphabetical order."""
    sets: dict[str, set[str]] = defaultdict(set)
    for icon in training:
        sets[icon.said.concept].add(icon.prefix)
    pictures = Counter(icon.said.concept for icon in held_out)
    enough = [concept for concept, count in pictures.items() if count >= CONCEPT_IMAGES and concept in sets]
    return tuple(sorted(sorted(enough, key=lambda concept: (-len(sets[concept]), concept))[:CONCEPTS]))


def _shards(
    out: Path, part: str, icons: Sequence[Drawn], texts: Callable[[Drawn], dict[str, str]]
) -> Iterator[tuple[Path, list[Sample]]]:
    """The paths and samples of a part's shards. Keys are numbers, the shard's and the sample's, as in img2dataset."""
    for shard, first in enumerate(range(0, len(icons), PAIRS_PER_SHARD)):
        here = icons[first : first + PAIRS_PER_SHARD]
        samples = [(f"{shard:05}{within:04}", icon, texts(icon)) for within, icon in enumerate(here)]
        yield out / f"{part}-{shard:05}.tar", samples


def _caption_and_facts(icon: Drawn, sets: dict[str, Any]) -> dict[str, str]:
    facts = {
        "set": icon.prefix,
        "name": icon.name,
        "concept": icon.said.concept,
        "license": sets[icon.prefix]["license"]["spdx"],
    }
    return {"txt": icon.said.caption, "json": json.dumps(facts)}


def _label(icon: Drawn, classes: Sequence[str]) -> dict[str, str]:
    return {"cls": str(classes.index(icon.said.concept))}


def _write_shard(path: Path, samples: list[Sample]) -> None:
    # Times and owners are zero, so that the same pictures give the same bytes.
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, icon, texts in samples:
            with open(icon.file, "rb") as pngs:
                pngs.seek(icon.start)
                files = {"png": pngs.read(icon.length), **{kind: text.encode() for kind, text in texts.items()}}
            for kind, content in files.items():
                member = tarfile.TarInfo(f"{key}.{kind}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


@contextmanager
def _processes(workers: int) -> Iterator[Each]:
    """Calls of a function, shared out over so many processes, which start once; one worker is this process."""
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
                "a worker was killed or could not start, perhaps for want of memory; set fewer --workers."
            ) from None


def _readme(version: str, size: int, sets: dict[str, Any], drawn: dict[str, SetDrawn], parts: Parts) -> str:
    """What was built: counts, how it was made, and every set with its author, licence and part."""
    used = Counter(icon.prefix for icon in {*parts.training, *parts.test, *parts.labelled})
    broken = [line for of_set in drawn.values() for line in of_set.broken]
    blank, sizes = sum(of_set.blank for of_set in drawn.values()), sum(of_set.sizes for of_set in drawn.values())
    icons = sizes + blank + len(broken) + sum(len(of_set.drawn) for of_set in drawn.values())
    made_by = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("resvg-py", "pillow"))
    lines = [
        f"# Icons with captions, {size} px",
        "",
        f"Built by `flipscale data icons` from the npm package @iconify/json {version}, with {made_by}.",
        "",
        "| part | shards | pictures | files of a sample |",
        "|---|---|---|---|",
        f"| training | {_pattern('train', parts.training)} | {len(parts.training):,} | png, txt, json |",
        f"| held out | {_pattern('test', parts.test)} | {len(parts.test):,} | png, txt, json; each caption once |",
        f"| labelled | {_pattern('concepts', parts.labelled)} | {len(parts.labelled):,} "
        f"| png, cls: a line of concepts.txt, from 0 |",
        "",
        "- A caption is the icon's name in words: the thing and its style, without the size in px it is drawn for.",
        "- The order is that of a hash of set and name: the first n training pairs are a random sample of all sets.",
        f"- Held out, captioned or labelled, are sets not trained on: {', '.join(sorted(HELD_OUT & set(used)))}.",
        f"- The {len(parts.classes)} classes are the concepts that most training sets draw, of those with "
        f"{CONCEPT_IMAGES} held-out pictures or more. Synonyms are one class (gear and cog are settings), yet some "
        f"classes look alike (timer and stopwatch), so nobody is right about all of them.",
        "- Icons that leave their colour open are black on white; what would not show on white is on black. Wide and "
        "tall ones are fitted into the middle.",
        "",
        f"Not in it, of {icons:,} icons of sets with a permissive licence: {sizes:,} that the same set draws for more "
        f"pixels too, {parts.doubles:,} whose picture is in it already, {parts.shared:,} for training whose picture is "
        f"held out, {blank:,} that show nothing, {len(broken):,} that resvg cannot read{':' if broken else '.'}",
        "",
        *(f"- {line}" for line in broken),
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
            f"- {prefix} ({info['name']}, {info['total']:,} icons): {info['license'].get('spdx', 'no SPDX name')}"
            for prefix, info in sorted(sets.items())
            if prefix not in drawn
        ),
    ]
    return "".join(f"{line}\n" for line in lines)


def _row(prefix: str, info: dict[str, Any], pictures: int) -> str:
    author, licence = info["author"], info["license"]
    part = "held out" if prefix in HELD_OUT else "training"
    return (
        f"| {prefix} | {info['name']} | {_link(author['name'], author.get('url'))} "
        f"| {_link(licence['spdx'], licence.get('url'))} | {part} | {pictures:,} |"
    )


def _link(text: str, url: str | None) -> str:
    return f"[{text}]({url})" if url else text


def _pattern(part: str, icons: Sequence[Drawn]) -> str:
    """The shards of a part as `urls` of a study file name them."""
    last = max(0, len(icons) - 1) // PAIRS_PER_SHARD
    return f"{part}-{{00000..{last:05}}}.tar"
