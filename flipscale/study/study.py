"""Study, Axis: a question as data. Nothing here reads a file or works anything out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from flipscale.cost.arithmetic import flops_per_sample
from flipscale.door.statements import LOOKS, MARGIN, StatedClaim, Values
from flipscale.errors import FlipscaleError
from flipscale.kinds import Compute, PartOfRun
from flipscale.settings.declarations import Budget, Resources, Settings, Stage
from flipscale.study.document import Document, Place
from flipscale.study.expression import Expression


def samples_for(value: Any, settings: Values) -> Any:
    """The samples that FLOPs pay for with these settings, one at least, or that are a share of theirs; any other value
    as it is. Raises FlipscaleError where the settings have no cost, and for FLOPs of stages that have counts."""
    if isinstance(value, PartOfRun):
        return round(value.share * settings["samples"])
    if isinstance(value, Compute):
        flops = 0.0
        for each in settings.get("stages") or [Stage(1.0)]:
            if not isinstance(each.samples, float):
                raise FlipscaleError("the stages have counts of samples; write shares such as 60 %")
            flops += each.samples * flops_per_sample(SimpleNamespace(**settings | each.changes))
        return max(1, round(value.flops / flops))
    return value


def agrees(settings: Values, wanted: Values) -> bool:
    """Whether settings of a cell have the wanted values."""
    return all(settings[name] == samples_for(value, settings) for name, value in wanted.items())


@dataclass(frozen=True)
class Axis:
    """One thing varied: the name of a setting, and the values it takes, in the order of the file."""

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Coupling:
    """A setting that follows from others, and where the study says so (None: it is the setting's own rule)."""

    name: str
    expression: Expression
    place: Place | None


@dataclass(frozen=True)
class Condition:
    """A condition that a cell must satisfy, or must not: `keep` says which."""

    expression: Expression
    keep: bool
    place: Place


Arm = tuple[str, ...]
"""The settings that tell an arm of a sweep from others, as Python writes them."""


@dataclass(frozen=True)
class Sweep:
    """How a study chooses a setting for each arm, on other seeds than those that it compares."""

    over: str
    """The setting."""
    values: tuple[float, ...]
    """What is tried, ascending: values of the setting, or factors of what `rule` gives."""
    rule: Expression | None
    """The study's own rule for the setting; None where `values` are the setting's own."""
    seeds: tuple[int, ...]
    by: str
    """The score that chooses."""
    pick: str
    """parabola or grid."""
    tie: float
    """Of values that differ less from the best, the lowest is taken: points of accuracy, or percent of a loss."""
    extend: int
    """The most values that may be added to an arm whose best is at an edge."""
    at: Values
    """Where an arm has several cells: the settings of the one that tries values for all."""
    arm: tuple[str, ...]
    """The settings that tell arms apart."""
    pooled: tuple[str, ...] = ()
    """Those of them whose values share a choice."""

    @property
    def middle(self) -> float:
        """The value with which a cell is planned whose own is unknown."""
        return self.values[(len(self.values) - 1) // 2]


@dataclass(frozen=True)
class Study:
    """A question as data, as `read_study` reads it."""

    name: str
    question: str
    base: Values
    axes: tuple[Axis, ...]
    couplings: tuple[Coupling, ...]
    conditions: tuple[Condition, ...]
    grids: Mapping[str, tuple[Axis, ...]]
    """The study is the union of its grids, each with the axes it varies; what it does not vary stays at the base."""
    baseline: Values
    budget: Budget
    resources: Resources
    score: str | None
    figures: Sequence[str] | None
    document: Document
    cells: tuple[Settings, ...] = ()
    """The complete settings of every cell, in the order of the grids and axes."""
    claims: tuple[StatedClaim, ...] = ()
    """Judged together, family by family."""
    margin: float = MARGIN
    """Two sides closer than this are level: in points of accuracy, or percent of a loss."""
    looks: int = LOOKS
    """How often its results are looked at, at 5 % / looks each."""
    caveats: Sequence[str] = ()
    """What to hold against its numbers, a sentence each."""
    answer: str | None = None
    """What heads the answer: speedup, gain, law or claims; None by what its results allow."""
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Setting -> value -> its words."""
    x: str | None = None
    """The setting along which curves are drawn."""
    record: type[Settings] = Settings
    """The settings of its cells: flipscale's, and the study's own parameters."""
    flops: Expression | None = None
    """What gives the training FLOPs of a cell, where the study says it."""
    keep_weights: str = "all"
    """Which finished weights stay: all, last or none."""
    sweep: Sweep | None = None
    further: Mapping[Arm, tuple[float, ...]] = field(default_factory=dict)
    """Values that the sweep added to arms whose best was at an edge."""
    chosen: Mapping[Arm, float] | None = None
    """What the sweep chose; None while that is unknown."""

    @property
    def effect(self) -> float | None:
        """The difference that matters, in points or percent of a loss: the margin, if the study file gives one."""
        return self.margin if "margin" in self.document.data else None

    @property
    def awaits_choice(self) -> bool:
        """Whether its cells still lack a setting that its sweep will choose."""
        return self.sweep is not None and self.chosen is None

    def place(self, *path: str | int) -> Place:
        """The file and line of the value at `path`."""
        return self.document.place(*path)
