"""Times a few steps of each shape that a probe asks for, in turns, and what it takes to start and to evaluate.

Each shape has several turns of about a second, and between two of them all others have theirs: whatever slows the
machine down for a while meets all alike, and the median over turns leaves it out. In a turn the model is built anew and
takes steps on real batches, as `loop.fit` takes them. Every process of the run does it; process 0 has the lease.
"""

import gc
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import open_clip
import torch

from flipscale.cost import training_view
from flipscale.data.pairs import Data, HeldOutItems
from flipscale.devices import LOADERS
from flipscale.identity import is_evaluated, scored, stage
from flipscale.run import Doing, Lease, Probe, Result, RunFolder, add_timings, cpu_name, read_probe
from flipscale.settings import Resources, Settings
from flipscale.timing import EvaluationTime, StepTime, TimingPlace, Timings, evaluation_shape, step_shape
from flipscale.train.evaluate import evaluate
from flipscale.train.failure import is_out_of_memory, say
from flipscale.train.machine import PeakMemory, device_name, version
from flipscale.train.model import build
from flipscale.train.processes import Group
from flipscale.train.sources import evaluations_of, open_training_data, vocabulary
from flipscale.train.stop import Stop
from flipscale.train.trainers.builtin.loop import batches
from flipscale.train.trainers.builtin.training import Training
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
"""An evaluation, or opening data, that takes longer than this is timed once."""


class _Turn(NamedTuple):
    """One turn of a shape, in seconds."""

    building: float
    step: float
    cpu: float
    """Processor time of a step, of all processes."""
    warming: float
    """How much longer the first steps took."""
    warming_cpu: float
    steps: int


class _Taken(NamedTuple):
    """Steps that were taken: wall and processor seconds of the first ones, and of those that count."""

    warm: float
    warm_cpu: float
    wall: float
    cpu: float


@dataclass
class _ShapeTurns:
    """Measurements of a shape so far."""

    settings: Settings
    turns: list[_Turn] = field(default_factory=list)
    steps: int = 0
    """Timed steps of a turn; 0 before the first."""
    problem: str = ""
    """Why it cannot be timed."""


def time_shapes(run: RunFolder, lease: Lease | None, group: Group, stop: Stop) -> None:
    """Time what the folder's probe.json asks for, and add it to the timings of the results folder.

    Only process 0 has the lease. Nothing is kept of a probe that a signal stops.
    """
    probe, asked = read_probe(run.path), run.asked()
    assert probe is not None
    assert asked is not None
    began, program_seconds = time.time(), _seconds_since_start()
    cpu_began = time.process_time()
    memory = PeakMemory(group.device)
    talk = partial(say, run) if lease else _say_nothing
    timer = _Timer(run, lease, group, asked.resources, probe)
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
    lease.write_result(_result(group, began, cpu_seconds, peak_memory))
    talk(f"finished: timed {len(timings.steps)} shapes and {len(timings.evaluations)} evaluations")


def _result(group: Group, began: float, cpu_seconds: float, peak_memory: int | None) -> Result:
    """The result of the probe itself: its time and memory."""
    now, on_gpu = time.time(), group.device.type == "cuda"
    return Result(
        train_seconds=now - began,
        cpu_seconds=cpu_seconds,
        device=device_name(group.device),
        devices=group.size if on_gpu else group.size * torch.get_num_threads(),
        gpu_hours=((now - began) * group.size if on_gpu else cpu_seconds) / 3600,
        peak_memory_bytes=peak_memory,
        started=began,
        finished=now,
        versions={"torch": torch.__version__, "open_clip": open_clip.__version__, "flipscale": version()},
    )


