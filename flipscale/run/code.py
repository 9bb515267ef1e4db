"""The code that trained a run, as a type, and how two such codes differ."""

from collections.abc import Mapping
from dataclasses import dataclass, field

SHORT = 10
"""Hex digits of a digest or a commit that are shown to a person."""


@dataclass(frozen=True)
class FileContent:
    """The content of a file."""

    size: int
    """Bytes."""
    sha256: str | None = None
    """Hex; None for a file too large to read each time, which is known by its size alone."""

    def differs(self, other: "FileContent") -> bool:
        hashed = self.sha256 is not None and other.sha256 is not None
        return self.size != other.size or (hashed and self.sha256 != other.sha256)


@dataclass(frozen=True)
class CodeIdentity:
    """The code that trained a run, as it was where the training ran: an entry of code.json. It is not part of the id.

    Unknown parts (no git, git refused, no repository) are None or absent from a mapping, and never count as a
    difference.
    """

    project: str = "flipscale"
    """The owner of `source`: flipscale, or the folder name of the repository of a training command."""
    source: str | None = None
    """Digest of the source files as they lay there, committed or not: flipscale's own that take part in training, or
    those of a training command's repository. Equal source is the same code, whatever the commit."""
    commit: str | None = None
    """The commit in git, for a person to find it again."""
    changes: str | None = None
    """Digest of source files that differ from the commit; None where all were committed, or nothing is known."""
    versions: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Versions of the packages that trained, by name."""
    files: Mapping[str, FileContent] = field(default_factory=dict, hash=False)
    """The files that a training command names, its script among them, and `init` for the weights to start from."""

    def differences(self, today: "CodeIdentity") -> list[str]:
        """How this code differs from today's, a phrase each; empty where it is the same as far as both are known."""
        source_known = self.source is not None and today.source is not None
        phrases = []
        if source_known and self.source != today.source:
            phrases.append(f"{self.project} at {self.state} (today at {today.state})")
        # flipscale's version says nothing more where its source is known.
        phrases += _other_versions(self.versions, today.versions, passing_over="flipscale" if source_known else "")
        return phrases + _other_files(self.files, today.files)

    @property
    def state(self) -> str:
        """The source in words: 'commit 1a2b3c4d5e with uncommitted changes (9f8e7d)', or its digest without git."""
        if self.commit is None:
            return f"source {self.source[:SHORT]}" if self.source else "source that is not known"
        changed = f" with uncommitted changes ({self.changes[:6]})" if self.changes else ""
        return f"commit {self.commit[:SHORT]}{changed}"

    def __str__(self) -> str:
        """'flipscale at commit 1a2b3c4d5e, torch 2.8.0, train.py (1,203 bytes)'."""
        said = [f"{self.project} at {self.state}" if self.source or self.commit else self.project]
        said += [f"{name} {version}" for name, version in self.versions.items()]
        said += [f"{name} ({content.size:,} bytes)" for name, content in self.files.items()]
        return ", ".join(said)


def _other_versions(before: Mapping[str, str], today: Mapping[str, str], passing_over: str) -> list[str]:
    return [
        f"{name} {version} (today {today[name]})"
        for name, version in before.items()
        if name != passing_over and today.get(name, version) != version
    ]


def _other_files(before: Mapping[str, FileContent], today: Mapping[str, FileContent]) -> list[str]:
    phrases = []
    for name, content in before.items():
        now = today.get(name)
        if now is not None and content.differs(now):
            sizes = f"{content.size:,} bytes, today {now.size:,}" if content.size != now.size else "of the same size"
            phrases.append(f"{name} with other content ({sizes})")
    return phrases
