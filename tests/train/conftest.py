"""A run small enough to train in a second: 20 steps of the smallest model of the family on shapes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flipscale.run import RunFolder, RunRequest
from flipscale.settings.declarations import Evaluation, Settings, plain
from flipscale.study.settings import SETTINGS as KNOWN
from flipscale.study.settings import read_settings

SETTINGS: dict[str, Any] = {
    **{name: plain(setting.default) for name, setting in KNOWN.items()},
    "model": "ViT-w16d1-4",
    "image_size": 28,
    "text_length": 16,
    "data": {"shapes": {"pairs": 0.3, "seed": 0}},
    "data_size": None,
    "samples": 640,
    "mask_ratio": 0.5,
    "batch_size": 32,
    "lr": 1e-3,
    "warmup": 64,
    "weight_decay": 0.2,
    "beta1": 0.9,
    "beta2": 0.95,
    "eps": 1e-8,
    "grad_clip": None,
    "precision": "fp32",
    "seed": 0,
    "evaluation": {**plain(Evaluation()), "images": 160},
}


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Sums come out the same to the last bit only with the same number of threads."""
    torch.set_num_threads(1)


@pytest.fixture
def settings() -> Callable[..., Settings]:
    """The small run's settings, with some of them changed."""
    return lambda **changes: read_settings({**SETTINGS, **changes})


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., RunFolder]:
    """A run folder that asks for the small run, with some settings changed."""

    def ask(name: str = "run", **changes: Any) -> RunFolder:
        folder = RunFolder(tmp_path / "runs" / name)
        folder.ask(RunRequest(name, {**SETTINGS, **changes}))
        return folder

    return ask
