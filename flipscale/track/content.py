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

from flipscale.collect import SETTING_COLUMNS
from flipscale.collect.curves import Curves
from flipscale.collect.points import NO_POINTS, CurvePoints, NumberArray
from flipscale.errors import RunFolderError
from flipscale.run import RunFolder
from flipscale.scores import is_score
from flipscale.track.last_mirror import MIRROR_VERSION
from flipscale.track.rows import TableRow, cell_name, run_name
from flipscale.track.source import About

MOST_CURVE_POINTS = 100
"""Points of one curve that go to MLflow, which takes about 5,000 a second; all are in curves.parquet."""

GIT_COMMIT = "mlflow.source.git.commit"
"""MLflow's own tag for the commit, which its page shows."""

_LONGEST_PARAM, _LONGEST_TAG, _LONGEST_METRIC = 6000, 5000, 230
"""The most characters of a value that MLflow takes; a longer one makes it drop the batch."""

FOR_TRAINING, FOR_EVALUATION = "training", "evaluation"
"""What a run used a data set for, as MLflow's page shows it."""


class MetricPoints(NamedTuple):
    """Values of metrics, as MLflow keeps them: arrays of one length."""

    names: tuple[str, ...]
    metric: NumberArray
    """Which of `names` each is of."""
    value: NumberArray
    time: NumberArray
    """Unix time in ms."""
    step: NumberArray
    """Samples seen."""

    def __len__(self) -> int:
        return len(self.metric)

    @property
    def last_step(self) -> int:
        """The last of their steps; 0 of none."""
        return int(self.step.max(initial=0))

    def rows(self) -> Iterator[tuple[str, float, int, int]]:
        """Name, value, time and step of each."""
        names = [self.names[code] for code in self.metric]
        return zip(names, self.value.tolist(), self.time.tolist(), self.step.tolist(), strict=True)


class DataSetUsed(NamedTuple):
    """A data set that a run used, as MLflow knows it: no data is read."""

    name: str
    digest: str
    """Of what is known about it: two runs whose evaluations differ were not tested on the same set."""
    used_for: str
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
    points: MetricPoints
    finals: int = 0
    """The number of points, from the first, that are results: those of the run's model in MLflow. 0: it has none."""
    data_sets: tuple[DataSetUsed, ...] = ()
    tested_on: Mapping[str, DataSetUsed] = dataclasses.field(default_factory=dict)
    """By the name of a metric, the data set that its result was measured on."""
    user: str = ""
    """Who trained it. Not part of the digest, as it is not in the record."""

    @functools.cached_property
    def digest(self) -> str:
        """Of everything but its parent: its tag `flipscale.digest` once all of it is written."""
        facts = [MIRROR_VERSION, self.key, self.kind, self.name, self.started, self.finished, self.params, self.tags]
        facts += [self.finals, self.data_sets, self.tested_on]
        digest = hashlib.sha256(json.dumps([facts, self.points.names], sort_keys=True).encode())
        for array in self.points[1:]:
            digest.update(array.tobytes())
        return digest.hexdigest()


def contents(
    results: pd.DataFrame,
    curves: Curves | None,
    *,
    about: About | None = None,
    all_points: bool = False,
) -> Iterator[Content]:
    """The cells, each before its runs, in the order of the table."""
    about = about or About()
    rows = [TableRow({str(name): value for name, value in row.items()}) for row in results.to_dict("records")]
    cells = _cells(rows)

    def curve(row: TableRow) -> CurvePoints:
        points = curves.points(row.id) if curves is not None else NO_POINTS
        return points if all_points else _thinned(points)

    means = _MeanCurves()
    for row in rows:
        if row.cell_key in cells and row.is_plain:
            means.add(row.cell_key, _points({}, row, curve(row)))
    written: set[str] = set()
    for row in rows:
        key = row.cell_key if row.cell_key in cells else None
        if key and key not in written:
            written.add(key)
            yield _cell(key, cells[key], about, means)
        yield _run(row, key, curve(row), about)


def _cells(rows: Sequence[TableRow]) -> dict[str, list[TableRow]]:
    """The rows of each cell. A single run makes none: it is not put under another that says the same."""
    cells: dict[str, list[TableRow]] = {}
    for row in rows:
        cells.setdefault(row.cell_key, []).append(row)
    return {key: of_cell for key, of_cell in cells.items() if len(of_cell) > 1}


