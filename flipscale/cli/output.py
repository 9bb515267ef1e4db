"""How the command line speaks: data on stdout, talk on stderr."""

import json
import sys
from collections.abc import Sequence


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def print_json(data: object) -> None:
    print(json.dumps(data, indent=1))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = True) -> None:
    """The first column is a name; the others are mostly numbers, or all are words."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    aligned = str.rjust if numbers else str.ljust
    for row in (head, *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [aligned(cell, width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip())


def hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"


def si(number: float) -> str:
    """Three digits and a suffix: 12.8B."""
    for scale, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= scale:
            return f"{number / scale:.3g}{suffix}"
    return f"{number:g}"
