"""What CONTRIBUTING.md names exists, and pre-commit and the workflow call the Makefile and .ci/run."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import yaml

from tests.conftest import LANES, lane_of, skipped_words

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").replace("\\_", "_")
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def test_every_path_that_contributing_names_exists() -> None:
    named = set(re.findall(r"\b(?:flipscale|tests|docs|bench|studies)/[\w./-]*[\w/]", TEXT))
    assert len(named) > 40
    assert {name for name in named if "NAME" not in name and not (ROOT / name).exists()} == set()


def test_every_constant_and_function_of_a_recipe_stands_in_a_file_of_it() -> None:
    missing = []
    for section in TEXT.split("\n## Add ")[1:]:
        named = re.findall(r"\b(?:flipscale|tests|docs)/[\w/]+\.py", section)
        files = [ROOT / name for name in named if "NAME" not in name]
        code = "\n".join(file.read_text(encoding="utf-8") for file in files)
        names = re.findall(r"`(_?[A-Z][A-Z_]+|[A-Z][a-z]+[A-Z]\w+|_\w+|[a-z]+_[a-z]+)`", section)
        missing += [name for name in names if files and not re.search(rf"\b{name}\b", code)]
    assert missing == []


def test_the_way_of_a_dead_node_s_runs_names_what_its_files_define() -> None:
    section = TEXT.split("## When a node dies")[1].partition("\n## ")[0]
    code = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in re.findall(r"flipscale/[\w/]+\.py", section))
    names = set(re.findall(r"`(\w+)`", section)) - {"SLURM_RESTART_COUNT", "train"}
    assert len(names) > 12
    defined = set(re.findall(r"^ *(?:def|class) (\w+)|^(\w+)(?:: .+)? = ", code, re.MULTILINE))
    assert names - {name for pair in defined for name in pair} == {"LeaseLost"}  # of flipscale/errors.py


def test_make_targets_that_are_named_exist() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repo["repo"] for repo in hooks["repos"]] == ["local"]
    entries = [hook["entry"] for repo in hooks["repos"] for hook in repo["hooks"]]
    named = {words.split()[1] for words in entries} | set(re.findall(r"\bmake ([\w-]+)", TEXT)) - {"targets"}
    assert named - TARGETS == set()


def test_ci_says_the_words_of_contributing() -> None:
    said = re.findall(r"^make ([\w-]+)", (ROOT / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE)
    assert said == ["quickstart", "test", "check", "test-clusters"]


def test_what_was_skipped_is_one_line_that_says_how_to_get_it() -> None:
    latex = "Skipped: needs pdflatex; apt-get install texlive-latex-base"
    clusters = "those of real SLURM, Ray, MLflow's server, PostgreSQL, Chromium and torture: make test-clusters"
    ends = "(on Debian, .ci/run installs and runs all)"
    assert skipped_words([latex, latex], "not clusters") == (
        f"tests skipped: 2 need pdflatex; apt-get install texlive-latex-base; {clusters} {ends}"
    )
    assert skipped_words([], "clusters") == ""


def lane(file: str, *fixtures: str) -> str:
    """The lane of a test in this file that uses these fixtures."""
    item = SimpleNamespace(
        path=ROOT / file, nodeid=f"{file}::test", fixturenames=fixtures, get_closest_marker=lambda _: None
    )
    return lane_of(cast(pytest.Item, item))


def test_a_test_is_one_of_real_parts_by_its_fixtures() -> None:
    assert lane("tests/launch/test_ray.py", "tmp_path", "ray") in LANES
    assert lane("tests/test_track_server.py", "server", "database") in LANES
    assert lane("tests/report/test_browser.py", "here", "browser") in LANES
    assert lane("tests/report/test_report.py", "here") not in LANES
    assert lane("tests/launch/test_ray.py", "tmp_path") not in LANES


def test_the_workflow_does_what_ci_does() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    assert steps[-1] == ".ci/run"
    assert not any("pytest" in step or "pip" in step for step in steps)
