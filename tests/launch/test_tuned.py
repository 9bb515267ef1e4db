"""From a sweep to the comparison, on this machine and on the fake SLURM, though the command is killed between."""

import subprocess
import sys
from pathlib import Path

import pytest

from flipscale.launch.slurm import SlurmLauncher
from flipscale.workflow.study import open_study
from flipscale.workflow.submitted import train_study
from flipscale.workspace import Workspace
from tests.launch import fake_slurm
from tests.launch.real import assert_tuned, tuned_study
from tests.launch.test_slurm_fake import SITE
from tests.patience import wait_until

pytestmark = pytest.mark.slow


def command(file: Path) -> list[str]:
    return [sys.executable, "-m", "flipscale", "run", file.name, "--no-mlflow"]


def finished(place: Path) -> int:
    return len(list(place.glob("results/runs/*/result.json")))


def test_a_killed_command_goes_on_to_the_comparison(tmp_path: Path) -> None:
    file = tuned_study(tmp_path)
    with subprocess.Popen(command(file), cwd=tmp_path) as first:
        wait_until(lambda: finished(tmp_path) >= 2 or first.poll() is not None)
        first.kill()
    again = subprocess.run(command(file), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert_tuned(file, tmp_path / "results")
    assert "lr was chosen from 4 values by held-out loss" in " ".join(again.stdout.split())
    assert (tmp_path / "plots/tuned/tune.svg").exists()


def test_on_slurm_the_comparison_follows_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in fake_slurm.install(tmp_path / "cluster").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    results = tmp_path / "results"
    file = tuned_study(tmp_path)
    try:
        opened = open_study(file, Workspace(results))
        _, unfinished = train_study(opened, SlurmLauncher(results, SITE))
    finally:
        fake_slurm.stop(tmp_path / "cluster")
    assert unfinished == 0
    assert_tuned(file, results)
