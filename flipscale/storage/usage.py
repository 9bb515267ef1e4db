"""Used space of a results folder, by study and by the purpose of files."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath

from flipscale.run import RUN_FILES, FileUse
from flipscale.workspace import Workspace

SEVERAL, NO_STUDY, ALL = "several studies", "no study", "all studies"
"""Rows beside the studies: runs that several ask for, or none, and what all of them share."""

KINDS = (*map(str, FileUse), "tables", "caches", "mlflow", "other")
"""The kinds of files, in the order of the table."""

_SHARED = {"cache": "caches", "local": "jobs", "slurm": "jobs", "ray": "jobs", "mlartifacts": "mlflow"}

Usage = Mapping[str, Mapping[str, int]]
"""Bytes by row and kind."""


def usage(results: Path, asking: Mapping[str, frozenset[str]]) -> Usage:
    """Bytes by study and kind of file; each file counts once. `asking`: the names of the studies that ask for a run."""
    runs = Workspace(results).runs
    found: dict[str, Counter[str]] = {}
    for row, kind, file in (*_of_runs(runs, asking), *_of_studies(results, runs)):
        found.setdefault(row, Counter())[kind] += _size(file)
    return {row: dict(kinds) for row, kinds in sorted(found.items(), key=_order)}


def _of_runs(runs: Path, asking: Mapping[str, frozenset[str]]) -> Iterator[tuple[str, str, Path]]:
    """The row, kind and path of each file of run folders."""
    for folder in sorted(runs.iterdir()) if runs.is_dir() else ():
        names = asking.get(folder.name, frozenset())
        row = next(iter(names)) if len(names) == 1 else SEVERAL if names else NO_STUDY
        for path in _files(folder):
            yield row, str(use_of(path.relative_to(folder)) or "other"), path


def _of_studies(results: Path, runs: Path) -> Iterator[tuple[str, str, Path]]:
    """The row, kind and path of each file beside the run folders: tables of studies, and what all studies share."""
    for path in sorted(results.iterdir()):
        if path == runs:
            continue
        row, kind = _shared(path)
        for file in _files(path):
            yield row, kind or ("caches" if file.name == ".collected" else "tables"), file


def _order(row: tuple[str, Counter[str]]) -> tuple[bool, str]:
    return row[0] in (SEVERAL, NO_STUDY, ALL), row[0]


def _shared(path: Path) -> tuple[str, str]:
    """The row and kind of what lies in a results folder; kind is '' for the folder of a study's tables."""
    if path.name.startswith("mlflow.db"):
        return ALL, "mlflow"
    if path.is_dir() and path.name not in _SHARED:
        return path.name, ""
    return ALL, _SHARED.get(path.name, "other")


def use_of(file: PurePath) -> FileUse | None:
    """The purpose of a file of a run folder, by its path in it; None if unknown."""
    # open_clip's program has a folder of its own: configuration, logs, and checkpoints of every epoch.
    if "open_clip" in file.parts[:-1]:
        return FileUse.CHECKPOINT if file.suffix == ".pt" else FileUse.LOG
    return RUN_FILES.get(file.name)  # also in a folder that keeps what was there before


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return sum(map(_size, _files(path)))


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir() or path.is_symlink():
        yield path
        return
    yield from (file for file in sorted(path.rglob("*")) if file.is_symlink() or not file.is_dir())


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:  # Its run has gone on meanwhile.
        return 0
