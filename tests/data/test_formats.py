"""A data set is opened by the module of its kind: each has the functions that its unions need, and loads no torch."""

import inspect
import subprocess
import sys
from importlib import import_module
from types import UnionType
from typing import Any, get_args

import pytest

from flipscale.data.formats import Format
from flipscale.settings.declarations import DataSet, EvaluationSet, FineTuningSet

NEEDS = [
    (DataSet, ("check", "content", "check_training", "training", "held_out")),
    (EvaluationSet, ("check", "content", "held_out")),
    (FineTuningSet, ("check", "content", "classified")),
]


def parameters(function: Any) -> list[tuple[str, Any]]:
    return [(name, given.kind) for name, given in inspect.signature(function).parameters.items() if name != "self"]


@pytest.mark.parametrize(("union", "names"), NEEDS)
def test_the_module_of_a_kind_has_the_functions_of_its_unions(union: UnionType, names: tuple[str, ...]) -> None:
    for record in get_args(union):
        module = import_module(f"flipscale.data.{record.kind}")
        for name in names:
            assert parameters(getattr(module, name)) == parameters(getattr(Format, name)), f"{module.__name__}.{name}"


def test_no_format_loads_torch() -> None:
    """Inputs are checked before anything starts, on a machine that may train nothing."""
    kinds = sorted({record.kind for union, _ in NEEDS for record in get_args(union)})
    script = f"import {', '.join(f'flipscale.data.{kind}' for kind in kinds)}, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
