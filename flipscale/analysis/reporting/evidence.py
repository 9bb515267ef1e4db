"""The content of a study's report: its tables, the state of each run, logs of failures, laws and drawn figures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from flipscale.analysis.comparing import Comparison
from flipscale.door.record import StudyRecord
from flipscale.door.run_states import Hours, RunRecord
from flipscale.door.sweep import SweepOutcome
from flipscale.kinds import JsonObject


@dataclass(frozen=True)
class FailedRun:
    """A run that failed or was lost."""

    id: str
    story: str
    """Its earlier attempts, and how each ended."""
    kind: str
    """As error.json has it, or 'lost'."""
    reason: str
    log: str
    """The last lines of its log; '' where it has none."""


@dataclass(frozen=True)
class RunCurve:
    """A metric of a run by its steps, as far as it has come."""

    run: str
    metric: str
    steps: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True)
class DrawnFigure:
    """A figure that `flipscale plot` drew."""

    name: str
    about: str
    file: str
    """Its file, beside the page."""
    svg: bytes | None
    """None if it would make the page too large."""


@dataclass(frozen=True)
class FittedLaws:
    """What fits.json says; nothing without the file."""

    fits: list[JsonObject] = field(default_factory=list)
    not_fitted: dict[str, str] = field(default_factory=dict)
    """Name of a law, and why it could not be fitted."""


@dataclass(frozen=True)
class TrainingCode:
    """Which code trained the finished runs whose folders are here."""

    codes: tuple[tuple[str, int], ...]
    """Each code and how many runs it trained; most runs first."""
    remarks: tuple[str, ...]
    """How it differs from today's, a sentence each."""


@dataclass(frozen=True)
class Evidence:
    """Everything that the page shows, and in words why something is missing."""

    record: StudyRecord
    is_clip: bool
    """Whether its runs train a CLIP, and not a program of the user's own."""
    data: tuple[str, ...]
    """The names of its data sets."""
    axes: tuple[str, ...]
    """The settings that vary between cells, except for the baseline's, which make the arm, and the seed."""
    limits: str
    """The study's budget in words; '' without one."""
    study_text: str
    runs: tuple[RunRecord, ...]
    """Every run of the plan."""
    device: str
    """The device that the plan is priced on."""
    hours: Hours
    """Predicted for all runs."""
    money: str
    """The price of these hours; '' without a price."""
    money_spent: str
    """The price of the measured ones."""
    results: pd.DataFrame
    """results.csv, with `arm` in words; empty without one."""
    arm_names: tuple[str, ...]
    """The arms in the order that figures have them; the first is the baseline."""
    comparison: Comparison | None
    why_no_comparison: str
    failures: tuple[FailedRun, ...]
    """The first of them."""
    code: TrainingCode
    laws: FittedLaws
    figures: tuple[DrawnFigure, ...]
    curves: tuple[RunCurve, ...] = ()
    """Of some runs, those under way first."""
    sweep: SweepOutcome | None = None
    """What chose a setting for each arm."""

    @property
    def cells(self) -> list[RunRecord]:
        """The runs that are compared."""
        return [run for run in self.runs if run.cell is not None]

    @property
    def spent(self) -> float:
        """Measured device-hours."""
        return sum(run.measured for run in self.runs if run.measured is not None)

    @property
    def kinds_of_failure(self) -> Counter[str]:
        """How many runs failed in each way or are lost, of all runs."""
        return Counter(run.kind for run in self.runs if run.kind)
