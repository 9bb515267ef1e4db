"""The points of runs: their metrics.jsonl in, one array a column out, as a study has millions of them.

Files whose records are as training writes them, 200 of a kind and steps that only rise, are converted column by column,
several files at once, and orjson reads them 4 times as fast as json. Any other is read record by record, and gives the
same.
"""

import itertools
import operator
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from flipscale.plain_files import read_bytes
from flipscale.run import MOST_METRICS_BYTES, MetricsRecord, RunFolder, is_number

NumberArray = np.ndarray[Any, Any]

FACTS = ("samples", "seconds", "time")
"""What a record says about all its points. Each may be missing, as NaN."""

_NOT_METRICS = {"step", *FACTS, "samples_seen", "scores", "evaluation_seconds"}

_COLUMNS_OF = {"samples_seen": "samples"}
"""The column of what a record has under another name."""


class CurvePoints(NamedTuple):
    """The points of a run, in the order of its records. What a record says about all its points is there once."""

    steps: NumberArray
    """[records], int64"""
    facts: NumberArray
    """[records, FACTS], float64"""
    counts: NumberArray
    """The number of points of each record: [records], int64."""
    values: NumberArray
    """[points], float64"""
    metric: NumberArray
    """Which of `metrics` each point is of: [points], int32."""
    metrics: tuple[str, ...]
    """The names of its metrics, sorted; some may have no point."""

    def __len__(self) -> int:
        return len(self.values)

    def each(self, name: str) -> NumberArray:
        """The `step`, or one of FACTS, of each point."""
        of_records = self.steps if name == "step" else self.facts[:, FACTS.index(name)]
        return of_records.repeat(self.counts)

    def only(self, kept: NumberArray) -> "CurvePoints":
        """The points for which `kept`, [points] of bool, is true."""
        record = np.arange(len(self.steps)).repeat(self.counts)[kept]
        ones = np.ones(len(record), "int64")
        return CurvePoints(
            self.steps[record], self.facts[record], ones, self.values[kept], self.metric[kept], self.metrics
        )


NO_POINTS = CurvePoints(
    np.empty(0, "int64"), np.empty((0, len(FACTS))), np.empty(0, "int64"), np.empty(0), np.empty(0, "int32"), ()
)


def joined(parts: Sequence[CurvePoints]) -> CurvePoints:
    """The points of all parts, one after the other."""
    metrics = tuple(sorted({name for names in {part.metrics for part in parts} for name in names}))
    codes = [part.metric if part.metrics == metrics else _places(part.metrics, metrics)[part.metric] for part in parts]
    parts = [NO_POINTS, *parts]
    return CurvePoints(
        np.concatenate([part.steps for part in parts]),
        np.concatenate([part.facts for part in parts]),
        np.concatenate([part.counts for part in parts]),
        np.concatenate([part.values for part in parts]),
        np.concatenate([NO_POINTS.metric, *codes]),
        metrics,
    )


def _places(names: Iterable[str], metrics: Iterable[str]) -> NumberArray:
    """The place of each name in `metrics`."""
    place = {name: number for number, name in enumerate(metrics)}
    return np.asarray([place[name] for name in names], "int32")


def cut(points: CurvePoints, records: Iterable[int]) -> Iterator[CurvePoints]:
    """Parts of the points, by their numbers of records."""
    ends = np.concatenate([[0], points.counts.cumsum()])
    first = 0
    for last in itertools.accumulate(records):
        of_records, of_points = slice(first, last), slice(ends[first], ends[last])
        yield CurvePoints(
            points.steps[of_records],
            points.facts[of_records],
            points.counts[of_records],
            points.values[of_points],
            points.metric[of_points],
            points.metrics,
        )
        first = last


def read_points(folder: RunFolder) -> tuple[CurvePoints, int]:
    """All points of metrics.jsonl and the count of its torn lines. Null and infinite values are skipped."""
    (quick,) = quick_points([read_metrics(folder)])
    return (quick, 0) if quick is not None else points_by_records(folder)


