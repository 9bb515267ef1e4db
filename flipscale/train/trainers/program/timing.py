"""Times the first seconds of a user's own program, with each set of parameters that a probe asks for.

The program works in a folder below the probe's, which is removed. Where it ends within those seconds, that was a run.
Otherwise its metrics.jsonl says how fast its steps are, and how many there will be: {"step": 50, "steps": 1000}.
"""

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from flipscale.cost.arithmetic import steps_of
from flipscale.planning.timing import StepTime, TimingPlace, Timings, is_timed_by_start, step_shape
from flipscale.run import Doing, FailureKind, Lease, Probe, Reached, Result, RunFolder, add_timings, cpu_name
from flipscale.settings.declarations import Settings, plain
from flipscale.train.failure import Cause, Failed, say
from flipscale.train.requests import asked_of
from flipscale.train.stop import Stop
from flipscale.train.trainers.program.command import command_of, start_of
from flipscale.train.trainers.program.process import TAIL, Ended, Program, environment_of, known_attempts, usage
from flipscale.workspace import Workspace

FOLLOWED_SECONDS = 10.0
"""How long a program's steps are followed from its first record."""

RECORD_SECONDS = 60.0
"""How long a program may take to its second record."""


@dataclass(frozen=True)
class _Reading:
    """How far a program was, and what it had used by then."""

    seconds: float
    cpu_seconds: float
    step: int = 0


def time_programs(run: RunFolder, lease: Lease, stop: Stop, probe: Probe) -> bool:
    """Time the shapes that a program of the user's own trains; whether others are left to time.

    Raises Failed where one cannot be timed, with the reason.
    """
    shapes = [settings for settings in probe.shapes if is_timed_by_start(settings)]
    began = time.time()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    place = TimingPlace(probe.site, device, cpu_name() if device == "cpu" else device)
    resources = asked_of(run).resources
    times = []
    for number, settings in enumerate(shapes, 1):
        folder = run.path / "timed"
        try:
            whole = _time_of(settings, folder, run, lease, stop)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if whole is None:
            say(run, f"stopped by {stop.name}; this probe is discarded")
            return False
        say(run, f"{number} of {len(shapes)}: {whole.seconds:.3g} s a run")
        measured = StepTime(
            *place,
            shape=step_shape(settings, resources),
            seconds=whole.seconds,
            cpu_seconds=whole.cpu_seconds,
            spread=1.0,
            processes=resources.gpus or 1,
            opening_seconds=0.0,
            warming_seconds=0.0,
            warming_cpu_seconds=0.0,
            time=time.time(),
        )
        times.append(measured)
    if times:
        add_timings(Workspace.of_run(run.path).timings, Timings(tuple(times)))
    if len(shapes) < len(probe.shapes):
        return True
    lease.write_result(Result(started=began, finished=time.time()))
    return False


def _time_of(settings: Settings, folder: Path, run: RunFolder, lease: Lease, stop: Stop) -> _Reading | None:
    """What a whole run of these settings takes; None where a signal stopped it."""
    scratch = RunFolder(folder)
    folder.mkdir()
    scratch.ask(replace(asked_of(run), settings=plain(settings)))
    start = start_of(scratch)
    name = " ".join(command_of(settings))
    program = Program(start.arguments, environment_of(scratch, start.environment))
    first = last = _Reading(0.0, 0.0)
    reached = Reached()
    tail: list[str] = []
    has_ended = False
    try:
        while not has_ended:
            if stop.signal:
                return None
            lease.live(Doing.PROGRAM)
            time.sleep(0.1)
            tail += [program.lines.get()[1] for _ in range(program.lines.qsize())]
            reached = scratch.reached()
            if reached.step > last.step:
                last = _Reading(program.seconds, usage(program.pid)[0], reached.step)
                first = last if first.step == 0 else first
            if program.seconds - first.seconds > (FOLLOWED_SECONDS if last.step > first.step else RECORD_SECONDS):
                break
            has_ended = program.code() is not None
        seconds = program.seconds
    finally:
        program.end()
    if has_ended and program.usage:
        Ended(program.code() or 0, False, known_attempts(scratch), tail[-TAIL:]).raise_failure(name, scratch)
        return _Reading(seconds, program.usage.ru_utime + program.usage.ru_stime)
    steps = steps_of(settings) if settings.is_clip else reached.steps
    if last.step == first.step or not steps:
        lacks = "named no `steps`" if last.step > first.step else "were fewer than two"
        raise Failed(
            Cause(
                FailureKind.CODE,
                f"{name} cannot be timed: it had not ended after {seconds:.0f} s, and its records in metrics.jsonl "
                f'{lacks}. Have it append {{"step": 50, "steps": 1000}}, where steps is how many there will be.',
            )
        )
    left = (steps - last.step) / (last.step - first.step)
    return _Reading(
        last.seconds + left * (last.seconds - first.seconds),
        last.cpu_seconds + left * (last.cpu_seconds - first.cpu_seconds),
    )
