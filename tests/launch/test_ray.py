"""The Ray launcher on a real cluster of a head and two workers, with real training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from flipscale.launch import submit
from flipscale.launch.launcher import TRAIN
from flipscale.launch.ray import RayLauncher
from flipscale.launch.site import DEFAULTS
from tests.launch.contract import WORKER, LauncherContract

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def on_a_cluster(ray: Any) -> Any:
    return ray


def send(runs: Sequence[Any], results: Path, command: Sequence[str] = TRAIN, **site: Any) -> None:
    submit(runs, results, RayLauncher(results, {**DEFAULTS, **site}, command=command))


class TestRay(LauncherContract):
    goes_on_by_itself = True

    def launcher(self, results: Path) -> RayLauncher:
        return RayLauncher(results, command=WORKER)
