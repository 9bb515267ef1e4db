"""curves.parquet, written and read a few hundred runs at a time: the points of a study need not fit into memory."""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flipscale.collect.points import FACTS, CurvePoints, NumberArray, joined
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
        return parts[0] if len(parts) == 1 else joined(parts)

    def _of_group(self, group: int) -> dict[str, CurvePoints]:
        if group != self._held:
            self._held, self._points = group, _by_run(self._file.read_row_group(group))
        return self._points


def _by_run(rows: pa.Table) -> dict[str, CurvePoints]:
    """The points of each run of a row group."""
    ids, runs = _words(rows["id"])
    names, metric = _words(rows["metric"])
    numbers = {name: rows[name].to_numpy() for name in ("step", *FACTS, "value")}
    facts = np.stack([numbers[name] for name in FACTS], axis=1)
    order = np.argsort(runs, kind="stable")
    bounds = np.searchsorted(runs[order], np.arange(len(ids) + 1))
    found = {}
    for run, run_id in enumerate(ids):
        mine = order[bounds[run] : bounds[run + 1]]
        if len(mine) and mine[-1] - mine[0] + 1 == len(mine):
            mine = slice(int(mine[0]), int(mine[-1]) + 1)  # type: ignore[assignment]  # a view in place of a copy
        codes, metrics = _sorted_words(metric[mine], names)
        steps = numbers["step"][mine]
        ones = np.ones(len(steps), "int64")
        found[run_id] = CurvePoints(steps, facts[mine], ones, numbers["value"][mine], codes, metrics)
    return found


def _words(column: pa.ChunkedArray) -> tuple[list[str], NumberArray]:
    """The words of a column, and which of them each row has."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    whole = column.unify_dictionaries().combine_chunks()
    return whole.dictionary.to_pylist(), whole.indices.to_numpy(zero_copy_only=False)


def _sorted_words(codes: NumberArray, words: Sequence[str]) -> tuple[NumberArray, tuple[str, ...]]:
    """The words that are used, sorted, and which of them each row has."""
    used = np.flatnonzero(np.bincount(codes, minlength=len(words))).tolist()
    found = sorted((words[code], code) for code in used)
    names = tuple(word for word, _ in found)
    if names == tuple(words):
        return codes, names
    place = np.empty(len(words), "int32")
    place[[code for _, code in found]] = range(len(found))
    return place[codes], names


def _table(group: list[tuple[str, CurvePoints]]) -> pa.Table:
    points = joined([points for _, points in group])
    metric, metrics = _sorted_words(points.metric, points.metrics)
    runs = np.repeat(np.arange(len(group), dtype="int32"), [len(points) for _, points in group])
    columns = {
        "id": _dictionary(runs, [run_id for run_id, _ in group]),
        "metric": _dictionary(metric, metrics),
        "value": _array(points.values),
        **{name: _array(points.each(name)) for name in ("step", *FACTS)},
    }
    return pa.Table.from_arrays([columns[name] for name in CURVES_SCHEMA.names], schema=CURVES_SCHEMA)


# Made from arrays in memory: `pa.array` and `pa.table` import pandas, which takes as long as reading 150 runs.


def _array(numbers: NumberArray) -> pa.Array:
    return pa.Array.from_buffers(pa.from_numpy_dtype(numbers.dtype), len(numbers), [None, pa.py_buffer(numbers)])


def _dictionary(codes: NumberArray, words: Sequence[str]) -> pa.DictionaryArray:
    """A column of words: which of them each row has."""
    texts = [word.encode() for word in words]
    bounds = np.cumsum([0, *map(len, texts)], dtype="int32")
    of_words = pa.StringArray.from_buffers(len(texts), pa.py_buffer(bounds), pa.py_buffer(b"".join(texts)))
    return pa.DictionaryArray.from_arrays(_array(codes), of_words)
