"""Removable files of a results folder: runs that no study asks for, checkpoints and weights that nothing needs. Used
space by the purpose of files.

Waiting and running runs are never listed, nor the weights they start from. Weights are needed as long as a study keeps
them, a run that starts from them has not finished, or a run's `init` names them.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath

from flipscale.errors import RunFolderError
from flipscale.guard import check_folder, is_plain
from flipscale.launch import ACTIVE, RunState, StateReader, submit_lock
from flipscale.plain_files import name_of_temporary
from flipscale.run import EARLIER, RUN_FILES, TRUNK_FILE, FileUse, RunFolder, RunRequest, State, is_probe, unmeasured
from flipscale.settings.declarations import KeepWeights
from flipscale.storage.merge import STAGING
from flipscale.workspace import LAUNCHERS, Workspace

REMOVED = ".removed"
"""The folder beside the run folders into which a run is renamed before its files are removed: no half is ever seen."""


@dataclass(frozen=True)
class StudyRuns:
    """The runs that a study asks for, and where that was read: its file, or the plan in its results."""

    name: str
    source: Path
    runs: Mapping[str, RunRequest]
    """By id, parents too."""


@dataclass(frozen=True)
class Unneeded:
    """Something that may be removed."""

    what: str
    """run, checkpoint, weights or leftover."""
    run: str
    """Its id; '' for what belongs to none."""
    path: Path
    size: int
    """Bytes."""
    why: str


@dataclass(frozen=True)
class Cleared:
    """Files that may be removed, or were."""

    found: tuple[Unneeded, ...]
    left_alone: Mapping[str, str]
    """Runs that were not examined further, by id, and why."""

    @property
    def size(self) -> int:
        return sum(thing.size for thing in self.found)


def find_unneeded(results: Path, studies: Sequence[StudyRuns]) -> Cleared:
    """Files that may be removed if only these studies need any."""
    survey = _Survey(results, studies)
    return Cleared(tuple(survey.unneeded()), survey.left_alone)


def remove_unneeded(
    results: Path, studies: Sequence[StudyRuns], show: Callable[[Cleared], None] = lambda _: None
) -> Cleared:
    """Remove those files, while nobody submits in this results folder. Returns what was removed.

    show: is given what will be removed, before any of it is.
    """
    with submit_lock(results):
        survey = _Survey(results, studies)
        things = tuple(survey.unneeded())
        show(Cleared(things, survey.left_alone))
        left_alone = dict(survey.left_alone)
        removed = []
        for thing in things:
            if _remove(thing, survey.runs):
                removed.append(thing)
            else:
                left_alone[thing.run] = "a process has just started it"
    return Cleared(tuple(removed), left_alone)


def _remove(thing: Unneeded, runs: Path) -> bool:
    """Remove it; False for a run that somebody now holds."""
    if thing.what != "run":
        if thing.path.is_dir():
            shutil.rmtree(thing.path)
        thing.path.unlink(missing_ok=True)
        return True
    with RunFolder(thing.path).hold() as lease:
        if lease is None:
            return False
        shutil.rmtree(runs / REMOVED, ignore_errors=True)
        thing.path.rename(runs / REMOVED)
    shutil.rmtree(runs / REMOVED)
    return True


class _Survey:
    """A look at all run folders, and what these studies need of them."""

    def __init__(self, results: Path, studies: Sequence[StudyRuns]):
        self.runs = Workspace(results).runs
        check_folder(self.runs)
        self.studies = studies
        self.left_alone: dict[str, str] = {}
        self.folders = {folder.id: folder for folder in self._readable()}
        self.looks: dict[str, RunState] = StateReader(results).read(self.folders.values(), closely=True)
        self.asked = {run_id: asked for study in studies for run_id, asked in study.runs.items()}
        self.active = {run_id for run_id, look in self.looks.items() if look.state in ACTIVE}

    def _readable(self) -> Iterator[RunFolder]:
        """The run folders that can be read; the others are noted with what is wrong."""
        for path in sorted(self.runs.iterdir()) if self.runs.is_dir() else ():
            if not path.is_dir() or path.name.startswith("."):
                continue
            folder = RunFolder(path)
            try:
                folder.asked()
                problem = folder.glance().problem
            except RunFolderError as error:
                problem = str(error)
            if problem:
                self.left_alone[folder.id] = problem
            else:
                yield folder

    def unneeded(self) -> Iterator[Unneeded]:
        for name in (STAGING, REMOVED):
            if (self.runs / name).exists():
                yield _unneeded("leftover", "", self.runs / name, "of a command that was killed")
        needed = self.asked.keys() | self._lines_of_active
        needed |= {run_id for run_id, _ in self._initial_weights}
        for run_id, folder in self.folders.items():
            # No study asks for a probe, and the ledger sums what it took.
            if run_id not in needed and not is_probe(folder):
                if foreign := _what_is_foreign(folder):
                    self.left_alone[run_id] = foreign
                    continue
                yield _unneeded("run", run_id, folder.path, "no study asks for it")
            elif run_id not in self.active:
                yield from self._parts(folder)

    def _parts(self, folder: RunFolder) -> Iterator[Unneeded]:
        """Removable files of a run that is needed and that no process holds."""
        is_finished = self.looks[folder.id].state is State.FINISHED
        for path in filter(is_plain, files_in(folder.path)):
            use = use_of(path.relative_to(folder.path))
            if (folder.id, path.name) in self._initial_weights:
                continue
            if use and name_of_temporary(path.name):
                yield _unneeded("leftover", folder.id, path, "of a process that was killed while it wrote")
            elif is_finished and use is FileUse.CHECKPOINT and not self._is_gone_on_from(folder, path):
                yield _unneeded("checkpoint", folder.id, path, "the run has finished")
            elif is_finished and use is FileUse.WEIGHTS and (why := self._why_without_weights(folder)):
                yield _unneeded("weights", folder.id, path, why)

    def _is_gone_on_from(self, folder: RunFolder, path: Path) -> bool:
        """Whether a run that has not finished goes on from it."""
        return path.name == TRUNK_FILE and any(folder.id in asked.after for asked in self._unfinished)

    def _why_without_weights(self, folder: RunFolder) -> str:
        """Why nothing needs the weights of this finished run; '' if something does."""
        asking = [study for study in self.studies if folder.id in study.runs]
        keeps = [study.runs[folder.id].keep_weights for study in asking]
        if any(unmeasured(folder, study.runs[folder.id].settled, {}) for study in asking):
            return ""
        if not asking or KeepWeights.ALWAYS in keeps or folder.id in self._starting_points:
            return ""
        return f"keep_weights of {', '.join(study.name for study in asking)}, and no run is to start from them"

    @cached_property
    def _unfinished(self) -> list[RunRequest]:
        """The runs that are asked for or active, and have not finished."""
        to_come = [
            asked
            for run_id, asked in self.asked.items()
            if run_id not in self.looks or self.looks[run_id].state is not State.FINISHED
        ]
        return to_come + [asked for run_id in self.active if (asked := self.folders[run_id].asked())]

    @cached_property
    def _starting_points(self) -> set[str]:
        return {parent for asked in self._unfinished for parent in asked.parents}

    @cached_property
    def _initial_weights(self) -> set[tuple[str, str]]:
        """The files of run folders that `init` of an unfinished run names, as run id and file name.

        The folder is known by the id in its path: a relative path is relative to where its study was submitted.
        """
        inits = (asked.settings.get("init") for asked in self._unfinished)
        named = {Path(init["path"]) for init in inits if isinstance(init, dict) and init.get("path")}
        files = named | {file.resolve() for file in named}  # a link may lead into a run folder
        return {(part, file.name) for file in files for part in file.parts if part in self.folders}

    @cached_property
    def _lines_of_active(self) -> set[str]:
        """The runs that wait or run, and all that they start from."""
        lines: set[str] = set()
        waiting = list(self.active)
        while waiting:
            run_id = waiting.pop()
            if run_id not in lines:
                lines.add(run_id)
                asked = self.folders[run_id].asked() if run_id in self.folders else None
                waiting += asked.after if asked else ()
        return lines


def _what_is_foreign(folder: RunFolder) -> str:
    """What a folder holds that flipscale did not write, so that the folder is not its to remove; '' for nothing."""
    asked = folder.asked()
    if asked is None or asked.id != folder.id:
        return f"{folder.path}: has no run.json of this run, so flipscale did not make it."
    if asked.runs_a_command:  # The program may write anything.
        return ""
    files = (path.relative_to(folder.path) for path in files_in(folder.path))
    foreign = next((file for file in files if not use_of(file)), None)
    return f"{folder.path / foreign}: was not written by flipscale; move it elsewhere." if foreign else ""


def _unneeded(what: str, run_id: str, path: Path, why: str) -> Unneeded:
    return Unneeded(what, run_id, path, size_of(path), why)


# Used space

_SHARED = {"cache": "caches", "mlartifacts": "mlflow", **dict.fromkeys(LAUNCHERS, "jobs")}


def usage(results: Path) -> Mapping[str, int]:
    """Bytes by kind of file, the largest first; each file counts once."""
    sizes: Counter[str] = Counter()
    runs = Workspace(results).runs
    for path in sorted(results.iterdir()) if results.is_dir() else ():
        for file in files_in(path):
            in_run = PurePath(*file.parts[len(runs.parts) + 1 :])
            sizes[_kind(file.relative_to(results)) if path != runs else str(use_of(in_run) or "other")] += _size(file)
    return {kind: size for kind, size in sizes.most_common() if size}


def _kind(file: Path) -> str:
    """The kind of a file beside the run folders, by its path in the results folder."""
    if file.parts[0].startswith("mlflow.db"):
        return "mlflow"
    return _SHARED.get(file.parts[0], "tables" if len(file.parts) > 1 else "other")


def use_of(file: PurePath) -> FileUse | None:
    """The purpose of a file of a run folder, by its path in it; None if unknown."""
    # open_clip's program has a folder of its own: configuration, logs, and checkpoints of every epoch.
    if "open_clip" in file.parts[:-1]:
        return FileUse.CHECKPOINT if file.suffix == ".pt" else FileUse.LOG
    if set(file.parts[:-1]) - {EARLIER}:
        return None
    return RUN_FILES.get(name_of_temporary(file.name) or file.name)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return sum(map(_size, files_in(path)))


def files_in(path: Path) -> Iterator[Path]:
    """The file at a path, or all files below it, links too."""
    waiting = [path]
    while waiting:
        path = waiting.pop()
        try:
            if path.is_dir() and not path.is_symlink():
                waiting += sorted(path.iterdir(), reverse=True)
            else:
                yield path
        except OSError:  # It is gone, may not be read, or its path is too long.
            continue


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:  # Its run has gone on meanwhile.
        return 0