def read_metrics(folder: RunFolder) -> bytes:
    """The content of metrics.jsonl; empty if there is no such file."""
    try:
        return read_bytes(f"{os.fspath(folder)}/metrics.jsonl", most=MOST_METRICS_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return b""


# Record by record


def points_by_records(folder: RunFolder) -> tuple[CurvePoints, int]:
    """See `read_points`. This reads any file."""
    records, torn = folder.records()
    columns: dict[str, list[Any]] = {name: [] for name in ("step", *FACTS, "metric", "value")}
    for record in records:
        if not -(2**63) <= record["step"] < 2**63:
            torn += 1
            continue
        about = dict.fromkeys(FACTS, np.nan)
        about |= {_COLUMNS_OF.get(name, name): _number(value) for name, value in record.items() if name in _ABOUT}
        for name, value in _finite_metrics(record):
            for column, entry in {"step": record["step"], **about, "metric": name, "value": value}.items():
                columns[column].append(entry)
    metrics = tuple(sorted({str(name) for name in columns["metric"]}))
    points = CurvePoints(
        np.asarray(columns["step"], "int64"),
        np.asarray([columns[name] for name in FACTS], "float64").T,
        np.ones(len(columns["step"]), "int64"),
        np.asarray(columns["value"], "float64"),
        _places(map(str, columns["metric"]), metrics),
        metrics,
    )
    return points, torn


_ABOUT = {*FACTS, *_COLUMNS_OF}


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


# By columns


def quick_points(texts: Sequence[bytes]) -> list[CurvePoints | None]:
    """The points of these metrics.jsonl; None for one whose lines are not as training writes them."""
    files = [_rising(text) for text in texts]
    try:
        found = iter(_by_columns([file for file in files if file is not None]))
    except (ValueError, TypeError, AttributeError, OverflowError):
        # One of them has another fault, such as a value that is not a number.
        return [points for text in texts for points in quick_points([text])] if len(texts) > 1 else [None]
    return [None if file is None else next(found) for file in files]


class _RisingRecords(NamedTuple):
    """The records of a file none of which has to be moved, or replaces another of its step and keys."""

    records: list[MetricsRecord]
    steps: list[int]


def _rising(text: bytes) -> _RisingRecords | None:
    """The records of a file, one a line; None where that, or their order, is not as it should be."""
    if b"\r" in text:  # It would end a line as well.
        return None
    lines = text.removesuffix(b"\n")
    joined_lines = lines.replace(b"\n", b"\n,")
    try:
        # All lines in one call, as calls cost more than what they read.
        records = orjson.loads(b"[%b]" % joined_lines)
        steps = [record["step"] for record in records]
        added_commas = len(joined_lines) - len(lines)
        if len(records) != bool(text) + added_commas or not _all_of(steps, {int}) or steps != sorted(steps):
            return None
        return None if _has_replaced(records, steps) else _RisingRecords(records, steps)
    except (ValueError, TypeError, KeyError):
        return None


def _has_replaced(records: list[MetricsRecord], steps: list[int]) -> bool:
    """Whether a record may replace another of its step, or three have the same."""
    same = list(itertools.compress(itertools.count(), map(operator.eq, steps, steps[1:])))
    return any(after == place + 1 for place, after in itertools.pairwise(same)) or any(
        _names(records[place]) == _names(records[place + 1]) for place in same
    )


def _names(record: MetricsRecord) -> set[str]:
    """The names of a record's values: one with the same names replaces another of its step."""
    return {_COLUMNS_OF.get(name, name) for name in record}


def _by_columns(files: Sequence[_RisingRecords]) -> Iterator[CurvePoints]:
    """The points of each file. Raises ValueError if a value is not a finite number.

    One array of a column of all files: many small ones cost more than what they hold.
    """
    steps = list(itertools.chain.from_iterable(file.steps for file in files))
    parts = _alike(itertools.chain.from_iterable(file.records for file in files), len(steps))
    metrics = tuple(sorted({name for part in parts for name in part.metrics}))
    facts = np.full((len(steps), len(FACTS)), np.nan)
    counts = np.empty(len(steps), "int64")
    for part in parts:
        counts[part.places] = len(part.metrics)
        for name, values in part.facts.items():
            facts[part.places, FACTS.index(name)] = values
    ends = counts.cumsum()
    values, metric = np.empty(counts.sum()), np.empty(counts.sum(), "int32")
    for part in parts:
        points = (ends - counts)[part.places, None] + np.arange(len(part.metrics))
        values[points] = part.values
        metric[points] = _places(part.metrics, metrics)
    of_all = CurvePoints(np.asarray(steps, "int64"), facts, counts, values, metric, metrics)
    return cut(of_all, [len(file.steps) for file in files])


class _AlikeRecords(NamedTuple):
    """Records with the same keys."""

    places: NumberArray
    """Which of all records they are."""
    facts: Mapping[str, NumberArray]
    """Those of FACTS that they have: a value a record."""
    metrics: tuple[str, ...]
    values: NumberArray
    """A row a record, a column a metric."""


def _alike(records: Iterable[MetricsRecord], count: int) -> list[_AlikeRecords]:
    """The records by their keys, those of scores among them."""
    found: dict[tuple[str, ...], list[MetricsRecord]] = {}
    kinds, lengths = [], []
    for keys, some in _by_keys(records):
        alike = found.setdefault(keys, [])
        before = len(alike)
        alike += some
        kinds.append(list(found).index(keys))
        lengths.append(len(alike) - before)
    kind = np.repeat(np.asarray(kinds, "int64"), lengths)
    return [
        _alike_records(keys, alike, np.flatnonzero(kind == number))
        for number, (keys, alike) in enumerate(found.items())
    ]


def _by_keys(records: Iterable[MetricsRecord]) -> Iterator[tuple[tuple[str, ...], Iterable[MetricsRecord]]]:
    """Records that follow each other and have the same keys."""
    for keys, some in itertools.groupby(records, tuple):
        if "scores" in keys:
            yield from itertools.groupby(map(_flat, some), tuple)
        else:
            yield keys, some


def _flat(record: MetricsRecord) -> MetricsRecord:
    """The record with its scores as values of its own. ValueError if a score has the name of a fact."""
    scores = record["scores"]
    if not _NOT_METRICS.isdisjoint(scores):
        raise ValueError("a score by the name of a fact")
    return {**{name: value for name, value in record.items() if name != "scores"}, **scores}


def _alike_records(keys: tuple[str, ...], records: list[MetricsRecord], places: NumberArray) -> _AlikeRecords:
    numbers = list(itertools.chain.from_iterable([record.values() for record in records]))
    if not _all_of(numbers, {int, float}):
        raise ValueError("a value that is not a number")
    table = np.fromiter(numbers, "float64", len(numbers)).reshape(len(records), len(keys))
    column = {_COLUMNS_OF.get(name, name): place for place, name in enumerate(keys)}
    metrics = tuple(name for name in column if name not in _NOT_METRICS)
    values = table[:, [column[name] for name in metrics]]
    if not np.isfinite(values).all():
        raise ValueError("a value that is not finite")
    return _AlikeRecords(places, {name: table[:, column[name]] for name in FACTS if name in column}, metrics, values)


def _all_of(values: Iterable[Any], types: set[type]) -> bool:
    return set(map(type, values)) <= types
