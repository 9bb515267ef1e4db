"""Every command of docs/ is one that flipscale takes, and every YAML block is one that it reads."""

import contextlib
import io
import json
import re
import shlex
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from flipscale.analysis.stats import moments
from flipscale.cli.parser import parse
from flipscale.collecting import read_results
from flipscale.launch.site import read_site
from flipscale.planning.runs import plan
from flipscale.study import read_study

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if page.name not in ("cli.md", "log.md"))

FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?:^    .*\n)+", re.MULTILINE)

STUDY = """\
schema: 1
base: {model: ViT-w16d1-4, data: fashion, samples: 64M, batch_size: 64}
axes: {mask_ratio: [0, 0.5, 0.75]}
baseline: {mask_ratio: 0}
evaluation: {inference: [masked]}
seeds: 5
"""
"""What a part of a study is read with."""

OTHERS = ("cluster_name", "export: PATH,HOME")
"""How YAML that is not flipscale's begins: Ray's, and sbatch's options."""


class Block(NamedTuple):
    """A block of code of a page."""

    page: str
    language: str
    text: str


def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        name = str(page.relative_to(DOCS))
        found += [Block(name, each[1], each[2]) for each in FENCED.finditer(text)]
        found += [Block(name, "", each[0]) for each in INDENTED.finditer(FENCED.sub("", text))]
    return found


def commands() -> list[tuple[str, str]]:
    found = []
    for block in blocks():
        for line in block.text.replace("\\\n", " ").splitlines():
            command = line.strip().removeprefix("$ ")
            is_command = command.startswith("flipscale ") and not command.endswith(".")  # A sentence is printed.
            if is_command and block.language in ("", "bash", "console"):
                found.append((block.page, command))
    return found


@pytest.mark.parametrize(("page", "command"), commands())
def test_flipscale_takes_every_command_of_the_docs(page: str, command: str) -> None:
    words = shlex.split(command, comments=True)
    said = io.StringIO()
    code: object = 0
    with contextlib.redirect_stderr(said):
        try:
            parse(words[1:])
        except SystemExit as end:
            code = end.code
    assert not code, f"{page}: {command}\n{said.getvalue()}"


def test_the_first_hour_on_a_gpu_begins_with_make_install_and_names_commands_that_there_are() -> None:
    """flipscale's own are parsed above."""
    found = [block.text.splitlines() for block in blocks() if block.page == "first-gpu-hour.md" and not block.language]
    lines = [line.strip() for part in found for line in part]
    assert lines[0] == "make install"
    assert "make test-gpu" in lines
    makefile = (DOCS.parent / "Makefile").read_text(encoding="utf-8")
    for line in lines:
        program, *words = shlex.split(line)
        if program == "make":
            assert f"\n{words[0]}: " in makefile, line
        elif program == "python":
            assert words[0] == "-c", line
            compile(words[1], line, "exec")
        elif program == "flipscale":
            for study in (word for word in words if word.startswith("studies/")):
                assert (DOCS.parent / study).exists(), line
        else:
            assert line in ("source .venv/bin/activate", "nvidia-smi -L"), line


def written() -> list[Block]:
    """The blocks of YAML: those that say so, and others that begin with a key of a study."""
    keys = ("base:", "axes:", "couple:", "evaluation:", "tune:", "data:", "claims:", "trainer:")
    found = [block for block in blocks() if block.language == "yaml" or block.text.lstrip().startswith(keys)]
    return [block for block in found if not block.text.removeprefix("# ").startswith(OTHERS)]


@pytest.mark.parametrize("block", written(), ids=lambda block: f"{block.page}: {block.text.split(chr(10))[0]}")
def test_flipscale_reads_every_yaml_block_of_the_docs(block: Block, tmp_path: Path) -> None:
    data = yaml.safe_load(textwrap.dedent(block.text))
    if list(data) == ["data"]:
        data = {"base": data}
    file = tmp_path / "block.yaml"
    if "schema" in data:
        file.write_text(textwrap.dedent(block.text))
        if "base" not in data:
            read_site(file)
            return
    else:
        study = yaml.safe_load(STUDY)
        base = {**study["base"], **data.pop("base", {})}
        if "axes" in data:
            del study["baseline"]
        if "claims" in data:
            study["axes"] |= {"samples": ["16k", "64k"], "tuning": [None, "1.6k"]}
            study["baseline"]["tuning"] = None
            base["samples"] = "64k"
        file.write_text(yaml.safe_dump({**study, **data, "base": base}))
    assert plan(read_study(file)).total.runs


def test_the_lengths_that_docs_shows_share_the_trunk_that_it_prints(tmp_path: Path) -> None:
    (block,) = (block for block in written() if "cooldown_shape" in block.text)
    file = tmp_path / "lengths.yaml"
    data = yaml.safe_load(textwrap.dedent(block.text))
    data["base"] |= {"model": "ViT-w16d1-4", "batch_size": 64}
    file.write_text(yaml.safe_dump({"schema": 1, **data}))
    assert f"    {plan(read_study(file)).sharing}\n" in (DOCS / "stages.md").read_text(encoding="utf-8")


def test_the_branch_at_128k_is_level_by_its_own_scatter_as_docs_says() -> None:
    compared = json.loads((DOCS.parent / "results/trunk/comparison.json").read_text(encoding="utf-8"))
    claims = compared["claims"]["claims"]
    claim = next(each for each in claims if "level with a cosine at 128k" in each["claim"])
    table = read_results(DOCS.parent / "results/trunk/results.csv").set_index("id").loc[claim["runs"]]
    scores = table.pivot_table(index="seed", columns="schedule", values="zero_shot_top1")
    own = moments((100 * (scores["constant"] - scores["cosine"])).tolist())
    assert own
    assert f"(p = {2 * own.p_within(-1, 1):.3f}, corrected)" in (DOCS / "stages.md").read_text(encoding="utf-8")
    assert claim["verdict"] == "undecided"
