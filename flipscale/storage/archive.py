"""Finished runs in one file: a tar with bzip2, as every system unpacks it.

    archive.json         first: the study, size and SHA-256 of every file of every run, and what a probe timed of them
    ID/hits.json         then the files of each run, in the order of ids: those of run.ARCHIVED_FILES that it has
    ID/metrics.jsonl
    ID/result.json
    ID/run.json

The same runs give the same bytes: members are sorted and have no times or owners. bzip2 takes 9 % more
space than xz and an eleventh of its time; 300 runs of 200 records are 2.6 MB. Each of its blocks has a checksum, so a
damaged file is read correctly up to the damage.
"""

import bz2
import contextlib
import gzip
import hashlib
import io
import json
import lzma
import os
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from flipscale.errors import FlipscaleError, RunFolderError
from flipscale.guard import check_folder, is_plain
from flipscale.identity import RECIPE, run_id
from flipscale.plain_files import open_plain, read_bytes
from flipscale.plan import Plan
from flipscale.run import (
    ARCHIVED_FILES,
    RunFolder,
    all_timings,
    as_json,
    read_scores,
    replacing,
    timings_as_json,
    timings_from_json,
)
from flipscale.timing import NOT_TIMED, Timings, timings_of
from flipscale.words import count
from flipscale.workspace import Workspace

CONTENTS = "archive.json"
"""The member that comes first."""

ARCHIVE_SCHEMA = 1
"""Version of the archive. A reader takes this and older ones; a newer one is an error."""

LARGEST_CONTENTS = 2**25
"""The most bytes of archive.json that are read: it takes 1 kB a run."""

LARGEST_FILE = 2**28
"""The most bytes of one file in an archive: a metrics.jsonl of 1.3 million records."""

LARGEST_ARCHIVE = 2**32
"""The most bytes that an archive may unpack to: 60,000 runs of 200 records."""

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""The form of an id (identity.py). No such name leads out of a folder."""


class ArchivedFile(NamedTuple):
    """A file of a run as archive.json describes it."""

    size: int
    """Bytes."""
    sha256: str
    """Hexadecimal."""

    @classmethod
    def of(cls, data: bytes) -> "ArchivedFile":
        return cls(len(data), hashlib.sha256(data).hexdigest())


RunFiles = Mapping[str, ArchivedFile]
"""The files of one run, by name."""


@dataclass(frozen=True)
class Contents:
    """The content of an archive, as its first member lists it."""

    study: str
    runs: Mapping[str, RunFiles]
    """By run id, in the order of the archive."""
    timings: Timings = NOT_TIMED
    """Probes' measurements of the shapes of these runs, so that claims along time can be made from the archive."""


@dataclass(frozen=True)
class Archive:
    """An archive that was written."""

    file: Path
    size: int
    """Bytes."""
    runs: int
    planned: int
    """Runs of the study, finished or not."""
    left_out: Mapping[str, str]
    """Finished runs whose folders cannot be archived, by id, and why."""
    dropped: tuple[str, ...]
    """Runs of the file that was there before, which the study does not ask for any more."""


# Writing


def write_archive(planned: Plan, results: Path, file: Path) -> Archive:
    """Pack the finished runs of a plan, its parents too, into `file`.

    Raises FlipscaleError where no run has finished, and where `file` exists and would be lost: it holds runs that the
    new one would lack, belongs to another study, or is not an archive.
    """
    runs = Workspace(results).runs
    found: dict[str, RunFiles] = {}
    left_out: dict[str, str] = {}
    for run in sorted(planned.runs, key=lambda run: run.id):
        folder = RunFolder(runs / run.id)
        if not (folder.path / "result.json").exists():
            continue
        if why := what_is_wrong(folder):
            left_out[run.id] = why
        else:
            found[run.id] = {name: ArchivedFile.of(data) for name, data in _files_of(folder)}
    if not found:
        raise FlipscaleError(f"No run of {planned.study} in {runs} has finished, so there is nothing to archive.")
    dropped = _lost_from(file, found, planned)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as output:
        _write(output, runs, Contents(planned.study, found, _timings_of(planned, results)))
    return Archive(file, file.stat().st_size, len(found), len(planned.runs), left_out, dropped)


def _timings_of(planned: Plan, results: Path) -> Timings:
    """The probes behind the plan's times."""
    places = {run.timed.place for run in planned.runs if run.timed is not None}
    recorded = all_timings(Workspace(results).timings).where(lambda timed: timed.place in places)
    return timings_of(((run.settings, run.resources) for run in planned.runs), recorded)


