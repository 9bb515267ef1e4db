"""The data of the page's script: every run of the plan as columns, the pairs, and the axes."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from flipscale.cell import write_cell
from flipscale.comparing import Comparison, Pair, gain_words, series_of
from flipscale.identity import show_setting
from flipscale.reporting.evidence import Evidence, axes_of
from flipscale.run import State
from flipscale.scores import is_fraction, is_score, score_label
from flipscale.words import count, device_hours, time_unit

DIGITS = 6
"""Significant digits of numbers on the page; results.csv has all of them."""

MOST_SCORES = 6
"""How many scores get a column of the table of runs, the study's own first."""

LOSS = "final_loss"
"""The column that is drawn and listed if no run has a score."""


def scores_of(evidence: Evidence) -> list[str]:
    """The scores that any run has, the one that the study is judged by first; the training loss where none has any."""
    table = evidence.results
    first = evidence.comparison.score if evidence.comparison else evidence.study.score
    measured = [str(name) for name in table if table[name].notna().any()]
    scores = [name for name in measured if is_score(name)]
    if first in measured and first not in scores:
        scores.append(first)
    if not scores and LOSS in measured:
        return [LOSS]
    return sorted(scores, key=lambda name: name != first)


def training_time_unit(evidence: Evidence) -> tuple[str, float]:
    """The unit of training time that suits the longest run, as 'core-minutes', and how many of them make an hour."""
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
    # No text from a user may end the element, or begin a comment in it.
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


@dataclass(frozen=True)
class PageColumn:
    """A column of the table of runs."""

    key: str
    label: str
    kind: str
    """How the script shows it; only figures need `hidden` ones."""
    values: Sequence[object]
    """One value per run; if there are `words`, the index of its word."""
    words: Sequence[str] | None = None
    """The different texts of a column that has few."""

    @property
    def empty(self) -> bool:
        """Whether it would tell a reader nothing."""
        if self.key == "done":
            return all(value == 1 for value in self.values)
        if self.words is not None:
            return self.key not in ("state", "arm") and not any(self.words)
        return all(value in (None, "") for value in self.values)

    def to_dict(self, *, minor: bool) -> dict[str, Any]:
        """As the script reads it. A minor column is left out on paper."""
        words = {} if self.words is None else {"words": list(self.words)}
        values = {"key": self.key, "label": self.label, "kind": self.kind, **words, "values": list(self.values)}
        return values | {"minor": True} if minor else values


def _columns(evidence: Evidence, scores: Sequence[str]) -> list[dict[str, Any]]:
    """The columns of the table of runs, in its order."""
    measured = _Measured(evidence)
    of_scores = [_score_column(measured, name) for name in scores]
    columns = [
        *_who_columns(evidence),
        *(_axis_column(evidence, name) for name in axes_of(evidence)),
        _numbers("seed", "seed", [run.settings.seed for run in evidence.planned.runs], "count"),
        *of_scores[:1],
        *([] if LOSS in scores else [_numbers(LOSS, "final loss", measured.column(LOSS), "number")]),
        *_cost_columns(evidence, measured),
        *of_scores[1:],
        PageColumn("why", "why", "why", [run.says or run.story for run in measured.progress]),
        *_hidden_columns(evidence, measured),
    ]
    minor = {*scores[1:], "done", "gpu_hours_predicted", "attempts"}
    return [
        column.to_dict(minor=column.key in minor) for column in columns if column.kind == "hidden" or not column.empty
    ]


class _Measured:
    """The row of each run of the plan in results.csv, and its progress."""

    def __init__(self, evidence: Evidence) -> None:
        ids = [run.id for run in evidence.planned.runs]
        self.rows = evidence.results.set_index("id").reindex(ids)
        self.progress = [evidence.runs[run_id] for run_id in ids]

    def column(self, name: str) -> list[float | None]:
        if name not in self.rows:
            return [None] * len(self.rows)
        return [None if pd.isna(value) else value for value in self.rows[name].tolist()]


def _score_column(measured: _Measured, name: str) -> PageColumn:
    return _numbers(name, name, measured.column(name), "percent" if is_fraction(name) else "number")


def _who_columns(evidence: Evidence) -> list[PageColumn]:
    """The columns that identify a run and say what became of it."""
    runs = evidence.planned.runs
    failed = _failed(evidence)
    return [
        PageColumn("id", "run", "id", [run.id for run in runs]),
        _words("state", "state", [str(evidence.runs[run.id].state) for run in runs]),
        _words("kind", "failure", [_kind(evidence, failed, run.id) for run in runs]),
        _words("arm", "arm", [evidence.arms.get(run.id, "(parent of others)") for run in runs], evidence.arm_names),
    ]


