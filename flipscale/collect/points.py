"""The points of a run: its metrics.jsonl in, one array a column out, as a study has millions of them.

A file whose records are as training writes them, 200 of a kind and steps that only rise, is converted column by column,
and orjson reads it 4 times as fast as json. Any other is read record by record, and gives the same.
"""

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson

from flipscale.plain_files import read_bytes
from flipscale.run import MOST_METRICS_BYTES, MetricsRecord, RunFolder, is_number

NumberArray = np.ndarray[Any, Any]

POINT_COLUMNS: dict[str, str] = {
    "step": "int64",
    "samples": "float64",
    "seconds": "float64",
    "value": "float64",
    "time": "float64",
}
"""The columns of numbers of a point, and their dtypes; `samples`, `seconds` and `time` may be missing, as NaN."""

POINT = np.dtype(list(POINT_COLUMNS.items()))

_ABOUT = ("samples", "seconds", "time")
_NOT_METRICS = {"step", *_ABOUT, "samples_seen", "scores", "evaluation_seconds"}

_COLUMNS_OF = {"samples_seen": "samples"}
"""The column of what a record has under another name. Records of older versions, and of programs, say `samples`."""

_FACTS = {*_ABOUT, *_COLUMNS_OF}


class CurvePoints(NamedTuple):
    """The points of one run, in the order of its records: arrays of one length."""

    numbers: NumberArray
    """The numbers of each point, a POINT; `numbers["step"]` are the steps of all. One array, as a run has few points
    and sending six from a reading process takes longer."""
    metric: NumberArray
    """Which of `metrics` each point is of, int32."""
    metrics: tuple[str, ...]
    """The names of its metrics, sorted."""

    def __len__(self) -> int:
        return len(self.metric)


def read_points(folder: RunFolder) -> tuple[CurvePoints, int]:
    """All points of metrics.jsonl and the count of its torn lines. Null and infinite values are skipped."""
    try:
        text = read_bytes(f"{os.fspath(folder)}/metrics.jsonl", most=MOST_METRICS_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        text = b""
    quick = _by_columns(text)
    return (quick, 0) if quick is not None else _by_records(folder)


NO_POINTS = CurvePoints(np.empty(0, POINT), np.empty(0, "int32"), ())


def _by_records(folder: RunFolder) -> tuple[CurvePoints, int]:
    records, torn = folder.records()
    columns: dict[str, list[object]] = {name: [] for name in (*POINT_COLUMNS, "metric")}
    for record in records:
        if not -(2**63) <= record["step"] < 2**63:
            torn += 1
            continue
        about = dict.fromkeys(_ABOUT, np.nan)
        about |= {_COLUMNS_OF.get(name, name): _number(value) for name, value in record.items() if name in _FACTS}
        for name, value in _finite_metrics(record):
            for column, entry in {"step": record["step"], **about, "metric": name, "value": value}.items():
                columns[column].append(entry)
    metrics = tuple(sorted({str(name) for name in columns["metric"]}))
    number = {name: code for code, name in enumerate(metrics)}
    codes = np.asarray([number[str(name)] for name in columns["metric"]], "int32")
    numbers = np.empty(len(codes), POINT)
    for name in POINT_COLUMNS:
        numbers[name] = columns[name]
    return CurvePoints(numbers, codes, metrics), torn


def _finite_metrics(record: MetricsRecord) -> Iterator[tuple[str, float]]:
    """The metrics of a record and its scores, by name. Values that are not finite numbers are left out."""
    scores = record.get("scores")
    values = {name: value for name, value in record.items() if name not in _NOT_METRICS}
    values |= scores if isinstance(scores, dict) else {}
    for name, value in values.items():
        if np.isfinite(number := _number(value)):
            yield name, number


def _number(value: object) -> float:
    try:
        return float(value) if is_number(value) else np.nan
    except OverflowError:
        return np.nan


class _AlikeRecords(NamedTuple):
    """Records with the same keys."""

    places: NumberArray
    """Which records of the file they are."""
    facts: Mapping[str, NumberArray]
    """Those of `_ABOUT` that they have: a value a record."""
    metrics: tuple[str, ...]
    values: NumberArray
    """A row a record, a column a metric."""


def _by_columns(text: bytes) -> CurvePoints | None:
    """The points of a file of lines that are as training writes them, or None."""
    if b"\r" in text:  # It would end a line as well.
        return None
    lines = text.count(b"\n") + (not text.endswith(b"\n")) if text else 0
    try:
        # All lines in one call, as calls cost more than what they read.
        records = orjson.loads(b"[%b]" % text.removesuffix(b"\n").replace(b"\n", b","))
        if len(records) != lines or (steps := _rising_steps(records)) is None:
            return None
        return _in_order(steps, [_alike_records(*alike) for alike in _by_keys(records)])
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError):
        return None


