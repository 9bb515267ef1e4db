"""HTML of lists and folded parts; flipscale.tables has tables, and `escaped` for text from users and logs."""

from collections.abc import Sequence


def listed(items: Sequence[str]) -> str:
    """A list of HTML items."""
    return "<ul>\n" + "\n".join(f"<li>{item}</li>" for item in items) + "\n</ul>"


def details(summary: str, inner: str, *, opened: bool = False) -> str:
    return f"<details{' open' if opened else ''}>\n<summary>{summary}</summary>\n{inner}\n</details>"
