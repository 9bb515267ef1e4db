"""Times a few steps of each shape that a probe asks for, in turns, and what it takes to start and to evaluate.

Each shape has several turns of about a second, and between two of them all others have theirs: whatever slows the
machine down for a while meets all alike, and the median over turns leaves it out. In a turn the model is built anew and
takes steps on real batches, as `loop.fit` takes them. Every process of the run does it; process 0 has the lease.
"""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import psutil
import torch

from flipscale.cost.arithmetic import training_view
from flipscale.data.pairs import Data, HeldOutItems
from flipscale.planning.identity import is_evaluated, scored, stage
from flipscale.planning.timing import (
    EvaluationTime,
    StepTime,
    TimingPlace,
    Timings,
    evaluation_shape,
    is_timed_by_steps,
    step_shape,
)
from flipscale.run import Doing, Lease, Probe, RunFolder, add_timings, cpu_name, read_probe
from flipscale.settings.declarations import Resources, Settings
from flipscale.settings.devices import LOADERS
from flipscale.train.distributed import Group
from flipscale.train.evaluate import evaluate
from flipscale.train.failure import is_out_of_memory, say
from flipscale.train.machine import PeakMemory, device_name
from flipscale.train.model import build
from flipscale.train.requests import asked_of
from flipscale.train.sources import evaluations_of, open_training_data, vocabulary
from flipscale.train.stop import Stop
from flipscale.train.trainers.builtin.loop import batches
from flipscale.train.trainers.builtin.pretrain import facts
from flipscale.train.trainers.builtin.training import Progress, Training
from flipscale.workspace import Workspace

TURNS = 5
"""Turns that each shape has."""

TURN_SECONDS = 1.0
"""About how long the timed steps of a turn take."""

LEAST_STEPS, MOST_STEPS = 3, 200
"""Timed steps of a turn."""

WARM_STEPS = 3
"""Steps before those that are timed: the first ones allocate memory and choose kernels."""

REPEATED_SECONDS = 5.0
"""An evaluation that takes longer than this is timed once."""


class _Turn(NamedTuple):
    """One turn of a shape, in seconds; processor time is that of all processes."""

    building: float
    warming: float
    """How much longer the first steps took."""
    warming_cpu: float
    step: float
    cpu: float
    """Processor time of a step."""


@dataclass
class _ShapeTurns:
    """Measurements of a shape so far."""

    settings: Settings
    turns: list[_Turn] = field(default_factory=list)
    steps: int = 0
    """Timed steps of a turn; 0 before the first."""
    problem: str = ""
    """Why it cannot be timed."""


@dataclass
class _EvaluationTurns:
    """Measurements of an evaluation so far."""

    settings: Settings
    seconds: list[float] = field(default_factory=list)
    images: int = 0


def time_shapes(run: RunFolder, lease: Lease | None, group: Group, stop: Stop) -> None:
    """Time what the folder's probe.json asks for, and add it to the timings of the results folder.

    Only process 0 has the lease. Nothing is kept of a probe that a signal stops.
    """
    probe = read_probe(run.path)
    resources = asked_of(run).resources
    assert probe is not None
    began = time.time()
    program_seconds = began - psutil.Process().create_time()
    cpu_began = time.process_time()
    memory = PeakMemory(group.device)
    talk: Callable[[str], None] = partial(say, run) if lease else lambda line: None
    timer = _Timer(run, lease, group, resources, probe)
    turns = int(group.share(TURNS))
    for turn in range(turns):
        if not timer.take_turns(turn, stop):
            talk(f"stopped by {stop.name}; this probe is discarded")
            return
        talk(f"turn {turn + 1} of {turns} of {len(timer.shapes)} shapes and {len(timer.evaluations)} evaluations")
    peak_memory = group.agree(memory.read() or 0)[0] or None
    (cpu_seconds,) = group.total(time.process_time() - cpu_began)
    group.part()
    if lease is None:
        return
    for measured in timer.shapes:
        if measured.problem:
            talk(f"a shape cannot be timed: {measured.problem}")
    timings = timer.timings(probe.site, program_seconds)
    add_timings(Workspace.of_run(run.path).timings, timings)
    spent = Progress(began, seconds=time.time() - began, cpu_seconds=cpu_seconds)
    lease.write_result(facts(spent, group.device, group.size, peak_memory))
    talk(f"finished: timed {len(timings.steps)} shapes and {len(timings.evaluations)} evaluations")


