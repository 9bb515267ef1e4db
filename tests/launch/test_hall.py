"""64 nodes of eight A100 and 1 TB as a real controller has them: the scripts of the paper, and one cluster of two."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from flipscale.launch import cancel, preview, states, submit
from flipscale.launch.site import DEFAULTS
from flipscale.launch.slurm import SlurmLauncher, launcher
from flipscale.launch.slurm.arrays import JobArray
from flipscale.plan import plan
from flipscale.run import State
from flipscale.study import read_study
from tests.clusters.hall import Hall
from tests.clusters.slurm import SlurmCluster, missing
from tests.launch.contract import WORKER, StandInRun
from tests.parts import need

pytestmark = pytest.mark.slow

STUDIES = sorted((Path(__file__).parents[2] / "studies/paper").glob("*.yaml"))


@pytest.fixture
def hall(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hall]:
    reason = missing()
    need(not reason, f"SLURM: {reason}")
    with Hall() as hall:
        for name, value in hall.env.items():
            monkeypatch.setenv(name, value)
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


@pytest.mark.parametrize("named_by", ["site file", "variable"])
def test_jobs_of_another_cluster_of_the_site_wait_are_not_sent_twice_and_can_be_cancelled(
    slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named_by: str
) -> None:
    monkeypatch.setattr(launcher, "JUST_SENT_SECONDS", 0)
    monkeypatch.setenv("SQUEUE_ACCOUNT", "others")
    monkeypatch.setenv("SCANCEL_PARTITION", "others")
    site = {**DEFAULTS, "cluster": "hall", "sbatch": ["--hold"], "memory_per_process": None}
    if named_by == "variable":
        monkeypatch.setenv("SLURM_CLUSTERS", "hall")
        site["cluster"] = None
    runs = [StandInRun("one"), StandInRun("other"), StandInRun("child", parents=("one",))]

    def send() -> dict[State, int]:
        return dict(submit(runs, tmp_path, SlurmLauncher(tmp_path, site, command=WORKER)).skipped)

    with Hall(beside=slurm):
        assert send() == {}
        monkeypatch.delenv("SLURM_CLUSTERS", raising=False)
        site["cluster"] = "hall"
        arrays = [JobArray.read(path) for path in sorted((tmp_path / "slurm").glob("*/[0-9].json"))]
        assert [array.cluster for array in arrays] == ["hall", "hall"]
        assert slurm.ask("squeue", "--noheader") == ""
        assert send() == {State.WAITING: 3}
        assert sorted(cancel(runs, tmp_path)) == ["child", "one", "other"]
        assert slurm.ask("squeue", "--clusters=hall", "--noheader", "--states=PENDING") == ""
        assert set(states(runs, tmp_path).values()) == {State.CANCELLED}
