"""Archives unpacked into a results folder. Nothing that is there is overwritten, and no half run is ever seen.

A run is unpacked beside the run folders, every file is checked against the list in the archive, and then its folder is
renamed into place. A crash leaves only a folder `.merge`, which the next merge removes.
"""

import contextlib
import enum
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from flipscale.errors import FlipscaleError
from flipscale.guard import check_folder
from flipscale.identity import RECIPE
from flipscale.launch import submit_lock
from flipscale.run import ARCHIVED_FILES, RunFolder, add_timings
from flipscale.storage.archive import (
    ArchiveReader,
    RunFiles,
    files_on_disk,
    open_archive,
    what_is_wrong,
)
from flipscale.timing import NOT_TIMED
from flipscale.workspace import Workspace

STAGING = ".merge"
"""The folder beside the run folders in which runs are unpacked. One merge at a time has it."""

_ONLY_ASKED = {"run.json", "lease.lock"}
"""The files of a run that was submitted and never started, as if a launcher refused it: its folder is replaced."""

_MEASURED = tuple(name for name in ARCHIVED_FILES if name != "run.json")
"""The files that two copies of a run must agree in. run.json also has values outside the id, such as paths."""


class MergeOutcome(enum.StrEnum):
    """The outcome for a run of an archive."""

    MERGED = "merged"
    PRESENT = "present"
    """It is finished here with the same result."""
    DIFFERS = "differs"
    """It is finished here with another result, which stays."""
    UNDERWAY = "underway"
    """It was started here and has not finished; it is left alone."""
    LEFT_OUT = "left out"
    """It is damaged, or of a newer flipscale."""


@dataclass(frozen=True)
class Merged:
    """The outcome for one archive."""

    file: Path
    study: str = ""
    outcomes: Mapping[str, MergeOutcome] = field(default_factory=dict)
    """By run id."""
    problems: tuple[str, ...] = ()
    """Remarks on the archive, or on some of its runs, a sentence each."""
    is_archive: bool = True
    """Whether the file could be read as an archive at all."""

    @property
    def failed(self) -> bool:
        """Whether something could not be unpacked."""
        return not self.is_archive or MergeOutcome.LEFT_OUT in self.outcomes.values()

    def count(self, outcome: MergeOutcome) -> int:
        return list(self.outcomes.values()).count(outcome)


def merge(files: Sequence[Path], results: Path) -> Iterator[Merged]:
    """Unpack each archive into the results folder, one after the other. One that is damaged does not stop the others.

    Nothing is submitted in this results folder meanwhile.
    """
    runs = Workspace(results).runs
    check_folder(runs)
    with submit_lock(results):
        staging = runs / STAGING
        for file in files:
            try:
                with open_archive(file) as reader:
                    shutil.rmtree(staging, ignore_errors=True)
                    staging.mkdir(parents=True)
                    merged = _Merging(reader, runs).merged()
                    if reader.contents.timings != NOT_TIMED:
                        add_timings(Workspace(results).timings, reader.contents.timings)
                    yield merged
            except FlipscaleError as error:
                yield Merged(file, problems=(str(error),), is_archive=False)
            finally:
                shutil.rmtree(staging, ignore_errors=True)


