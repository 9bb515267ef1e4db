"""Long benchmarks in parts: each result is kept when it is done, so a run that was cut short goes on where it stopped.

The file of a part has its name and a digest of its arguments and code, so a result of other code is never reused.
"""

import hashlib
import json
import pickle
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Part:
    """A piece of work that needs no other."""

    name: str
    work: Callable[..., dict[str, Any]]
    """A function of a module, so that another process can call it."""
    arguments: tuple[Any, ...]

    def path(self, folder: Path, code: str) -> Path:
        """The file of its result."""
        # Pickled, a function among the arguments is its name; its repr would be another address each time.
        asked = hashlib.sha256(pickle.dumps((self.work.__name__, self.arguments, code), protocol=4)).hexdigest()
        return folder / f"{re.sub('[^a-z0-9.]+', '-', self.name.lower()).strip('-')}-{asked[:12]}.json"


def digest(*sources: str) -> str:
    """A digest of these files, or folders of Python files, of the repository."""
    found = hashlib.sha256()
    for source in sources:
        path = ROOT / source
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            found.update(file.read_bytes())
    return found.hexdigest()


def run_parts(parts: list[Part], *, folder: Path | None, code: str, jobs: int = 1) -> list[dict[str, Any]]:
    """The result of each part, in their order. Results in `folder` are read; the others are computed and kept there."""
    done: dict[int, dict[str, Any]] = {}
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        kept = {i: part.path(folder, code) for i, part in enumerate(parts)}
        done = {i: json.loads(path.read_text()) for i, path in kept.items() if path.exists()}
        if done:
            print(f"{len(done)} of {len(parts)} parts are kept from an earlier run", file=sys.stderr)
    waiting = {i: part for i, part in enumerate(parts) if i not in done}
    began = time.monotonic()
    for i, facts in _finished(waiting, jobs):
        done[i] = facts
        if folder is not None:
            new = kept[i].with_suffix(".new")
            new.write_text(json.dumps(facts))
            new.rename(kept[i])
        print(f"{len(done)} of {len(parts)}, {time.monotonic() - began:.0f} s: {parts[i].name}", file=sys.stderr)
    return [done[i] for i in range(len(parts))]


def _finished(waiting: Mapping[int, Part], jobs: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Parts as they finish, in `jobs` processes."""
    if jobs == 1:
        yield from ((i, part.work(*part.arguments)) for i, part in waiting.items())
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(part.work, *part.arguments): i for i, part in waiting.items()}
        yield from ((futures[future], future.result()) for future in as_completed(futures))
