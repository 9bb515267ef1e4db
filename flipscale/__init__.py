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
flipscale costs nothing. What each is made of is in the room named after it: `flipscale.analysis.plotting.draw`
draws one panel on an Axes of yours.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flipscale.collecting import read_curves, read_results
    from flipscale.errors import FlipscaleError
    from flipscale.planning.runs import Plan, Run
    from flipscale.run import RunFolder, State
    from flipscale.study import Study, read_study
    from flipscale.workflow.run import StudyOutcome, run_study
    from flipscale.workflow.verbs import collect, compare, fit, plan, plot, report, results, submit
    from flipscale.workspace import Workspace

__version__ = "0.2.0"

_VERBS = "flipscale.workflow.verbs"

_HOMES = {
    "FlipscaleError": "flipscale.errors",
    "Plan": "flipscale.planning.runs",
    "Run": "flipscale.planning.runs",
    "RunFolder": "flipscale.run",
    "State": "flipscale.run",
    "Study": "flipscale.study",
    "StudyOutcome": "flipscale.workflow.run",
    "Workspace": "flipscale.workspace",
    "collect": _VERBS,
    "compare": _VERBS,
    "fit": _VERBS,
    "plan": _VERBS,
    "plot": _VERBS,
    "read_curves": "flipscale.collecting",
    "read_results": "flipscale.collecting",
    "read_study": "flipscale.study",
    "report": _VERBS,
    "results": _VERBS,
    "run_study": "flipscale.workflow.run",
    "submit": _VERBS,
}
"""The module of each public name."""

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
    if name not in _HOMES:
        raise AttributeError(f"module 'flipscale' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
