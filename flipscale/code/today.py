"""The code that would train a run here and now."""

import functools
import hashlib
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flipscale.code.digests import content_of
from flipscale.code.git import WorkTree, work_tree
from flipscale.errors import printable
from flipscale.inputs.program import named_files, runs_in_this_environment
from flipscale.run import CodeIdentity, FileContent
from flipscale.settings import CommandTrainer, OpenClipTrainer, Settings
from flipscale.workspace import Workspace

PACKAGE = Path(__file__).parents[1]

TRAINING = (
    "architecture.py", "cost.py", "identity.py", "inputs/", "randomness.py", "scores.py", "settings.py", "train/",
)  # fmt: skip
"""The parts of flipscale that take part in a training. Other parts plan, start, collect and draw; changing
them does not change a result."""

_NOT_SOURCE = (".pyc", ".pyo")

MOST_ARGUMENT_BYTES = 64 << 20
"""A larger file that a training command names, other than its script, is data: it is known by its size alone."""

_PACKAGES = {"torch": "torch", "open_clip": "open_clip_torch"}
"""Packages whose versions can change a result, and the distributions that install them."""

WEIGHTS = "init"
"""The name in `CodeIdentity.files` of the weights that a run starts from."""


def training_key(settings: Settings) -> str:
    """Equal for settings that the same code trains, on any machine."""
    return f"{settings.trainer!r} {settings.init!r} {settings.fine_tuning is None}"


class CodeToday:
    """The code that would train runs here and now, looked at once for all runs that share it.

    A worker makes a new one for each run, as the program of a training command is read when it starts.
    """

    def __init__(self, workspace: Workspace):
        self.kept = workspace.cache / "digests"
        self._known: dict[str, CodeIdentity] = {}

    def of(self, settings: Settings) -> CodeIdentity:
        """The code that would train a run of these settings. Unknown parts are missing."""
        key = training_key(settings)
        if key not in self._known:
            self._known[key] = self._look(settings)
        return self._known[key]

    def _look(self, settings: Settings) -> CodeIdentity:
        trainer = settings.trainer
        # A fine-tuning is flipscale's, whatever trained the run that it starts from.
        is_own = settings.fine_tuning is not None
        if isinstance(trainer, CommandTrainer) and not is_own:
            code = self._of_command(trainer.arguments)
        elif isinstance(trainer, OpenClipTrainer) and not is_own:
            code = replace(_of_flipscale(), files=self._files(("open_clip_train", *trainer.arguments)))
        else:
            code = _of_flipscale()
        start = None if settings.init is None else content_of(Path(settings.init.path), self.kept)
        if start is not None:  # A tag of pretrained weights is not a file, and is part of the id.
            code = replace(code, files={**code.files, WEIGHTS: start})
        return code

    def _of_command(self, arguments: Sequence[str]) -> CodeIdentity:
        """The code of the first repository that tracks a file of the command, or else of the working folder's."""
        folder = _working_folder()
        tree = _tree_of(named_files(arguments), folder)
        versions = dict(_versions()) if runs_in_this_environment(arguments) else {}
        versions.pop("flipscale", None)
        return CodeIdentity(
            project=printable(tree.top.name if tree else folder.name if folder else ""),
            source=tree.source if tree else None,
            commit=tree.commit if tree else None,
            changes=tree.changes() if tree else None,
            versions=versions,
            files=self._files(arguments),
        )

    def _files(self, arguments: Sequence[str]) -> dict[str, FileContent]:
        """The files among the words of a command, by their names without folders: two clones name them alike."""
        found: dict[str, FileContent] = {}
        for number, file in enumerate(named_files(arguments)):
            most = None if number == 0 else MOST_ARGUMENT_BYTES
            content = content_of(Path(file), self.kept, most=most)
            if content is not None:
                name = printable(Path(file).name)
                found[printable(file) if name in found else name] = content
        return found


def _tree_of(files: Sequence[str], folder: Path | None) -> WorkTree | None:
    for parent in dict.fromkeys(Path(file).resolve().parent for file in files):
        tree = work_tree(parent)
        if tree is not None and any(tree.tracks(Path(file)) for file in files):
            return tree
    return None if folder is None else work_tree(folder)


def _working_folder() -> Path | None:
    """The working folder; None if it was deleted."""
    try:
        return Path.cwd()
    except OSError:
        return None


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
        for file in _training_files(package):
            name = file.relative_to(package).as_posix().encode()
            content = file.read_bytes()
            digest.update(b"%s\0%d\0" % (name, len(content)) + content)
    except OSError:
        return None
    return digest.hexdigest()


def _training_files(package: Path) -> Iterator[Path]:
    for part in TRAINING:
        path = package / part
        if part.endswith("/"):
            yield from (file for file in sorted(path.rglob("*")) if file.is_file() and file.suffix not in _NOT_SOURCE)
        else:
            yield path


@functools.cache
def _versions() -> Mapping[str, str]:
    """Versions of flipscale, Python and the packages that can change a result; one that is not installed is missing."""
    found = {"flipscale": _version("flipscale"), "python": ".".join(platform.python_version_tuple()[:2])}
    found |= {name: _version(distribution) for name, distribution in _PACKAGES.items()}
    return {name: version for name, version in found.items() if version is not None}


def _version(distribution: str) -> str | None:
    from importlib import metadata  # It loads csv and email: a tenth of the start of a command that asks no version.

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
