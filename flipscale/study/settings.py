"""The settings of a run as studies and run folders give them, and how many images are scored by default."""

from collections.abc import Mapping
from typing import Any

from flipscale.door.statements import Values
from flipscale.kinds import Faults, Option, checked
from flipscale.scores import declare
from flipscale.settings.declarations import (
    CommandSet,
    DataSet,
    Evaluation,
    EvaluationSet,
    FineTuningSet,
    Settings,
    Shapes,
)
from flipscale.settings.parameters import FLIPSCALES, record_for

SETTINGS: Mapping[str, Option] = FLIPSCALES
"""Every setting of a run."""

MOST_TEST_IMAGES = 10_000
"""How many images of each set are scored at most where the study says nothing: all that Fashion-MNIST and CIFAR hold.
The standard error of an accuracy is then at most half a point."""

DRAWN_TEST_IMAGES = 2000
"""The same for a set whose images are drawn, without end. Its studies are small: scoring 10,000 images would take
longer than training on their shortest schedules."""


def images_scored(evaluation: Evaluation, data: DataSet | EvaluationSet | FineTuningSet) -> int:
    """The most held-out images of this set that are scored: the study's number, else the set's default."""
    if isinstance(data, CommandSet):
        return 0
    if evaluation.images is not None:
        return evaluation.images
    return DRAWN_TEST_IMAGES if isinstance(data, Shapes) else MOST_TEST_IMAGES


def read_settings(values: Values) -> Settings:
    """The settings that run.json holds. One that it lacks is at its default.

    Raises ValueError for a value that its setting cannot have.
    """
    parameters = values.get("parameters") or {}
    known = {name: value for name, value in values.items() if name in SETTINGS}
    settings: Settings = _read(record_for(parameters, known), known | parameters)
    declare(settings.evaluation.scores)
    return settings


def read_setting(name: str, value: object) -> Any:
    """One setting of run.json. Raises ValueError for a value that it cannot have."""
    return _read(SETTINGS[name].type, value, name)


def _read(kind: Any, value: object, *at: str) -> Any:
    try:
        return checked(kind, value)
    except Faults as error:
        path, what = error.found[0]
        raise ValueError(": ".join([*map(str, (*at, *path)[:1]), what])) from None
