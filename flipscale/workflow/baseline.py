"""A study's baseline in the form of its results."""

from typing import Any

from flipscale.collect import setting_value
from flipscale.study import Study


def baseline_of(study: Study) -> dict[str, Any]:
    """The study's baseline as results.csv holds it."""
    return {name: setting_value(value) for name, value in study.baseline.items()}
