"""What the tests of a GPU share. On a machine without one each of them skips."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flipscale.run import RunFolder, RunRequest
from flipscale.settings.declarations import Resources, Settings
from flipscale.study.settings import read_settings
from tests.parts import need_gpu
from tests.train.conftest import SETTINGS


@pytest.fixture(autouse=True)
def _gpu() -> None:
    need_gpu()


@pytest.fixture
def settings() -> Callable[..., Settings]:
    """The small run's settings, with some of them changed."""
    return lambda **changes: read_settings({**SETTINGS, **changes})


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., RunFolder]:
    """A run folder that asks for the small run on one GPU, with some settings changed."""

    def ask(name: str = "run", resources: dict[str, Any] | None = None, **changes: Any) -> RunFolder:
        folder = RunFolder(tmp_path / "runs" / name)
        folder.ask(RunRequest(name, {**SETTINGS, **changes}, resources=Resources(**{"gpus": 1, **(resources or {})})))
        return folder

    return ask
