"""What people read, as records: sentences, lists and tables, and their one renderer for terminal and Markdown.

reporting/page.html is the one for HTML.

For example:

    parts = ["Does masking pay off?", PrintedTable("", ("arm", "gain (points)"), (("mask 50 %", "+1.9 (+0.2, +3.6)"),))]
    as_text(parts, width=80)    as_markdown(parts)
"""

import html
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

SHORTEST = 22
"""Characters of a line that the first column of a table keeps on a narrow terminal."""


@dataclass(frozen=True)
class PrintedTable:
    """A table: names of columns with their units, and rows of words."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    """What its numbers mean, a sentence each."""
    wraps: bool = False
    """Whether a narrow terminal wraps the words of the first column."""

    def without_empty(self) -> "PrintedTable":
        """The table without columns that say nothing in any row."""
        kept = [i for i in range(len(self.columns)) if any(row[i] not in ("", "-") for row in self.rows)]
        rows = tuple(tuple(row[i] for i in kept) for row in self.rows)
        return replace(self, columns=tuple(self.columns[i] for i in kept), rows=rows)

    @property
    def numbers(self) -> list[bool]:
        """Which columns hold numbers alone; the first has names."""
        return [
            i > 0 and all(map(_LIKE_A_NUMBER.match, (row[i] for row in self.rows))) for i in range(len(self.columns))
        ]


_LIKE_A_NUMBER = re.compile(r"(about )?[-+−]?[\d.]|-?$|~")


@dataclass(frozen=True)
class Listing:
    """A list: its title, and an item a line."""

    title: str
    items: tuple[str, ...]


Part = str | PrintedTable | Listing


def as_text(parts: Sequence[Part], width: int | None = None, between: str = "\n\n") -> str:
    """For a terminal of this width: sentences are wrapped, rows of tables never; None is as wide as it takes."""
    return between.join(_text(part, width) for part in parts)


def _text(part: Part, width: int | None) -> str:
    if isinstance(part, str):
        return _wrapped(part, width)
    if isinstance(part, Listing):
        head = [f"{part.title}:"] if part.title else []
        return "\n".join([*head, *(_wrapped(f"- {item}", width, "  ") for item in part.items)])
    lines = [_wrapped(f"{part.title}:", width)] if part.title else []
    return "\n".join([*lines, *_aligned(part, width), *(_wrapped(note, width) for note in part.notes)])


def _wrapped(sentence: str, width: int | None, indent: str = "") -> str:
    wide = width or max(1, len(sentence))
    return textwrap.fill(sentence, wide, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _aligned(table: PrintedTable, width: int | None) -> list[str]:
    """Head and rows. Of a table that is too wide the words of the first column may take several lines."""
    rows = [table.columns, *table.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    over = sum(widths) + 2 * (len(widths) - 1) - width if width and table.wraps else 0
    if over > 0:
        widths[0] = max(min(widths[0], SHORTEST), widths[0] - over)
    lines = []
    for first, *rest in rows:
        name, *more = textwrap.wrap(first, widths[0], subsequent_indent="  ", break_on_hyphens=False) or [""]
        lines += ["  ".join(map(str.ljust, (name, *rest), widths)).rstrip(), *more]
    return lines


def as_markdown(parts: Sequence[Part]) -> str:
    """The same in Markdown, a blank line between parts."""
    return "\n\n".join(map(_markdown, parts))


def _markdown(part: Part) -> str:
    if isinstance(part, str):
        return part
    title = [f"{part.title}:"] if part.title else []
    if isinstance(part, Listing):
        return "\n\n".join([*title, "\n".join(f"- {item}" for item in part.items)])
    rows = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in (part.columns, *part.rows)]
    rows.insert(1, " | ".join(["---"] * len(part.columns)))
    return "\n\n".join([*title, "\n".join(f"| {row} |" for row in rows), *filter(None, part.notes)])


def escaped(value: object) -> str:
    """The value as text of a page, never as markup. Control characters, which HTML cannot hold, are left out."""
    return html.escape(re.sub(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]|\ufffe|\uffff", "", str(value)))
