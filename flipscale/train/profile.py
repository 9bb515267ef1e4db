"""The breakdown of a run's time: its steps by stage, each timed alone, and its speed with whole steps."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from flipscale.cost.arithmetic import cost
from flipscale.errors import FlipscaleError, RunFolderError
from flipscale.run import RunFolder
from flipscale.settings.declarations import FlipscaleTrainer, Settings
from flipscale.settings.devices import DEVICES, device_named
from flipscale.train.distributed import Group
from flipscale.train.machine import PeakMemory, device_name, keep_freed_memory
from flipscale.train.requests import request_of, steps_before
from flipscale.train.sources import open_training_data
from flipscale.train.trainers.builtin.loop import batches
from flipscale.train.trainers.builtin.training import Training, rows_of

WARM_UP = 3
"""Steps before anything is timed: the first ones allocate memory, and a GPU chooses its kernels in them."""

STAGES = ("data", "image forward", "text forward", "loss", "optimiser", "backward and other")
"""data: waiting for a batch. loss: of the features, forward. other: copies to the device, masks and clipping."""


def profile(folder: Path, steps: int = 30) -> str:
    """A table of the time of the run in `folder` by stage, from twice `steps` steps of it; the folder stays as it is.

    With several processes and micro-batches, one is profiled: its rows as they come, without the others. Each stage
    waits for a GPU to finish, so the stages add up to more than a whole step takes; the speed is that of whole steps.
    """
    run = RunFolder(folder)
    if run.asked() is None:
        raise RunFolderError(f"{folder}: there is no run.json, so nothing was asked for; submit the study first.")
    settings, resources = request_of(run)
    if settings.fine_tuning is not None or not isinstance(settings.trainer, FlipscaleTrainer):
        raise FlipscaleError(f"{run.id} was not pre-trained by flipscale's trainer, so there is nothing to profile.")
    keep_freed_memory()
    group = Group()
    batch = settings.batch_size
    parts = resources.accumulate
    rows = rows_of(settings, resources.processes_on(gpu=group.device.type == "cuda"), parts) // parts
    # Exactly the steps that are looked at, whatever the run's length. Weights do not matter to the speed.
    samples = 2 * (WARM_UP + steps) * rows
    settings = replace(settings, batch_size=rows, samples=samples, warmup=0, cooldown=0, init=None)
    peak_memory = PeakMemory(group.device)
    data = open_training_data(run, settings)
    training = Training(
        settings, group, replace(resources, accumulate=1), data.vocabulary, steps_before=steps_before(run, rows)
    )
    ahead = batches(data, training, training.steps)
    times = dict.fromkeys(STAGES, 0.0)
    device = group.device

    def take(number: int) -> float:
        """The seconds that this many steps take."""
        began = _now(device)
        for _ in range(number):
            waits = time.perf_counter()
            images, tokens = next(ahead)
            times["data"] += time.perf_counter() - waits
            training.step(images, tokens)
        return _now(device) - began

    take(WARM_UP)
    seconds = take(steps)
    memory = peak_memory.read()
    _time_stages(training, times)
    take(WARM_UP)
    times.update(dict.fromkeys(times, 0.0))
    times["backward and other"] = take(steps) - sum(times.values())
    split = "" if rows == batch else f", of the batch of {batch}"
    compiled = "; the stages are not compiled" if resources.compile else ""
    return "\n".join(
        [
            f"{run.id}: {steps} steps of {rows} pairs{split}, {settings.precision}, on {device_name(group.device)}",
            "",
            *_table(times, steps),
            "",
            f"whole steps   {1000 * seconds / steps:9.2f} ms, {steps * rows / seconds:,.0f} images/s{compiled}",
            *_utilisation(settings, steps * rows / seconds, group.device),
            *([] if memory is None else [f"peak memory   {memory / 2**30:9.2f} GiB"]),
        ]
    )


def _time_stages(training: Training, times: dict[str, float]) -> None:
    """From here on the stages of a step add their seconds to `times`. They are not compiled."""

    def timed(stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def stage_of_step(*arguments: Any) -> Any:
            began = _now(training.device)
            value = work(*arguments)
            times[stage] += _now(training.device) - began
            return value

        return stage_of_step

    training.module = training.objective.forward  # type: ignore[assignment]  # `compile` replaces the call.
    for owner, name, stage in (
        (training.objective, "image", "image forward"),
        (training.objective, "text", "text forward"),
        (training.loss, "forward", "loss"),
        (training.scaler, "step", "optimiser"),
    ):
        setattr(owner, name, timed(stage, getattr(owner, name)))


def _table(times: dict[str, float], steps: int) -> list[str]:
    whole = sum(times.values())
    lines = [f"{'stage':20}{'ms/step':>9}{'share':>8}"]
    lines += [f"{stage:20}{1000 * time / steps:9.2f}{time / whole:8.1%}" for stage, time in times.items()]
    return [*lines, f"{'all stages':20}{1000 * whole / steps:9.2f}{1:8.1%}"]


def _utilisation(settings: Settings, images_per_second: float, device: torch.device) -> list[str]:
    """The FLOPs per second of the model, and their share of what the device can do, where that is known."""
    of_run = cost(settings)
    rate = images_per_second * (of_run.flops_per_sample + of_run.loss_flops)
    line = f"model FLOPs   {rate / 1e12:9.4f} TFLOP/s"
    name = device_name(device)
    known = device_named(name)
    if known is None:
        return [line]
    peak = DEVICES[known].peak(settings.precision)
    if device.type == "cpu":
        peak *= torch.get_num_threads()
        return [f"{line}, {rate / peak:.0%} of the {peak / 1e12:.2f} assumed for its cores in use"]
    return [f"{line}, {rate / peak:.1%} of the peak of {known} in {settings.precision}, {peak / 1e12:.1f}"]


def _now(device: torch.device) -> float:
    """The time, once a GPU has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
