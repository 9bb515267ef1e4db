"""The data of the page's script: every run of the plan as columns, the pairs, and the axes."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from flipscale.analysis.comparing import Comparison, Pair, gain_words, series_of
from flipscale.analysis.plotting.gains import drawn_gain
from flipscale.analysis.reporting.evidence import Evidence
from flipscale.door.run_states import Shown
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
    first = evidence.comparison.score if evidence.comparison else evidence.record.score
    measured = [str(name) for name in table if table[name].notna().any()]
    scores = [name for name in measured if is_score(name)]
    if first in measured and first not in scores:
        scores.append(first)
    if not scores and LOSS in measured:
        return [LOSS]
    return sorted(scores, key=lambda name: name != first)


def training_time_unit(evidence: Evidence) -> tuple[str, float]:
    """The unit of training time that suits the longest run, as 'core-minutes', and how many of them make an hour."""
    hours = [run.hours.about for run in evidence.runs]
    if not evidence.results.empty:
        hours += [float(value) for value in evidence.results["gpu_hours"].dropna()]
    unit, factor = time_unit(max(hours, default=0.0))
    return device_hours(evidence.device, unit), factor


def chart_data(evidence: Evidence) -> str:
    """The data of the page's script as JSON that can stand inside a script element."""
    unit, factor = training_time_unit(evidence)
    scores = scores_of(evidence)
    along = evidence.record.x or "samples"
    columns = _columns(evidence, scores[:MOST_SCORES], along)
    known = {column["key"] for column in columns if any(column["values"])}
    axes = [
        {"key": along, "label": evidence.record.x or "samples seen", "factor": 1},
        {"key": "train_flops", "label": "training FLOPs", "factor": 1},
        {"key": "gpu_hours", "label": f"training time ({unit})", "factor": factor},
    ]
    data = {
        "arms": list(evidence.arm_names),
        "scores": [{"key": name, "label": score_label(name), "percent": is_fraction(name)} for name in scores],
        "x": [axis for axis in axes if axis["key"] in known or axis["key"] == "gpu_hours"],
        "columns": columns,
        "pairs": _pairs(evidence),
        "curves": _curves(evidence),
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


def _columns(evidence: Evidence, scores: Sequence[str], along: str) -> list[dict[str, Any]]:
    """The columns of the table of runs, in its order, as the script reads them. A minor one is left out on paper.

    along: the setting along which curves are drawn.
    """
    runs = evidence.runs
    unit = device_hours(evidence.device)
    rows = evidence.results.set_index("id").reindex([run.id for run in runs])
    logs = {failure.id: number for number, failure in enumerate(evidence.failures)}
    cells = [run.cell or "" for run in runs]
    arms = [run.arm or "(parent of others)" for run in runs]

    def measured(key: str, label: str, kind: str) -> PageColumn:
        return _numbers(key, label, rows[key].tolist() if key in rows else [None] * len(runs), kind)

    def settings(name: str) -> PageColumn:
        values = [run.settings[name] for run in runs]
        return _words(f"set.{name}", name, [value.words for value in values], in_order(values))

    # A finished run's FLOPs include its parents', as its hours do; another run's are its own.
    predicted = measured("gpu_hours_predicted", f"{unit} predicted", "number")
    values = [
        (_number(run.hours.about) or None) if hours is None else hours
        for run, hours in zip(runs, predicted.values, strict=True)
    ]
    of_scores = [measured(name, name, "percent" if is_fraction(name) else "number") for name in scores]
    columns = [
        PageColumn("id", "run", "id", [run.id for run in runs]),
        _words("state", "state", [str(run.state) for run in runs]),
        _words("kind", "failure", [run.kind for run in runs]),
        _words("arm", "arm", arms, evidence.arm_names),
        *map(settings, evidence.axes),
        _numbers("seed", "seed", [run.seed for run in runs], "count"),
        *of_scores[:1],
        *([] if LOSS in scores else [measured(LOSS, "final loss", "number")]),
        _numbers("done", "done", [run.done for run in runs], "percent"),
        replace(predicted, values=values),
        measured("gpu_hours", unit, "number"),
        measured("images_per_second", "samples/s", "count"),
        measured("attempts", "attempts", "count"),
        *of_scores[1:],
        PageColumn("why", "why", "why", [run.why for run in runs]),
        # Only figures and links need these.
        PageColumn("log", "", "hidden", [logs.get(run.id) for run in runs]),
        _numbers(along, along, [run.settings[along].number for run in runs], "hidden"),
        measured("train_flops", "FLOPs", "hidden"),
        _words("cell", "cell", cells, kind="hidden"),
        _words("series", "series", list(series_of(pd.DataFrame({"cell": cells}), along)), kind="hidden"),
    ]
    minor = {*scores[1:], "done", "gpu_hours_predicted", "attempts"}
    return [
        {name: value for name, value in vars(column).items() if value is not None}
        | ({"minor": True} if column.key in minor else {})
        for column in columns
        if column.kind == "hidden" or not column.empty
    ]


def in_order(values: Iterable[Shown]) -> list[str]:
    """The different values of a setting as a person writes them, numbers by their size and before words."""
    return list(dict.fromkeys(value.words for value in sorted(values, key=_order)))


def _order(value: Shown) -> tuple[int, float]:
    """Words keep their order: sorting is stable."""
    return (1, 0) if value.number is None else (0, value.number)


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
    if value is None or pd.isna(value) or not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() and abs(value) < 1e15 else float(f"{value:.{DIGITS}g}")


def _curves(evidence: Evidence) -> dict[str, list[dict[str, Any]]]:
    """The curves inside runs by their metric, the loss and the score of the study first."""
    rows = {run.id: row for row, run in enumerate(evidence.runs)}
    first = ("loss", evidence.record.score)
    metrics = dict.fromkeys(curve.metric for curve in evidence.curves)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sorted(metrics, key=lambda name: name not in first)}
    for curve in evidence.curves:
        values = list(map(_number, curve.values))
        found[curve.metric].append({"row": rows[curve.run], "x": list(curve.steps), "y": values})
    return found


def _pairs(evidence: Evidence) -> list[dict[str, Any]]:
    """The gains over the baseline at equal samples, cell by cell; in points where the score is a fraction."""
    comparison = evidence.comparison
    if comparison is None:
        return []
    return [_gain(comparison, pair, comparison.arm_name(pair.arm)) for pair in comparison.pairs]


def _gain(comparison: Comparison, pair: Pair, arm: str) -> dict[str, Any]:
    """A gain as the script draws it, and in words."""
    gain = drawn_gain(pair, 100 if comparison.fraction else 1)
    return {
        "cell": pair.cell,
        "arm": arm,
        "mean": _number(gain.mean),
        "uncorrected": gain.uncorrected and list(map(_number, gain.uncorrected)),
        "corrected": gain.corrected and list(map(_number, gain.corrected)),
        "significant": gain.significant,
        "words": f"{gain_words(comparison, pair.gain)}, {count(len(pair.seeds), 'seed')}",
    }
