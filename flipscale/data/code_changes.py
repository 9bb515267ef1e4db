"""Which code would train a run here and now, and which finished runs other code trained.

The code of a training command is its git repository, flipscale's own the files of it that take part in a training. The
rest is versions of packages, and the content of files that a command names. `run/code.py` compares two codes.
"""

import contextlib
import functools
import hashlib
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from flipscale.data.command import named_files, runs_in_this_environment
from flipscale.errors import DamagedFile, printable
from flipscale.plain_files import open_plain, or_none, read_bytes
from flipscale.planning.runs import Run
from flipscale.run import CodeIdentity, FileContent, RunFolder
from flipscale.settings.declarations import CommandTrainer, OpenClipTrainer, Settings
from flipscale.words import count
from flipscale.workspace import RUNS_FOLDER

PACKAGE = Path(__file__).parents[1]

TRAINING = (
    "cost/arithmetic.py", "data/", "planning/identity.py", "randomness.py", "scores.py", "settings/", "train/",
)  # fmt: skip
"""The parts of flipscale that take part in a training. Other parts plan, start, collect and draw; changing
them does not change a result."""

SOURCE_SUFFIXES = (
    b".py", b".pyx", b".pxd", b".c", b".cc", b".cpp", b".cxx", b".h", b".hh", b".hpp", b".cu", b".cuh", b".rs", b".go",
    b".jl", b".r", b".R", b".sh", b".bash", b".zsh", b".pl", b".rb", b".lua", b".js", b".ts", b".java", b".scala",
    b".swift", b".m", b".f90",
)  # fmt: skip
"""Endings of files that count as code. Studies, results and notes may lie in the same repository, and adding one does
not change the code; other files that a training command reads are named in the command."""

MOST_ARGUMENT_BYTES = 64 << 20
"""A larger file that a training command names, other than its script, is data: it is known by its size alone."""

MOST_SENTENCES = 6
"""At most this many different sets of differences are written out."""

GIT_SECONDS = 20.0
"""A call of git that takes longer is given up: nothing is known then."""

_OF_ANOTHER_REPOSITORY = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE",
)  # fmt: skip
"""In a git hook these are set and name the hook's repository, whatever the folder."""


# Finished runs and the code of today


@dataclass(frozen=True)
class CodeChanges:
    """Which code trained the finished runs of a study, and how it differs from today's."""

    finished: int = 0
    """How many finished runs there are."""
    differing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """How the code of a run differs from today's, a phrase each, by run id; runs of today's code are left out."""
    unrecorded: tuple[str, ...] = ()
    """Runs whose code is not known: nothing was written, or it cannot be read."""
    mixed: tuple[str, ...] = ()
    """Runs that were resumed with other code than they began with."""
    codes: tuple[tuple[CodeIdentity, int], ...] = ()
    """Each code and how many runs it trained, wholly or in part; most runs first."""

    @property
    def summary(self) -> str:
        """'12 of 36 finished runs were trained by other code than today's'; '' where none was."""
        number = len(self.differing)
        return f"{self._were(number)} trained by other code than today's" if number else ""

    def _were(self, number: int) -> str:
        return f"{number:,} of {count(self.finished, 'finished run')} {'was' if number == 1 else 'were'}"

    def sentences(self) -> list[str]:
        """Remarks for a person; empty if all finished runs were trained by today's code."""
        ways = Counter(self.differing.values()).most_common()
        said = [f"{self._were(n)} trained by other code: {'; '.join(how)}." for how, n in ways[:MOST_SENTENCES]]
        if rest := sum(number for _, number in ways[MOST_SENTENCES:]):
            said.append(f"{self._were(rest)} trained by other code, too, in {len(ways)} ways in all.")
        if number := len(self.mixed):
            they = "it" if number == 1 else "they"
            said.append(f"{self._were(number)} resumed with other code than {they} began with.")
        if (number := len(self.unrecorded)) and number < self.finished:
            has = "has" if number == 1 else "have"
            said.append(f"{number:,} of {count(self.finished, 'finished run')} {has} no record of the code.")
        return said


def code_changes(runs: Iterable[Run], results: Path, files: Mapping[str, Container[str]] | None = None) -> CodeChanges:
    """How the code of those runs that are finished differs from today's.

    files: the names of the files in the folder of each finished run, by id, if a caller has listed them already.
    """
    today = CodeToday()
    finished = 0
    differing: dict[str, tuple[str, ...]] = {}
    unrecorded = []
    mixed = []
    numbers: Counter[str] = Counter()
    by_words: dict[str, CodeIdentity] = {}
    for run in runs:
        folder = RunFolder(f"{results}/{RUNS_FOLDER}/{run.id}")
        if run.id not in files if files is not None else "result.json" not in folder.glance().files:
            continue
        finished += 1
        codes = or_none(folder.codes)
        if not codes:
            unrecorded.append(run.id)
            continue
        now = today.of(run.settings)
        if differences := tuple(dict.fromkeys(phrase for code in codes for phrase in code.differences(now))):
            differing[run.id] = differences
        if any(codes[0].differences(other) for other in codes[1:]):
            mixed.append(run.id)
        words = {str(code): code for code in codes}
        by_words |= words
        numbers.update(words.keys())
    most_first = tuple((by_words[words], number) for words, number in numbers.most_common())
    return CodeChanges(finished, differing, tuple(unrecorded), tuple(mixed), most_first)


