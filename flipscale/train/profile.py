"""The breakdown of a run's time: its steps by stage, each timed alone, and its speed with whole steps."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flipscale.cost import cost
from flipscale.devices import DEVICES, device_named
from flipscale.errors import FlipscaleError, RunFolderError
from flipscale.run import RunFolder
from flipscale.settings import FlipscaleTrainer, Settings
from flipscale.train.machine import PeakMemory, device_name, keep_freed_memory
from flipscale.train.objective import Objective
from flipscale.train.processes import Group
from flipscale.train.requests import request_of, steps_before
from flipscale.train.sources import open_training_data
from flipscale.train.trainers.builtin.loop import batches
from flipscale.train.trainers.builtin.training import Training, rows_of

WARM_UP = 3
"""Steps before anything is timed: the first ones allocate memory, and a GPU chooses its kernels in them."""

STAGES = ("data", "image forward", "image backward", "text forward", "text backward", "loss", "optimiser", "other")
"""data: waiting for a batch. loss: of the features, forward and backward. other: copies to the device, and masks."""


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

    for _ in range(WARM_UP):
        training.step(*next(ahead))
    _finish(group.device)
    began = time.perf_counter()
    for _ in range(steps):
        training.step(*next(ahead))
    _finish(group.device)
    seconds = time.perf_counter() - began
    memory = peak_memory.read()

    times = dict.fromkeys(STAGES, 0.0)
    for number in range(WARM_UP + steps):
        if number == WARM_UP:
            times = dict.fromkeys(STAGES, 0.0)
        _staged_step(training, lambda: next(ahead), times)
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


def _staged_step(training: Training, batch: Callable[[], tuple[Tensor, Tensor]], times: dict[str, float]) -> None:
    """One step as `Training.step` takes it, in stages, each backward from the gradient that the one after it left."""
    device, objective = training.device, training.objective
    assert isinstance(objective, Objective)
    began = time.perf_counter()
    timed_already = sum(times.values())

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        _finish(device)
        start = time.perf_counter()
        found = work()
        _finish(device)
        times[stage] += time.perf_counter() - start
        return found

    def forward(work: Callable[[], Any]) -> Any:
        with training.autocast():
            return work()

    def loss() -> list[Tensor | None]:
        value = training.loss(image_leaf, text_leaf, training.model.logit_scale.exp())
        training.scaler.scale(value).backward()
        return [image_leaf.grad, text_leaf.grad]

    def optimise() -> None:
        if training.settings.grad_clip is not None:
            training.scaler.unscale_(training.optimizer)
            nn.utils.clip_grad_norm_(objective.parameters(), training.settings.grad_clip)
        training.scaler.step(training.optimizer)
        training.scaler.update()
        training.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            training.model.logit_scale.clamp_(0, math.log(100))

    images, tokens = (part.to(device, non_blocking=True) for part in timed("data", batch))
    kept = objective.draw(images, tokens, training.drawn_step, 0)
    image, extra = timed("image forward", lambda: forward(lambda: objective.image(images)))
    text = timed("text forward", lambda: forward(lambda: objective.text(tokens, kept)))
    image_leaf, text_leaf = (features.detach().requires_grad_() for features in (image, text))
    image_gradient, text_gradient = timed("loss", loss)
    ends, gradients = [image], [image_gradient]
    if extra.requires_grad:
        ends.append(extra)
        gradients.append(training.scaler.scale(torch.ones_like(extra)))
    timed("image backward", lambda: torch.autograd.backward(ends, gradients))
    timed("text backward", lambda: text.backward(text_gradient))
    timed("optimiser", optimise)
    training.progress.step += 1
    times["other"] += time.perf_counter() - began - (sum(times.values()) - timed_already)


def _table(times: dict[str, float], steps: int) -> list[str]:
    whole = sum(times.values())
    lines = [f"{'stage':14}{'ms/step':>9}{'share':>8}"]
    lines += [f"{stage:14}{1000 * time / steps:9.2f}{time / whole:8.1%}" for stage, time in times.items()]
    return [*lines, f"{'all stages':14}{1000 * whole / steps:9.2f}{1:8.1%}"]


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


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
