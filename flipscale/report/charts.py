"""What the page's script draws and lists: every run of the plan as columns, the pairs, and which axes there are."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from flipscale.cell import write_cell
from flipscale.compare import series_of
from flipscale.identity import show_setting
from flipscale.report.evidence import Evidence, axes_of
from flipscale.run import State
from flipscale.scores import is_fraction, is_score, score_label
from flipscale.words import device_hours, time_unit

DIGITS = 6
"""Significant digits of numbers on the page; results.csv has all of them."""

MOST_SCORES = 6
"""So many scores at most get a column of the table of runs, the study's own first."""

LOSS = "final_loss"
"""What is drawn and listed where no run has a score."""


def scores_of(evidence: Evidence) -> list[str]:
    """The scores that any run has, the one that the study is judged by first; the training loss where none has any."""
    table = evidence.results
    first = evidence.comparison.score if evidence.comparison else evidence.study.score
    there = [name for name in table if is_score(str(name)) and table[name].notna().any()]
    if first in table and first not in there and table[first].notna().any():
        there.append(first)
    if not there and LOSS in table and table[LOSS].notna().any():
        return [LOSS]
    return sorted(map(str, there), key=lambda name: name != first)


def training_time_unit(evidence: Evidence) -> tuple[str, float]:
    """The unit of training time that suits the longest run, as 'core-minutes', and how many of it are an hour."""
    hours = [run.cost.gpu_hours for run in evidence.planned.runs]
    if not evidence.results.empty:
        hours += [float(value) for value in evidence.results["gpu_hours"].dropna()]
    unit, factor = time_unit(max(hours, default=0.0))
    return device_hours(evidence.planned.device, unit), factor


def chart_data(evidence: Evidence) -> str:
    """The data of the page's script as JSON that can stand inside a script element."""
    unit, factor = training_time_unit(evidence)
    scores = scores_of(evidence)
    data = {
        "arms": list(evidence.arm_names),
        "scores": [{"key": name, "label": score_label(name), "percent": is_fraction(name)} for name in scores],
        "x": [
            {"key": "samples", "label": "samples seen", "factor": 1},
            {"key": "train_flops", "label": "training FLOPs", "factor": 1},
            {"key": "gpu_hours", "label": f"training time ({unit})", "factor": factor},
        ],
        "columns": _columns(evidence, scores[:MOST_SCORES]),
        "pairs": _pairs(evidence),
    }
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # No text of a user's may end the element, or begin a comment in it.
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _columns(evidence: Evidence, scores: Sequence[str]) -> list[dict[str, Any]]:
    """The columns of the table of runs, in its order. Those of kind `hidden` only figures need, `minor` ones are left
    out on paper."""
    runs = evidence.planned.runs
    rows = evidence.results.set_index("id").reindex([run.id for run in runs])
    seen = [evidence.runs[run.id] for run in runs]
    failed = {failure.run.id: number for number, failure in enumerate(evidence.failures)}

    def measured(name: str) -> list[Any]:
        if name not in rows:
            return [None] * len(runs)
        return [None if pd.isna(value) else value for value in rows[name].tolist()]

    def cell_of(run: Any) -> str:
        return "" if run.cell is None else write_cell(run.cell)

    cells, unit = [cell_of(run) for run in runs], evidence.planned.hours_unit
    columns = [
        {"key": "id", "label": "run", "kind": "id", "values": [run.id for run in runs]},
        _words("state", "state", [str(run.state) for run in seen]),
        _words("kind", "failure", [_kind(evidence, failed, run.id) for run in runs]),
        _words("arm", "arm", [evidence.arms.get(run.id, "(parent of others)") for run in runs], evidence.arm_names),
    ]
    columns += [
        _words(
            f"set.{name}",
            name,
            [show_setting(run.settings[name]) for run in runs],
            in_order([run.settings[name] for run in runs]),
        )
        for name in axes_of(evidence)
    ]
    columns.append(_numbers("seed", "seed", [run.settings["seed"] for run in runs], "count"))
    of_scores = [_numbers(name, name, measured(name), "percent" if is_fraction(name) else "number") for name in scores]
    columns += of_scores[:1]
    columns += [
        *([] if LOSS in scores else [_numbers(LOSS, "final loss", measured(LOSS), "number")]),
        _numbers("done", "done", [run.done for run in seen], "percent"),
        _numbers("gpu_hours_predicted", f"{unit} predicted", _predicted(evidence, measured), "number"),
        _numbers("gpu_hours", unit, measured("gpu_hours"), "number"),
        _numbers("images_per_second", "samples/s", measured("images_per_second"), "count"),
        _numbers("attempts", "attempts", measured("attempts"), "count"),
        *of_scores[1:],
        {"key": "why", "label": "why", "kind": "why", "values": [run.says or run.story for run in seen]},
        {"key": "log", "kind": "hidden", "values": [failed.get(run.id) for run in runs]},
        _numbers("samples", "samples", [run.settings["samples"] for run in runs], "hidden"),
        _numbers("train_flops", "FLOPs", measured("train_flops"), "hidden"),
        _words("cell", "cell", cells, kind="hidden"),
        _words("series", "series", list(series_of(pd.DataFrame({"cell": cells}))), kind="hidden"),
    ]
    minor = {*scores[1:], "done", "gpu_hours_predicted", "attempts"}
    return [
        {**column, "minor": True} if column["key"] in minor else column
        for column in columns
        if column["kind"] == "hidden" or _says_something(column)
    ]