# Cells


def _cell(key: str, rows: Sequence[TableRow], about: About, means: "_MeanCurves") -> Content:
    """It has no parameters: MLflow's page groups by them, and would count its runs twice."""
    plain = [row for row in rows if row.is_plain] or list(rows)
    first = plain[0]
    finished = max(row.milliseconds("finished") for row in rows)
    last = max(row.samples_seen for row in plain)
    return Content(
        key=key,
        kind="cell",
        name=cell_name(first, about.baseline),
        parent=None,
        started=min(row.milliseconds("started") for row in rows),
        finished=finished,
        params={},
        tags={"flipscale.study": first.text("study"), "flipscale.cell": first.text("cell")[:_LONGEST_TAG]}
        | about.source_tags,
        user=about.user(first.id),
        points=_joined(_at_the_end(_means_of(plain), finished, last), means.of_cell(key, finished)),
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


class _MeanCurves:
    """Training curves of cells: the mean over seeds, where all have their points at the same samples."""

    def __init__(self) -> None:
        self._sums: dict[str, dict[str, tuple[NumberArray, NumberArray, int] | None]] = {}

    def add(self, cell: str, points: MetricPoints) -> None:
        sums = self._sums.setdefault(cell, {})
        for code, name in enumerate(points.names):
            if not name.startswith("train/"):
                continue
            mine = points.metric == code
            step, value = points.step[mine], points.value[mine]
            before = sums.get(name, (step, np.zeros(len(step)), 0))
            if before is None or not np.array_equal(before[0], step):
                sums[name] = None
            else:
                sums[name] = (step, before[1] + value, before[2] + 1)

    def of_cell(self, cell: str, time: int) -> MetricPoints:
        """Points of the means, all with one time, as the times of the runs differ."""
        known = {name: found for name, found in self._sums.get(cell, {}).items() if found is not None and found[2] > 1}
        curves = [
            MetricPoints((name,), step * 0, total / n, step * 0 + time, step)
            for name, (step, total, n) in known.items()
        ]
        none = MetricPoints((), *(np.empty(0, dtype) for dtype in ("i8", "f8", "i8", "i8")))
        return functools.reduce(_joined, curves, none)


def _joined(first: MetricPoints, second: MetricPoints) -> MetricPoints:
    """The points of both."""
    metric = np.concatenate([first.metric, second.metric + len(first.names)])
    columns = [np.concatenate([a, b]) for a, b in zip(first[2:], second[2:], strict=True)]
    return MetricPoints(first.names + second.names, metric, *columns)


def _at_the_end(values: Mapping[str, float], finished: int, step: int) -> MetricPoints:
    number = len(values)
    return MetricPoints(
        tuple(values),
        np.arange(number, dtype="int32"),
        np.asarray(list(values.values()), "float64"),
        np.full(number, finished, "int64"),
        np.full(number, step, "int64"),
    )


# Runs


def _run(row: TableRow, cell: str | None, curve: CurvePoints, about: About) -> Content:
    tags = {f"flipscale.{name}": text for name, text in row.texts(("study", "cell", "device", "parent")).items()}
    values = {name: value for name, column in row.measured() if (value := row.number(column)) is not None}
    facts = _system_facts(about.runs, row.id)
    tests = {name: _tested_on(row, name, about.evaluations.get(row.id, "")) for name in values if is_score(name)}
    return Content(
        key=row.id,
        kind="run",
        name=run_name(row, about.baseline),
        parent=cell,
        started=row.milliseconds("started"),
        finished=row.milliseconds("finished"),
        params=params_of(row),
        tags={name: text[:_LONGEST_TAG] for name, text in (tags | facts | about.source_tags).items()},
        points=_points(values, row, curve),
        finals=len(values),
        data_sets=(_trained_on(row), *dict.fromkeys(tests.values())),
        tested_on=tests,
        user=about.user(row.id),
    )


def params_of(row: TableRow) -> dict[str, str]:
    """Every setting that a run has."""
    return {name: text[:_LONGEST_PARAM] for name, text in row.texts(("recipe", *SETTING_COLUMNS)).items()}


def _trained_on(row: TableRow) -> DataSetUsed:
    pairs = row.text("data_size") or "all"
    name = row.text("data") or "unknown"
    return DataSetUsed(name, _digest_of(name, pairs), FOR_TRAINING, f"{pairs} pairs of {name}")


def _tested_on(row: TableRow, score: str, evaluation: str) -> DataSetUsed:
    """The data set of a score: that which its name begins with, or the one that the study evaluates on."""
    name = score.rpartition(".")[0] or f"{row.text('data') or 'unknown'} (held out)"
    return DataSetUsed(name, _digest_of(name, evaluation), FOR_EVALUATION, evaluation or name)


def _digest_of(*facts: str) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]