class _Merging:
    """The unpacking of one archive."""

    def __init__(self, reader: ArchiveReader, runs: Path):
        self.reader = reader
        self.runs = runs
        self.staging = runs / STAGING
        self.outcomes: dict[str, MergeOutcome] = {}
        self.problems: list[str] = []

    def merged(self) -> Merged:
        contents = self.reader.contents
        self._say_unknown()
        wanted = {}
        for run, files in contents.runs.items():
            found = self._found_here(run, files)
            if found is None:
                wanted[run] = {name: file for name, file in files.items() if name in ARCHIVED_FILES}
            else:
                self.outcomes[run] = found
        unpacked: list[str] = []
        try:
            for run in self._unpack(wanted) if wanted else ():
                unpacked.append(run)
        except FlipscaleError as error:
            self.problems.append(str(error))
        self._put_into_place(unpacked)
        if lost := [run for run in contents.runs if run not in self.outcomes]:
            self.outcomes |= dict.fromkeys(lost, MergeOutcome.LEFT_OUT)
            self.problems.append(
                f"{self.reader.file}: {len(lost)} of its {len(contents.runs)} runs could not be read, first {lost[0]}. "
                f"It is cut off or damaged; get it again, and merge it again."
            )
        self._say_older_recipe()
        return Merged(self.reader.file, contents.study, self.outcomes, tuple(self.problems))

    def _say_unknown(self) -> None:
        names = {name for files in self.reader.contents.runs.values() for name in files} - set(ARCHIVED_FILES)
        if names:
            self.problems.append(
                f"{self.reader.file}: its files {', '.join(sorted(names))} are not known here and are left out. A "
                f"newer flipscale may need them; upgrade before you merge."
            )

    def _say_older_recipe(self) -> None:
        merged = [run for run, outcome in self.outcomes.items() if outcome is MergeOutcome.MERGED]
        recipes = [asked.recipe for run in merged if (asked := RunFolder(self.runs / run).asked())]
        if older := [recipe for recipe in recipes if recipe != RECIPE]:
            self.problems.append(
                f"{self.reader.file}: {len(older)} of its runs {'is' if len(older) == 1 else 'are'} of recipe "
                f"{older[0]}. Studies now ask for recipe {RECIPE}, so none of these counts as done (docs/recipes.md)."
            )

    def _found_here(self, run: str, files: RunFiles) -> MergeOutcome | None:
        """The outcome for a run that the results folder already has: None if it is to be unpacked."""
        folder = RunFolder(self.runs / run)
        present = {path.name for path in folder.path.iterdir()} if folder.path.exists() else set()
        if present <= _ONLY_ASKED:
            return None
        if "result.json" not in folder.glance().files:
            self.problems.append(
                f"{run}: was started here and has not finished, so it is left alone. Let `flipscale submit` finish it, "
                f"or delete {folder.path} when nothing runs there, and merge again."
            )
            return MergeOutcome.UNDERWAY
        here = files_on_disk(folder, _MEASURED)
        differing = [name for name in _MEASURED if here.get(name) != files.get(name)]
        if not differing:
            return MergeOutcome.PRESENT
        self.problems.append(
            f"{run}: is finished here with another {' and '.join(differing)} than in {self.reader.file}; the one "
            f"in this results folder stays. To take the other one, delete {folder.path} and merge again."
        )
        return MergeOutcome.DIFFERS

    def _unpack(self, wanted: Mapping[str, RunFiles]) -> Iterator[str]:
        """Write the files of the wanted runs beside the run folders, and yield each run when all of them are there."""
        staged: dict[str, set[str]] = {}
        for run, name, content in self.reader.members():
            if run not in wanted or run in self.outcomes or name not in wanted[run]:
                continue
            if name in staged.get(run, ()):  # A second copy: each is as archive.json says.
                continue
            if content is None:
                self._leave_out(run, f"its {name} is damaged.")
                continue
            path = self.staging / run / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            staged.setdefault(run, set()).add(name)
            if staged[run] == wanted[run].keys():
                yield run

    def _put_into_place(self, unpacked: Sequence[str]) -> None:
        """Rename these run folders into place, after all that is in them is on the disk."""
        good = []
        for run in unpacked:
            if wrong := what_is_wrong(RunFolder(self.staging / run)):
                self._leave_out(run, wrong)
            else:
                good.append(run)
        # Flushed one after the other, 300 runs take 8 s on a disk that flushes them together in 1 s.
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(_flush, (path for run in good for path in (self.staging / run).iterdir())))
        for run in good:
            if (self.runs / run).exists():
                shutil.rmtree(self.runs / run)
            (self.staging / run).rename(self.runs / run)
            self.outcomes[run] = MergeOutcome.MERGED
        _flush(self.runs)

    def _leave_out(self, run: str, why: str) -> None:
        self.outcomes[run] = MergeOutcome.LEFT_OUT
        self.problems.append(f"{self.reader.file}: {run} is left out: {why}")


def _flush(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk. Not every file system can do the latter."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
