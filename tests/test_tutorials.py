"""The tutorials: the files that they show are written, and their commands run in order, in an empty folder.

Counts of samples and of evaluation images and, on clusters, seeds are smaller than on the page, a SLURM job does all
runs, figures are drawn as SVG alone, and commands find a machine of one core. SLURM is the fake one; Ray is real.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from flipscale.collecting import read_results
from tests.clusters.ray import RayCluster
from tests.followed import BLOCK, blocks, follow
from tests.launch import fake_slurm

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"


def printed(page: str, folder: Path, environment: Mapping[str, str], seeds: int | None = None) -> str:
    """What the commands of this tutorial print."""
    return "".join(done.stdout + done.stderr for done in follow(TUTORIALS / page, folder, environment, seeds))


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
    said = printed("first-study.md", here, os.environ)
    assert rows(here, "mask") == 60
    assert "left alone 48 finished" in said
    assert "48 runs, 4 seeds each: 2 arms in up to 6 cells." in said
    assert (here / "table.tex").read_text(encoding="utf-8").startswith("%")
    assert (here / "plots/mask/report.html").exists()


def test_shards_of_your_own(here: Path) -> None:
    said = printed("your-shards.md", here, os.environ)
    assert rows(here, "mine") == 8
    found = read_results(here / "results/mine/results.csv")
    assert found[["colours.zero_shot_top1", "held_out_loss", "coarse.zero_shot_top1"]].notna().all(axis=None)
    assert '8 of 8 trained; 8 to score on "coarse"' in said
    assert "submitted 8 runs to local (8 of them trained, and only scored)" in said
    assert "wrote results/mine/comparison-held_out_loss.json" in said


def test_reading_the_report(here: Path) -> None:
    shutil.copytree(ROOT / "studies", here / "studies")
    shutil.copytree(ROOT / "results" / "fashion", here / "results" / "fashion")
    said = printed("reading-the-report.md", here, os.environ)
    (sentence,) = re.findall(r"```text\n(.*?)```", (TUTORIALS / "reading-the-report.md").read_text(), re.DOTALL)
    assert " ".join(sentence.split()) in " ".join(said.split())


def test_slurm(here: Path, slurm_environment: Mapping[str, str]) -> None:
    said = printed("slurm.md", here, slurm_environment, seeds=1)
    assert rows(here, "mask") == 4
    assert "submitted 4 runs to slurm" in said


def test_ray(here: Path, ray: RayCluster) -> None:
    said = printed("ray.md", here, {**os.environ, **ray.env}, seeds=1)
    assert rows(here, "mask") == 4
    assert "submitted 4 runs to ray" in said


def test_what_is_not_run_gives_a_reason_and_holds_no_other_command() -> None:
    left_out = [block for page in sorted(TUTORIALS.glob("*.md")) for block in blocks(page) if block.why_not]
    assert [block.text.split()[0] for block in left_out] == ["git", "make"]
    assert not any("flipscale " in block.text.replace("cd flipscale", "") for block in left_out)


def test_tutorials_show_commands_in_blocks_that_run() -> None:
    """An indented command, or one in a block of another language, would be passed over."""
    for page in sorted(TUTORIALS.glob("*.md")):
        text = BLOCK.sub("", page.read_text(encoding="utf-8"))
        assert re.findall(r"^    (?:\$ )?flipscale .*$", text, re.MULTILINE) == []
        assert {block.language for block in blocks(page)} <= {"bash", "yaml", "python", "text"}
