"""The SLURM test cluster does what tests of the launcher build on."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.clusters.slurm import SlurmCluster
from tests.patience import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.second]

HOG = (
    f"exec {sys.executable} -c 'import time; held = bytearray(300 << 20); held[::4096] = held[1::4096]; time.sleep(60)'"
)
"""Takes 300 MB and touches each page."""


def test_it_comes_up_with_four_idle_nodes(slurm: SlurmCluster) -> None:
    assert slurm.states() == {"n1": "idle", "n2": "idle", "n3": "idle", "n4": "idle"}


def test_partitions_are_main_two_preemptible_ones_and_a_short_one(slurm: SlurmCluster) -> None:
    assert sorted(slurm.ask("sinfo", "-h", "-s", "-o", "%P %l").splitlines()) == [
        "main* infinite",
        "preempt infinite",
        "preempt0 infinite",
        "short 2:00",
    ]


def test_sacct_knows_the_exit_code_of_a_job(slurm: SlurmCluster) -> None:
    job = slurm.submit("exit 3")
    wait_until(lambda: history(slurm, job) == "FAILED|3:0", "the end of the job")


def test_a_job_sees_only_the_gpus_that_it_asked_for(slurm: SlurmCluster, tmp_path: Path) -> None:
    for name in ("one", "other"):
        slurm.submit(f"echo $CUDA_VISIBLE_DEVICES > {tmp_path / name}; sleep 60", "--gres=gpu:2", "--nodelist=n1")
    wait_until(lambda: [path for path in tmp_path.iterdir() if path.read_text()][1:], "both jobs")
    assert sorted(path.read_text().strip() for path in tmp_path.iterdir()) == ["0,1", "2,3"]


def test_a_job_over_its_memory_is_killed(slurm: SlurmCluster) -> None:
    job = slurm.submit(HOG, "--mem=100")
    # The first by the kernel, the second by SLURM, where there is no cgroup v1.
    wait_until(lambda: history(slurm, job) in ("OUT_OF_MEMORY|0:125", "FAILED|0:9"), "the kill")


def test_a_running_job_survives_a_restart_of_the_controller(slurm: SlurmCluster, tmp_path: Path) -> None:
    flag = tmp_path / "go on"
    job = slurm.submit(f"until [ -e '{flag}' ]; do sleep 0.1; done")
    wait_until(lambda: slurm.ask("squeue", "-h", "-j", job, "-o", "%T") == "RUNNING", "the start of the job")
    slurm.restart_controller()
    assert slurm.ask("squeue", "-h", "-j", job, "-o", "%T") == "RUNNING"
    flag.touch()
    wait_until(lambda: history(slurm, job) == "COMPLETED|0:0", "the end of the job")


def test_a_killed_node_goes_down_alone_and_comes_back(slurm: SlurmCluster) -> None:
    slurm.kill_node("n2")
    wait_until(lambda: slurm.states()["n2"].startswith("down"), "node n2 to be called down")
    assert [slurm.states()[name] for name in ("n1", "n3", "n4")] == ["idle", "idle", "idle"]
    slurm.start_node("n2")
    assert slurm.states()["n2"] == "idle"


def test_nothing_of_a_test_is_left_for_the_next(slurm: SlurmCluster) -> None:
    slurm.submit("trap '' TERM; sleep 600")
    slurm.submit("sleep 600", "--hold")
    slurm.kill_node("n3")
    slurm.kill_controller()
    slurm.settle()
    assert slurm.ask("squeue", "-h") == ""
    assert slurm.states() == dict.fromkeys(slurm.nodes, "idle")


def test_two_clusters_with_the_same_nodes_and_job_numbers_do_not_meet(slurm: SlurmCluster) -> None:
    first = SlurmCluster.start(ACCOUNTING=0)
    second = SlurmCluster.start(ACCOUNTING=0)
    try:
        assert [one.submit("sleep 60", "--nodelist=n1", "--mem=100") for one in (first, second)] == ["1", "1"]
        wait_until(lambda: jobs(first) == jobs(second) == "RUNNING", "the start of both jobs")
        first.ask("scancel", "1")
        wait_until(lambda: jobs(first) == "", "the end of the first")
        assert jobs(second) == "RUNNING"
        assert slurm.ask("squeue", "-h") == ""
        with pytest.raises(subprocess.CalledProcessError):
            first.ask("sacct")
    finally:
        first.stop()
        second.stop()
    assert processes_that_name(first.folder) == processes_that_name(second.folder) == []


@pytest.mark.parametrize("moment", ["run/munged.pid", "a job is submitted"], ids=["in its start", "later"])
def test_a_cluster_ends_when_its_process_is_killed(moment: str, slurm: SlurmCluster) -> None:
    folder = Path(tempfile.mkdtemp(prefix="flipscale-slurm-", dir="/tmp"))
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom tests.clusters.slurm import SlurmCluster\n"
        "one = SlurmCluster.start(Path(sys.argv[1]), ACCOUNTING=0)\none.submit('sleep 600')\n"
        "(one.folder / 'a job is submitted').touch()\ntime.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, folder], cwd=SlurmCluster.script.parents[2]) as process:
        wait_until((folder / moment).exists, moment)
        assert processes_that_name(folder)
        process.kill()
    wait_until(lambda: not folder.exists(), "the folder to go")
    assert processes_that_name(folder) == []


def test_without_its_programs_it_says_what_to_install() -> None:
    done = check("id() { echo 0; }; command() { return 1; }\n")
    assert done.returncode == 3
    assert "missing: " in done.stderr
    assert "sbatch" in done.stderr
    assert "apt-get install -y --no-install-recommends slurm-wlm slurmdbd" in done.stderr


def test_without_root_it_says_that_it_needs_root() -> None:
    done = check("id() { echo 1000; }\n")
    assert done.returncode == 3
    assert done.stderr == "a SLURM cluster needs root: its daemons start jobs as other users; try it with sudo\n"


def check(prelude: str) -> subprocess.CompletedProcess[str]:
    """`slurm.sh check` on a machine that differs from this one in the functions that the prelude defines."""
    script = prelude + SlurmCluster.script.read_text()
    return subprocess.run(["bash", "-s", "check"], input=script, capture_output=True, text=True)


def jobs(cluster: SlurmCluster) -> str:
    return cluster.ask("squeue", "-h", "-o", "%T")


def history(cluster: SlurmCluster, job: str) -> str:
    return cluster.ask("sacct", "-X", "-n", "-P", "-j", job, "-o", "State,ExitCode")


def processes_that_name(folder: Path) -> list[str]:
    """Command lines of processes that have this folder in arguments, in the environment or as working directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (
                (process / "cmdline").read_bytes()
                + (process / "environ").read_bytes()
                + os.fsencode((process / "cwd").readlink())
            )
        except OSError:
            continue
        if os.fsencode(folder) + b"/" in text:
            found.append((process / "cmdline").read_text())
    return found
