"""The points of runs: metrics.jsonl in, curves.parquet out, a few hundred runs at a time."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flipscale.run import MetricsRecord, RunFolder, is_number, replacing

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

_FACTS = ("samples", "seconds", "time")
"""What a record says about all its points. Each may be missing, as NaN."""

_NO_METRICS = {"step", *_FACTS, "samples_seen", "scores", "evaluation_seconds"}


def read_points(folder: RunFolder) -> tuple[pa.Table, int]:
    """All points of metrics.jsonl and the count of its torn lines. Null and infinite values are skipped."""
    records, torn = folder.records()
    points = []
    for record in records:
        step = record["step"]
        if not -(2**63) <= step < 2**63:
            torn += 1
            continue
        samples = record.get("samples_seen", record.get("samples"))  # The programs of commands say `samples`.
        facts = [_number(value) for value in (samples, record.get("seconds"), record.get("time"))]
        points += [(step, *facts[:2], name, value, facts[2]) for name, value in _finite_metrics(record)]
    columns = list(zip(*points, strict=True)) or [()] * len(POINTS_SCHEMA)
    return pa.table(list(map(pa.array, columns, POINTS_SCHEMA.types)), schema=POINTS_SCHEMA), torn


def _finite_metrics(record: MetricsRecord) -> Iterator[tuple[str, float]]:
    """The metrics of a record and its scores, by name. Values that are not finite numbers are left out."""
    scores = record.get("scores")
    values = {name: value for name, value in record.items() if name not in _NO_METRICS}
    values |= scores if isinstance(scores, dict) else {}
    for name, value in values.items():
        number = _number(value)
        if abs(number) < float("inf"):
            yield name, number


def _number(value: object) -> float:
    try:
        return float(value) if is_number(value) else float("nan")
    except OverflowError:
        return float("nan")


def write_curves(path: Path, runs: Iterable[tuple[str, pa.Table]]) -> None:
    """Write the points of these runs, in their order. The same points give the same bytes."""
    remaining = iter(runs)
    with (
        replacing(path) as file,
        # zstd alone deals with what repeats within a run only: numbers that differ make large dictionaries.
        pq.ParquetWriter(
            file, CURVES_SCHEMA, use_dictionary=["id", "metric"], compression="zstd", compression_level=1
        ) as writer,
    ):
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


def points_by_run(path: Path) -> Mapping[str, pa.Table]:
    """The points of a curves.parquet that `write_curves` wrote, by run."""
    table = pq.read_table(path, schema=CURVES_SCHEMA).unify_dictionaries().combine_chunks()
    ids = table["id"].combine_chunks()
    codes, names = ids.indices.to_numpy(), ids.dictionary.to_pylist()
    points = table.drop_columns("id").cast(POINTS_SCHEMA)
    starts = np.flatnonzero(np.diff(codes, prepend=-1)).tolist()
    ends = [*starts[1:], len(codes)]
    return {names[codes[start]]: points.slice(start, end - start) for start, end in zip(starts, ends, strict=True)}
