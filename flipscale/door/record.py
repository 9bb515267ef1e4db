"""A results table with what a reader of it has to know of its study."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flipscale.door.statements import StatedClaim, Values
from flipscale.kinds import JsonObject
from flipscale.plain_files import read_json

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class PlannedPairs:
    """The twins that a plan asks for."""

    comparisons: int
    """Pairs of a cell and an arm that has a twin there."""
    seeds: int
    """The fewest seeds of one of them."""


@dataclass(frozen=True)
class ScoredBy:
    """An evaluation with the content of its data, and how many runs have their score from it."""

    measure: str
    """The set and how its images are shown: 'two', 'two.masked'; '' is the study's own data."""
    what: JsonObject | None
    """What is measured, see `identity.measures`; None where a trainer scored."""
    digest: str
    """That of the data."""
    runs: int


@dataclass(frozen=True)
class StudyRecord:
    """What a reader of a study's table has to know of the study. Settings have the values that the table has."""

    study: str
    question: str
    """The study's name where it asks none."""
    baseline: Values
    base_cell: str | None
    """The cell of the study's base; None where the base leaves an axis open."""
    score: str | None
    """The score that is compared; None: the first that was measured."""
    answer: str | None
    """What heads the answer: speedup, gain, law or claims; None by what the results allow."""
    margin: float
    """Two sides closer than this are level: in points, percent of a loss, or the unit of a score of the study's own."""
    effect: float | None
    """The difference that matters, in the same unit: the margin, if the study gives one."""
    looks: int
    claims: tuple[StatedClaim, ...]
    at_budgets: tuple[StatedClaim, ...]
    """What its arms do at their best models for budgets of FLOPs, which no claim states."""
    caveats: tuple[str, ...]
    labels: Mapping[str, Mapping[str, str]]
    """Setting -> value -> its words."""
    x: str | None
    """The setting along which curves are drawn."""
    pairs: PlannedPairs | None
    """None without a baseline or without twins."""
    runs: tuple[str, ...]
    """The ids of the runs that it compares, finished or not."""
    scored_by: Mapping[str, tuple[ScoredBy, ...]]
    """By score, as far as the runs' folders have said it."""


@dataclass(frozen=True)
class Results:
    """A study's table and its record: all that the analysis half knows of a study."""

    table: "pd.DataFrame"
    """A row for each finished run."""
    record: StudyRecord


def read_record(path: Path) -> StudyRecord:
    """The record that `collect` wrote as results.json. FileNotFoundError, or DamagedFile."""
    record: StudyRecord = read_json(path, StudyRecord)
    return record