class CodeToday:
    """The code that would train runs here and now, looked at once for all runs that share it.

    A worker makes a new one for each run, as the program of a training command is read when it starts.
    """

    def __init__(self) -> None:
        self._known: dict[str, CodeIdentity] = {}

    def of(self, settings: Settings) -> CodeIdentity:
        """The code that would train a run of these settings. Unknown parts are missing."""
        key = f"{settings.trainer!r} {settings.init!r} {settings.fine_tuning is None}"
        if key not in self._known:
            self._known[key] = self._look(settings)
        return self._known[key]

    def _look(self, settings: Settings) -> CodeIdentity:
        # A fine-tuning is flipscale's, whatever trained the run that it starts from.
        trainer = settings.trainer if settings.fine_tuning is None else None
        if isinstance(trainer, CommandTrainer):
            code = self._of_command(trainer.arguments)
        else:
            code = _of_flipscale()
            if isinstance(trainer, OpenClipTrainer):
                code = replace(code, files=self._files(("open_clip_train", *trainer.arguments)))
        start = None if settings.init is None else content_of(Path(settings.init.path))
        # A tag of pretrained weights is not a file, and is part of the id.
        return code if start is None else replace(code, files={**code.files, "init": start})

    def _of_command(self, arguments: Sequence[str]) -> CodeIdentity:
        """The code of the first repository that tracks a file of the command, or else of the working folder's."""
        folder = None
        with contextlib.suppress(OSError):  # It was deleted.
            folder = Path.cwd()
        files = [Path(file) for file in named_files(arguments)]
        trees = (work_tree(parent) for parent in dict.fromkeys(file.resolve().parent for file in files))
        tree = next((tree for tree in trees if tree and any(map(tree.tracks, files))), None)
        tree = tree or (work_tree(folder) if folder else None)
        versions = dict(_versions()) if runs_in_this_environment(arguments) else {}
        versions.pop("flipscale", None)
        project = printable(tree.top.name if tree else folder.name if folder else "")
        code = CodeIdentity(project, versions=versions, files=self._files(arguments))
        return replace(code, source=tree.source, commit=tree.commit, changes=tree.changes()) if tree else code

    def _files(self, arguments: Sequence[str]) -> dict[str, FileContent]:
        """The files among the words of a command, by their names without folders: two clones name them alike."""
        contents: dict[str, FileContent] = {}
        for number, file in enumerate(named_files(arguments)):
            content = content_of(Path(file), most=MOST_ARGUMENT_BYTES if number else None)
            if content is not None:
                name = printable(Path(file).name)
                contents[printable(file) if name in contents else name] = content
        return contents


# Flipscale's own source, and versions


@functools.cache
def _of_flipscale() -> CodeIdentity:
    """The identity of flipscale's own code. A process runs the code that it began with, so it is determined once."""
    tree = work_tree(PACKAGE)
    commit = changes = None
    # A package that was installed inside somebody's repository is not part of it.
    if tree is not None and tree.tracks(PACKAGE / "__init__.py"):
        commit = tree.commit
        below = PACKAGE.resolve().relative_to(tree.top.resolve()).as_posix()
        changes = tree.changes(f"{below}/{part}" for part in TRAINING)
    return CodeIdentity(source=source_of(PACKAGE), commit=commit, changes=changes, versions=_versions())


def source_of(package: Path) -> str | None:
    """Digest of the files of a flipscale package that take part in a training; None where they cannot be read, as in a
    zip file. With or without git, from a clone or a wheel, the same files give the same digest."""
    digest = hashlib.sha256()
    try:
        for part in TRAINING:
            for file in sorted((package / part).rglob("*")) if part.endswith("/") else [package / part]:
                if not file.is_dir() and file.suffix not in (".pyc", ".pyo"):
                    content = file.read_bytes()
                    digest.update(b"%s\0%d\0" % (file.relative_to(package).as_posix().encode(), len(content)) + content)
    except OSError:
        return None
    return digest.hexdigest()


@functools.cache
def _versions() -> Mapping[str, str]:
    """Versions of flipscale, Python and the packages that can change a result; one that is not installed is missing."""
    from importlib import metadata  # It loads csv and email: a tenth of the start of a command that asks no version.

    packages = {"flipscale": "flipscale", "python": "", "torch": "torch", "open_clip": "open_clip_torch"}
    versions = {}
    for name, package in packages.items():
        with contextlib.suppress(metadata.PackageNotFoundError):
            python = ".".join(platform.python_version_tuple()[:2])
            versions[name] = metadata.version(package) if package else python
    return versions


