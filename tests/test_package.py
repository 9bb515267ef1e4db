"""The wheel: what is in it, what it says of itself, and that a study runs from it where the source is not."""

import os
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
import yaml

import flipscale

ROOT = Path(__file__).parent.parent

LEFT_OUT = (".*", "__pycache__", "*.egg-info", "build", "dist")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that `python -m build` makes: of a copy, as building writes beside the source."""
    here = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, here / "source", ignore=shutil.ignore_patterns(*LEFT_OUT))
    # The setuptools that is here, so that no network is needed. CI builds it in an environment of its own (.ci/run).
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", here / "dist", here / "source"]
    done = subprocess.run(command, cwd=here, env=without_source(), capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = (here / "dist").glob("*.whl")
    assert made.name == f"flipscale-{flipscale.__version__}-py3-none-any.whl"
    return made


def without_source() -> dict[str, str]:
    """The environment without what would lead an interpreter to the source."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode("utf-8"))


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    there = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "flipscale").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == there
    wanted = {
        "py.typed",
        "study/own.yaml",
        "study/template.yaml",
        "analysis/reporting/page.css",
        "analysis/reporting/page.js",
        "analysis/reporting/plotly-basic.min.js",
    }
    assert {f"flipscale/{name}" for name in wanted | {"analysis/reporting/LICENSE.plotly"}} <= packed


@pytest.mark.slow
def test_the_wheel_says_who_made_it_and_under_which_licence(wheel: Path) -> None:
    said = metadata(wheel)
    assert said["License-Expression"] == "MIT"
    assert said.get_all("License-File") == ["LICENSE", "flipscale/analysis/reporting/LICENSE.plotly"]
    assert said["Author"] == "The flipscale developers"
    assert said.get_all("Project-URL") == ["Paper, https://arxiv.org/abs/2212.00794"]
    assert "The flipscale developers" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_the_citation_agrees_with_the_package() -> None:
    cited: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(cited)  # what the format asks for
    assert (cited["version"], cited["license"]) == (flipscale.__version__, "MIT")
    assert cited["authors"] == [{"name": "The flipscale developers"}]