class _Timer:
    """The measurements, turn by turn."""

    def __init__(self, run: RunFolder, lease: Lease | None, group: Group, resources: Resources, probe: Probe):
        self.run = run
        self.lease = lease
        self.group = group
        self.resources = resources
        self.shapes = [_ShapeTurns(stage(each)) for each in probe.shapes if is_timed_by_steps(each)]
        self.evaluations = [_EvaluationTurns(scored(settings)) for settings in probe.evaluations]
        self.opened: dict[str, tuple[Data, dict[str, HeldOutItems]]] = {}
        self.opening: dict[str, float] = {}

    def take_turns(self, turn: int, stop: Stop) -> bool:
        """One turn of each shape and each evaluation; False where a signal came."""
        first = turn % max(1, len(self.shapes))  # No shape always follows the same one.
        for measured in (*self.shapes[first:], *self.shapes[:first]):
            (stopped,) = self.group.agree(int(stop.signal or 0))
            if stopped:
                stop.signal = stop.signal or stopped
                return False
            if not measured.problem:
                self._take_turn(measured)
        for evaluation in self.evaluations:
            if self.group.share(all(each <= REPEATED_SECONDS for each in evaluation.seconds)):
                self._evaluate(evaluation)
        return True

    def timings(self, site: str, program_seconds: float) -> Timings:
        """The measurements, as records."""
        device = device_name(self.group.device)
        now = time.time()
        hardware = cpu_name() if device == "cpu" else device
        place = TimingPlace(site, device, hardware)
        steps = [self._step_time(measured, place, program_seconds) for measured in self.shapes if measured.turns]
        evaluations = [
            EvaluationTime(*place, evaluation_shape(each.settings), median(each.seconds), each.images, now)
            for each in self.evaluations
            if each.seconds
        ]
        return Timings(tuple(steps), tuple(evaluations))

    def _step_time(self, measured: _ShapeTurns, place: TimingPlace, program_seconds: float) -> StepTime:
        turns = measured.turns
        building, warming, warming_cpu, step, cpu = map(median, zip(*turns, strict=True))
        varied = [turn.cpu if place.device == "cpu" else turn.step for turn in turns]
        return StepTime(
            *place,
            shape=step_shape(measured.settings, self.resources),
            seconds=step,
            cpu_seconds=cpu,
            spread=max(max(varied) / median(varied), median(varied) / min(varied)),
            processes=self.group.size,
            opening_seconds=self.opening[_key(measured.settings)] + building,
            warming_seconds=warming,
            warming_cpu_seconds=warming_cpu,
            time=time.time(),
            program_seconds=program_seconds,
        )

    def _take_turn(self, measured: _ShapeTurns) -> None:
        try:
            measured.turns.append(self._timed(measured))
        except Exception as error:
            # One of several processes may have run out of memory alone, and the others would wait for it.
            if self.group.size > 1 or not is_out_of_memory(error):
                raise
            measured.problem = f"{measured.settings.model} at batch {measured.settings.batch_size}: out of memory"
        if self.group.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()

    def _timed(self, measured: _ShapeTurns) -> _Turn:
        settings = measured.settings
        group = self.group
        with group.together():
            data, evaluations = self._open(settings)
        words = group.share(vocabulary(data, evaluations))
        began = time.perf_counter()
        with group.together():
            training = Training(settings, group, self.resources, words)
        training.begin()
        building = time.perf_counter() - began
        # Batches that were made ahead are used up before the clock starts.
        ahead = 2 * max(LOADERS, training.loaders)
        warm = WARM_STEPS + (ahead if group.device.type == "cuda" or data.vocabulary is None else 0)
        if not measured.steps:
            _, (wall, _) = self._take_steps(training, data, warm, LEAST_STEPS)
            wanted = round(TURN_SECONDS * LEAST_STEPS / max(wall, 1e-6))
            measured.steps = int(group.share(min(MOST_STEPS, max(LEAST_STEPS, wanted))))
        (first, first_cpu), (wall, cpu) = self._take_steps(training, data, warm, measured.steps)
        first_cpu, cpu = group.total(first_cpu, cpu)
        step = wall / measured.steps
        step_cpu = cpu / measured.steps
        return _Turn(building, max(0.0, first - warm * step), max(0.0, first_cpu - warm * step_cpu), step, step_cpu)

    def _take_steps(self, training: Training, data: Data, warm: int, steps: int) -> list[tuple[float, float]]:
        """Wall and processor seconds of `warm` steps, and of the `steps` that follow them."""
        clock = [(time.perf_counter(), time.process_time())]
        last = training.progress.step + warm + steps
        for number, (images, tokens) in enumerate(batches(data, training, last), start=1):
            training.step(images, tokens)
            if self.lease is not None:
                self.lease.live(Doing.TRAINING)
            if number in (warm, warm + steps):
                float(training.history[0, 0])  # Reading it waits for the device.
                clock.append((time.perf_counter(), time.process_time()))
        return [(wall - wall_before, cpu - cpu_before) for (wall_before, cpu_before), (wall, cpu) in pairwise(clock)]

    def _evaluate(self, measured: _EvaluationTurns) -> None:
        if self.lease is not None:
            self.lease.live(Doing.EVALUATING)
        data, evaluations = self._open(measured.settings)
        words = self.group.share(vocabulary(data, evaluations))
        model = build(measured.settings, words).to(self.group.device)
        began = time.perf_counter()
        evaluate(model, evaluations, measured.settings, self.group)
        measured.seconds.append(time.perf_counter() - began)
        measured.images = sum(_images_of(held_out) for held_out in evaluations.values())

    def _open(self, settings: Settings) -> tuple[Data, dict[str, HeldOutItems]]:
        """The data and the evaluation sets of these settings; shapes share what they have in common."""
        key = _key(settings)
        if key not in self.opened:
            began = time.perf_counter()
            evaluations = evaluations_of(self.run, settings) if self.lease and is_evaluated(settings) else {}
            self.opened[key] = open_training_data(self.run, settings), evaluations
            self.opening[key] = time.perf_counter() - began
        return self.opened[key]


def _key(settings: Settings) -> str:
    """The settings that decide which data and evaluation sets are opened."""
    return repr(
        (
            settings.data,
            settings.data_size,
            settings.crop,
            settings.image_size,
            training_view(settings).shape.image.image_size,
            settings.text_length,
            settings.evaluation,
        )
    )


def _images_of(held_out: HeldOutItems) -> int:
    """Images that an evaluation of this set encodes."""
    parts = (held_out.pairs, held_out.labelled, held_out.probe)
    return sum(len(part[0]) for part in parts if part is not None)
