"""A row of results.csv as MLflow is to have it, and what its run, its cell and its model are called.

MLflow's table shows the first 20 characters of a name, so a name begins with what distinguishes arms.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from flipscale.cell import arm_words, read_cell, run_words, write_cell
from flipscale.collecting import COLUMNS, setting_values
from flipscale.door.columns import SETTING_COLUMNS, parameter_columns
from flipscale.planning.identity import RECIPE
from flipscale.planning.runs import Run
from flipscale.scores import is_score
from flipscale.track.source import MirrorSource

LONGEST_NAME = 250
"""The most characters of a name that MLflow takes."""

_NOT_IN_MODEL_NAMES = "/:.%\"'"
"""MLflow refuses a model whose name has one of these."""

_HASH = 10
"""Characters at the end of an id that no other id has."""

_AFTERWARDS = ("seed", "tuning", "fine_tuning")
"""Settings by which the runs of one cell differ."""

_RUN_FACTS = tuple(
    name
    for name, column in COLUMNS.items()
    if column.kind != "str" and name not in (*SETTING_COLUMNS, "recipe", "started", "finished") and not is_score(name)
)


@dataclass(frozen=True)
class TableRow:
    """A row of results.csv."""

    values: Mapping[str, object]

    @property
    def id(self) -> str:
        return str(self.values["id"])

    def known(self, name: str) -> object | None:
        """A column's value; None where it is missing."""
        value = self.values[name]
        return None if pd.isna(value) else value  # type: ignore[call-overload]

    def text(self, name: str) -> str:
        """A column's value as text; '' where it is missing."""
        value = self.known(name)
        return "" if value is None else str(value)

    def number(self, name: str) -> float | None:
        value = self.known(name)
        return None if value is None else float(value)  # type: ignore[arg-type]

    def texts(self, names: Iterable[str]) -> dict[str, str]:
        """The columns among these that are not missing, as text."""
        return {name: self.text(name) for name in names if self.known(name) is not None}

    def milliseconds(self, name: str) -> int:
        """A time as MLflow has it."""
        return milliseconds(self.number(name))

    @property
    def settings(self) -> list[str]:
        """Its columns that are settings, and the parameters of the study's own program."""
        return [*SETTING_COLUMNS, *parameter_columns(self.values)]

    @property
    def samples_seen(self) -> int:
        return int(self.number("samples_seen") or 0)

    @functools.cached_property
    def cell_key(self) -> str:
        settings = self.texts(name for name in ("recipe", *self.settings) if name not in _AFTERWARDS)
        return f"cell {hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]}"

    @property
    def is_plain(self) -> bool:
        """Whether the run is one of the cell itself, and not made from one afterwards."""
        return all(self.known(name) is None for name in ("tuning", "fine_tuning"))

    def measured(self) -> list[tuple[str, str]]:
        """What is measured of a run, by its name in MLflow and its column."""
        scores = [(name, name) for name in filter(is_score, self.values)]
        return [*scores, *((f"used/{name}", name) for name in _RUN_FACTS)]


def row_of_plan(run: Run, study: str) -> TableRow:
    """The row of a run that has no result yet: its settings alone."""
    settings = setting_values(run.settings)
    known = {"id": run.id, "study": study, "cell": write_cell(run.cell or ()), "recipe": RECIPE, **settings}
    return TableRow({**dict.fromkeys(COLUMNS), **known})


def milliseconds(seconds: float | None) -> int:
    return 0 if seconds is None or pd.isna(seconds) else round(seconds * 1000)


# Names


def cell_name(row: TableRow, source: MirrorSource) -> str:
    """'mask 75 %, ViT-B-16, 400M samples': the arm, then the axes."""
    baseline = {name: value for name, value in source.baseline.items() if name not in _AFTERWARDS}
    arm = arm_words({name: row.known(name) for name in baseline}, baseline, source.labels) if baseline else ""
    axes = tuple((axis, value) for axis, value in read_cell(row.text("cell")) if axis not in _AFTERWARDS)
    return ", ".join(filter(None, (arm, run_words(axes, source.labels))))[:LONGEST_NAME] or row.text("study")


def run_name(row: TableRow, source: MirrorSource) -> str:
    """'mask 75 %, ViT-B-16, 400M samples, seed 0, 0123456789': as elsewhere, and the end of the run's id."""
    name = source.names.get(row.id) or f"{cell_name(row, source)}, seed {row.text('seed')}"
    return f"{name[: LONGEST_NAME - _HASH - 2]}, {row.id[-_HASH:]}"


def model_name(name: str) -> str:
    """The name of a run as MLflow takes it for its model."""
    return "".join("_" if letter in _NOT_IN_MODEL_NAMES else letter for letter in name.replace(" %", " percent"))
