"""A finished run's row: its folder in, the values of its columns out, and what is wrong with it in words."""

import json
from collections.abc import Mapping
from typing import Any

from flipscale.collect.columns import COLUMNS, SETTINGS, setting_value
from flipscale.errors import FlipscaleError, RunFolderError
from flipscale.identity import differences
from flipscale.run import FOLDER_SCHEMA, RunFolder, Spent, checked, is_number
from flipscale.scores import SCORES, is_score
from flipscale.study.settings import read_settings

_KINDS = {name: column.kind for name, column in COLUMNS.items()}

PlannedRun = Mapping[str, Any]
"""What collect must know of a run of the plan: id, study, cell, settings, parents and cost."""


def row_of(
    run: PlannedRun, folder: RunFolder, planned: Mapping[str, PlannedRun]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The row of a finished run, and the names of its scores that have no column.

    The row has the columns of COLUMNS and those of evaluation sets; what is missing is None, or not there for a set.
    """
    result = folder.result()
    if result is None:
        raise RunFolderError(f"{folder.path / 'result.json'}: went away while it was read; collect again.")
    _check_same_run(run, folder)
    settings, cost, scores = run["settings"], run["cost"], result.scores
    found: dict[str, Any] = {
        **{name: setting_value(name, settings.get(name)) for name in SETTINGS},
        **{name: value for name, value in vars(result).items() if name in COLUMNS},
        **{name: scores.get(name) for name in SCORES},
        "id": run["id"],
        "study": run["study"],
        "cell": run["cell"],
        "parent": next(iter(run["parents"]), None),
        "flops_per_sample": cost.get("flops_per_sample"),
        "train_flops": cost.get("train_flops"),
        "gpu_hours_predicted": cost.get("gpu_hours"),
        "memory_bytes_predicted": cost.get("memory_bytes"),
    }
    _add_parents(found, run, folder, result.parent, planned)
    row = {name: checked(found.get(name), kind, name, folder.path) for name, kind in _KINDS.items()}
    unknown = []
    for name, value in scores.items():
        if not is_score(name):
            unknown.append(name)
        elif name not in row:
            row[name] = checked(value, "float", name, folder.path)
    return row, tuple(unknown)


def _add_parents(
    found: dict[str, Any],
    run: PlannedRun,
    folder: RunFolder,
    parent: Spent | None,
    planned: Mapping[str, PlannedRun],
) -> None:
    """Count what the run started from with what it took itself: a tuned model costs its training and its tuning.

    What was measured is the parent's word in the child's result, which holds its own parent's too; what was predicted
    is the plan's. What one of them lacks is missing in the sum.
    """
    if not run["parents"]:
        return
    for name in ("samples_seen", "train_seconds", "cpu_seconds", "gpu_hours"):
        found[name] = _sum(found.get(name), getattr(parent, name, None))
    found["unique_pairs"] = _unique_pairs(found.get("unique_pairs"), run, folder, planned)
    found["repeats"] = _quotient(found.get("samples_seen"), found["unique_pairs"])
    ancestors = list(run["parents"])
    while ancestors:
        ancestor = planned.get(ancestors.pop())
        cost = ancestor["cost"] if ancestor else {}
        ancestors += ancestor["parents"] if ancestor else []
        found["train_flops"] = _sum(found["train_flops"], cost.get("train_flops"))
        found["gpu_hours_predicted"] = _sum(found["gpu_hours_predicted"], cost.get("gpu_hours"))
    found["images_per_second"] = _quotient(found.get("samples_seen"), found.get("train_seconds"))


def _unique_pairs(own: int | None, run: PlannedRun, folder: RunFolder, planned: Mapping[str, PlannedRun]) -> int | None:
    """The different pairs that the run or its parents saw: all begin with the same pairs, so the most that one saw."""
    seen = [] if own is None else [own]
    while run["parents"]:
        (parent,) = run["parents"]
        result = RunFolder(folder.path.parent / parent).result()
        if result is None or (result.unique_pairs is None and result.samples_seen != 0):
            return None
        seen.append(result.unique_pairs or 0)
        run = planned.get(parent, {"parents": []})
    return max(seen, default=None) or None


def _quotient(one: Any, other: Any) -> float | None:
    return one / other if is_number(one) and is_number(other) and other > 0 else None


def _sum(one: Any, other: Any) -> Any:
    return one + other if is_number(one) and is_number(other) else None


def _check_same_run(run: PlannedRun, folder: RunFolder) -> None:
    """Raise RunFolderError if the folder was made for another run: copied, renamed, or edited by hand.

    What is no part of an id may differ: where data lies, and settings added since then, which mean 'as before'.
    """
    asked = folder.asked()
    if asked is None:
        raise RunFolderError(
            f"{folder.path}: has result.json and no run.json, so what was asked for is not known. "
            f"Delete the folder and submit again."
        )
    if asked.id != run["id"]:
        raise RunFolderError(f"{folder.path}: its run.json is of {asked.id!r}, so the folder was renamed or copied.")
    if asked.settings == run["settings"]:
        return
    try:
        other = ", ".join(differences(read_settings(asked.settings), read_settings(run["settings"])))
    except (FlipscaleError, KeyError, TypeError, ValueError, AttributeError):
        other = "set of settings, which cannot be read,"
    if other:
        raise RunFolderError(
            f"{folder.path}: its run.json was asked with another {other} than the plan, "
            f"so it was changed by hand. Delete the folder and submit again."
        )


def why_unreadable(folder: RunFolder, error: Exception) -> str:
    """What to say of a folder that raised `error` when it was read; raises it again if a newer flipscale wrote it."""
    if isinstance(error, RunFolderError):
        if _is_newer(folder):
            raise error
        return str(error)
    said = error.strerror if isinstance(error, OSError) else str(error)
    return f"{folder.path}: cannot be read ({said}). Mend or delete it, and submit again."


def _is_newer(folder: RunFolder) -> bool:
    for name in ("run.json", "result.json", "job.json"):
        try:
            if (
                json.loads((folder.path / name).read_text(encoding="utf-8")).get("schema", FOLDER_SCHEMA)
                > FOLDER_SCHEMA
            ):
                return True
        except (OSError, ValueError, AttributeError, TypeError, RecursionError):
            continue
    return False
