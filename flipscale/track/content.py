"""What MLflow gets from a study: a run for each cell, and under it one for every row of the table.

A cell here holds the runs that differ only in their seed and in what was made of them afterwards: a tuning and another
evaluation are beside the run that they started from. It has the mean of each score over seeds, and their number.

    NAME, SET.NAME   scores
    train/NAME       what training recorded
    used/NAME        other measurements of a run, mostly of what it took
    variation/NAME   of a cell: how many seeds, and the standard deviation of its scores

MLflow's page has a section of charts for each prefix, in alphabetical order.
"""

import dataclasses
import functools
import hashlib
import json
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from flipscale.errors import RunFolderError
from flipscale.run import RunFolder
from flipscale.scores import is_score
from flipscale.track.rows import TableRow, cell_name, run_name
from flipscale.track.source import MIRROR_VERSION, MirrorSource

MOST_CURVE_POINTS = 100
"""Points of one curve that go to MLflow, which takes a few thousand a second; all are in curves.parquet."""

_LONGEST_PARAM, _LONGEST_TAG, _LONGEST_METRIC = 6000, 5000, 230
"""The most characters of a value that MLflow takes; a longer one makes it drop the batch."""


class MetricPoint(NamedTuple):
    """A value of a metric."""

    name: str
    value: float
    time: int
    """Unix time in ms."""
    step: int
    """Samples seen."""


class DataSetUsed(NamedTuple):
    """A data set that a run used, as MLflow knows it: no data is read."""

    name: str
    digest: str
    """Of what is known about it: two runs whose evaluations differ were not tested on the same set."""
    used_for: str
    """training or evaluation, as MLflow's page shows it."""
    about: str
    """What it is, in words."""


@dataclass(frozen=True)
class Content:
    """One run as MLflow is to have it."""

    key: str
    """Its tag `flipscale.id`, by which it is found again."""
    kind: str
    """cell or run."""
    name: str
    parent: str | None
    """The key of the cell that it is nested under."""
    started: int
    finished: int
    """Unix times in ms."""
    params: Mapping[str, str]
    tags: Mapping[str, str]
    points: Sequence[MetricPoint]
    finals: int = 0
    """The number of points, from the first, that are results: those of the run's model in MLflow. 0: it has none."""
    data_sets: tuple[DataSetUsed, ...] = ()
    tested_on: Mapping[str, DataSetUsed] = dataclasses.field(default_factory=dict)
    """By the name of a metric, the data set that its result was measured on."""

    @functools.cached_property
    def digest(self) -> str:
        """Of everything but its parent and user: its tag `flipscale.digest` once all of it is written."""
        facts = {name: value for name, value in vars(self).items() if name not in ("parent", "tags")}
        tags = {name: text for name, text in self.tags.items() if name != "mlflow.user"}
        return hashlib.sha256(json.dumps([MIRROR_VERSION, facts, tags], sort_keys=True).encode()).hexdigest()


def contents(
    results: pd.DataFrame, curves: pd.DataFrame, source: MirrorSource, *, all_points: bool = False
) -> Iterator[Content]:
    """The cells, each before its runs, in the order of the table.

    A single run makes no cell: it is not put under another that says the same.
    """
    rows = [TableRow({str(name): value for name, value in row.items()}) for row in results.to_dict("records")]
    groups = {str(run_id): group for run_id, group in curves.groupby("id", observed=True, sort=False)}
    cells: dict[str, list[TableRow]] = {}
    for row in rows:
        cells.setdefault(row.cell_key, []).append(row)

    def curve(row: TableRow) -> pd.DataFrame:
        points = groups.get(row.id, curves.iloc[:0])
        return points if all_points else _thinned(points)

    written: set[str] = set()
    for row in rows:
        of_cell = cells[row.cell_key]
        if len(of_cell) > 1 and row.cell_key not in written:
            written.add(row.cell_key)
            yield _cell(of_cell, [_points(row, curve(row)) for row in of_cell if row.is_plain], source)
        yield _run(row, row.cell_key if len(of_cell) > 1 else None, curve(row), source)


