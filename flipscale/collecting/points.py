"""The points of runs: metrics.jsonl in, curves.parquet out, a few hundred runs at a time."""

import io
import itertools
import os
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from flipscale.door.columns import MAKE_AGAIN
from flipscale.errors import DamagedFile, ResultsError
from flipscale.plain_files import open_plain, or_none, read_bytes, replacing
from flipscale.run import RunFolder

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

POINTS_SCHEMA = pa.schema(
    [
        (name, pa.string() if name == "metric" else CURVES_SCHEMA.field(name).type)
        for name in CURVES_SCHEMA.names
        if name != "id"
    ]
)
"""The points of one run."""

_FACTS = ("step", "samples_seen", "seconds", "time")
"""What a record says of all its metrics."""

_MISSING = float("nan")
_LARGEST_FLOAT = sys.float_info.max
_NONE = np.empty(0)


def read_points(folder: RunFolder) -> tuple[pa.Table, int]:
    """All points of metrics.jsonl and the count of its torn lines. Null and infinite values are skipped."""
    records, torn = folder.records()
    facts: list[list[float]] = []
    counts: list[int] = []
    names: list[str] = []
    values: list[float] = []
    for record in records:
        if not -(2**63) <= record["step"] < 2**63:
            torn += 1
            continue
        metrics = _finite(record)
        facts.append([metrics.pop(name, _MISSING) for name in _FACTS])
        for name in ("evaluation_seconds", "scores", "steps"):
            metrics.pop(name, None)
        if isinstance(scores := record.get("scores"), dict):
            metrics |= _finite(scores)
        counts.append(len(metrics))
        names += metrics
        values += metrics.values()
    step, samples, seconds, time = (np.repeat(of, counts) for of in zip(*facts, strict=True)) if facts else [_NONE] * 4
    columns = [step.astype("int64"), samples, seconds, pa.array(names, pa.string()), np.array(values, "float64"), time]
    return pa.table(list(map(pa.array, columns)), schema=POINTS_SCHEMA), torn


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    """Those of the values that are finite numbers."""
    return {
        name: value for name, value in values.items() if type(value) in (int, float) and abs(value) <= _LARGEST_FLOAT
    }


def write_curves(path: Path, runs: Iterable[tuple[str, pa.Table]]) -> bool:
    """Write the points of these runs, in their order, unless the file has them. The same points give the same bytes.

    Returns whether the file was written.
    """
    remaining = iter(runs)
    written = io.BytesIO()
    # zstd alone deals with what repeats within a run only: numbers that differ make large dictionaries.
    with pq.ParquetWriter(
        written, CURVES_SCHEMA, use_dictionary=["id", "metric"], compression="zstd", compression_level=1
    ) as writer:
        while group := list(itertools.islice(remaining, RUNS_IN_A_GROUP)):
            points = pa.concat_tables([table for _, table in group]).combine_chunks()
            runs_of_points = np.repeat(np.arange(len(group), dtype="int32"), [len(table) for _, table in group])
            ids = pa.DictionaryArray.from_arrays(runs_of_points, [run_id for run_id, _ in group])
            metric = points["metric"].combine_chunks().dictionary_encode()
            names = sorted(metric.dictionary.to_pylist())
            codes = np.asarray([names.index(name) for name in metric.dictionary.to_pylist()], "int32")
            metrics = pa.DictionaryArray.from_arrays(codes[metric.indices.to_numpy()], pa.array(names, pa.string()))
            of_words = {"id": ids, "metric": metrics}
            columns = [of_words[name] if name in of_words else points[name] for name in CURVES_SCHEMA.names]
            writer.write_table(pa.table(columns, schema=CURVES_SCHEMA))
    if or_none(read_bytes, path) == written.getvalue():
        return False
    with replacing(path) as file:
        file.write(written.getvalue())
    return True


def read_curves(path: Path, metrics: Collection[str] | None = None) -> pd.DataFrame:
    """The table of curves.parquet; empty if there is none, as results.csv alone is enough for most figures.

    `metrics` selects the rows of these metrics: a study of 10,000 runs has millions of others.
    """
    try:
        os.close(open_plain(path))
        present = pq.read_schema(path).names
        lacking = [name for name in CURVES_SCHEMA.names if name not in present]
        wanted = None if metrics is None or lacking else [("metric", "in", list(metrics))]
        table = pq.read_table(path, filters=wanted)
        table = table if lacking else table.select(CURVES_SCHEMA.names).cast(CURVES_SCHEMA)
    except (FileNotFoundError, NotADirectoryError):
        return _frame(CURVES_SCHEMA.empty_table())
    except DamagedFile as error:
        raise ResultsError(f"{error} {MAKE_AGAIN}") from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ResultsError(f"{path}: cannot be read ({error}). Make it with `flipscale collect`.") from error
    if lacking:
        raise ResultsError(f"{path}: has no column {lacking[0]!r}. Make it with `flipscale collect`.")
    return _frame(table)


def _frame(table: pa.Table) -> pd.DataFrame:
    # Each part of the file has its own list of words; runs are in the order of the plan, metrics by name.
    curves: pd.DataFrame = table.unify_dictionaries().to_pandas()
    if isinstance(curves["metric"].dtype, pd.CategoricalDtype):
        curves["metric"] = curves["metric"].cat.reorder_categories(sorted(curves["metric"].cat.categories))
    return curves
