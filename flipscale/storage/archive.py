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
import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from flipscale.errors import DamagedFile, FlipscaleError, RunFolderError
from flipscale.guard import check_folder
from flipscale.kinds import record_of
from flipscale.plain_files import open_plain, parsed, read_bytes, replacing
from flipscale.planning.identity import RECIPE, run_id
from flipscale.planning.runs import Plan
from flipscale.planning.timing import NOT_TIMED, Timings, timings_of
from flipscale.run import (
    ARCHIVED_FILES,
    RunFolder,
    all_timings,
    as_json,
    read_scores,
    timings_as_json,
    timings_from_json,
)
from flipscale.words import count
from flipscale.workspace import Workspace

CONTENTS = "archive.json"
"""The member that comes first."""

ARCHIVE_SCHEMA = 1
"""Version of the archive. Another one is an error."""

LARGEST_CONTENTS = 2**25
"""The most bytes of archive.json that are read: it takes 1 kB a run."""

LARGEST_FILE = 2**28
"""The most bytes of one file in an archive: a metrics.jsonl of 1.3 million records."""

LARGEST_ARCHIVE = 2**32
"""The most bytes that an archive may unpack to: 60,000 runs of 200 records."""

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""The form of an id (identity.py). No such name leads out of a folder."""

_DAMAGED = (tarfile.TarError, EOFError, OSError, ValueError, MemoryError)
"""The errors that reading a damaged archive may raise."""


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
    finished: dict[str, RunFiles] = {}
    left_out: dict[str, str] = {}
    for run in sorted(planned.runs, key=lambda run: run.id):
        folder = RunFolder(runs / run.id)
        if not (folder.path / "result.json").exists():
            continue
        try:
            if why := what_is_wrong(folder):
                left_out[run.id] = why
            else:
                finished[run.id] = files_of(folder)
        except DamagedFile as error:
            left_out[run.id] = str(error)
    if not finished:
        raise FlipscaleError(f"No run of {planned.study} in {runs} has finished, so there is nothing to archive.")
    dropped = _lost_from(file, finished, planned)
    places = {run.timed.place for run in planned.runs if run.timed is not None}
    recorded = all_timings(Workspace(results).timings).where(lambda timed: timed.place in places)
    timings = timings_of(((run.settings, run.resources) for run in planned.runs), recorded)
    listed = [{"id": run, "files": {name: list(of) for name, of in files.items()}} for run, files in finished.items()]
    timed = {} if timings == NOT_TIMED else {"timings": timings_as_json(timings)}
    contents = {"schema": ARCHIVE_SCHEMA, "study": planned.study, **timed, "runs": listed}
    file.parent.mkdir(parents=True, exist_ok=True)
    with (
        replacing(file) as output,
        bz2.open(output, "wb") as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        _add(tar, CONTENTS, (as_json(contents, rows="runs") + "\n").encode())
        for run_id, files in finished.items():
            for name, expected in files.items():
                data = read_bytes(runs / run_id / name)
                if ArchivedFile.of(data) != expected:
                    raise RunFolderError(f"{runs / run_id / name}: changed while it was read; archive again.")
                _add(tar, f"{run_id}/{name}", data)
    return Archive(file, file.stat().st_size, len(finished), len(planned.runs), left_out, dropped)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # Its times and owners are 0.
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def files_of(folder: RunFolder) -> RunFiles:
    """The files that an archive takes of a run folder."""
    present = (name for name in ARCHIVED_FILES if (folder.path / name).exists())
    return {name: ArchivedFile.of(read_bytes(folder.path / name, most=LARGEST_FILE)) for name in present}


def _lost_from(file: Path, finished: Mapping[str, RunFiles], planned: Plan) -> tuple[str, ...]:
    """The runs of an existing archive that the plan no longer asks for. FlipscaleError if any others would be lost."""
    if not file.exists():
        return ()
    with open_archive(file) as kept:
        study = kept.study
        before = kept.runs.keys() - finished.keys()
    if study != planned.study:
        raise FlipscaleError(
            f"{file}: is the archive of {study}, whose runs would be lost. Name another file for the runs "
            f"of {planned.study}, or delete it first."
        )
    asked_for = before & {run.id for run in planned.runs}
    if asked_for:
        raise FlipscaleError(
            f"{file}: holds {count(len(asked_for), 'finished run')} of {planned.study} that "
            f"{'is' if len(asked_for) == 1 else 'are'} not in this results folder and would be lost. "
            f"Run `flipscale merge {file}` first, or give another file."
        )
    return tuple(sorted(before))


# Reading


class _Unpacked:
    """The bytes of a tar as they are unpacked, for tarfile. ValueError where it would read too much at once, such as a
    header, or too far: a few kilobytes may unpack to any size."""

    def __init__(self, file: Path):
        self._packed = os.fdopen(open_plain(file), "rb")  # Reading a pipe could block for ever.
        self._file = bz2.BZ2File(self._packed)
        self.tell = self._file.tell

    def close(self) -> None:
        self._packed.close()

    def seek(self, place: int) -> int:
        if place > LARGEST_ARCHIVE:
            raise ValueError(f"it unpacks to more than {LARGEST_ARCHIVE:,} bytes")
        return self._file.seek(place)

    def read(self, size: int) -> bytes:
        if size > LARGEST_FILE:
            raise ValueError(f"it has a header of {size:,} bytes, where at most {LARGEST_FILE:,} are read")
        return self._file.read(size)


@dataclass(frozen=True)
class ArchiveReader:
    """An archive that is read from its beginning to its end, once."""

    file: Path
    tar: tarfile.TarFile
    study: str
    runs: Mapping[str, RunFiles]
    """By run id, in the order of the archive."""
    timings: Timings
    """Probes' measurements of the shapes of these runs, so that claims along time can be made from the archive."""

    def members(self) -> Iterator[tuple[str, str, bytes | None]]:
        """The files of runs as they come: run id, name, and content; None for one that is not as archive.json says.

        A member that archive.json does not list, such as one whose name leads elsewhere, is skipped. FlipscaleError at
        the point where the archive is damaged.
        """
        try:
            while (member := self.tar.next()) is not None:
                self.tar.members.clear()  # type: ignore[attr-defined]  # tarfile keeps each, and there may be millions.
                run, _, name = member.name.partition("/")
                expected = self.runs.get(run, {}).get(name)
                data = self.tar.extractfile(member) if expected and member.isreg() else None
                if expected is not None and data is not None:
                    content = data.read(expected.size + 1)
                    yield run, name, content if ArchivedFile.of(content) == expected else None
        except _DAMAGED as error:
            raise FlipscaleError(f"{self.file}: is damaged from here on ({error}).") from error


