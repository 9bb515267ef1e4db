"""README's first screen says how to begin, and its studies and tables answer what it shows."""

import re
from pathlib import Path

import pytest

from docs.parts.pictures import quickstart
from tests.commands import flipscale

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs/tutorials/first-study.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def shown(command: str) -> str:
    """What README shows of a command, without what it leaves out."""
    (lines,) = re.findall(rf"^\$ {re.escape(command)}\n((?:(?!\$ |```).+\n)*)", TEXT, re.MULTILINE)
    return lines.replace("...\n", "")


def test_the_first_screen_has_the_two_commands_that_do_all_the_set_up() -> None:
    first = "\n".join(TEXT.splitlines()[:24])
    assert "make quickstart" in first
    assert "make test" in first
    assert "No study has run on a GPU yet" in first


def test_the_study_of_readme_and_tutorial_is_that_of_quickstart() -> None:
    file = (ROOT / "studies/quickstart.yaml").read_text(encoding="utf-8")
    lines = [line for line in file.splitlines() if not line.startswith("#")]
    (study,) = blocks(TEXT, "yaml")
    assert study.splitlines() == lines
    assert len(lines) == 10
    assert blocks(TUTORIAL, "yaml")[0].splitlines()[1:] == lines


def test_the_price_that_readme_shows_is_that_of_the_plan(tmp_path: Path) -> None:
    said = flipscale("plan", "studies/quickstart.yaml", "--results", str(tmp_path)).stdout
    price = shown("flipscale plan studies/quickstart.yaml")
    assert price in said
    assert price in TUTORIAL


def test_the_answer_that_pages_show_is_that_of_the_kept_runs(tmp_path: Path) -> None:
    place = quickstart(tmp_path).workspace.results
    said = flipscale("compare", "studies/quickstart.yaml", "--results", str(place)).stdout
    answer = "".join(shown("flipscale run studies/quickstart.yaml").splitlines(keepends=True)[:4])
    assert said.startswith(answer)
    assert answer in TUTORIAL


def test_every_cell_of_quickstart_learns_and_nothing_is_warned_of(tmp_path: Path) -> None:
    place = quickstart(tmp_path).workspace.results
    said = flipscale("compare", "studies/quickstart.yaml", "--results", str(place)).stdout
    assert len(said.splitlines()) <= 15
    assert "fail" not in said
    assert "\n! " not in said
    assert len(re.findall(r"^ViT-.*x \([\d.]+, [\d.]+\)  .*\(.*, .*\)  .*\(.*, .*\)$", said, re.MULTILINE)) == 2


def test_the_table_that_readme_shows_has_the_answer_that_it_shows() -> None:
    assert f"`{(ROOT / 'docs/runs.csv').read_text(encoding='utf-8').splitlines()[0]}`" in TEXT
    command = "flipscale compare docs/runs.csv --baseline mixup=no --x hours --y acc"
    assert shown(command) in flipscale(*command.split()[1:]).stdout


def numberless(line: str) -> str:
    """What a line says up to its first colon or bracket, without its numbers."""
    return " ".join(re.sub(r"[\d.,]+k?", "N", re.split(r"[:(]", line)[0]).split())


@pytest.mark.slow
def test_the_run_of_the_readme_says_what_it_shows(tmp_path: Path) -> None:
    (study,) = blocks(TEXT, "yaml")
    (tmp_path / "studies").mkdir()
    # 1 and 10 steps, so that the longer run takes longer on a busy machine too, and few images to evaluate on.
    small = study.replace("[3k, 6k, 12k]", "[80, 640]").replace("images: 1000", "images: 100")
    (tmp_path / "studies/quickstart.yaml").write_text(small)
    done = flipscale("run", "studies/quickstart.yaml", "--no-mlflow", cwd=tmp_path)
    said = {numberless(line) for line in done.stdout.splitlines()}
    lines = shown("flipscale run studies/quickstart.yaml").splitlines()
    expected = {numberless(line) for line in lines if not line.startswith("ViT-")}  # They may reach no score.
    assert expected <= said, done.stdout + done.stderr