# Files


def content_of(file: Path, *, most: int | None = None) -> FileContent | None:
    """Size and SHA-256 of a file; None if there is no such file, or it cannot be read.

    most: a file of more bytes is known by its size alone.
    """
    with contextlib.suppress(OSError, DamagedFile), os.fdopen(open_plain(file, follow=True), "rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        is_known_by_size = most is not None and size > most
        return FileContent(size, None if is_known_by_size else hashlib.file_digest(opened, "sha256").hexdigest())
    return None


# Git


@dataclass(frozen=True)
class WorkTree:
    """A git work tree: its commit, and its source files as they lie there."""

    top: Path
    commit: str | None
    """None before the first commit."""
    index: Mapping[bytes, bytes]
    """The blob of each tracked file by its path from `top`, those of submodules included."""
    source_files: frozenset[bytes]
    """Paths of the source files: those tracked, and those untracked and not ignored."""
    staged: frozenset[bytes]
    """Paths that differ between the index and the commit."""

    def tracks(self, file: Path) -> bool:
        """Whether the file belongs to this repository, and does not merely lie in it, as an ignored package does."""
        try:
            return os.fsencode(file.resolve().relative_to(self.top.resolve())) in self.index
        except (ValueError, OSError):
            return False

    @property
    def source(self) -> str:
        """Digest of the source files, by path and content."""
        blobs = {path: self._blob(path) for path in self.source_files}
        return _digest({path: blob for path, blob in blobs.items() if blob is not None})

    def changes(self, below: Iterable[str] = ("",)) -> str | None:
        """Digest of the source files below these paths that differ from the commit; None where none does."""
        prefixes = tuple(map(os.fsencode, below))
        paths = {path for path in self.source_files | self.staged if path.startswith(prefixes)}
        blobs = {path: self._blob(path) for path in paths if path.endswith(SOURCE_SUFFIXES)}
        changed = {path: blob for path, blob in blobs.items() if path in self.staged or self.index.get(path) != blob}
        return _digest({path: blob or b"deleted" for path, blob in changed.items()}) if changed else None

    def _blob(self, path: bytes) -> bytes | None:
        """The id that git would give the file, so that committing a change changes no digest; None if it is gone.

        The file is read here, as git would start the filter programs that a repository names.
        """
        file = Path(os.fsdecode(self.top), os.fsdecode(path))
        kind = "sha256" if len(next(iter(self.index.values()), b"")) == 64 else "sha1"
        content = or_none(lambda: os.fsencode(file.readlink()) if file.is_symlink() else read_bytes(file))
        if content is None:
            return None
        return hashlib.new(kind, b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest().encode()


def work_tree(folder: Path) -> WorkTree | None:
    """The work tree that a folder is in; None without one, if git is not installed, takes too long, or refuses: `git
    config --global --add safe.directory DIR` allows the repository of another user in a container."""
    top = _ask(folder, "rev-parse", "--show-toplevel")
    if not top:
        return None
    root = Path(os.fsdecode(top.removesuffix(b"\n")))
    patterns = [f"*{suffix.decode()}" for suffix in SOURCE_SUFFIXES]
    listed = _ask(root, "ls-files", "--stage", "-z", "--recurse-submodules")
    untracked = _ask(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *patterns)
    if listed is None or untracked is None:
        return None
    commit = (_ask(root, "rev-parse", "--verify", "--quiet", "HEAD") or b"").decode().strip() or None
    staged = _ask(root, "diff-index", "--cached", "--name-only", "--no-renames", "-z", commit) if commit else None
    index = dict(_indexed(listed))
    sources = {path for path in [*index, *untracked.split(b"\0")] if path.endswith(SOURCE_SUFFIXES)}
    return WorkTree(root, commit, index, frozenset(sources), frozenset((staged or b"").split(b"\0")))


def _ask(folder: Path, *arguments: str) -> bytes | None:
    """Git's output there; None if it cannot be asked or refuses.

    It takes no lock, as others may be at work in the repository, fetches nothing, and starts no program that a
    repository names: it may be a stranger's.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _OF_ANOTHER_REPOSITORY}
    only_look = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *arguments],
            env=environment | only_look,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _indexed(listed: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Path and blob of each entry of `git ls-files --stage -z`."""
    for entry in filter(None, listed.split(b"\0")):
        about, _, path = entry.partition(b"\t")
        yield path, about.split(b" ")[1]


def _digest(blobs: Mapping[bytes, bytes]) -> str:
    return hashlib.sha256(b"".join(path + b"\0" + blobs[path] + b"\0" for path in sorted(blobs))).hexdigest()