def _kind(evidence: Evidence, failed: Mapping[str, int], run_id: str) -> str:
    run = evidence.runs[run_id]
    if run_id in failed:
        return evidence.failures[failed[run_id]].kind
    if run.failure is not None:
        return str(run.failure.kind)
    return "lost" if run.state is State.LOST else ""


def _predicted(evidence: Evidence, measured: Callable[[str], list[Any]]) -> list[Any]:
    """Of a finished run with its parents', as its hours are; of another its own."""
    return [
        run.cost.gpu_hours if hours is None else hours
        for run, hours in zip(evidence.planned.runs, measured("gpu_hours_predicted"), strict=True)
    ]


def _says_something(column: Mapping[str, Any]) -> bool:
    if column["key"] == "done":
        return any(value != 1 for value in column["values"])
    if column.get("words") is not None:
        return column["key"] in ("state", "arm") or any(column["words"])
    return any(value not in (None, "") for value in column["values"])


def in_order(values: Iterable[Any]) -> list[str]:
    """The different values of a setting as a person writes them, numbers by their size and before words."""
    return list(dict.fromkeys(show_setting(value) for value in sorted(values, key=_order)))


def _order(value: Any) -> tuple[int, Any]:
    """Words stay in the order that they have: sorting is stable."""
    return (0, value) if isinstance(value, int | float) else (1, 0)


def _words(
    key: str, label: str, values: Sequence[str], order: Iterable[str] = (), *, kind: str = "words"
) -> dict[str, Any]:
    """A column of few different texts: each once, in `order` as far as that goes, and its number a run."""
    there = set(values)
    words = list(dict.fromkeys([*(word for word in order if word in there), *values]))
    number = {word: i for i, word in enumerate(words)}
    return {"key": key, "label": label, "kind": kind, "words": words, "values": [number[value] for value in values]}


def _numbers(key: str, label: str, values: Sequence[Any], kind: str) -> dict[str, Any]:
    return {"key": key, "label": label, "kind": kind, "values": [_number(value) for value in values]}


def _number(value: Any) -> Any:
    if value is None or not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() and abs(value) < 1e15 else float(f"{value:.{DIGITS}g}")


def _pairs(evidence: Evidence) -> list[dict[str, Any]]:
    """The gains over the baseline at equal samples, cell by cell; in points where the score is a fraction."""
    comparison = evidence.comparison
    if comparison is None:
        return []
    scale = 100 if comparison.fraction else 1
    found = []
    for pair in comparison.pairs:
        gain = pair.gain
        ends = {
            name: None if value is None else _number(scale * value)
            for name, value in (("mean", gain.mean), ("low", gain.low), ("high", gain.high))
        }
        found.append(
            {"cell": pair.cell, "arm": evidence.arm_words.get(pair.arm, pair.arm), "n": len(pair.seeds), **ends}
        )
    return found
