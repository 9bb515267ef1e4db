"""Every script of the paper's studies, as a real controller of 64 nodes of eight A100 and 1 TB judges it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from flipscale.launch import preview
from flipscale.launch.site import DEFAULTS
from flipscale.launch.slurm import SlurmLauncher
from flipscale.plan import plan
from flipscale.study import read_study
from tests.clusters.hall import Hall
from tests.clusters.slurm import missing
from tests.parts import need

pytestmark = pytest.mark.slow

STUDIES = sorted((Path(__file__).parents[2] / "studies/paper").glob("*.yaml"))


@pytest.fixture(scope="module")
def hall() -> Iterator[Hall]:
    reason = missing()
    need(not reason, f"SLURM: {reason}")
    with Hall() as hall, pytest.MonkeyPatch.context() as patch:
        for name, value in hall.env.items():
            patch.setenv(name, value)
        yield hall


def scripts(study: Path, results: Path) -> list[str]:
    """The batch scripts of a study, without the numbers of jobs that there are not."""
    text = preview(plan(read_study(study)).runs, results, SlurmLauncher(results, DEFAULTS))
    alone = re.sub(r"^#SBATCH --(dependency|kill-on-invalid-dep)=.*\n", "", text, flags=re.MULTILINE)
    return [f"#!/bin/bash{script}" for script in alone.split("#!/bin/bash")[1:]]


def test_nodes_of_a_terabyte_take_every_script_of_the_papers_studies(hall: Hall, tmp_path: Path) -> None:
    refused, path = {}, tmp_path / "job.sh"
    found = [
        (study.name, number, script) for study in STUDIES for number, script in enumerate(scripts(study, tmp_path))
    ]
    for name, number, script in found:
        path.write_text(script)
        if why := hall.refuses(path):
            refused[name, number] = why, re.findall(r"--(?:mem|nodes|gres)=\S+", script)
    assert refused == {}
    assert len(found) >= len(STUDIES) > 0
    assert hall.refuses(path, "--mem=1000001M")
