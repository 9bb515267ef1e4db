"""How the command line prints data; its messages go through `flipscale.workflow.messages`."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from flipscale.errors import FlipscaleError, printable


def terminal_width() -> int:
    """Columns of the terminal; 80 at least, and where there is none."""
    return max(80, shutil.get_terminal_size().columns)


def refuse_existing(path: Path, other: str) -> None:
    """Raise FlipscaleError for a study file to write that is there. other: how to name another one."""
    if path.exists():
        raise FlipscaleError(f"{path}: exists already; give another name: {other}")


def print_json(data: object) -> None:
    print(json.dumps(data, indent=1))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = True) -> None:
    """Print a table: names in the first column, then columns that are right-aligned if they hold `numbers`."""
    rows = [[printable(cell) for cell in row] for row in rows]  # Names and reasons may come from other people's files.
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    aligned = str.rjust if numbers else str.ljust
    for row in (head, *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [aligned(cell, width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip())
