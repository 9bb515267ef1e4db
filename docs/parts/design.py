"""The rooms and floors of docs/design.md, from the packages' docstrings and from tests/test_house.py."""

import ast
import textwrap
from pathlib import Path

from tests.test_house import FLOORS, PACKAGE

ROOMS = (
    "study",
    "settings",
    "cost",
    "planning",
    "run",
    "data",
    "launch",
    "train",
    "collecting",
    "track",
    "storage",
    "door",
    "analysis/rows",
    "analysis/stats",
    "analysis/fitting",
    "analysis/sensitivity",
    "analysis/comparing",
    "analysis/plotting",
    "analysis/export",
    "analysis/reporting",
    "next_runs",
    "workflow",
    "cli",
    "errors",
    "words",
    "scores",
    "cell",
    "tables",
    "kinds",
    "workspace",
    "randomness",
    "plain_files",
    "guard",
)
"""In the order of a study's way through the house, then what all of them use."""


def rooms() -> str:
    """Each room with the first paragraph of its docstring."""
    rows = []
    for room in ROOMS:
        package = PACKAGE / room / "__init__.py"
        name, file = (f"{room}/", package) if package.exists() else (f"{room}.py", PACKAGE / f"{room}.py")
        rows.append(f"| `{name}` | {_summary(file)} |")
    return "\n".join(["| room | |", "|---|---|", *rows, ""])


def _summary(file: Path) -> str:
    said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    assert said, f"{file} has no docstring"
    return " ".join(said.partition("\n\n")[0].split())


def floors() -> str:
    """The floors from the ground up; rooms between two `<` do not import each other."""
    text = " < ".join(" | ".join(sorted(floor)) for floor in FLOORS)
    return textwrap.indent("\n".join(textwrap.wrap(text, 96, break_on_hyphens=False)), "    ") + "\n"
