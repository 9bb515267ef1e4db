"""What MLflow is told of a study: a run for each cell, and under it one for every row of the table.

A cell here is what differs in nothing but its seed and in what was made of it afterwards: a tuning and another
evaluation stand beside the run that they started from. It has the mean of each score over seeds, and their number.

    NAME, SET.NAME   scores
    train/NAME       what training said on its way
    used/NAME        what else was measured of a run, mostly what it took
    variation/NAME   of a cell: how many seeds, and the standard deviation of its scores

MLflow's page makes a section of charts of each prefix, in the order of the alphabet.
"""

import functools
import hashlib
import json
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from flipscale.cell import read_cell
from flipscale.collect import COLUMNS, SETTINGS
from flipscale.collect.curves import Curves
from flipscale.collect.points import NONE, Array
from flipscale.collect.points import Points as CurvePoints
from flipscale.errors import RunFolderError
from flipscale.identity import show_setting
from flipscale.run import RunFolder
from flipscale.scores import is_score
from flipscale.track.noted import FORMAT

POINTS = 100
"""At most so many points of one curve go to MLflow, which takes about 5,000 a second; all are in curves.parquet."""

_AFTERWARDS = ("seed", "tuning", "inference")
"""Settings by which the runs of one cell differ."""

_FACTS = tuple(
    name
    for name, column in COLUMNS.items()
    if column.kind != "str" and name not in (*SETTINGS, "started", "finished") and not is_score(name)
)

_LONGEST_PARAM, _LONGEST_TAG, _LONGEST_NAME = 6000, 5000, 250
"""Characters of a value that MLflow takes; one that is longer makes it drop the batch."""


class Points(NamedTuple):
    """Values of metrics, as MLflow keeps them: arrays of one length."""

    names: tuple[str, ...]
    metric: Array
    """Which of `names` each is of."""
    value: Array
    time: Array
    """Unix time in ms."""
    step: Array
    """Samples seen."""

    def __len__(self) -> int:
        return len(self.metric)

    def rows(self) -> Iterator[tuple[str, float, int, int]]:
        """Name, value, time and step of each."""
        names = [self.names[code] for code in self.metric]
        return zip(names, self.value.tolist(), self.time.tolist(), self.step.tolist(), strict=True)


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
    points: Points

    @functools.cached_property
    def digest(self) -> str:
        """Of all of it but its parent: its tag `flipscale.digest` once all of it is written."""
        told = [FORMAT, self.key, self.kind, self.name, self.started, self.finished, self.params, self.tags]
        digest = hashlib.sha256(json.dumps([told, self.points.names], sort_keys=True).encode())
        for array in self.points[1:]:
            digest.update(array.tobytes())
        return digest.hexdigest()


def contents(
    results: pd.DataFrame,
    curves: Curves | None,
    *,
    baseline: Sequence[str] = (),
    runs: Path | None = None,
    all_points: bool = False,
) -> Iterator[Content]:
    """The cells, each before its runs, in the order of the table.

    baseline: settings that tell the arms of a comparison apart; with the study's cell they name a cell here.
    runs: the folder of run folders, for facts that have no column.
    """
    rows = [{str(name): value for name, value in row.items()} for row in results.to_dict("records")]
    keys = {row["id"]: _cell_key(row) for row in rows}
    cells: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        cells.setdefault(keys[row["id"]], []).append(row)

    def curve(row: Mapping[str, Any]) -> CurvePoints:
        points = curves.points(row["id"]) if curves is not None else NONE
        return points if all_points else _thinned(points)

    means = _MeanCurves()
    for row in rows:
        # One run alone is not put under another that says the same.
        if len(cells[keys[row["id"]]]) > 1 and _is_plain(row):
            means.add(keys[row["id"]], _points({}, row, curve(row)))
    told: set[str] = set()
    for row in rows:
        key = keys[row["id"]] if len(cells[keys[row["id"]]]) > 1 else None
        if key and key not in told:
            told.add(key)
            yield _cell(key, cells[key], baseline, means)
        yield _run(row, key, curve(row), _system_facts(runs, row["id"]))


def milliseconds(seconds: float) -> int:
    return 0 if pd.isna(seconds) else round(seconds * 1000)


