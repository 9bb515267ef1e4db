"""README is short, its first screen says what is not tested and how to install, and its study does what it shows."""

import re
import shutil
from pathlib import Path

import pytest

from tests.commands import flipscale

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_what_is_not_tested_and_how_to_install_stand_in_the_first_screen() -> None:
    first = "\n".join(TEXT.splitlines()[:24])
    assert "no study has run on a GPU" in " ".join(first.split())
    assert "make install" in first
    assert "flipscale run" in first


def test_the_answers_that_pages_show_are_those_of_the_committed_table(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "tutorials" / "first-study.md").read_text(encoding="utf-8")
    (study,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "mask.yaml").write_text(study)
    (tmp_path / "results" / "mask").mkdir(parents=True)
    shutil.copy(ROOT / "results" / "mask" / "results.csv", tmp_path / "results" / "mask")
    said = flipscale("compare", "mask.yaml", cwd=tmp_path).stdout
    for text in (TEXT, page):
        (answer,) = re.findall(r"^Does masking.*\n.*\nmask 50 %.*\n", text, re.MULTILINE)
        assert said.startswith(answer)
    (noise,) = re.findall(r"^12 runs, 3 seeds each.*?(?= \.\.\.)", TEXT, re.MULTILINE)
    assert noise in " ".join(said.split())


def numberless(line: str) -> str:
    """What a line says up to its first colon or bracket, without its numbers."""
    return " ".join(re.sub(r"[\d.,]+k?", "N", re.split(r"[:(]", line)[0]).split())


@pytest.mark.slow
def test_the_commands_of_the_readme_say_what_it_shows(tmp_path: Path) -> None:
    (study,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    (shown,) = re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
    assert len(study.splitlines()) <= 10
    (tmp_path / "mask.yaml").write_text(study)
    plan, *_ = re.split(r"^\$ ", shown, flags=re.MULTILINE)[1:]
    assert plan.splitlines()[1] in flipscale("plan", "mask.yaml", cwd=tmp_path).stdout
    # 1 and 10 steps, so that the longer run takes longer on a busy machine too, and few images to evaluate on.
    small = study.replace("16k", "640").replace("8k", "80") + "evaluation: {images: 100}\n"
    (tmp_path / "mask.yaml").write_text(small)
    for block in re.split(r"^\$ ", shown, flags=re.MULTILINE)[1:]:
        command, *lines = block.splitlines()
        program, *arguments = command.split()
        assert program == "flipscale"
        extra = ["--no-mlflow"] if arguments[0] == "run" else []
        done = flipscale(*arguments, *extra, cwd=tmp_path)
        said = [numberless(line) for line in (done.stdout + done.stderr).splitlines()]
        lines = [line for line in lines if not line.startswith("mask 50 %")]  # Hardly trained, it may reach no score.
        assert {numberless(line) for line in lines} <= set(said), done.stdout + done.stderr