# Cells


def _cell(rows: Sequence[TableRow], curves: Sequence[Sequence[MetricPoint]], source: MirrorSource) -> Content:
    """It has no parameters: MLflow's page groups by them, and would count its runs twice."""
    plain = [row for row in rows if row.is_plain] or list(rows)
    first = plain[0]
    finished = max(row.milliseconds("finished") for row in rows)
    last = max(row.samples_seen for row in plain)
    means = [MetricPoint(name, value, finished, last) for name, value in _means_of(plain).items()]
    tags = {"flipscale.study": first.text("study"), "flipscale.cell": first.text("cell")[:_LONGEST_TAG]}
    return Content(
        key=first.cell_key,
        kind="cell",
        name=cell_name(first, source),
        parent=None,
        started=min(row.milliseconds("started") for row in rows),
        finished=finished,
        params={},
        tags=tags | source.source_tags | source.user_tag(first.id),
        points=[*means, *_mean_curves(curves, finished)],
    )


def _means_of(rows: Sequence[TableRow]) -> dict[str, float]:
    """The measurements of a cell's runs, as means over seeds; for scores with their standard deviation."""
    means = {"variation/seeds": float(len({row.known("seed") for row in rows}))}
    for name, column in rows[0].measured():
        known = np.asarray([value for row in rows if (value := row.number(column)) is not None], "float64")
        if len(known):
            means[name] = float(known.mean())
        if len(known) > 1 and is_score(column):
            means[f"variation/{column}_sd"] = float(known.std(ddof=1))
    return means


def _mean_curves(runs: Sequence[Sequence[MetricPoint]], time: int) -> Iterator[MetricPoint]:
    """The means over seeds of what training recorded, where all have their points at the same samples.

    They have one time, as the times of the runs differ.
    """
    curves: dict[str, list[list[MetricPoint]]] = {}
    for points in runs:
        of_run: dict[str, list[MetricPoint]] = {}
        for point in points:
            of_run.setdefault(point.name, []).append(point)
        for name, curve in of_run.items():
            curves.setdefault(name, []).append(curve)
    for name, of_seeds in curves.items():
        steps = [[point.step for point in curve] for curve in of_seeds]
        if name.startswith("train/") and len(of_seeds) > 1 and all(of_seed == steps[0] for of_seed in steps):
            for of_step in zip(*of_seeds, strict=True):
                yield MetricPoint(name, sum(point.value for point in of_step) / len(of_step), time, of_step[0].step)


# Runs


def _run(row: TableRow, cell: str | None, curve: pd.DataFrame, source: MirrorSource) -> Content:
    tags = {f"flipscale.{name}": text for name, text in row.texts(("study", "cell", "device", "parent")).items()}
    tags |= _system_facts(source.runs, row.id) | source.source_tags | source.user_tag(row.id)
    values = {name: value for name, column in row.measured() if (value := row.number(column)) is not None}
    tests = {name: _tested_on(row, name, source.evaluations.get(row.id, "")) for name in values if is_score(name)}
    finished = row.milliseconds("finished")
    points = _points(row, curve)
    last = row.samples_seen or max((point.step for point in points), default=0)
    # The last point of a score is that of the results.
    points = [point for point in points if not (point.name in values and is_score(point.name) and point.step >= last)]
    finals = [MetricPoint(name, value, finished, last) for name, value in values.items()]
    return Content(
        key=row.id,
        kind="run",
        name=run_name(row, source),
        parent=cell,
        started=row.milliseconds("started"),
        finished=finished,
        params=params_of(row),
        tags={name: text[:_LONGEST_TAG] for name, text in tags.items()},
        points=[*finals, *points],
        finals=len(finals),
        data_sets=(_trained_on(row), *dict.fromkeys(tests.values())),
        tested_on=tests,
    )