@contextlib.contextmanager
def open_archive(file: Path) -> Iterator[ArchiveReader]:
    """The archive, open while the block runs. FlipscaleError if it is not one, or is newer than this flipscale."""
    with contextlib.ExitStack() as stack:
        try:
            unpacked = stack.enter_context(contextlib.closing(_Unpacked(file)))
            tar = stack.enter_context(tarfile.open(fileobj=cast(IO[bytes], unpacked), mode="r:"))
            member = tar.next()
            is_list = member is not None and member.name == CONTENTS and member.size <= LARGEST_CONTENTS
            data = tar.extractfile(member) if member and is_list else None
            text = data.read() if data else None
        except FileNotFoundError as error:
            raise FlipscaleError(f"{file}: there is no such file.") from error
        except _DAMAGED as error:
            # tarfile calls a file that was cut off within its first block an empty one.
            what = "it is empty, cut off or damaged" if str(error) == "empty file" else error
            raise FlipscaleError(f"{file}: cannot be read as an archive of runs ({what}).") from error
        if text is None:
            raise FlipscaleError(f"{file}: is not an archive of runs; `flipscale archive STUDY` writes one.")
        yield ArchiveReader(file, tar, *_contents(file, text))


@dataclass(frozen=True)
class _ListedRun:
    id: str
    files: dict[str, ArchivedFile]


@dataclass(frozen=True)
class _Contents:
    """archive.json."""

    schema: int
    study: str
    runs: tuple[_ListedRun, ...]
    timings: Any = None


def _contents(file: Path, text: bytes) -> tuple[str, dict[str, RunFiles], Timings]:
    """The study, the files of its runs and their timings, as archive.json lists them."""
    try:
        contents = record_of(_Contents, parsed(text))
    except ValueError as error:
        raise FlipscaleError(f"{file}: its list of runs cannot be read ({error}), so it is damaged.") from error
    if contents.schema != ARCHIVE_SCHEMA:
        raise FlipscaleError(
            f"{file}: is of schema {contents.schema}, where this flipscale reads {ARCHIVE_SCHEMA}; upgrade it."
        )
    for run in contents.runs:
        if not _RUN_ID.fullmatch(run.id):
            raise FlipscaleError(f"{file}: {run.id!r} is not the id of a run, so this is not an archive of flipscale.")
        for name, listed in run.files.items():
            if not 0 <= listed.size <= LARGEST_FILE:
                raise FlipscaleError(f"{file}: {name} is not of 0 to {LARGEST_FILE:,} bytes, so it is damaged.")
    runs: dict[str, RunFiles] = {run.id: run.files for run in contents.runs}
    return contents.study, runs, timings_from_json(contents.timings)


def what_is_wrong(folder: RunFolder) -> str | None:
    """Why a study could not use the folder of a finished run, in a sentence; None if all is well."""
    try:
        asked = folder.asked()
        if asked is None or folder.result() is None:
            return f"{folder.path}: has no run.json or no result.json, so it is not a finished run."
        read_scores(folder)
        if asked.id != folder.id:
            return f"{folder.path}: its run.json is of {asked.id}, so it was renamed or copied."
        if asked.recipe != RECIPE:
            return f"{folder.path}: was trained by recipe {asked.recipe}, where studies ask for recipe {RECIPE}."
        if run_id(asked.settled) != folder.id:
            return f"{folder.path}: its settings make another id, {run_id(asked.settled)}; it was changed by hand."
        check_folder(folder.path)
    except (RunFolderError, OSError, RecursionError) as error:
        return str(error)
    return None
