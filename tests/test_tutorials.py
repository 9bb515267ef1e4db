"""The tutorials: the files that they show are written, and their commands run in order, in an empty folder.

Counts of samples and of evaluation images and, on clusters, seeds are smaller than on the page, a SLURM job does all
runs, figures are drawn as SVG alone, and commands find a machine of one core. SLURM is the fake one; Ray is real.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from flipscale.collecting import read_results
from tests.clusters.ray import RayCluster
from tests.commands import flipscale
from tests.launch import fake_slurm

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"

BLOCK = re.compile(r"(?:<!-- not run: (.+?) -->\n\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """What stands between fences: a file if its first line names it (`# mask.yaml`), commands if it is bash."""

    language: str
    text: str
    why_not: str

    @property
    def file(self) -> str:
        named = re.match(r"# ([\w.]+)\n", self.text)
        return named[1] if named and self.language in ("yaml", "python") else ""


def blocks(page: str) -> list[Block]:
    found = BLOCK.findall((TUTORIALS / page).read_text(encoding="utf-8"))
    return [Block(language, text, why_not) for why_not, language, text in found]


def small(text: str, seeds: int | None = None) -> str:
    """The study with a 40th of its samples, few images to evaluate on, and this number of seeds; or the site, whose
    jobs do many runs each: a job more is a process, which takes longer to start than such runs take.
    """
    text = re.sub(r"(?<=[ \[])(\d+)k\b", lambda match: str(25 * int(match[1])), text)
    text = text.replace("images: 1000", "images: 100")
    if re.search(r"^axes:", text, re.MULTILINE) and "evaluation:" not in text:
        text += "evaluation: {images: 100}\n"
    if re.search(r"^partition:", text, re.MULTILINE):
        text += "pack: {time: 5m}\n"
    return text if seeds is None else re.sub(r"^seeds: \d+$", f"seeds: {seeds}", text, flags=re.MULTILINE)


def follow(page: str, folder: Path, environment: Mapping[str, str], seeds: int | None = None) -> str:
    """Do all that the page says, in the folder; what the commands print."""
    environment = {**environment, "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}"}
    for name in ("FLIPSCALE_RESULTS", "FLIPSCALE_SITE", "FLIPSCALE_DATA"):
        environment.pop(name, None)
    said = []
    for block in blocks(page):
        if block.file:
            (folder / block.file).write_text(small(block.text, seeds), encoding="utf-8")
        elif block.language == "bash" and not block.why_not:
            said += [what_is_said(line, folder, environment) for line in block.text.splitlines()]
    return "".join(said)


def what_is_said(line: str, folder: Path, environment: dict[str, str]) -> str:
    """Run a line of a shell there."""
    program, *arguments = shlex.split(line)
    if program == "export":
        name, _, value = arguments[0].partition("=")
        environment[name] = value.replace("$PWD", str(folder))
        return ""
    if program == "flipscale":
        with mock.patch.dict(os.environ, environment, clear=True):
            done = flipscale(*arguments, cwd=folder)
    else:
        command = ["bash", "-c", line]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


@pytest.fixture
def slurm_environment(tmp_path: Path) -> Iterator[Mapping[str, str]]:
    yield {**os.environ, **fake_slurm.install(tmp_path / "cluster")}
    fake_slurm.stop(tmp_path / "cluster")


def rows(here: Path, study: str) -> int:
    return len((here / f"results/{study}/results.csv").read_text(encoding="utf-8").splitlines()) - 1


def test_the_first_study(here: Path) -> None:
    said = follow("first-study.md", here, os.environ)
    assert rows(here, "mask") == 60
    assert "left alone 48 finished" in said
    assert "48 runs, 4 seeds each: 2 arms in up to 6 cells." in said
    assert (here / "table.tex").read_text(encoding="utf-8").startswith("%")
    assert (here / "plots/mask/report.html").exists()


def test_shards_of_your_own(here: Path) -> None:
    said = follow("your-shards.md", here, os.environ)
    assert rows(here, "mine") == 8
    found = read_results(here / "results/mine/results.csv")
    assert found[["colours.zero_shot_top1", "held_out_loss", "coarse.zero_shot_top1"]].notna().all(axis=None)
    assert '8 of 8 trained; 8 to score on "coarse"' in said
    assert "submitted 8 runs to local (8 of them trained, and only scored)" in said
    assert "wrote results/mine/comparison-held_out_loss.json" in said


def test_reading_the_report(here: Path) -> None:
    shutil.copytree(ROOT / "studies", here / "studies")
    shutil.copytree(ROOT / "results" / "fashion", here / "results" / "fashion")
    said = follow("reading-the-report.md", here, os.environ)
    (sentence,) = re.findall(r"```text\n(.*?)```", (TUTORIALS / "reading-the-report.md").read_text(), re.DOTALL)
    assert " ".join(sentence.split()) in " ".join(said.split())


def test_slurm(here: Path, slurm_environment: Mapping[str, str]) -> None:
    said = follow("slurm.md", here, slurm_environment, seeds=1)
    assert rows(here, "mask") == 4
    assert "submitted 4 runs to slurm" in said


def test_ray(here: Path, ray: RayCluster) -> None:
    said = follow("ray.md", here, {**os.environ, **ray.env}, seeds=1)
    assert rows(here, "mask") == 4
    assert "submitted 4 runs to ray" in said


def test_what_is_not_run_gives_a_reason_and_holds_no_other_command() -> None:
    left_out = [block for page in sorted(TUTORIALS.glob("*.md")) for block in blocks(page.name) if block.why_not]
    assert [block.text.split()[0] for block in left_out] == ["git", "make"]
    assert not any("flipscale " in block.text.replace("cd flipscale", "") for block in left_out)


def test_tutorials_show_commands_in_blocks_that_run() -> None:
    """An indented command, or one in a block of another language, would be passed over."""
    for page in sorted(TUTORIALS.glob("*.md")):
        text = BLOCK.sub("", page.read_text(encoding="utf-8"))
        assert re.findall(r"^    (?:\$ )?flipscale .*$", text, re.MULTILINE) == []
        assert {block.language for block in blocks(page.name)} <= {"bash", "yaml", "python", "text"}