def _axis_column(evidence: Evidence, name: str) -> PageColumn:
    values = [getattr(run.settings, name) for run in evidence.planned.runs]
    return _words(f"set.{name}", name, list(map(show_setting, values)), in_order(values))


def _cost_columns(evidence: Evidence, measured: _Measured) -> list[PageColumn]:
    unit = evidence.planned.hours_unit
    predicted = [
        # A finished run's FLOPs include its parents', as its hours do; another run's are its own.
        run.cost.gpu_hours if hours is None else hours
        for run, hours in zip(evidence.planned.runs, measured.column("gpu_hours_predicted"), strict=True)
    ]
    return [
        _numbers("done", "done", [run.done for run in measured.progress], "percent"),
        _numbers("gpu_hours_predicted", f"{unit} predicted", predicted, "number"),
        _numbers("gpu_hours", unit, measured.column("gpu_hours"), "number"),
        _numbers("images_per_second", "samples/s", measured.column("images_per_second"), "count"),
        _numbers("attempts", "attempts", measured.column("attempts"), "count"),
    ]


def _hidden_columns(evidence: Evidence, measured: _Measured) -> list[PageColumn]:
    """Columns that only figures and links need."""
    runs = evidence.planned.runs
    failed = _failed(evidence)
    cells = ["" if run.cell is None else write_cell(run.cell) for run in runs]
    return [
        PageColumn("log", "", "hidden", [failed.get(run.id) for run in runs]),
        _numbers("samples", "samples", [run.settings.samples for run in runs], "hidden"),
        _numbers("train_flops", "FLOPs", measured.column("train_flops"), "hidden"),
        _words("cell", "cell", cells, kind="hidden"),
        _words("series", "series", list(series_of(pd.DataFrame({"cell": cells}))), kind="hidden"),
    ]


def _failed(evidence: Evidence) -> dict[str, int]:
    """Each failure that the page lists, and its number."""
    return {failure.run.id: number for number, failure in enumerate(evidence.failures)}


def _kind(evidence: Evidence, failed: Mapping[str, int], run_id: str) -> str:
    run = evidence.runs[run_id]
    if run_id in failed:
        return evidence.failures[failed[run_id]].kind
    if run.failure is not None:
        return str(run.failure.kind)
    return "lost" if run.state is State.LOST else ""


def in_order(values: Iterable[object]) -> list[str]:
    """The different values of a setting as a person writes them, numbers by their size and before words."""
    return list(dict.fromkeys(show_setting(value) for value in sorted(values, key=_order)))


def _order(value: object) -> tuple[int, float]:
    """Words keep their order: sorting is stable."""
    return (0, value) if isinstance(value, int | float) else (1, 0)


def _words(
    key: str, label: str, values: Sequence[str], order: Iterable[str] = (), *, kind: str = "words"
) -> PageColumn:
    """A column of few different texts: each once, first those of `order`, and for each run the index of its text."""
    used = set(values)
    words = list(dict.fromkeys([*(word for word in order if word in used), *values]))
    number = {word: i for i, word in enumerate(words)}
    return PageColumn(key, label, kind, [number[value] for value in values], words)


def _numbers(key: str, label: str, values: Sequence[float | None], kind: str) -> PageColumn:
    return PageColumn(key, label, kind, [_number(value) for value in values])


def _number(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() and abs(value) < 1e15 else float(f"{value:.{DIGITS}g}")


def _pairs(evidence: Evidence) -> list[dict[str, Any]]:
    """The gains over the baseline at equal samples, cell by cell; in points where the score is a fraction."""
    comparison = evidence.comparison
    if comparison is None:
        return []
    return [_gain(comparison, pair, evidence.arm_words.get(pair.arm, pair.arm)) for pair in comparison.pairs]


def _gain(comparison: Comparison, pair: Pair, arm: str) -> dict[str, Any]:
    """A gain as the script draws it, and in words."""
    gain, scale = pair.gain, 100 if comparison.fraction else 1
    bars = [ends and [_number(scale * end) for end in ends] for ends in (gain.interval, gain.among_several)]
    return {
        "cell": pair.cell,
        "arm": arm,
        "mean": _number(scale * gain.value),
        "uncorrected": bars[0],
        "corrected": bars[1],
        "significant": gain.significant,
        "words": f"{gain_words(comparison, gain)}, {count(len(pair.seeds), 'seed')}",
    }
