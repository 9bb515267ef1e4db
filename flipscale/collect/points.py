"""The points of a run: its metrics.jsonl in, one array a column out, as a study has millions of them.

A file whose records are as training writes them, 200 of a kind and steps that only rise, is turned column by column,
and orjson reads it 4 times as fast as json. Any other is read record by record, and gives the same.
"""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson

from flipscale.run import RunFolder, is_number

Array = np.ndarray[Any, Any]

COLUMNS: dict[str, str] = {
    "step": "int64",
    "samples": "float64",
    "seconds": "float64",
    "value": "float64",
    "time": "float64",
}
"""The columns of numbers of a point, and their dtypes; `samples`, `seconds` and `time` may be missing, as NaN."""

_ABOUT = ("samples", "seconds", "time")
_NOT_METRICS = {"step", *_ABOUT, "scores", "evaluation_seconds"}


class Points(NamedTuple):
    """The points of one run, in the order of its records: arrays of one length."""

    numbers: Mapping[str, Array]
    """One array a name in COLUMNS."""
    metric: Array
    """Which of `metrics` each point is of, int32."""
    metrics: tuple[str, ...]
    """The names of its metrics, sorted."""

    def __len__(self) -> int:
        return len(self.metric)


def read_points(folder: RunFolder) -> tuple[Points, int]:
    """All points of metrics.jsonl and the count of its torn lines. What is null, or no finite number, is no point."""
    try:
        text = (folder.path / "metrics.jsonl").read_bytes()
    except FileNotFoundError:
        text = b""
    quick = _by_columns(text.splitlines())
    return (quick, 0) if quick is not None else _by_records(folder)


NONE = Points({name: np.empty(0, dtype) for name, dtype in COLUMNS.items()}, np.empty(0, "int32"), ())


def _by_records(folder: RunFolder) -> tuple[Points, int]:
    records, torn = folder.records()
    columns: dict[str, list[Any]] = {name: [] for name in (*COLUMNS, "metric")}
    for record in records:
        if not -(2**63) <= record["step"] < 2**63:
            torn += 1
            continue
        about = {name: _number(record.get(name)) for name in _ABOUT}
        scores = record.get("scores")
        values = {name: value for name, value in record.items() if name not in _NOT_METRICS}
        values |= scores if isinstance(scores, dict) else {}
        for name, value in values.items():
            if np.isfinite(_number(value)):
                for column, one in {"step": record["step"], **about, "metric": name, "value": _number(value)}.items():
                    columns[column].append(one)
    metrics = tuple(sorted(set(columns["metric"])))
    number = {name: code for code, name in enumerate(metrics)}
    numbers = {name: np.asarray(columns[name], dtype) for name, dtype in COLUMNS.items()}
    return Points(numbers, np.asarray([number[name] for name in columns["metric"]], "int32"), metrics), torn


def _number(value: Any) -> float:
    try:
        return float(value) if is_number(value) else np.nan
    except OverflowError:
        return np.nan


class _Kind(NamedTuple):
    """Records with the same keys."""

    numbers: dict[str, Array]
    metrics: tuple[str, ...]
    records: Array
    """Which record of the file each row is."""


def _by_columns(lines: list[bytes]) -> Points | None:
    """The points of lines that are as training writes them, or None."""
    try:
        # All lines in one call, as calls cost more than what they read.
        records = orjson.loads(b"[%b]" % b",".join(lines))
        if len(records) != len(lines) or not _steps_rise(records):
            return None
        kinds: dict[tuple[str, ...], list[int]] = {}
        for index, record in enumerate(records):
            kinds.setdefault(tuple(record), []).append(index)
        found = [_kind([records[index] for index in indices], indices) for indices in kinds.values()]
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError):
        return None
    return _in_order(found)


def _steps_rise(records: list[dict[str, Any]]) -> bool:
    """Whether no record has to be moved, or stands in for another of its step with the same keys."""
    steps = [record["step"] for record in records]
    if not _all_of(steps, {int}):
        return False
    rise = np.diff(np.asarray(steps, "int64"))
    same = np.flatnonzero(rise == 0)
    return bool(
        (rise >= 0).all()
        and (np.diff(same) > 1).all()
        and all(records[index].keys() != records[index + 1].keys() for index in same)
    )


def _kind(records: list[dict[str, Any]], indices: list[int]) -> _Kind:
    """The points of records with the same keys. ValueError if a value is no finite number."""
    if "scores" in records[0]:
        records = [_flat(record) for record in records]
        if any(tuple(record) != tuple(records[0]) for record in records):
            raise ValueError("evaluations with other scores than the one before")
    names = list(records[0])
    # One array of all of it, as many small ones cost more than what they hold.
    flat = list(itertools.chain.from_iterable(record.values() for record in records))
    if not _all_of(flat, {int, float}):
        raise ValueError("a value that is no number")
    table = dict(zip(names, np.asarray(flat, "float64").reshape(len(records), len(names)).T, strict=True))
    metrics = tuple(name for name in names if name not in _NOT_METRICS)
    values = np.asarray([table[name] for name in metrics]).reshape(len(metrics), len(records))
    if not np.isfinite(values).all():
        raise ValueError("a value that is not finite")
    table["step"] = np.asarray([record["step"] for record in records], "int64")
    missing = np.full(len(records), np.nan)
    numbers = {name: table.get(name, missing).repeat(len(metrics)) for name in ("step", *_ABOUT)}
    return _Kind(numbers | {"value": values.T.ravel()}, metrics, np.asarray(indices).repeat(len(metrics)))


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its scores as values of their own, where they are of no other meaning in a record."""
    scores = record["scores"]
    if not _NOT_METRICS.isdisjoint(scores):
        raise ValueError("a score by the name of a fact")
    return {**{name: value for name, value in record.items() if name != "scores"}, **scores}


def _all_of(values: Iterable[Any], types: set[type]) -> bool:
    return set(map(type, values)) <= types


def _in_order(kinds: list[_Kind]) -> Points:
    """The points of all kinds of records, in the order of the file."""
    if not kinds:
        return NONE
    metrics = tuple(sorted({name for kind in kinds for name in kind.metrics}))
    number = {name: code for code, name in enumerate(metrics)}
    codes = [
        np.tile(np.asarray([number[name] for name in kind.metrics], "int32"), len(kind.records) // len(kind.metrics))
        for kind in kinds
        if kind.metrics
    ]
    metric = np.concatenate([np.empty(0, "int32"), *codes])
    numbers = {name: np.concatenate([kind.numbers[name] for kind in kinds]) for name in COLUMNS}
    order = np.concatenate([kind.records for kind in kinds])
    if len(kinds) > 1 and (np.diff(order) < 0).any():
        sorting = np.argsort(order, kind="stable")
        metric, numbers = metric[sorting], {name: column[sorting] for name, column in numbers.items()}
    return Points(numbers, metric, metrics)
