"""What a check of the inputs of runs has found."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flipscale.errors import InputsError

_NOUNS = {
    "data_sets": ("data set", "data sets"),
    "evaluation_sets": ("evaluation set", "evaluation sets"),
    "labelled_sets": ("labelled set", "labelled sets"),
    "shards": ("shard", "shards"),
    "shards_opened": ("of them opened", "of them opened"),
    "class_files": ("file of class names", "files of class names"),
    "checkpoints": ("checkpoint", "checkpoints"),
    "commands": ("training command", "training commands"),
}
"""The counted inputs, in this order, with their names in singular and plural."""


@dataclass(frozen=True)
class Checked:
    """The result of a check."""

    problems: tuple[str, ...]
    """One line each, `where: what; what would be right`, with the study's file and line."""
    looked_at: Mapping[str, int]
    """How many inputs of each kind were looked at."""
    not_checked: tuple[str, ...]
    """The inputs that were not checked, and why."""
    settings: tuple[str, ...] = ()
    """The setting that each problem concerns, such as 'data' or 'init'."""

    def raise_if_any(self, then: str = "") -> None:
        """Raise InputsError with every problem, and with `then` on a line of its own."""
        if self.problems:
            raise InputsError("\n".join([*self.problems, *filter(None, [then])]))

    def to_dict(self) -> dict[str, Any]:
        return {
            "problems": list(self.problems),
            "looked_at": dict(self.looked_at),
            "not_checked": list(self.not_checked),
        }

    def __str__(self) -> str:
        """'checked 1 data set, 2 shards. Not checked: ...'."""
        left = f". Not checked: {'; '.join(self.not_checked)}" if self.not_checked else ""
        return f"checked {self.counted(*_NOUNS) or 'nothing, as these runs read no files'}{left}."

    def counted(self, *kinds: str) -> str:
        """'1 data set, 2 shards' of these kinds of `looked_at`; '' where none was looked at."""
        found = [(self.looked_at.get(kind, 0), words) for kind, words in _NOUNS.items() if kind in kinds]
        return ", ".join(f"{number:,} {words[number > 1]}" for number, words in found if number)
