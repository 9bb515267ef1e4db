"""HTML of texts, tables and Markdown of `compare`, outside the template. Text of users always goes through `text`."""

import html
import re
from collections.abc import Sequence

COLUMN_WORDS = {
    "gpu_hours": "training time",
    "gpu_hours_predicted": "predicted training time",
    "train_flops": "training FLOPs",
    "peak_memory_bytes": "peak memory",
    "flops_per_sample": "FLOPs per sample",
    "samples_seen": "samples seen",
    "unique_pairs": "unique pairs",
}
"""Column of results.csv, and what the page calls it."""

_COLUMN_NAME = re.compile(rf"\b(?:{'|'.join(sorted(COLUMN_WORDS, key=len, reverse=True))})\b")


def readable(words: str) -> str:
    """The words, or HTML made of them, with the names of columns as a reader knows them."""
    return _COLUMN_NAME.sub(lambda found: COLUMN_WORDS[found[0]], words)


def without_control_characters(words: str) -> str:
    """The words without the characters that HTML cannot hold."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]|\ufffe|\uffff", "", words)


def text(value: object) -> str:
    """The value as text of the page, never as markup."""
    return html.escape(without_control_characters(str(value)))


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, words: Sequence[int] = (0,)) -> str:
    """A table that scrolls sideways if it is too wide; cells are HTML, and all columns but `words` are numbers."""

    def cells(tag: str, row: Sequence[str]) -> str:
        shown = []
        for column, cell in enumerate(row):
            number = "" if column in words else ' class="number"'
            if tag == "th" and not cell:
                shown.append("<td></td>")  # An empty head is not a header.
                continue
            scope = ' scope="col"' if tag == "th" else ""
            if tag == "td" and column == 0:
                shown.append(f'<th scope="row"{number}>{cell}</th>')
            else:
                shown.append(f"<{tag}{scope}{number}>{cell}</{tag}>")
        return f"<tr>{''.join(shown)}</tr>"

    body = "\n".join(cells("td", row) for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}">\n<table>\n'
        f"<caption>{text(caption)}</caption>\n<thead>{cells('th', head)}</thead>\n<tbody>\n{body}\n</tbody>\n"
        f"</table>\n</div>"
    )


def listed(items: Sequence[str]) -> str:
    """A list of HTML items."""
    return "<ul>\n" + "\n".join(f"<li>{item}</li>" for item in items) + "\n</ul>"


def details(summary: str, inner: str, *, opened: bool = False) -> str:
    return f"<details{' open' if opened else ''}>\n<summary>{summary}</summary>\n{inner}\n</details>"


def markdown(source: str, *, leave_out: Sequence[str] = ()) -> str:
    """flipscale's own Markdown as HTML: paragraphs, lists and tables; a line that ends in ':' heads the next block.
    Blocks under a head in `leave_out` are left out."""
    parts: list[str] = []
    head = ""
    for block in re.split(r"\n{2,}", source.strip()):
        lines = block.splitlines()
        if len(lines) == 1 and block.endswith(":"):
            head = block.removesuffix(":")
            continue
        if head not in leave_out:
            parts.append(_block(lines, head))
        head = ""
    return "\n".join(parts)


def _block(lines: Sequence[str], head: str) -> str:
    if lines[0].startswith("|") and len(lines) > 1:
        return _markdown_table(lines, head or "Table")
    title = f"<h3>{text(head)}</h3>\n" if head else ""
    if lines[0].startswith("- ") and all(line.startswith(("- ", " ")) for line in lines):
        # A line that begins with spaces belongs to the item before.
        items = re.sub(r"\n +", " ", "\n".join(lines)).split("\n")
        return title + listed([text(item.removeprefix("- ")) for item in items])
    if lines[0].startswith("#"):
        return f"<h3>{text(lines[0].lstrip('# '))}</h3>"
    return f"{title}<p>{text(' '.join(lines))}</p>"


def _markdown_table(lines: Sequence[str], caption: str) -> str:
    """A table of Markdown: its head, a line of dashes, and rows."""
    head, _, *rows = ([cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in lines)
    words = [column for column in range(len(head)) if not _are_numbers([row[column:] for row in rows])]
    return table(caption, list(map(text, head)), [list(map(text, row)) for row in rows], words=words)


def _are_numbers(columns: Sequence[Sequence[str]]) -> bool:
    return all(not column or re.match(r"[-+−]?[\d.]|-?$|~", column[0]) for column in columns)
