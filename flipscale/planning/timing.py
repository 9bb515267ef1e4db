"""How long runs take where a probe has timed their shape: what it measured, and what follows from it for a run.

The **shape** of a run is what the time of a step depends on: model, image size, masks, batch size, precision, data and
how a batch is computed. Seeds, schedules and learning rates are not part of it, so a few steps show how long thousands
will take. The shape of an **evaluation** is what its time depends on: the model, the sets, and how images are seen.

A time holds for one place: a site, its device and its hardware. Nothing here touches a disk.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, TypeVar

from flipscale.cost.arithmetic import evaluations_of, steps_of
from flipscale.door.run_states import Hours
from flipscale.kinds import JsonObject
from flipscale.planning.identity import (
    evaluation_identity,
    identity,
    inferences,
    is_evaluated,
    parent_of,
    scored,
    stage,
    trains,
)
from flipscale.settings.declarations import CommandTrainer, FlipscaleTrainer, Resources, Settings

STEP_SETTINGS = (
    *("model", "image_size", "text_length", "data", "crop", "flip", "mask_ratio", "mask_shape"),
    *("text_mask_ratio", "text_mask", "reconstruction", "loss_function", "batch_size", "grad_clip", "precision"),
    "fine_tuning",
)
"""The settings that the time of a step depends on."""

EVALUATION_SETTINGS = ("model", "image_size", "text_length", "data", "fine_tuning")
"""The settings that the time of an evaluation depends on, besides those of the evaluation."""

STEP_RESOURCES = ("gpus", "processes", "accumulate", "activation_checkpointing", "compile")
"""The resources that the time of a step depends on."""

LEAST_SPREAD = 1.1
"""The narrowest range of a measured time, as a factor either way: `python -m bench.probe` finds most runs within it."""


class TimingPlace(NamedTuple):
    """The place at which times were measured."""

    site: str
    """'local', 'slurm NAME', 'ray': what `Launcher.site_name` says."""
    device: str
    """The GPU by the name it gives itself, or 'cpu'."""
    hardware: str
    """The same; for a CPU, its model."""


@dataclass(frozen=True)
class _Measured:
    """What a probe measured of a shape at a place."""

    site: str
    device: str
    hardware: str
    shape: JsonObject = field(hash=False)
    seconds: float
    """Wall time of a step, or of one evaluation: the median where it was repeated."""

    @property
    def place(self) -> TimingPlace:
        return TimingPlace(self.site, self.device, self.hardware)


@dataclass(frozen=True)
class StepTime(_Measured):
    """A probe's measurements of one shape: medians over turns, interleaved with the turns of the other shapes."""

    cpu_seconds: float
    """Processor time of a step, of all processes together."""
    spread: float
    """How far turns were from the median, as a factor: by their processor time on a CPU, else by wall time."""
    processes: int
    opening_seconds: float
    """To open the data and the evaluation sets, and to build the model and its optimizer."""
    warming_seconds: float
    """How much longer the first steps take, in all."""
    warming_cpu_seconds: float
    time: float
    """Unix time of the measurement."""
    program_seconds: float = 0.0
    """From the start of the process to the first run; the runs of one worker share it."""


@dataclass(frozen=True)
class EvaluationTime(_Measured):
    """A probe's measurements of one evaluation."""

    images: int
    """Images that were encoded, of all sets."""
    time: float


_Timed = TypeVar("_Timed", StepTime, EvaluationTime)

Keep = Callable[[StepTime | EvaluationTime], bool]
"""Which timings to keep."""


@dataclass(frozen=True)
class Timings:
    """The measurements of probes, at one place or at several: a later one of a shape replaces the earlier one."""

    steps: tuple[StepTime, ...] = ()
    evaluations: tuple[EvaluationTime, ...] = ()

    def at(self, site: str | None) -> "Timings":
        """The timings of a site, None for the one probed last; of its devices, those of the one probed last."""
        place = next((place for place in self.places() if site in (None, place.site)), None)
        return self.measured_at(place) if place else NOT_TIMED

    def measured_at(self, place: TimingPlace) -> "Timings":
        """The timings of a place."""
        return self.where(lambda timed: timed.place == place)

    def places(self) -> list[TimingPlace]:
        """The places of measurement, that of the last measurement first."""
        measured: list[StepTime | EvaluationTime] = [*self.steps, *self.evaluations]
        return list(dict.fromkeys(timed.place for timed in sorted(measured, key=lambda timed: -timed.time)))

    def where(self, keep: Keep) -> "Timings":
        """The timings to keep."""
        return Timings(tuple(filter(keep, self.steps)), tuple(filter(keep, self.evaluations)))

    def and_new(self, new: "Timings") -> "Timings":
        """These and newer ones."""
        return Timings(_newest((*self.steps, *new.steps)), _newest((*self.evaluations, *new.evaluations)))

    @cached_property
    def _steps_by_shape(self) -> Mapping[str, StepTime]:
        return {_key(timed.shape): timed for timed in self.steps}

    @cached_property
    def _evaluations_by_shape(self) -> Mapping[str, EvaluationTime]:
        return {_key(timed.shape): timed for timed in self.evaluations}

    def step(self, shape: JsonObject) -> StepTime | None:
        """The measurements of this shape."""
        return self._steps_by_shape.get(_key(shape))

    def evaluation(self, shape: JsonObject) -> EvaluationTime | None:
        """The measurements of this evaluation."""
        return self._evaluations_by_shape.get(_key(shape))


NOT_TIMED = Timings()
"""The times before any probe."""