def _points(values: Mapping[str, float], row: TableRow, curve: CurvePoints) -> MetricPoints:
    """The measurements at the row's last sample, then its curves, step in samples.

    A score's curve has the score's name, and its last point is the row's.
    """
    end = row.samples_seen
    ends = _at_the_end(values, row.milliseconds("finished"), end)
    at_end = np.asarray([is_score(name) and name in values for name in curve.metrics], "bool")
    samples = curve.each("samples")
    kept = ~np.isnan(samples)
    if len(curve):
        kept &= ~(at_end[curve.metric] & (samples >= end))
    names = [*ends.names]
    place = {name: number for number, name in enumerate(names)}
    codes = []
    for name in curve.metrics:
        name = point_name(name)
        if name not in place:
            place[name] = len(names)
            names.append(name)
        codes.append(place[name])
    seconds = np.nan_to_num(curve.each("seconds")[kept])
    times = curve.each("time")[kept]
    times = np.where(np.isnan(times), (row.number("started") or 0.0) + seconds, times)
    return MetricPoints(
        tuple(names),
        np.concatenate([ends.metric, np.asarray(codes, "int32")[curve.metric[kept]]]),
        np.concatenate([ends.value, curve.values[kept]]),
        np.concatenate([ends.time, np.round(times * 1000).astype("int64")]),
        np.concatenate([ends.step, samples[kept].astype("int64")]),
    )


def point_name(name: str) -> str:
    """What a metric of a curve is called in MLflow."""
    return name if is_score(name) else f"train/{metric_name(name)}"


def metric_name(name: str) -> str:
    """A metric's name as MLflow takes it below train/; a training command of the user's own may use other letters.

    One that had to be changed ends in a digest of what it was: two names must not become one.
    """
    taken = re.sub(r"[^\w\-. /]", "_", name)
    # MLflow may keep a metric in a file of its name, so it takes none that is another way to write a path.
    if f"train/{taken}" != posixpath.normpath(f"train/{taken}") or len(taken) > _LONGEST_METRIC:
        taken = re.sub(r"[/.]", "_", taken)[:_LONGEST_METRIC]
    return taken if taken == name else f"{taken}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _thinned(points: CurvePoints) -> CurvePoints:
    """At most MOST_CURVE_POINTS of each metric, evenly spread, the first and the last among them."""
    counts = np.bincount(points.metric, minlength=len(points.metrics))
    if (counts <= MOST_CURVE_POINTS).all():
        return points
    kept = np.ones(len(points), "bool")
    for code in np.flatnonzero(counts > MOST_CURVE_POINTS):
        mine = np.flatnonzero(points.metric == code)
        kept[mine] = False
        kept[mine[np.linspace(0, len(mine) - 1, MOST_CURVE_POINTS).round().astype(int)]] = True
    return points.only(kept)


def _system_facts(runs: Path | None, run_id: str) -> dict[str, str]:
    """Versions of what trained it, as the run's result.json has them, and the code that ended its training; nothing
    where the folder is gone."""
    if runs is None:
        return {}
    try:
        folder = RunFolder(runs / run_id)
        result, codes = folder.result(), folder.codes()
    except (RunFolderError, OSError, RecursionError):
        return {}
    versions = result.versions if result else {}
    facts = {f"flipscale.version.{metric_name(str(name))}": str(version) for name, version in versions.items()}
    for code in codes[-1:]:
        facts |= {"flipscale.code": str(code)} | ({GIT_COMMIT: code.commit} if code.commit else {})
    return facts
