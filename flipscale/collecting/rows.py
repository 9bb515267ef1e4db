"""A finished run's row: its folder in, the values of its columns out, and its faults in words."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from flipscale.cell import write_cell
from flipscale.collecting.columns import COLUMNS, ResultRow, setting_value, setting_values
from flipscale.errors import FlipscaleError, NewerFolder, RunFolderError
from flipscale.kinds import is_number
from flipscale.planning.identity import RECIPE, differences
from flipscale.planning.runs import Run
from flipscale.run import SCORES_FILE, Result, RunFolder, Spent, standing_scores
from flipscale.scores import SCORES, is_own_score
from flipscale.settings.declarations import Evaluation, plain
from flipscale.study.named_sets import MEAN, declared_scores, members
from flipscale.study.settings import read_settings

_KINDS = {name: column.kind for name, column in COLUMNS.items()}

_TAKEN = ("samples_seen", "train_seconds", "cpu_seconds", "gpu_hours")
"""Costs of a run that are added to those of its parents."""


def row_of(run: Run, study: str, folder: RunFolder, planned: Mapping[str, Run]) -> tuple[ResultRow, tuple[str, ...]]:
    """The row of a finished run, and the names of its scores that have no column.

    The row has the columns of COLUMNS and those of evaluation sets; missing values are None, or absent for a set.
    """
    result = folder.result()
    if result is None:
        raise RunFolderError(f"{folder.path / 'result.json'}: disappeared while it was read; collect again.")
    as_planned = _check_same_run(run, folder)
    if not as_planned or os.path.exists(f"{os.fspath(folder)}/{SCORES_FILE}"):  # noqa: PTH110  of 10,000 runs
        standing = standing_scores(folder, run.settings).values()
        scores = {name: value for of in standing for name, value in of.scores.items()}
        levels = {name: level for of in standing for name, level in of.chance.items()}
        result = replace(result, scores=scores, chance={**result.chance, **levels})
    evaluation = run.settings.evaluation
    values = _measured(result) | _asked(run, study) | {"gpu_hours_probed": _probed(run, result.device)}
    values["chance"] = _chance(evaluation, result)
    values["items"] = _items(result, folder)
    if run.parents:
        values |= _with_parents(values, run, result.parent, planned)
    row: ResultRow = {name: _value(values.get(name), kind) for name, kind in _KINDS.items()}
    row |= {name: setting_value(getattr(run.settings, name)) for name in run.settings.parameter_names}
    columns = {name for name in result.scores if is_own_score(name)} | declared_scores(evaluation)
    row |= {name: value for name, value in result.scores.items() if name in columns and name not in row}
    row |= _means(evaluation, row)
    if (result.trunk or run.settings.stages) and result.samples_seen is not None:
        row["own_samples_seen"] = result.samples_seen - (result.trunk.samples_seen or 0 if result.trunk else 0)
        row["own_gpu_hours"] = result.own_gpu_hours
    return row, tuple(name for name in result.scores if name not in columns)


def _value(value: Any, kind: str) -> Any:
    return float(value) if kind == "float" and value is not None else value


def _chance(evaluation: Evaluation, result: Result) -> str | None:
    """What guessing gives for each score of the run; None where nothing is known of it."""
    levels = {**result.chance, **_means(evaluation, result.chance)}
    return write_cell(tuple((name, str(level)) for name, level in levels.items() if level is not None)) or None


def _items(result: Result, folder: RunFolder) -> str | None:
    """How many items each score of the run that is a share of them was taken over; None where none is."""
    counts = ((name, str(hits.count)) for name, hits in folder.hits().items() if name in result.scores)
    return write_cell(tuple(counts)) or None


def _means(evaluation: Evaluation, row: Mapping[str, str | float | None]) -> ResultRow:
    """The means over sets, by column. A mean that lacks one of its scores is missing."""
    means: ResultRow = {}
    for mean in evaluation.means:
        values = [row.get(column) for column in members(evaluation, mean)]
        numbers = [value for value in values if is_number(value)]
        means[f"{mean}.{MEAN}"] = sum(numbers) / len(values) if len(numbers) == len(values) else None
    return means


def _measured(result: Result) -> dict[str, object]:
    """The values of result.json, by column."""
    return {
        **{name: value for name, value in vars(result).items() if name in COLUMNS},
        **{name: result.scores.get(name) for name in SCORES},
    }


def _asked(run: Run, study: str) -> dict[str, object]:
    """The values of the plan, by column."""
    return {
        **setting_values(run.settings),
        "id": run.id,
        "study": study,
        "cell": None if run.cell is None else write_cell(run.cell),
        "recipe": RECIPE,
        "parent": next(iter(run.parents), None),
        "patches": run.patches,
        "flops_per_sample": run.cost.flops_per_sample if run.settings.is_clip else None,
        "train_flops": run.whole_cost.train_flops if run.settings.is_clip else run.cost.train_flops or None,
        "gpu_hours_predicted": run.whole_cost.gpu_hours if run.is_priced else None,
        "memory_bytes_predicted": run.cost.memory_bytes if run.settings.is_clip else None,
    }


def _probed(run: Run | None, device: str | None) -> float | None:
    """The device-hours of the run by a probe, with those of its trunk; None where none timed its shape on this
    device."""
    return run.whole_cost.gpu_hours if run and run.timed and run.timed.place.device == device else None


def _with_parents(
    values: Mapping[str, object],
    run: Run,
    parent: Spent | None,
    planned: Mapping[str, Run],
) -> dict[str, object]:
    """Columns that count what the run started from: a tuned model costs its training and its tuning.

    Measured costs of the parent are in the child's result, which includes those of the parent's own parent; predicted
    ones are in the plan. A value that one of them lacks is missing in the sum.
    """
    sums: dict[str, object] = {name: _sum(values.get(name), getattr(parent, name, None)) for name in _TAKEN}
    sums |= {name: values[name] for name in ("train_flops", "gpu_hours_predicted", "gpu_hours_probed")}
    device = values.get("device")
    for ancestor in _ancestors(run, planned):
        sums["train_flops"] = _sum(sums["train_flops"], ancestor and ancestor.whole_cost.train_flops)
        hours = ancestor and ancestor.whole_cost.gpu_hours
        sums["gpu_hours_predicted"] = _sum(sums["gpu_hours_predicted"], hours)
        sums["gpu_hours_probed"] = _sum(sums["gpu_hours_probed"], _probed(ancestor, str(device)))
    # An evaluation sees no pairs, which its result says by its samples.
    own_pairs = 0 if values.get("samples_seen") == 0 else values.get("unique_pairs")
    unique_pairs = _sum(own_pairs, getattr(parent, "unique_pairs", None)) or None
    return {
        **sums,
        "unique_pairs": unique_pairs,
        "repeats": _quotient(sums["samples_seen"], unique_pairs),
        "images_per_second": _quotient(sums["samples_seen"], sums["train_seconds"]),
    }


def _ancestors(run: Run, planned: Mapping[str, Run]) -> Iterator[Run | None]:
    """The runs that the run started from, and their own; None for one that is not in the plan."""
    waiting = list(run.parents)
    while waiting:
        ancestor = planned.get(waiting.pop())
        waiting += ancestor.parents if ancestor else []
        yield ancestor


def _quotient(dividend: object, divisor: object) -> float | None:
    return dividend / divisor if is_number(dividend) and is_number(divisor) and divisor > 0 else None


def _sum(first: object, second: object) -> int | float | None:
    return first + second if is_number(first) and is_number(second) else None


def _check_same_run(run: Run, folder: RunFolder) -> bool:
    """Whether it was asked for as the plan has it. RunFolderError if the folder was made for another run: copied,
    renamed, or edited by hand.

    Parts outside the id may differ: the place of data, and settings added since then, which mean 'as before'.
    """
    asked = folder.asked()
    if asked is None:
        raise RunFolderError(
            f"{folder.path}: has result.json and no run.json, so it is not known what was asked for. Delete the "
            "folder and submit again."
        )
    if asked.id != run.id:
        raise RunFolderError(f"{folder.path}: its run.json is of {asked.id!r}, so the folder was renamed or copied.")
    if asked.settings == plain(run.settings):
        return True
    try:
        other = ", ".join(differences(read_settings(asked.settings), run.settings))
    except (FlipscaleError, KeyError, TypeError, ValueError, AttributeError):
        other = "set of settings, which cannot be read,"
    if other:
        raise RunFolderError(
            f"{folder.path}: its run.json has another {other} than the plan, "
            f"so it was changed by hand. Delete the folder and submit again."
        )
    return False


def why_unreadable(folder: RunFolder, error: Exception) -> str:
    """The remark on a folder that raised `error` when read; raises it again if a newer flipscale wrote it."""
    if isinstance(error, NewerFolder):
        raise error
    if isinstance(error, FlipscaleError):
        return str(error)
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f"{folder.path}: cannot be read ({reason}). Fix or delete it, and submit again."
