"""Used space of a results folder, by the purpose of files."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath

from flipscale.run import EARLIER, RUN_FILES, FileUse, name_of_temporary
from flipscale.workspace import LAUNCHERS, Workspace

_SHARED = {"cache": "caches", "mlartifacts": "mlflow", **dict.fromkeys(LAUNCHERS, "jobs")}


def usage(results: Path) -> Mapping[str, int]:
    """Bytes by kind of file, the largest first; each file counts once."""
    found: Counter[str] = Counter()
    runs = Workspace(results).runs
    for path in sorted(results.iterdir()) if results.is_dir() else ():
        for file in files_in(path):
            in_run = PurePath(*file.parts[len(runs.parts) + 1 :])
            found[_kind(file.relative_to(results)) if path != runs else str(use_of(in_run) or "other")] += _size(file)
    return {kind: size for kind, size in found.most_common() if size}


def _kind(file: Path) -> str:
    """The kind of a file beside the run folders, by its path in the results folder."""
    if file.name == ".collected":
        return "caches"
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
    """The file at a path, or all files below it, links too. Folders may be nested deeper than Python recurses."""
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