@dataclass(frozen=True)
class RunTime:
    """How long a run takes, as a probe predicts it."""

    place: TimingPlace
    start_seconds: float
    """To open its data and to build its model."""
    train_seconds: float
    """Wall time of its steps."""
    evaluation_seconds: float
    """Wall time of all its evaluations."""
    gpu_hours: float
    """Device-hours of training and evaluations; on a CPU core-hours of training, which are processor time."""
    program_seconds: float
    """To start a worker, which does it once and not for each run."""
    spread: float
    """How far off it may be, as a factor."""

    @property
    def hours(self) -> Hours:
        """The device-hours with their range."""
        return Hours.within(self.gpu_hours, self.spread)

    @property
    def seconds(self) -> float:
        """Wall time of the whole run in a worker that has started."""
        return self.start_seconds + self.train_seconds + self.evaluation_seconds

    def of_share(self, share: float) -> "RunTime":
        """The time of a run that trains only this share of its steps; it is scored at least at the end."""
        return replace(self, train_seconds=share * self.train_seconds, gpu_hours=share * self.gpu_hours)


def is_timed_by_steps(settings: Settings) -> bool:
    """Whether a few steps show how long the run takes: flipscale trains it, not a program of somebody else.

    A fine-tuning is not timed: its hours are predicted.
    """
    return isinstance(settings.trainer, FlipscaleTrainer) and settings.fine_tuning is None


def is_timed_by_start(settings: Settings) -> bool:
    """Whether the first seconds of the user's own program show how long the run takes: it goes on from no other."""
    return isinstance(settings.trainer, CommandTrainer) and parent_of(settings) is None and trains(settings)


def step_shape(staged: Settings, resources: Resources) -> JsonObject:
    """The settings that the time of a step depends on, as JSON. staged: those of the stage that it trains itself.

    A program of the user's own may depend on all of them, so they are those of a whole run, which counts as one step.
    """
    known = identity(staged)
    names: Iterable[str] = STEP_SETTINGS
    if is_timed_by_start(staged):
        names = [name for name in known if name not in ("seed", "evaluation")]
    shape = {name: known[name] for name in names if name in known}
    if "grad_clip" in shape:
        shape["grad_clip"] = True  # At which norm does not matter.
    default = Resources()
    used = {name: getattr(resources, name) for name in STEP_RESOURCES}
    return {**shape, **{name: value for name, value in used.items() if value != getattr(default, name)}}


def evaluation_shape(staged: Settings) -> JsonObject:
    """The settings on which the time of an evaluation depends, as JSON."""
    # How long one evaluation takes does not depend on when it comes.
    known = identity(staged)
    evaluation = evaluation_identity(replace(staged, evaluation=replace(staged.evaluation, at=[])))
    shape = {name: known[name] for name in EVALUATION_SETTINGS if name in known}
    if evaluation:
        shape["evaluation"] = evaluation
    if inferences(staged):
        shape["mask_ratio"] = staged.mask_ratio
        if staged.mask_shape == "resize":
            shape["mask_shape"] = staged.mask_shape  # All other shapes show the same number of patches.
    return shape


def timings_of(runs: Iterable[tuple[Settings, Resources]], timings: Timings) -> Timings:
    """The timings of the shapes of these runs, in the order of place and shape."""
    runs = list(runs)
    staged = [(stage(settings), resources) for settings, resources in runs]
    shapes = {_key(step_shape(settings, resources)) for settings, resources in staged}
    shapes |= {_key(evaluation_shape(scored(settings))) for settings, _ in runs}
    kept = timings.where(lambda timed: _key(timed.shape) in shapes)
    steps = sorted(kept.steps, key=lambda timed: (timed.place, _key(timed.shape)))
    evaluations = sorted(kept.evaluations, key=lambda timed: (timed.place, _key(timed.shape)))
    return Timings(tuple(steps), tuple(evaluations))


def run_time(settings: Settings, resources: Resources, timings: Timings) -> RunTime | None:
    """How long a run takes by these timings; None where its shape or its evaluation was not timed.

    timings: of one place, see `Timings.at`.
    """
    by_start = is_timed_by_start(settings)
    if timings == NOT_TIMED or not (by_start or is_timed_by_steps(settings)):
        return None
    staged = stage(settings)
    needs_evaluation = not by_start and is_evaluated(staged)
    evaluation = timings.evaluation(evaluation_shape(scored(settings))) if needs_evaluation else None
    if evaluation is None and needs_evaluation:
        return None
    timed = timings.step(step_shape(staged, resources))
    if timed is None:
        return None
    steps = 1 if by_start else steps_of(staged)
    train_seconds = timed.warming_seconds + timed.seconds * steps
    cpu_seconds = timed.warming_cpu_seconds + timed.cpu_seconds * steps
    scoring = evaluation.seconds * evaluations_of(staged) if evaluation else 0.0
    return RunTime(
        place=timed.place,
        start_seconds=timed.opening_seconds,
        train_seconds=train_seconds,
        evaluation_seconds=scoring,
        gpu_hours=(cpu_seconds if timed.device == "cpu" else (train_seconds + scoring) * timed.processes) / 3600,
        program_seconds=timed.program_seconds,
        spread=max(LEAST_SPREAD, timed.spread),
    )


def _key(shape: JsonObject) -> str:
    return json.dumps(shape, sort_keys=True)


def _newest(timed: Iterable[_Timed]) -> tuple[_Timed, ...]:
    """The newest measurement of each place and shape."""
    return tuple({(each.place, _key(each.shape)): each for each in sorted(timed, key=lambda each: each.time)}.values())
