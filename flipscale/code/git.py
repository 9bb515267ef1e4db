"""The state of a folder according to git: the commit, and the source files as they are.

Four calls of git for a work tree and each of its submodules, whatever the number of files; unchanged files are not
read. If git is not installed, takes too long, or refuses (a repository of another user in a container: `git config
--global --add safe.directory DIR` allows it), nothing is known.
"""

import contextlib
import hashlib
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from flipscale.errors import DamagedFile
from flipscale.plain_files import read_bytes

SOURCE_SUFFIXES = (
    b".py", b".pyx", b".pxd", b".c", b".cc", b".cpp", b".cxx", b".h", b".hh", b".hpp", b".cu", b".cuh", b".rs", b".go",
    b".jl", b".r", b".R", b".sh", b".bash", b".zsh", b".pl", b".rb", b".lua", b".js", b".ts", b".java", b".scala",
    b".swift", b".m", b".f90",
)  # fmt: skip
"""Endings of files that count as code. Studies, results and notes may lie in the same repository, and adding one does
not change the code; other files that a training command reads are named in the command."""

GIT_SECONDS = 20.0
"""A call of git that takes longer is given up: nothing is known then."""

_SUBMODULE = b"160000"
"""The mode of an entry of the index that is a submodule."""

_LOOK_ONLY = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none", "LC_ALL": "C"}
"""Take no locks and fetch nothing: a partial clone names a program or a remote to fetch missing objects from."""

_OF_ANOTHER_REPOSITORY = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE",
)  # fmt: skip
"""In a git hook these are set and name the hook's repository, whatever the folder."""


@dataclass(frozen=True)
class WorkTree:
    """A git work tree: its commit, and its source files as they lie there."""

    top: Path
    commit: str | None
    """None before the first commit."""
    tracked: frozenset[bytes]
    """Paths of all files in the index, from `top`."""
    blobs: Mapping[bytes, bytes]
    """Source files by path from `top`: those tracked, those untracked and not ignored, and those of submodules. The
    value is the id that git gives, or would give, their content. Deleted ones are missing."""
    changed: frozenset[bytes]
    """Source files that are not as the commit has them, deleted ones among them."""

    def tracks(self, file: Path) -> bool:
        """Whether the file belongs to this repository, and does not merely lie in it, as an ignored package does."""
        try:
            inside = file.resolve().relative_to(self.top.resolve())
        except (ValueError, OSError):
            return False
        return os.fsencode(inside) in self.tracked

    @property
    def source(self) -> str:
        """Digest of the source files, by path and content."""
        return _digest(self.blobs, self.blobs)

    def changes(self, below: Iterable[str] = ("",)) -> str | None:
        """Digest of the source files below these paths that differ from the commit; None where none does."""
        prefixes = tuple(map(os.fsencode, below))
        changed = [path for path in self.changed if path.startswith(prefixes)]
        return _digest(changed, self.blobs) if changed else None


def work_tree(folder: Path) -> WorkTree | None:
    """The work tree that a folder is in; None without one, or if git cannot be asked."""
    top = _ask(folder, "rev-parse", "--show-toplevel")
    if not top:
        return None
    root = Path(os.fsdecode(top.removesuffix(b"\n")))
    said = ("status", "--porcelain=v2", "-z", "--branch", "--no-ahead-behind", "--no-renames", "--untracked-files=all")
    patterns = [f"*{suffix.decode()}" for suffix in SOURCE_SUFFIXES]
    status = _ask(root, *_without_filters(root), *said, "--ignore-submodules=all", "--", *patterns)
    listed = _ask(root, "ls-files", "--stage", "-z")
    if status is None or listed is None:
        return None
    index = dict(_indexed(listed))
    blobs = {path: blob for path, (_, blob) in index.items() if path.endswith(SOURCE_SUFFIXES)}
    entries = status.split(b"\0")
    changed = {path for entry in entries if (path := _changed_path(entry)) is not None}
    for path in changed:
        _read_again(root, path, blobs)
    for path, (mode, _) in index.items():
        if mode == _SUBMODULE:
            _add_submodule(root, path, blobs, changed)
    return WorkTree(root, _commit(entries), frozenset(index), blobs, frozenset(changed))


def _ask(folder: Path, *arguments: str) -> bytes | None:
    """Git's output there; None if it cannot be asked or refuses.

    It takes no lock, as others may be at work in the repository, fetches nothing, and starts no program that a
    repository names: it may be a stranger's.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _OF_ANOTHER_REPOSITORY}
    command = ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *arguments]
    try:
        done = subprocess.run(
            command,
            env={**environment, **_LOOK_ONLY},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _without_filters(root: Path) -> list[str]:
    """Git options that switch off the filter programs that the repository configures for reading its files."""
    names = (_ask(root, "config", "--null", "--name-only", "--get-regexp", "^filter[.]") or b"").split(b"\0")
    drivers = dict.fromkeys(os.fsdecode(name).rpartition(".")[0] for name in names if name)
    off = ("clean=", "process=", "required=false")
    return [word for driver in drivers for setting in off for word in ("-c", f"{driver}.{setting}")]


def _indexed(listed: bytes) -> Iterator[tuple[bytes, tuple[bytes, bytes]]]:
    """Path, and mode and blob, of each entry of `git ls-files --stage -z`."""
    for entry in filter(None, listed.split(b"\0")):
        about, _, path = entry.partition(b"\t")
        mode, blob, _ = about.split(b" ")
        yield path, (mode, blob)


def _commit(entries: Iterable[bytes]) -> str | None:
    """The commit in the headers of `git status --branch`; None before the first one."""
    head = b"# branch.oid "
    named = next((entry.removeprefix(head).decode() for entry in entries if entry.startswith(head)), "(initial)")
    return None if named == "(initial)" else named


def _changed_path(entry: bytes) -> bytes | None:
    """The path of an entry of `git status --porcelain=v2 -z`; None for a header, and a folder that git lists as one."""
    kind = entry[:2]
    fields = {b"1 ": 8, b"u ": 10, b"? ": 1}.get(kind)
    if fields is None:
        return None
    path = entry.split(b" ", fields)[-1]
    return path if path.endswith(SOURCE_SUFFIXES) else None


def _read_again(root: Path, path: bytes, blobs: dict[bytes, bytes]) -> None:
    """Read a file again that may differ from the index; drop it if it is gone."""
    kind = "sha1" if len(next(iter(blobs.values()), b"0" * 40)) == 40 else "sha256"
    blobs.pop(path, None)
    file = Path(os.fsdecode(root), os.fsdecode(path))
    with contextlib.suppress(OSError, DamagedFile):
        content = os.fsencode(file.readlink()) if file.is_symlink() else read_bytes(file)
        # The id that git would give it, so that committing a change does not change the code's digest.
        blob = hashlib.new(kind, b"blob %d\0" % len(content) + content, usedforsecurity=False)
        blobs[path] = blob.hexdigest().encode()


def _add_submodule(root: Path, path: bytes, blobs: dict[bytes, bytes], changed: set[bytes]) -> None:
    """The source files of a submodule as they lie there, whatever commit of it the repository asks for."""
    folder = root / os.fsdecode(path)
    if not (folder / ".git").exists() or (inside := work_tree(folder)) is None:
        return
    blobs |= {path + b"/" + name: blob for name, blob in inside.blobs.items()}
    changed |= {path + b"/" + name for name in inside.changed}


def _digest(paths: Iterable[bytes], blobs: Mapping[bytes, bytes]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path + b"\0" + blobs.get(path, b"deleted") + b"\0")
    return digest.hexdigest()