def _files_of(folder: RunFolder) -> Iterator[tuple[str, bytes]]:
    for name in ARCHIVED_FILES:
        path = folder.path / name
        if path.exists():
            yield name, read_bytes(path, most=LARGEST_FILE)


def _lost_from(file: Path, found: Mapping[str, RunFiles], planned: Plan) -> tuple[str, ...]:
    """The runs of an existing archive that the plan no longer asks for. FlipscaleError if any others would be lost."""
    if not file.exists():
        return ()
    kept = read_contents(file)
    if kept.study != planned.study:
        raise FlipscaleError(
            f"{file}: is the archive of {kept.study}, whose runs would be lost. Name another file for the runs "
            f"of {planned.study}, or delete it first."
        )
    before = kept.runs.keys() - found.keys()
    asked_for = before & {run.id for run in planned.runs}
    if asked_for:
        raise FlipscaleError(
            f"{file}: holds {count(len(asked_for), 'finished run')} of {planned.study} that "
            f"{'is' if len(asked_for) == 1 else 'are'} not in this results folder and would be lost. "
            f"Run `flipscale merge {file}` first, or give another file."
        )
    return tuple(sorted(before))


def _write(output: IO[bytes], runs: Path, contents: Contents) -> None:
    with bz2.open(output, "wb") as packed, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, CONTENTS, _contents_as_json(contents).encode())
        for run, files in contents.runs.items():
            for name, expected in files.items():
                data = read_bytes(runs / run / name)
                if ArchivedFile.of(data) != expected:
                    raise RunFolderError(f"{runs / run / name}: changed while it was read; archive again.")
                _add(tar, f"{run}/{name}", data)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # Its times and owners are 0.
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _contents_as_json(contents: Contents) -> str:
    files = [
        {"id": run, "files": {name: list(file) for name, file in files.items()}} for run, files in contents.runs.items()
    ]
    timings = {} if contents.timings == NOT_TIMED else {"timings": timings_as_json(contents.timings)}
    return as_json({"schema": ARCHIVE_SCHEMA, "study": contents.study, **timings, "runs": files}, rows="runs") + "\n"


# Reading

_DAMAGED = (tarfile.TarError, EOFError, OSError, ValueError, MemoryError, zlib.error, lzma.LZMAError)
"""The errors that reading a damaged archive may raise."""


class _Unpacked:
    """The bytes of a tar as they are unpacked, for tarfile. ValueError where it would read too much at once, such as a
    header, or too far: a few kilobytes may unpack to any size."""

    def __init__(self, file: Path):
        with os.fdopen(open_plain(file), "rb") as packed:  # Reading a pipe could block for ever.
            start = packed.read(2)
        openers: dict[bytes, Any] = {b"BZ": bz2.open, b"\x1f\x8b": gzip.open, b"\xfd7": lzma.open}
        self._file: IO[bytes] = openers.get(start, open)(file, "rb")
        self.tell, self.close = self._file.tell, self._file.close

    def seek(self, place: int) -> int:
        if place > LARGEST_ARCHIVE:
            raise ValueError(f"it unpacks to more than {LARGEST_ARCHIVE:,} bytes")
        return self._file.seek(place)

    def read(self, size: int) -> bytes:
        if size > LARGEST_FILE:
            raise ValueError(f"it has a header of {size:,} bytes, where at most {LARGEST_FILE:,} are read")
        return self._file.read(size)


class ArchiveReader:
    """An archive that is read from its beginning to its end, once."""

    def __init__(self, file: Path, tar: tarfile.TarFile):
        self.file = file
        self._tar = tar
        self.contents = self._read_contents()

    def members(self) -> Iterator[tuple[str, str, bytes | None]]:
        """The files of runs as they come: run id, name, and content; None for one that is not as archive.json says.

        A member that archive.json does not list, such as one whose name leads elsewhere, is skipped. FlipscaleError at
        the point where the archive is damaged.
        """
        try:
            while (member := self._tar.next()) is not None:
                self._tar.members.clear()  # type: ignore[attr-defined]  # tarfile keeps each, and there may be millions.
                run, _, name = member.name.partition("/")
                expected = self.contents.runs.get(run, {}).get(name)
                data = self._tar.extractfile(member) if expected and member.isreg() else None
                if expected is not None and data is not None:
                    content = data.read(expected.size + 1)
                    yield run, name, content if ArchivedFile.of(content) == expected else None
        except _DAMAGED as error:
            raise FlipscaleError(f"{self.file}: is damaged from here on ({error}).") from error

    def _read_contents(self) -> Contents:
        member = self._tar.next()
        data = None
        if member is not None and member.name == CONTENTS and member.size <= LARGEST_CONTENTS:
            data = self._tar.extractfile(member)
        if data is None:
            raise FlipscaleError(f"{self.file}: is not an archive of runs; `flipscale archive STUDY` writes one.")
        return _contents_from_json(self.file, data.read())