# Cells


def _cell_key(row: Mapping[str, Any]) -> str:
    settings = {name: str(row[name]) for name in SETTINGS if name not in _AFTERWARDS and not pd.isna(row[name])}
    return f"cell {hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]}"


def _is_plain(row: Mapping[str, Any]) -> bool:
    """Whether the run is a cell's own, and not made of one."""
    return bool(pd.isna(row["tuning"])) and (pd.isna(row["inference"]) or row["inference"] == "full")


def _cell(key: str, rows: Sequence[Mapping[str, Any]], baseline: Sequence[str], means: "_MeanCurves") -> Content:
    """It has no parameters: MLflow's page groups by them, and would count its runs once more."""
    own = [row for row in rows if _is_plain(row)] or rows
    # MLflow shows the first 20 letters in its table, so the axes are told by their values alone.
    axes = [value for _, value in read_cell(_text(own[0]["cell"]))]
    arm = [f"{name}={_shown(own[0][name])}" for name in baseline if name not in _AFTERWARDS]
    name = " ".join([*axes, *arm]) or _text(own[0]["study"])
    finished = max(milliseconds(row["finished"]) for row in rows)
    samples = [row["samples_seen"] for row in own if not pd.isna(row["samples_seen"])]
    values: dict[str, float] = {"variation/seeds": float(len({row["seed"] for row in own}))}
    for name_there, metric in _measured(own[0]):
        known = np.asarray([row[metric] for row in own if not pd.isna(row[metric])], "float64")
        if len(known):
            values[name_there] = float(known.mean())
        if len(known) > 1 and is_score(metric):
            values[f"variation/{metric}_sd"] = float(known.std(ddof=1))
    return Content(
        key=key,
        kind="cell",
        name=name[:_LONGEST_NAME],
        parent=None,
        started=min(milliseconds(row["started"]) for row in rows),
        finished=finished,
        params={},
        tags={"flipscale.study": _text(own[0]["study"]), "flipscale.cell": _text(own[0]["cell"])[:_LONGEST_TAG]},
        points=_joined(_at_the_end(values, finished, int(max(samples, default=0))), means.of(key, finished)),
    )


class _MeanCurves:
    """Training curves of cells: the mean over seeds, where all have their points at the same samples."""

    def __init__(self) -> None:
        self._sums: dict[str, dict[str, tuple[Array, Array, int] | None]] = {}

    def add(self, cell: str, points: Points) -> None:
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

    def of(self, cell: str, time: int) -> Points:
        """All at one time, as those of the runs differ."""
        known = {name: found for name, found in self._sums.get(cell, {}).items() if found is not None and found[2] > 1}
        curves = [
            Points((name,), step * 0, total / n, step * 0 + time, step) for name, (step, total, n) in known.items()
        ]
        return functools.reduce(_joined, curves, Points((), *(np.empty(0, kind) for kind in ("i8", "f8", "i8", "i8"))))


def _joined(one: Points, other: Points) -> Points:
    """The points of both."""
    columns = [np.concatenate([a, b]) for a, b in zip(one[2:], other[2:], strict=True)]
    return Points(one.names + other.names, np.concatenate([one.metric, other.metric + len(one.names)]), *columns)


