"""From a sweep to the comparison, though the command is killed between."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.real import assert_tuned, tuned_study
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