def params_of(row: TableRow) -> dict[str, str]:
    """Every setting that a run has."""
    return {name: text[:_LONGEST_PARAM] for name, text in row.texts(("recipe", *row.settings)).items()}


def _trained_on(row: TableRow) -> DataSetUsed:
    pairs = row.text("data_size") or "all"
    name = row.text("data") or "unknown"
    return DataSetUsed(name, _digest_of(name, pairs), "training", f"{pairs} pairs of {name}")


def _tested_on(row: TableRow, score: str, evaluation: str) -> DataSetUsed:
    """The data set of a score: that which its name begins with, or the one that the study evaluates on."""
    name = score.rpartition(".")[0] or f"{row.text('data') or 'unknown'} (held out)"
    return DataSetUsed(name, _digest_of(name, evaluation), "evaluation", evaluation or name)


def _digest_of(*facts: str) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]


def _points(row: TableRow, curve: pd.DataFrame) -> list[MetricPoint]:
    """The points of a run's curves."""
    return points_of(curve, row.number("started") or 0.0)


def points_of(curve: pd.DataFrame, began: float) -> list[MetricPoint]:
    """The points of a curve that have samples, or its steps where none has.

    One without a time has that of its seconds since the run began.
    """
    # A program that counts no samples has its own steps.
    known = curve.assign(samples=curve["samples"].fillna(curve["step"])) if curve["samples"].isna().all() else curve
    known = known[known["samples"].notna()]
    times = known["time"].fillna(began + known["seconds"].fillna(0)).mul(1000).round().astype("int64")
    names = known["metric"].astype(str).map({name: point_name(name) for name in set(known["metric"].astype(str))})
    steps = known["samples"].astype("int64")
    columns = (names.tolist(), known["value"].tolist(), times.tolist(), steps.tolist())
    return [MetricPoint(*values) for values in zip(*columns, strict=True)]


def point_name(name: str) -> str:
    """What a metric of a curve is called in MLflow; a training command of the user's own may use other letters.

    One that had to be changed ends in a digest of what it was: two names must not become one.
    """
    if is_score(name):
        return name
    taken = re.sub(r"[^\w\-. /]", "_", name)
    # MLflow may keep a metric in a file of its name, so it takes none that is another way to write a path.
    if f"train/{taken}" != posixpath.normpath(f"train/{taken}") or len(taken) > _LONGEST_METRIC:
        taken = re.sub(r"[/.]", "_", taken)[:_LONGEST_METRIC]
    return f"train/{taken if taken == name else f'{taken}_{_digest_of(name)}'}"


def _thinned(points: pd.DataFrame) -> pd.DataFrame:
    """At most MOST_CURVE_POINTS of each metric, evenly spread, the first and the last among them."""
    of_metric = points.groupby("metric", observed=True)
    part = of_metric.cumcount() * (MOST_CURVE_POINTS - 1)
    size = of_metric["value"].transform("size")
    apart = (size - 1).clip(lower=1)
    return points[(size <= MOST_CURVE_POINTS) | (part // apart > (part - MOST_CURVE_POINTS + 1) // apart)]


def _system_facts(runs: Path | None, run_id: str) -> dict[str, str]:
    """Versions of what trained it, as the run's result.json has them, and the code that ended its training; nothing
    where the folder is gone."""
    if runs is None:
        return {}
    try:
        folder = RunFolder(runs / run_id)
        result = folder.result()
        codes = folder.codes()
    except (RunFolderError, OSError, RecursionError):
        return {}
    versions = result.versions if result else {}
    facts = {"flipscale.version." + re.sub(r"[^\w\-. ]", "_", str(name)): str(of) for name, of in versions.items()}
    for code in codes[-1:]:
        facts |= {"flipscale.data.code": str(code)} | ({"mlflow.source.git.commit": code.commit} if code.commit else {})
    return facts