def _measured(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is measured of a run, by its name in MLflow and its column."""
    return [*((name, name) for name in filter(is_score, row)), *((f"used/{name}", name) for name in _FACTS)]


def _shown(value: Any) -> str:
    if pd.isna(value):
        return "null"
    return show_setting(int(value) if isinstance(value, int | np.integer) else value)


def _text(value: Any) -> str:
    return "" if pd.isna(value) else str(value)


def _params(settings: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value)[:_LONGEST_PARAM] for name, value in settings.items() if not pd.isna(value)}


def _at_the_end(values: Mapping[str, float], finished: int, step: int) -> Points:
    number = len(values)
    return Points(
        tuple(values),
        np.arange(number, dtype="int32"),
        np.asarray(list(values.values()), "float64"),
        np.full(number, finished, "int64"),
        np.full(number, step, "int64"),
    )


# Runs


def _run(row: Mapping[str, Any], cell: str | None, curve: CurvePoints, facts: Mapping[str, str]) -> Content:
    tags = {f"flipscale.{name}": row[name] for name in ("study", "cell", "device", "parent")}
    tags |= dict(facts)
    return Content(
        key=row["id"],
        kind="run",
        name=row["id"][:_LONGEST_NAME],
        parent=cell,
        started=milliseconds(row["started"]),
        finished=milliseconds(row["finished"]),
        params=_params({name: row[name] for name in SETTINGS}),
        tags={name: str(value)[:_LONGEST_TAG] for name, value in tags.items() if not pd.isna(value)},
        points=_points(
            {name: float(row[column]) for name, column in _measured(row) if not pd.isna(row[column])}, row, curve
        ),
    )


def _points(values: Mapping[str, float], row: Mapping[str, Any], curve: CurvePoints) -> Points:
    """What was measured at the row's last sample, then its curves, step in samples.

    A score's curve has the score's name, and its last point is the row's.
    """
    end = 0 if pd.isna(row["samples_seen"]) else int(row["samples_seen"])
    ends = _at_the_end(values, milliseconds(row["finished"]), end)
    scores = np.asarray([is_score(name) for name in curve.metrics], "bool")
    at_end = np.asarray([is_score(name) and name in values for name in curve.metrics], "bool")
    samples = curve.numbers["samples"]
    kept = ~np.isnan(samples)
    if len(curve):
        kept &= ~(at_end[curve.metric] & (samples >= end))
    names = [*ends.names]
    place = {name: number for number, name in enumerate(names)}
    codes = []
    for name, score in zip(curve.metrics, scores, strict=True):
        name = name if score else f"train/{metric_name(name)}"
        if name not in place:
            place[name] = len(names)
            names.append(name)
        codes.append(place[name])
    seconds = np.nan_to_num(curve.numbers["seconds"][kept])
    times = curve.numbers["time"][kept]
    started = 0.0 if pd.isna(row["started"]) else row["started"]
    times = np.where(np.isnan(times), started + seconds, times)
    return Points(
        tuple(names),
        np.concatenate([ends.metric, np.asarray(codes, "int32")[curve.metric[kept]]]),
        np.concatenate([ends.value, curve.numbers["value"][kept]]),
        np.concatenate([ends.time, np.round(times * 1000).astype("int64")]),
        np.concatenate([ends.step, samples[kept].astype("int64")]),
    )


def metric_name(name: str) -> str:
    """A metric's name as MLflow takes it below train/; a training command of the user's own may use other letters.

    One that had to be changed ends in a digest of what it was: two names must not become one.
    """
    taken = re.sub(r"[^\w\-. /]", "_", name)
    # MLflow may keep a metric in a file of its name, so it takes none that is another way to write a path.
    if f"train/{taken}" != posixpath.normpath(f"train/{taken}") or len(taken) > _LONGEST_NAME - 20:
        taken = re.sub(r"[/.]", "_", taken)[: _LONGEST_NAME - 20]
    return taken if taken == name else f"{taken}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _thinned(points: CurvePoints) -> CurvePoints:
    """At most POINTS of each metric, evenly spread, the first and the last among them."""
    counts = np.bincount(points.metric, minlength=len(points.metrics))
    if (counts <= POINTS).all():
        return points
    kept = np.ones(len(points), "bool")
    for code in np.flatnonzero(counts > POINTS):
        mine = np.flatnonzero(points.metric == code)
        kept[mine] = False
        kept[mine[np.linspace(0, len(mine) - 1, POINTS).round().astype(int)]] = True
    return CurvePoints(
        {name: column[kept] for name, column in points.numbers.items()}, points.metric[kept], points.metrics
    )


def _system_facts(runs: Path | None, run_id: str) -> dict[str, str]:
    """Versions of what trained it, as the run's result.json has them; nothing where the folder is gone."""
    if runs is None:
        return {}
    try:
        result = RunFolder(runs / run_id).result()
    except (RunFolderError, OSError, RecursionError):
        return {}
    versions = result.versions if result else {}
    return {f"flipscale.version.{metric_name(str(name))}": str(version) for name, version in versions.items()}
