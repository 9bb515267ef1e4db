"""A row of results.csv as MLflow is to have it, and what its run, its cell and its model are called.

MLflow's table shows the first 20 characters of a name, so a name begins with what distinguishes arms.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from flipscale.cell import read_cell, write_cell
from flipscale.collect import COLUMNS, SETTING_COLUMNS, setting_value
from flipscale.identity import RECIPE, show_setting
from flipscale.plan import Run
from flipscale.scores import is_score

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
    def samples_seen(self) -> int:
        return int(self.number("samples_seen") or 0)

    @functools.cached_property
    def cell_key(self) -> str:
        settings = self.texts(name for name in ("recipe", *SETTING_COLUMNS) if name not in _AFTERWARDS)
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
    settings = {name: setting_value(getattr(run.settings, name)) for name in SETTING_COLUMNS}
    known = {"id": run.id, "study": study, "cell": write_cell(run.cell or ()), "recipe": RECIPE, **settings}
    return TableRow({**dict.fromkeys(COLUMNS), **known})


LATEST = 2.0**52 / 1000
"""The latest time, in seconds, that MLflow's tables are given; a result.json of somebody else may say any."""


def milliseconds(seconds: float | None) -> int:
    return 0 if seconds is None or pd.isna(seconds) else round(min(seconds, LATEST) * 1000)


# Names


def cell_name(row: TableRow, baseline: Sequence[str]) -> str:
    """'mask 0.75 ViT-B-16 400M': the arm, then the values of the axes."""
    arm = [_arm_word(name, row.known(name)) for name in baseline if name not in _AFTERWARDS]
    return _name([*arm, *_axes(row)]) or row.text("study")


def run_name(row: TableRow, baseline: Sequence[str]) -> str:
    """'mask 0.75 s0 ViT-B-16 400M 0123456789': the arm, the seed, the axes, and the end of the run's id."""
    arm = [_arm_word(name, row.known(name)) for name in baseline]
    seed = [f"s{row.text('seed')}"] if row.text("seed") else []
    return _name([*filter(None, arm), *seed, *_axes(row), row.id[-_HASH:]])


def model_name(name: str) -> str:
    """The name of a run as MLflow takes it for its model."""
    return "".join("_" if letter in _NOT_IN_MODEL_NAMES else letter for letter in name)


def _name(parts: Sequence[str]) -> str:
    return " ".join(parts)[:LONGEST_NAME]


def _axes(row: TableRow) -> list[str]:
    """The values of the axes, without their names except for a mask's."""
    axes = read_cell(row.text("cell"))
    words = {axis: f"mask {value}" if axis == "mask_ratio" else value for axis, value in axes}
    return [word for axis, word in words.items() if word != "null" and axis not in _AFTERWARDS]


def _arm_word(name: str, value: object) -> str:
    """A setting of the baseline in few letters; '' for the absence of what is made of a run afterwards."""
    if name == "mask_ratio":
        return f"mask {_setting_text(value)}" if value else "no mask"
    if name in _AFTERWARDS:
        return "" if value is None else f"{name} {_setting_text(value)}"
    return f"{name} {_setting_text(value)}"


def _setting_text(value: object) -> str:
    if value is None:
        return "null"
    return show_setting(int(value) if isinstance(value, int | np.integer) else value)
