"""Cache of earlier reads, so that only folders that have changed are read again.

    .collected   beside results.csv: a summary line, then one line for every finished run, each a JSON object

A folder counts as unchanged if size, times and inode of its files are as they were when read, and the requests for the
run and those it started from are the same. The file may be deleted at any time. A torn one, or one that another
flipscale wrote, counts as missing: then everything is read again.
"""

import functools
import hashlib
import marshal
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import orjson

from flipscale import run
from flipscale.errors import DamagedFile
from flipscale.plain_files import open_plain, read_bytes
from flipscale.plan import Run
from flipscale.settings import plain

CACHE_FILE = ".collected"

PLAN_SOURCE = Path(__file__).parents[1] / "plan.py"

_LONGEST_HEAD = 2**26
"""Bytes of the first line, at most: a file without lines is not ours."""

FILES_READ = ("run.json", "result.json", "metrics.jsonl", "scores.json")
"""The files of a row and its points, and result.json of the runs that it started from."""

_TICK_NS = 50_000_000
"""A file system gives two writes the same time within a tick of its clock, which is 1 to 10 ms."""

_COARSE_NS = 2_000_000_000
"""The tick of a file system that keeps whole seconds."""

Key = list[list[int] | None]
"""For each of a run's files its size, times and inode; None for one that is not there."""


class FinishedRun(NamedTuple):
    """A look at a folder that has a result: the request for the run, and its files."""

    asked: str
    """Digest of the requests for it and those it started from."""
    key: Key


@dataclass(frozen=True)
class CachedRun:
    """The content that was read of one finished run."""

    asked: str
    key: Key | None
    """The files it was read from; None if they were so new that a later write might not show."""
    row: dict[str, str] | None
    """Its row as results.csv has it; None for a run that has none: one that could not be read, or that no cell of the
    study asks for."""
    unknown: list[str]
    """Its scores that have no column."""
    points: int
    """Rows of curves.parquet."""
    torn: int
    """Lines of metrics.jsonl left out."""
    problem: str | None
    """Why it could not be read."""


@dataclass(frozen=True)
class CachedSummary:
    """What collecting found out about finished runs, and the tables it wrote."""

    digest: str | None
    """Digest of everything that was read; None if something has to be read again anyway."""
    tables: list[list[int] | None]
    """results.csv and curves.parquet as they were written."""
    rows: int
    finished: int
    """Finished runs that could be read."""
    torn: int
    problems: dict[str, str]
    unknown: list[str]


def stat_key(path: str) -> list[int] | None:
    """A value that tells one content of a file from another, without reading it; None if there is no such file.

    The inode and the time of its last change (ctime) differ even if size and mtime were made to look the same.
    """
    try:
        found = os.stat(path)  # noqa: PTH116  a Path costs more than it says where there are 30,000 files
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:  # a link to itself, for example: its reader will say what it is
        found = os.lstat(path)
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def is_settled(key: Key, now_ns: int) -> bool:
    """Whether a write from now on would show in the key. `now_ns` is by the clock of the file system."""
    for stat in key:
        if stat is not None:
            latest = max(stat[1], stat[2])
            tick = _COARSE_NS if latest % 1_000_000_000 == 0 else _TICK_NS
            if latest + tick > now_ns:
                return False
    return True


def asked_of(asked: Run, study: str, runs: Mapping[str, Run]) -> str:
    """A digest of everything in a run's row that its folder does not say.

    marshal takes an eighth of json's time, and its second version writes equal data alike.
    """
    facts: list[object] = [study, _facts_of(asked)]
    waiting = list(asked.parents)
    while waiting:
        if parent := runs.get(waiting.pop()):
            facts.append(_facts_of(parent))
            waiting += parent.parents
    return _short_digest(marshal.dumps(facts, 2))


def _facts_of(asked: Run) -> list[object]:
    timed = asked.timed and [asked.timed.gpu_hours, asked.timed.place.device]
    return [asked.id, plain(asked.settings), list(asked.parents), vars(asked.cost), asked.cell, timed]


@functools.cache
def reader_digest() -> str:
    """A digest of the code that reads run folders: what another version read is read again."""
    digest = hashlib.blake2b(digest_size=16)
    modules = (*Path(__file__).parent.glob("*.py"), PLAN_SOURCE, *Path(run.__file__).parent.glob("*.py"))
    for path in sorted(modules):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def digest_of(finished: Mapping[str, FinishedRun]) -> str:
    """One digest for all finished runs: id, request, and files of each, in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for run_id, look in finished.items():
        digest.update(orjson.dumps([run_id, *look]))
    return digest.hexdigest()


def table_keys(files: Sequence[Path]) -> list[list[int] | None]:
    return [stat_key(str(file)) for file in files]


def read_summary(out: Path) -> CachedSummary | None:
    """The first line of the file in `out`: enough to see that nothing has changed."""
    try:
        with os.fdopen(open_plain(out / CACHE_FILE), "rb") as file:
            return _head(file.readline(_LONGEST_HEAD))[0]
    except (OSError, DamagedFile):
        return None


def read_all(out: Path) -> tuple[CachedSummary | None, dict[str, CachedRun]]:
    """All of it: the summary, and what was read of each finished run by its id."""
    try:
        first, _, body = read_bytes(out / CACHE_FILE).partition(b"\n")
        summary, right = _head(first)
        if summary is None or _short_digest(body) != right:
            return None, {}
        return summary, {run_id: CachedRun(**cached) for run_id, cached in map(orjson.loads, body.splitlines())}
    except (OSError, DamagedFile, ValueError, TypeError):
        return None, {}


def write_all(out: Path, summary: CachedSummary, runs: Mapping[str, CachedRun]) -> None:
    body = b"".join(orjson.dumps([run_id, vars(cached)]) + b"\n" for run_id, cached in runs.items())
    with run.replacing(out / CACHE_FILE) as file:
        file.write(orjson.dumps([reader_digest(), vars(summary), _short_digest(body)]) + b"\n")
        file.write(body)


def _head(line: bytes) -> tuple[CachedSummary | None, str]:
    """The summary, and the digest of the lines that follow it."""
    try:
        code, summary, body = orjson.loads(line)
        return (CachedSummary(**summary), body) if code == reader_digest() else (None, "")
    except (ValueError, TypeError):
        return None, ""


def _short_digest(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=16).hexdigest()
