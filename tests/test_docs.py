"""What the documents say of the code is what the code says."""

import re

import pytest

from tests import generated


@pytest.mark.parametrize("name", generated.PARTS)
def test_generated_part_is_up_to_date(name: str) -> None:
    path, text, right = generated.filled(name)
    assert text == right, f"{path.name} is behind the code; run `make docs`"


def test_links_between_documents_lead_somewhere() -> None:
    documents = [generated.ROOT / "README.md", *sorted((generated.ROOT / "docs").glob("*.md"))]
    missing = [
        f"{document.name}: {link}"
        for document in documents
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
        if not (document.parent / link).exists()
    ]
    assert missing == []