def read_contents(file: Path) -> Contents:
    """The content of an archive. FlipscaleError if it is not one, is newer than this flipscale, or cannot be read."""
    with open_archive(file) as reader:
        return reader.contents


class open_archive:  # noqa: N801  it is used as a function
    """The archive, open while the block runs. FlipscaleError if it is not an archive, or is newer than this flipscale.

    It may have been packed anew, with gzip, xz or nothing.
    """

    def __init__(self, file: Path):
        self.file = file

    def __enter__(self) -> ArchiveReader:
        try:
            with contextlib.ExitStack() as stack:
                unpacked = stack.enter_context(contextlib.closing(_Unpacked(self.file)))
                tar = stack.enter_context(tarfile.open(fileobj=cast(IO[bytes], unpacked), mode="r:"))
                reader = ArchiveReader(self.file, tar)
                self._stack = stack.pop_all()
                return reader
        except FileNotFoundError as error:
            raise FlipscaleError(f"{self.file}: there is no such file.") from error
        except _DAMAGED as error:
            # tarfile calls a file that was cut off within its first block an empty one.
            what = "it is empty, cut off or damaged" if str(error) == "empty file" else error
            raise FlipscaleError(f"{self.file}: cannot be read as an archive of runs ({what}).") from error

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _contents_from_json(file: Path, text: bytes) -> Contents:
    try:
        data = json.loads(text)
        if data["schema"] > ARCHIVE_SCHEMA:
            raise FlipscaleError(
                f"{file}: schema {data['schema']} is newer than this flipscale, which reads up to {ARCHIVE_SCHEMA}. "
                f"Upgrade flipscale."
            )
        runs = {str(run["id"]): _files_from_json(run["files"]) for run in data["runs"]}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise FlipscaleError(f"{file}: its list of runs cannot be read ({error}), so it is damaged.") from error
    if wrong := [run for run in runs if not _RUN_ID.fullmatch(run)]:
        raise FlipscaleError(f"{file}: {wrong[0]!r} is not the id of a run, so this is not an archive of flipscale.")
    return Contents(str(data.get("study")), runs, timings_from_json(data.get("timings")))


def _files_from_json(files: Mapping[str, tuple[int, str]]) -> RunFiles:
    if too_large := [name for name, (size, _) in files.items() if not 0 <= int(size) <= LARGEST_FILE]:
        raise ValueError(f"{too_large[0]} is not of 0 to {LARGEST_FILE:,} bytes")
    return {str(name): ArchivedFile(int(size), str(digest)) for name, (size, digest) in files.items()}


# Checking


def what_is_wrong(folder: RunFolder) -> str | None:
    """Why a study could not use the folder of a finished run, in a sentence; None if all is well."""
    try:
        asked = folder.asked()
        if asked is None or folder.result() is None:
            return f"{folder.path}: has no run.json or no result.json, so it is not a finished run."
        read_scores(folder)
        if asked.id != folder.id:
            return f"{folder.path}: its run.json is of {asked.id}, so it was renamed or copied."
        if asked.recipe is not None and asked.recipe > RECIPE:
            return (
                f"{folder.path}: was trained by recipe {asked.recipe}, newer than {RECIPE} of this flipscale; upgrade."
            )
        if asked.recipe == RECIPE and run_id(asked.settled) != folder.id:
            return f"{folder.path}: its settings make another id, {run_id(asked.settled)}; it was changed by hand."
        check_folder(folder.path)
        for name in ARCHIVED_FILES:
            if os.path.lexists(folder.path / name) and not is_plain(folder.path / name):
                return f"{folder.path / name}: is not a plain file, so it is not packed; put the file itself there."
    except (RunFolderError, OSError, RecursionError) as error:
        return str(error)
    return None


def files_on_disk(folder: RunFolder, names: Iterable[str]) -> RunFiles:
    """Those of these files that the folder has."""
    present = (name for name in names if (folder.path / name).exists())
    return {name: ArchivedFile.of(read_bytes(folder.path / name)) for name in present}
