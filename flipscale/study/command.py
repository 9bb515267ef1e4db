"""The command of a user's own program: {NAME} in its words stands for a setting of the run."""

import re
from collections.abc import Iterable, Sequence

from flipscale.settings.declarations import Settings

FOLDER = "folder"
"""In a command, the name that stands for the run's folder."""

_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")


def named_in(arguments: Iterable[str]) -> list[str]:
    """The settings that a command names."""
    return [name for word in arguments for name in _PLACEHOLDER.findall(word) if name != FOLDER]


def filled(arguments: Sequence[str], settings: Settings) -> list[str]:
    """The words of a command with the values of settings in place of their names. {folder} and other words stay."""

    def value(name: "re.Match[str]") -> str:
        return _written(getattr(settings, name[1])) if name[1] in vars(settings) else name[0]

    return [_PLACEHOLDER.sub(value, word) for word in arguments]


def _written(value: object) -> str:
    """A value as a program reads it: 100000000, 0.001, true, rms."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    return str(getattr(value, "kind", value))
