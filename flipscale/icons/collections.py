"""The sets of the package @iconify/json, as it describes them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flipscale.errors import DataError

PERMISSIVE = frozenset({
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-3.0", "CC-BY-4.0", "CC0-1.0", "ISC", "MIT",
    "MIT-0", "OFL-1.1", "Unlicense",
})  # fmt: skip
"""Licences, by their SPDX names, under which pictures of a set may be passed on if at most its author is named."""


@dataclass(frozen=True)
class IconSet:
    """A set of icons, its author and its licence."""

    name: str
    total: int
    """How many icons it has."""
    author: str
    author_url: str | None
    licence: str | None
    """Its SPDX name, if it has one."""
    licence_url: str | None

    @property
    def is_permissive(self) -> bool:
        return self.licence in PERMISSIVE


def read_sets(package: Path) -> dict[str, IconSet]:
    """Every set of the package, by its prefix."""
    return {prefix: _icon_set(info) for prefix, info in read_json(package / "collections.json").items()}


def _icon_set(info: dict[str, Any]) -> IconSet:
    author, licence = info["author"], info["license"]
    return IconSet(
        name=info["name"],
        total=info["total"],
        author=author["name"],
        author_url=author.get("url"),
        licence=licence.get("spdx"),
        licence_url=licence.get("url"),
    )


def read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch the package @iconify/json again.") from None
    return content
