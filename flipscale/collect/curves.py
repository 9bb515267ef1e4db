"""curves.parquet, written and read a few hundred runs at a time: the points of a study need not fit into memory."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flipscale.collect.points import COLUMNS, NONE, Points
from flipscale.run import replacing

RUNS = 250
"""Runs whose points make one row group: 200 records of 4 metrics each are 200,000 rows, 10 MB."""

_WORD = pa.dictionary(pa.int32(), pa.string())

SCHEMA = pa.schema(
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


def write_curves(path: Path, runs: Iterable[tuple[str, Points]]) -> None:
    """Write the points of these runs, in their order. The same points give the same bytes."""
    with (
        replacing(path) as file,
        # What only repeats within a run is left to zstd: numbers that differ make large dictionaries.
        pq.ParquetWriter(
            file, SCHEMA, use_dictionary=["id", "metric"], compression="zstd", compression_level=1
        ) as writer,
    ):
        group: list[tuple[str, Points]] = []
        for run in runs:
            group.append(run)
            if len(group) == RUNS:
                writer.write_table(_table(group))
                group.clear()
        if group:
            writer.write_table(_table(group))


@contextmanager
def open_curves(path: Path) -> Iterator["Curves"]:
    """A file that write_curves wrote, to take the points of some of its runs from."""
    with pq.ParquetFile(path) as file:
        yield Curves(file)


class Curves:
    """The rows of a curves.parquet. The last row group that was asked for is kept, as runs are asked for in order."""

    def __init__(self, file: pq.ParquetFile):
        self._file = file
        rows = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(rows, dtype="int64")])
        self.rows = int(self._starts[-1])
        self._group = -1
        self._table: Any = None

    def points(self, start: int, length: int) -> Points:
        """The points in rows start to start + length, which are those of one run, so all in one row group."""
        if length == 0:
            return NONE
        group = int(np.searchsorted(self._starts, start, side="right")) - 1
        if group != self._group:
            self._group, self._table = group, self._file.read_row_group(group)
        rows = self._table.slice(start - int(self._starts[group]), length)
        words = rows["metric"].combine_chunks()
        names = words.dictionary.to_pylist()
        used, codes = np.unique(words.indices.to_numpy(zero_copy_only=False), return_inverse=True)
        metrics = sorted(names[index] for index in used)
        order = np.asarray([metrics.index(names[index]) for index in used], "int32")
        numbers = {name: rows[name].to_numpy().astype(dtype) for name, dtype in COLUMNS.items()}
        return Points(numbers, order[codes], tuple(metrics))


def _table(group: list[tuple[str, Points]]) -> pa.Table:
    metrics = sorted({name for _, points in group for name in points.metrics})
    number = {name: code for code, name in enumerate(metrics)}
    codes = [
        np.asarray([number[name] for name in points.metrics], "int32")[points.metric]
        for _, points in group
        if len(points)
    ]
    runs = np.repeat(np.arange(len(group), dtype="int32"), [len(points) for _, points in group])
    columns = {
        "id": pa.DictionaryArray.from_arrays(runs, pa.array([run_id for run_id, _ in group], pa.string())),
        "metric": pa.DictionaryArray.from_arrays(
            np.concatenate([np.empty(0, "int32"), *codes]), pa.array(metrics, pa.string())
        ),
    }
    columns |= {name: pa.array(np.concatenate([points.numbers[name] for _, points in group])) for name in COLUMNS}
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)
