"""curves.parquet, written and read a few hundred runs at a time: the points of a study need not fit into memory."""

import itertools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flipscale.collect.points import NO_POINTS, POINT, POINT_COLUMNS, CurvePoints, NumberArray
from flipscale.run import replacing

RUNS_IN_A_GROUP = 250
"""Runs whose points make one row group: 200 records of 4 metrics each are 200,000 rows, 10 MB."""

_WORD = pa.dictionary(pa.int32(), pa.string())

CURVES_SCHEMA = pa.schema(
    [
        ("id", _WORD),
        ("step", pa.int64()),
        ("samples", pa.float64()),
        ("seconds", pa.float64()),
        ("metric", _WORD),
        ("value", pa.float64()),
        ("time", pa.float64()),
    ]
)


def write_curves(path: Path, runs: Iterator[tuple[str, CurvePoints]]) -> None:
    """Write the points of these runs, in their order. The same points give the same bytes."""
    with (
        replacing(path) as file,
        # zstd alone deals with what repeats within a run only: numbers that differ make large dictionaries.
        pq.ParquetWriter(
            file, CURVES_SCHEMA, use_dictionary=["id", "metric"], compression="zstd", compression_level=1
        ) as writer,
        # Another thread writes while the next runs are read: what it calls releases Python's lock.
        ThreadPoolExecutor(1) as thread,
    ):
        written: Future[None] | None = None
        while group := list(itertools.islice(runs, RUNS_IN_A_GROUP)):
            if written is not None:
                written.result()
            written = thread.submit(lambda group: writer.write_table(_table(group)), group)
        if written is not None:
            written.result()


@contextmanager
def open_curves(path: Path) -> Iterator["Curves"]:
    """A curves.parquet to take the points of some of its runs from."""
    with pq.ParquetFile(path) as file:
        yield Curves(file)


class Curves:
    """The points of a curves.parquet by run. The row group asked for last is kept, as runs are asked for in order."""

    def __init__(self, file: pq.ParquetFile):
        self._file = file
        self._groups: dict[str, list[int]] = {}
        for group in range(file.metadata.num_row_groups):
            for run_id in file.read_row_group(group, columns=["id"])["id"].unique().to_pylist():
                self._groups.setdefault(run_id, []).append(group)
        self._held = -1
        self._points: dict[str, CurvePoints] = {}

    def points(self, run_id: str) -> CurvePoints:
        """The run's points in the order of the file; none if it has none."""
        parts = [self._of_group(group)[run_id] for group in self._groups.get(run_id, [])]
        return parts[0] if len(parts) == 1 else _joined(parts)

    def _of_group(self, group: int) -> dict[str, CurvePoints]:
        if group != self._held:
            self._held, self._points = group, _by_run(self._file.read_row_group(group))
        return self._points


def _by_run(rows: pa.Table) -> dict[str, CurvePoints]:
    """The points of each run of a row group."""
    ids, runs = _words(rows["id"])
    names, metric = _words(rows["metric"])
    numbers = np.empty(len(rows), POINT)
    for name in POINT_COLUMNS:
        numbers[name] = rows[name].to_numpy()
    order = np.argsort(runs, kind="stable")
    bounds = np.searchsorted(runs[order], np.arange(len(ids) + 1))
    found = {}
    for run, run_id in enumerate(ids):
        mine = order[bounds[run] : bounds[run + 1]]
        if len(mine) and mine[-1] - mine[0] + 1 == len(mine):
            mine = slice(int(mine[0]), int(mine[-1]) + 1)  # type: ignore[assignment]  # a view in place of a copy
        found[run_id] = _points(numbers[mine], metric[mine], names)
    return found


def _words(column: pa.ChunkedArray) -> tuple[list[str], NumberArray]:
    """The words of a column, and which of them each row has."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    whole = column.unify_dictionaries().combine_chunks()
    return whole.dictionary.to_pylist(), whole.indices.to_numpy(zero_copy_only=False)


def _points(numbers: NumberArray, codes: NumberArray, names: list[str]) -> CurvePoints:
    used, metric = np.unique(codes, return_inverse=True)
    metrics = sorted(names[index] for index in used)
    place = np.asarray([metrics.index(names[index]) for index in used], "int32")
    return CurvePoints(numbers, place[metric], tuple(metrics))


def _joined(parts: list[CurvePoints]) -> CurvePoints:
    """The points of a run that lies in several row groups, as in a file of another program."""
    if not parts:
        return NO_POINTS
    names = sorted({name for part in parts for name in part.metrics})
    codes = [np.asarray([names.index(name) for name in part.metrics], "int32")[part.metric] for part in parts]
    return CurvePoints(np.concatenate([part.numbers for part in parts]), np.concatenate(codes), tuple(names))


def _table(group: list[tuple[str, CurvePoints]]) -> pa.Table:
    metrics = sorted({name for _, points in group for name in points.metrics})
    number = {name: code for code, name in enumerate(metrics)}
    codes = [
        np.asarray([number[name] for name in points.metrics], "int32")[points.metric]
        for _, points in group
        if len(points)
    ]
    runs = np.repeat(np.arange(len(group), dtype="int32"), [len(points) for _, points in group])
    columns = {
        "id": _dictionary(runs, [run_id for run_id, _ in group]),
        "metric": _dictionary(np.concatenate([np.empty(0, "int32"), *codes]), metrics),
    }
    numbers = np.concatenate([points.numbers for _, points in group])
    columns |= {name: _array(np.ascontiguousarray(numbers[name])) for name in POINT_COLUMNS}
    return pa.Table.from_arrays([columns[name] for name in CURVES_SCHEMA.names], schema=CURVES_SCHEMA)


# Made from arrays in memory: `pa.array` and `pa.table` import pandas, which takes as long as reading 150 runs.


def _array(numbers: NumberArray) -> pa.Array:
    return pa.Array.from_buffers(pa.from_numpy_dtype(numbers.dtype), len(numbers), [None, pa.py_buffer(numbers)])


def _dictionary(codes: NumberArray, words: list[str]) -> pa.DictionaryArray:
    """A column of words: which of them each row has."""
    texts = [word.encode() for word in words]
    bounds = np.cumsum([0, *map(len, texts)], dtype="int32")
    of_words = pa.StringArray.from_buffers(len(texts), pa.py_buffer(bounds), pa.py_buffer(b"".join(texts)))
    return pa.DictionaryArray.from_arrays(_array(codes), of_words)