class _Timer:
    """The measurements, turn by turn."""

    def __init__(self, run: RunFolder, lease: Lease | None, group: Group, resources: Resources, probe: Probe):
        self.run, self.lease, self.group, self.resources = run, lease, group, resources
        self.shapes = [_ShapeTurns(stage(settings)) for settings in probe.shapes]
        self.evaluations = [scored(settings) for settings in probe.evaluations]
        self.evaluation_seconds: dict[int, list[float]] = {number: [] for number in range(len(self.evaluations))}
        self.images: dict[int, int] = {}
        self.opened: dict[str, tuple[Data, dict[str, HeldOutItems]]] = {}
        self.opening: dict[str, list[float]] = {}

    def take_turns(self, turn: int, stop: Stop) -> bool:
        """One turn of each shape and each evaluation; False where a signal came."""
        self._forget_opened()
        first = turn % max(1, len(self.shapes))  # No shape always follows the same one.
        for measured in (*self.shapes[first:], *self.shapes[:first]):
            (stopped,) = self.group.agree(int(stop.signal or 0))
            if stopped:
                stop.signal = stop.signal or stopped
                return False
            if not measured.problem:
                self._take_turn(measured)
        for number, settings in enumerate(self.evaluations):
            if self.group.share(all(each <= REPEATED_SECONDS for each in self.evaluation_seconds[number])):
                self._evaluate(number, settings)
        return True

    def timings(self, site: str, program_seconds: float) -> Timings:
        """The measurements, as records."""
        device, now = device_name(self.group.device), time.time()
        hardware = cpu_name() if device == "cpu" else device
        place = TimingPlace(site, device, hardware)
        steps = [self._step_time(measured, place, program_seconds) for measured in self.shapes if measured.turns]
        evaluations = [
            EvaluationTime(*place, evaluation_shape(settings), median(seconds), self.images[number], now)
            for number, settings in enumerate(self.evaluations)
            if (seconds := self.evaluation_seconds[number])
        ]
        return Timings(tuple(steps), tuple(evaluations))

    def _step_time(self, measured: _ShapeTurns, place: TimingPlace, program_seconds: float) -> StepTime:
        # Turn by turn the columns of _Turn.
        building, step, cpu, warming, warming_cpu, steps = map(list, zip(*measured.turns, strict=True))
        return StepTime(
            *place,
            shape=step_shape(measured.settings, self.resources),
            seconds=median(step),
            low=min(step),
            high=max(step),
            cpu_seconds=median(cpu),
            spread=_spread(cpu if place.device == "cpu" else step),
            processes=self.group.size,
            opening_seconds=median(self.opening[_key(measured.settings)]),
            building_seconds=median(building),
            warming_seconds=median(warming),
            warming_cpu_seconds=median(warming_cpu),
            steps=round(sum(steps)),
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
        settings, group = measured.settings, self.group
        with group.together():
            data, evaluations = self._open(settings)
        words = group.share(vocabulary(data, evaluations))
        began = time.perf_counter()
        with group.together():
            training = Training(settings, group, self.resources, words)
        training.begin()
        building = time.perf_counter() - began
        # Batches that were made ahead are used up before the clock starts.
        warm = WARM_STEPS + (2 * LOADERS if group.device.type == "cuda" or data.vocabulary is None else 0)
        taken = self._take_steps(training, data, warm, measured.steps or LEAST_STEPS)
        if not measured.steps:
            wanted = round(TURN_SECONDS * LEAST_STEPS / max(taken.wall, 1e-6))
            measured.steps = int(group.share(min(MOST_STEPS, max(LEAST_STEPS, wanted))))
            again = self._take_steps(training, data, warm, measured.steps)
            taken = taken._replace(wall=again.wall, cpu=again.cpu)
        warm_cpu, cpu = (of_all for of_all in group.total(taken.warm_cpu, taken.cpu))
        step, step_cpu = taken.wall / measured.steps, cpu / measured.steps
        return _Turn(
            building=building,
            step=step,
            cpu=step_cpu,
            warming=max(0.0, taken.warm - warm * step),
            warming_cpu=max(0.0, warm_cpu - warm * step_cpu),
            steps=measured.steps,
        )

    def _take_steps(self, training: Training, data: Data, warm: int, steps: int) -> _Taken:
        """Take `warm` steps and then `steps` steps that count."""
        clock = [(time.perf_counter(), time.process_time())]
        for number, (images, tokens) in enumerate(batches(data, training, training.progress.step + warm + steps)):
            if number == warm:
                float(training.recent)  # Reading it waits for the device.
                clock.append((time.perf_counter(), time.process_time()))
            training.step(images, tokens)
            if self.lease is not None:
                self.lease.live(Doing.TRAINING)
        float(training.recent)
        clock.append((time.perf_counter(), time.process_time()))
        (began, cpu_began), (warm_at, cpu_warm_at), (ended, cpu_ended) = clock
        return _Taken(warm_at - began, cpu_warm_at - cpu_began, ended - warm_at, cpu_ended - cpu_warm_at)

    def _evaluate(self, number: int, settings: Settings) -> None:
        if self.lease is not None:
            self.lease.live(Doing.EVALUATING)
        data, evaluations = self._open(settings)
        words = self.group.share(vocabulary(data, evaluations))
        model = build(settings, words).to(self.group.device)
        began = time.perf_counter()
        evaluate(model, evaluations, settings, self.group)
        self.evaluation_seconds[number].append(time.perf_counter() - began)
        self.images[number] = sum(_images_of(held_out) for held_out in evaluations.values())

    def _open(self, settings: Settings) -> tuple[Data, dict[str, HeldOutItems]]:
        """The data and the evaluation sets of these settings; shapes share what they have in common."""
        key = _key(settings)
        if key not in self.opened:
            began = time.perf_counter()
            evaluations = evaluations_of(self.run, settings) if self.lease and is_evaluated(settings) else {}
            self.opened[key] = open_training_data(self.run, settings), evaluations
            self.opening.setdefault(key, []).append(time.perf_counter() - began)
        return self.opened[key]

    def _forget_opened(self) -> None:
        """Data that is opened quickly is opened anew in each turn."""
        quick = [key for key, seconds in self.opening.items() if max(seconds) <= REPEATED_SECONDS]
        for key in quick:
            self.opened.pop(key, None)


def _spread(seconds: Sequence[float]) -> float:
    """The largest distance of these from their median, as a factor."""
    middle = median(seconds)
    return max(max(seconds) / middle, middle / min(seconds))


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


def _seconds_since_start() -> float:
    """Since this process was started; 0 where the system does not say."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        up = float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0])
    except OSError:
        return 0.0
    return up - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _say_nothing(line: str) -> None:
    pass
