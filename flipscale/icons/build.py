"""The whole of building the data set: fetch, draw, sort, write."""

import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from flipscale.errors import DataError
from flipscale.icons.collections import read_json, read_sets
from flipscale.icons.drawing import DrawnIcon, Each, draw_all
from flipscale.icons.parts import part
from flipscale.icons.readme import readme
from flipscale.icons.shards import caption_and_facts, label, shards, write_shard
from flipscale.written_shards import begun


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
    unfinished = begun(out)
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
