"""flipscale: scaling studies of language-image pre-training, from one YAML file to scaling curves.

    from flipscale import read_study
    from flipscale.plan import plan
    plan(read_study("studies/quickstart.yaml")).total

    import flipscale
    flipscale.run_study("studies/quickstart.yaml")      # all that `flipscale run` does
    flipscale.results("studies/quickstart.yaml")

Names are loaded on first use, so that importing flipscale costs nothing.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

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
    "diff_studies": "flipscale.workflow.two_studies",
    "fit_studies": "flipscale.workflow.two_studies",
    "read_curves": "flipscale.collect",
    "read_results": "flipscale.collect",
    "read_study": "flipscale.study",
    "results": "flipscale.collect",
    "run_study": "flipscale.workflow.whole",
}
"""Verbs stay in their rooms (`from flipscale.plan import plan`): a name here must not be a module's as well."""

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'flipscale' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
