"""The Ray test cluster does what tests of the launcher build on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clusters.ray import RayCluster, addresses_listened_at
from tests.clusters.test_cluster import processes_that_name
from tests.patience import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.second]


def test_it_comes_up_with_two_workers_and_no_job(ray: RayCluster) -> None:
    assert ray.alive() == {"w1", "w2"}
    assert not {"PENDING", "RUNNING"} & set(ray.jobs().values())


def test_it_listens_on_loopback_alone(ray: RayCluster) -> None:
    found = addresses_listened_at(ray.processes())
    assert set(found) == {"127.0.0.1"}
    assert found.total() >= 12  # three of each worker, and more of the head


def test_a_killed_node_is_noticed_and_comes_back(ray: RayCluster) -> None:
    ray.kill_node("w2")
    wait_until(lambda: ray.alive() == {"w1"}, "node w2 to be called dead")
    ray.start_node("w2")
    assert ray.alive() == {"w1", "w2"}


def test_a_cluster_ends_when_its_process_is_killed(ray: RayCluster) -> None:
    script = (
        "import time\nfrom tests.clusters.ray import RayCluster\n"
        "one = RayCluster.start(WORKERS='w1')\nprint(one.folder, flush=True)\ntime.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=RayCluster.script.parents[2], stdout=subprocess.PIPE, text=True
    ) as it:
        assert it.stdout is not None
        folder = Path(it.stdout.readline().strip())
        assert processes_that_name(folder)
        os.kill(it.pid, signal.SIGKILL)
    wait_until(lambda: not folder.exists(), "the folder to go")
    assert processes_that_name(folder) == []
    assert ray.alive() == {"w1", "w2"}


def test_without_ray_it_says_what_to_install() -> None:
    done = subprocess.run(
        [RayCluster.script, "check"], env={**os.environ, "PYTHON": "/bin/false"}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (3, "no Ray in /bin/false; pip install 'ray[default,tune]'\n")
