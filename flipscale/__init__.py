"""flipscale: scaling studies of language-image pre-training, from one YAML file to scaling curves.

    from flipscale import Study, plan, submit, results, fit, compare, plot, report

    study = "studies/quickstart.yaml"
    plan(study).total               # what it will cost
    submit(study)                   # train it on this machine, and wait
    results(study)                  # a DataFrame, one row per finished run
    compare(study).pairs            # what masking gains, run against twin
    fit(study).fits                 # scaling laws
    plot(study).files               # figures
    report(study)                   # one HTML page

`run_study(study)` does all of it, as `flipscale run` does. `read_study(file)` reads and checks a study without running
it, and every function takes what it gives (a `Study`) in place of the file. `Workspace` says where results and figures
are. Everything that flipscale raises on purpose is a `FlipscaleError`.

The functions are in `flipscale.workflow.verbs`; docs/python.md describes each. Names load on first use, so importing
flipscale costs nothing. `plan`, `collect`, `fit`, `compare`, `plot` and `report` are also modules that hold the parts
of each: `flipscale.plot.draw` draws one panel on an Axes of yours.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import inspect

    from flipscale.collect import read_curves, read_results
    from flipscale.errors import FlipscaleError
    from flipscale.plan import Plan, Run
    from flipscale.run import RunFolder, State
    from flipscale.study import Study, read_study
    from flipscale.workflow.two_studies import compare_studies
    from flipscale.workflow.verbs import collect, compare, fit, plan, plot, report, results, submit
    from flipscale.workflow.whole import StudyOutcome, run_study
    from flipscale.workspace import Workspace

__version__ = "0.1.0"

_VERBS = "flipscale.workflow.verbs"

_HOMES = {
    "FlipscaleError": "flipscale.errors",
    "Plan": "flipscale.plan",
    "Run": "flipscale.plan",
    "RunFolder": "flipscale.run",
    "State": "flipscale.run",
    "Study": "flipscale.study",
    "StudyOutcome": "flipscale.workflow.whole",
    "Workspace": "flipscale.workspace",
    "compare_studies": "flipscale.workflow.two_studies",
    "read_curves": "flipscale.collect",
    "read_results": "flipscale.collect",
    "read_study": "flipscale.study",
    "results": _VERBS,
    "run_study": "flipscale.workflow.whole",
    "submit": _VERBS,
}
"""The module of each public name that is not itself a module."""

_ROOMS = ("collect", "compare", "fit", "plan", "plot", "report")
"""Modules that can be called and then do what their name says: `flipscale.plot("study.yaml")`."""

__all__ = [
    "FlipscaleError",
    "Plan",
    "Run",
    "RunFolder",
    "State",
    "Study",
    "StudyOutcome",
    "Workspace",
    "collect",
    "compare",
    "compare_studies",
    "fit",
    "plan",
    "plot",
    "read_curves",
    "read_results",
    "read_study",
    "report",
    "results",
    "run_study",
    "submit",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"flipscale.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'flipscale' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__


class _Room(ModuleType):
    """A module that can be called: it does what the command of its name does."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._verb(*arguments, **options)

    def __reduce__(self) -> Any:
        """Pickled by name, as other modules are by cloudpickle."""
        return importlib.import_module, (self.__name__,)

    @property
    def _verb(self) -> Any:
        return getattr(importlib.import_module(_VERBS), self.__name__.rpartition(".")[2])

    @property
    def __signature__(self) -> "inspect.Signature":
        import inspect

        return inspect.signature(self._verb)


class _Face(ModuleType):
    """flipscale itself, which makes its rooms callable as they are loaded."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _ROOMS and isinstance(value, ModuleType):
            value.__class__ = _Room
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
