"""docs/any-table.md: its commands on public tables print the screens that it shows, beside what was published."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from flipscale.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "any-table.md"
TABLES = {
    "openclip.csv": "openclip_robustness.csv",
    "porian.csv": "porian_isoflop_points.csv",
    "gadre.csv": "gadre2024_runs.csv",
}


def blocks() -> list[str]:
    """The indented blocks of the page."""
    text = PAGE.read_text(encoding="utf-8")
    return [re.sub("^    ", "", each[0], flags=re.MULTILINE) for each in re.finditer(r"(?:^    .*\n)+", text, re.M)]


def screens() -> list[tuple[str, str]]:
    """Each command that the page shows with what it prints."""
    shown = [block.replace("\\\n", "").removeprefix("$ ").partition("\n") for block in blocks() if block[0] == "$"]
    return [(command, output) for command, _, output in shown]


@pytest.mark.slow
@pytest.mark.parametrize(("command", "output"), screens())
def test_a_command_of_the_page_prints_what_it_shows(command, output, tmp_path, monkeypatch, capsys):
    for name, known in TABLES.items():
        shutil.copy(Path(__file__).parent / "known_answers" / known, tmp_path / name)
    (tmp_path / "runs.csv").write_text(next(block for block in blocks() if block.startswith("arm,val_loss")))
    monkeypatch.chdir(tmp_path)
    main(shlex.split(command)[1:])
    out, said = capsys.readouterr()
    assert (out or said) == output


def test_the_page_has_the_published_values_beside_ours():
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if "known_answers" in line]
    for row, published in zip(rows, ("^-0.13", "^0.497", "2.425"), strict=True):
        assert published in row
    assert len(screens()) == 4