def _rising_steps(records: list[MetricsRecord]) -> NumberArray | None:
    """The step of each record; None where one has to be moved, or replaces another of its step and keys."""
    steps = [record["step"] for record in records]
    if not _all_of(steps, {int}):
        return None
    found = np.asarray(steps, "int64")
    rise = found[1:] - found[:-1]
    same = np.flatnonzero(rise == 0)
    rises = (
        (rise >= 0).all()
        and (same[1:] - same[:-1] > 1).all()
        and all(_names(records[index]) != _names(records[index + 1]) for index in same)
    )
    return found if rises else None


def _names(record: MetricsRecord) -> set[str]:
    """The names of a record's values: one with the same names replaces another of its step."""
    return {_COLUMNS_OF.get(name, name) for name in record}


def _by_keys(records: list[MetricsRecord]) -> Iterable[tuple[list[MetricsRecord], list[int]]]:
    """The records with the same keys, and which of all records they are."""
    found: dict[tuple[str, ...], tuple[list[MetricsRecord], list[int]]] = {}
    place = 0
    for keys, some in itertools.groupby(records, tuple):
        alike, places = found.setdefault(keys, ([], []))
        alike += some
        places += range(place, place := place + len(alike) - len(places))
    return found.values()


def _alike_records(records: list[MetricsRecord], places: list[int]) -> _AlikeRecords:
    """The facts and metrics of records with the same keys. ValueError if a value is not a finite number."""
    if "scores" in records[0]:
        records = [_flat(record) for record in records]
        if any(tuple(record) != tuple(records[0]) for record in records):
            raise ValueError("evaluations with other scores than the one before")
    table, column = _table(records)
    metrics = tuple(name for name in column if name not in _NOT_METRICS)
    values = table[:, [column[name] for name in metrics]]
    if not np.isfinite(values).all():
        raise ValueError("a value that is not finite")
    facts = {name: table[:, column[name]] for name in _ABOUT if name in column}
    return _AlikeRecords(np.asarray(places), facts, metrics, values)


def _table(records: list[MetricsRecord]) -> tuple[NumberArray, dict[str, int]]:
    """The values, a row a record, and the place of each key in it. Raises ValueError if one is not a number."""
    # One array of everything: many small ones cost more than what they hold.
    numbers = list(itertools.chain.from_iterable(record.values() for record in records))
    if not _all_of(numbers, {int, float}):
        raise ValueError("a value that is not a number")
    table = np.asarray(numbers, "float64").reshape(len(records), len(records[0]))
    return table, {_COLUMNS_OF.get(name, name): place for place, name in enumerate(records[0])}


def _flat(record: MetricsRecord) -> MetricsRecord:
    """The record with its scores as values of its own. ValueError if a score has the name of a fact."""
    scores = record["scores"]
    if not _NOT_METRICS.isdisjoint(scores):
        raise ValueError("a score by the name of a fact")
    return {**{name: value for name, value in record.items() if name != "scores"}, **scores}


def _all_of(values: Iterable[Any], types: set[type]) -> bool:
    return set(map(type, values)) <= types


def _in_order(steps: NumberArray, parts: list[_AlikeRecords]) -> CurvePoints:
    """The points of all records, in the order of the file."""
    metrics = tuple(sorted({name for part in parts for name in part.metrics}))
    number = {name: code for code, name in enumerate(metrics)}
    counts = np.empty(len(steps), "int64")
    records = np.empty(len(steps), POINT)
    records["step"] = steps
    for part in parts:
        counts[part.places] = len(part.metrics)
        for name in _ABOUT:
            records[name][part.places] = part.facts.get(name, np.nan)
    numbers = records.repeat(counts)
    metric = np.empty(len(numbers), "int32")
    firsts = counts.cumsum() - counts
    for part in parts:
        rows = firsts[part.places, None] + np.arange(len(part.metrics))
        numbers["value"][rows] = part.values
        metric[rows] = [number[name] for name in part.metrics]
    return CurvePoints(numbers, metric, metrics)
