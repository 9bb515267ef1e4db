"""Archives unpacked into a results folder. Nothing that is there is overwritten, and no half run is ever seen.

A run is unpacked beside the run folders, every file is checked against the list in the archive, and then its folder is
renamed into place. A crash leaves only a folder `.merge`, which the next merge removes.
"""

import enum
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flipscale.errors import FlipscaleError
from flipscale.guard import check_folder, make_folder
from flipscale.launch import submit_lock
from flipscale.plain_files import open_plain
from flipscale.planning.timing import NOT_TIMED
from flipscale.run import ARCHIVED_FILES, RunFolder, add_timings
from flipscale.storage.archive import ArchiveReader, RunFiles, files_of, open_archive, what_is_wrong
from flipscale.workspace import Workspace

STAGING = ".merge"
"""The folder beside the run folders in which runs are unpacked. One merge at a time has it."""


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
    """It is damaged, or of another recipe or schema."""


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
                    make_folder(staging, results)
                    merged = _merge(reader, runs)
                    if reader.timings != NOT_TIMED:
                        add_timings(Workspace(results).timings, reader.timings)
                    yield merged
            except FlipscaleError as error:
                yield Merged(file, problems=(str(error),), is_archive=False)
            finally:
                shutil.rmtree(staging, ignore_errors=True)


def _merge(reader: ArchiveReader, runs: Path) -> Merged:
    """Unpack one archive."""
    outcomes: dict[str, MergeOutcome] = {}
    problems: list[str] = []
    if names := {name for files in reader.runs.values() for name in files} - set(ARCHIVED_FILES):
        problems.append(
            f"{reader.file}: its files {', '.join(sorted(names))} are not known here and are left out. A "
            f"newer flipscale may need them; upgrade before you merge."
        )
    wanted: dict[str, RunFiles] = {}
    for run, files in reader.runs.items():
        outcome, problem = _compare(RunFolder(runs / run), files, reader.file)
        problems += [problem] if problem else []
        if outcome is None:
            wanted[run] = {name: file for name, file in files.items() if name in ARCHIVED_FILES}
        else:
            outcomes[run] = outcome
    left_out: dict[str, str] = {}
    unpacked: list[str] = []
    try:
        for run in _unpack(reader, wanted, runs / STAGING, left_out) if wanted else ():
            unpacked.append(run)
    except FlipscaleError as error:
        problems.append(str(error))
    left_out |= {run: wrong for run in unpacked if (wrong := what_is_wrong(RunFolder(runs / STAGING / run)))}
    problems += [f"{reader.file}: {run} is left out: {why}" for run, why in left_out.items()]
    for run in unpacked:
        if run not in left_out:
            if (runs / run).exists():
                shutil.rmtree(runs / run)
            (runs / STAGING / run).rename(runs / run)
            outcomes[run] = MergeOutcome.MERGED
    outcomes |= dict.fromkeys(left_out, MergeOutcome.LEFT_OUT)
    if lost := [run for run in reader.runs if run not in outcomes]:
        outcomes |= dict.fromkeys(lost, MergeOutcome.LEFT_OUT)
        problems.append(
            f"{reader.file}: {len(lost)} of its {len(reader.runs)} runs could not be read, first {lost[0]}. "
            f"It is cut off or damaged; get it again, and merge it again."
        )
    return Merged(reader.file, reader.study, outcomes, tuple(problems))


def _compare(folder: RunFolder, files: RunFiles, archive: Path) -> tuple[MergeOutcome | None, str]:
    """The outcome for a run that the results folder already has, None if it is to be unpacked; and a remark."""
    present = {path.name for path in folder.path.iterdir()} if folder.path.exists() else set()
    if present <= {"run.json", "lease.lock"}:  # It was submitted and never started, as if a launcher refused it.
        return None, ""
    if "result.json" not in folder.glance().files:
        return MergeOutcome.UNDERWAY, (
            f"{folder.id}: was started here and has not finished, so it is left alone. Let `flipscale submit` finish "
            f"it, or delete {folder.path} when nothing runs there, and merge again."
        )
    here = files_of(folder)
    # run.json also has values outside the id, such as paths.
    differing = [name for name in ARCHIVED_FILES if name != "run.json" and here.get(name) != files.get(name)]
    if not differing:
        return MergeOutcome.PRESENT, ""
    return MergeOutcome.DIFFERS, (
        f"{folder.id}: is finished here with another {' and '.join(differing)} than in {archive}; the one "
        f"in this results folder stays. To take the other one, delete {folder.path} and merge again."
    )


def _unpack(
    reader: ArchiveReader, wanted: Mapping[str, RunFiles], staging: Path, left_out: dict[str, str]
) -> Iterator[str]:
    """Write the files of the wanted runs beside the run folders, and yield each run when all of them are there."""
    staged: dict[str, set[str]] = {}
    for run, name, content in reader.members():
        # The second copy of a file is as archive.json says, like the first.
        if run in left_out or name not in wanted.get(run, ()) or name in staged.get(run, ()):
            continue
        if content is None:
            left_out[run] = f"its {name} is damaged."
            continue
        path = staging / run / name
        make_folder(path.parent)
        with open(path, "wb", opener=open_plain) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # A folder comes into place after all that is in it.
        staged.setdefault(run, set()).add(name)
        if staged[run] == wanted[run].keys():
            yield run
