"""Settings for tests that name a few and take the rest as a study would."""

from typing import Any

from flipscale.settings.declarations import Settings
from flipscale.study.settings import read_settings

SMALL = {"model": "ViT-w16d1-4", "image_size": 28, "samples": 1600, "batch_size": 32, "lr": 1e-3, "warmup": 160}


def settings_of(**values: Any) -> Settings:
    """Complete settings: these, as run.json holds them, a small model's, and the defaults of a study."""
    return read_settings({**SMALL, **values})
