"""The rows of a study in Weights & Biases or trackio, through the calls that both have: init, log and finish.

A run is sent once, its curves by step and then the measurements of its row. A file beside the table says what was sent;
another time sends new runs, and of the others what their rows have since gained.
"""

import contextlib
import importlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from flipscale.collecting import read_curves, read_results
from flipscale.door.columns import SETTING_COLUMNS
from flipscale.errors import FlipscaleError, missing_package
from flipscale.plain_files import read_json
from flipscale.run import write_json
from flipscale.track.address import without_secrets

TRACKERS: dict[str, dict[str, Any]] = {
    "wandb": {"settings": {"silent": True, "console": "off", "x_disable_stats": True}},
    "trackio": {"auto_log_cpu": False, "auto_log_gpu": False},
}
"""Python packages by which a study may be sent, beside MLflow, each with arguments of its `init` by which it records
nothing of the machine that collects."""

_NO_MEASUREMENTS = ("id", "study", "cell", "recipe", "parent", "started", "finished")
"""Columns that are neither settings nor measurements."""


@dataclass(frozen=True)
class Sent:
    """What was sent, in runs."""

    new: int
    updated: int
    unchanged: int


def send(tracker: str, project: str, results: Path, curves: Path) -> Sent:
    """Send what the tracker lacks of the rows in `results` (results.csv) and of their `curves` (curves.parquet).

    tracker: a name of TRACKERS. Where it sends to, and whether it is offline, is said by its own environment variables.
    project: the tracker's name for all runs of a study.
    Raises FlipscaleError where the package is missing, or refuses.
    """
    try:
        package = importlib.import_module(tracker)
    except ImportError:
        raise FlipscaleError(missing_package(tracker)) from None
    table = read_results(results)
    points = read_curves(curves)
    record = results.with_name(f"sent_to_{tracker}.json")
    sent = read_json(record, dict[str, dict[str, float]]) if os.path.lexists(record) else {}
    new = updated = 0
    for row in table.to_dict("records"):
        run = str(row["id"])
        scores = _measurements(row)
        if (before := sent.get(run)) == scores:
            continue
        steps = _by_step(points[points["id"] == run]) if before is None else iter(())
        later = {name: value for name, value in scores.items() if (before or {}).get(name) != value}
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # trackio tells the start and end of each run.
                _send_run(package, project, row, steps, later)
        except Exception as error:  # Each package has errors of its own, without a common class.
            raise FlipscaleError(f"{tracker} did not take {run}: {without_secrets(str(error))}") from error
        new = new + (before is None)
        updated = updated + (before is not None)
        sent[run] = scores
        write_json(record, sent)
    return Sent(new, updated, len(table) - new - updated)


def _measurements(row: dict[Any, Any]) -> dict[str, float]:
    known = {*SETTING_COLUMNS, *_NO_MEASUREMENTS}
    return {
        name: float(value)
        for name, value in row.items()
        if name not in known and isinstance(value, int | float) and not pd.isna(value)
    }


def _by_step(points: pd.DataFrame) -> Iterator[tuple[int, dict[str, float]]]:
    """The values of one run at each step, in their order."""
    for step, at in points.dropna(subset="value").sort_values("step", kind="stable").groupby("step", sort=True):
        values = dict(zip(at["metric"].astype(str), at["value"].astype(float), strict=True))
        yield int(str(step)), {**values, "samples": float(at["samples"].iloc[0])}


def _send_run(
    package: ModuleType,
    project: str,
    row: dict[Any, Any],
    steps: Iterator[tuple[int, dict[str, float]]],
    scores: dict[str, float],
) -> None:
    settings = {name: row[name] for name in SETTING_COLUMNS if name in row and not pd.isna(row[name])}
    run = str(row["id"])
    cell = str(row["cell"])
    # trackio knows a run by its name.
    arguments = TRACKERS[package.__name__] | ({"id": run} if package.__name__ == "wandb" else {})
    package.init(project=project, name=run, group=cell, config=settings, resume="allow", **arguments)
    for step, values in steps:
        package.log(values, step=step)
    package.log(scores)
    package.finish()
