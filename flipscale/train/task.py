"""One run, from what was asked to its result, or to a checkpoint if a signal comes. Every process of the run does it.

Open the data, build the model, go on from a checkpoint or start from the parent's weights, train, evaluate, write
model.pt and last result.json. Process 0 has the lease: it evaluates and writes.
"""

import contextlib
import ctypes
import gc
import importlib.metadata
import os
import resource
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch

from flipscale.architecture import architecture
from flipscale.cost import parameters, steps_of
from flipscale.plan import stage
from flipscale.run import Doing, Lease, Resources, Result, RunFolder, Spent
from flipscale.train.data import Data, HeldOut, Integers, open_data
from flipscale.train.evaluate import evaluate, open_evaluations
from flipscale.train.failure import say
from flipscale.train.loop import check_scores, fit
from flipscale.train.model import build, save, tokenize
from flipscale.train.processes import Group
from flipscale.train.stop import Stop
from flipscale.train.training import Progress, Training

_COUNTED = ("samples_seen", "train_seconds", "cpu_seconds", "gpu_hours")
"""What the result of a child says of its parent: what it cost to come to where the child began."""


def pretrain(run: RunFolder, lease: Lease | None, group: Group, stop: Stop, checkpoint_seconds: float) -> None:
    """Train the run, from its parent's weights if it has a parent. Only process 0 has the lease."""
    settings, resources = asked_of(run)
    talk = partial(say, run) if lease else _say_nothing
    forget_peak_memory(group.device)
    with group.together():
        data = open_training_data(run, settings)
        evaluations = evaluations_of(run, settings) if lease else {}
    words = group.share(vocabulary(data, evaluations))
    known_corrupt = data.corrupt()
    with group.together():
        parent = parent_of(run)
        training = Training(settings, group, resources, words, start=parent.path / "model.pt" if parent else None)
        resumed = training.resume(run)
    training.begin()
    steps, progress = training.steps, training.progress
    talk(
        f"attempt {progress.attempts}, {_processes(group)}, on {device_name(group.device)}, "
        + (f"goes on after step {progress.step} of {steps}" if resumed else f"{steps} steps")
    )
    stopped = fit(
        training,
        data,
        lease,
        score=partial(_score, training, evaluations) if group.share(bool(evaluations)) else None,
        stopping=lambda: stop.signal or 0,
        say=talk,
        checkpoint_seconds=checkpoint_seconds,
    )
    (peak_memory,) = group.agree(peak_memory_of(group.device))
    group.part()
    if stopped:
        stop.signal = stop.signal or stopped
        talk(f"stopped by {stop.name} after step {progress.step} of {steps}, with a checkpoint")
        return
    if lease is None:
        return
    with lease.replace("model.pt") as file:
        save(training.model, file)
    # result.json goes last: its presence is what "finished" means. The checkpoint is of no use after it.
    result = replace(
        _result(training, data, peak_memory),
        corrupt_samples=known_corrupt + progress.corrupt,
        corrupt_evaluation_images=corrupt_images(evaluations),
        parent=line_of(parent),
    )
    lease.write_result(result)
    (run.path / "checkpoint.pt").unlink(missing_ok=True)
    talk(f"finished, {progress.seconds:.1f} s of training")


def score_parent(run: RunFolder, lease: Lease, device: torch.device) -> None:
    """Evaluate the parent's weights as the run's `inference` says. Nothing is trained, and the weights stay there."""
    settings, _ = asked_of(run)
    forget_peak_memory(device)
    progress = Progress(started=time.time())
    parent = parent_of(run)
    assert parent is not None
    evaluations = evaluations_of(run, settings)
    model = build(settings, start=parent.path / "model.pt").to(device)
    say(run, f"{settings['inference']} inference with the weights of {parent.id}, on {device_name(device)}")
    lease.live(Doing.EVALUATING)
    began = time.perf_counter()
    progress.scores = evaluate(model, evaluations, settings)
    progress.evaluation_seconds = time.perf_counter() - began
    check_scores(progress.scores, "the end")
    facts = _facts(settings, progress, device, 1, peak_memory_of(device))
    corrupt = corrupt_images(evaluations)
    seen = replace(facts, samples_seen=0, steps=0, corrupt_samples=0, corrupt_evaluation_images=corrupt)
    lease.write_result(replace(seen, parent=line_of(parent)))
    say(run, f"finished, {progress.evaluation_seconds:.1f} s of evaluation")


# What was asked


def asked_of(run: RunFolder) -> tuple[dict[str, Any], Resources]:
    """The settings of what the run itself trains, and the resources it may use."""
    asked = run.asked()
    assert asked is not None
    return stage(asked.settings), asked.resources


def parent_of(run: RunFolder) -> RunFolder | None:
    """The run whose weights this one starts from: its folder is beside this one."""
    asked = run.asked()
    return RunFolder(run.path.parent / asked.parents[0]) if asked and asked.parents else None


def open_training_data(run: RunFolder, settings: Mapping[str, Any]) -> Data:
    return open_data(
        settings["data"],
        data_size=settings["data_size"],
        samples=steps_of(settings) * settings["batch_size"],
        crop=settings["crop"],
        **_shape(run, settings),
    )


def vocabulary(data: Data, evaluations: Mapping[str, HeldOut]) -> Integers | None:
    """The ids of all tokens that training and evaluation will see; None if that is not known."""
    if data.vocabulary is None:
        return None
    return np.unique(np.concatenate([data.vocabulary, *(held_out.vocabulary for held_out in evaluations.values())]))


def evaluations_of(run: RunFolder, settings: Mapping[str, Any]) -> dict[str, HeldOut]:
    """What the run is scored on, by name. What of it cannot be read is said in the log."""
    evaluations = open_evaluations(settings, **_shape(run, settings))
    for name, held_out in evaluations.items():
        if held_out.corrupt:
            where = f"evaluation.sets.{name}" if name else "evaluation.data"
            say(run, f"{where}: {held_out.corrupt} images are passed over, as they or their captions cannot be read")
    return evaluations


def corrupt_images(evaluations: Mapping[str, HeldOut]) -> int:
    """How many images of all sets were passed over."""
    return sum(held_out.corrupt for held_out in evaluations.values())


def _shape(run: RunFolder, settings: Mapping[str, Any]) -> dict[str, Any]:
    """In what form data comes."""
    return {
        "image_size": settings["image_size"],
        "text_length": settings["text_length"],
        "tokenize": partial(tokenize, length=settings["text_length"]),
        # Beside results/runs, so all runs share what was decoded once.
        "cache": run.path.resolve().parent.parent / "cache",
    }


def _score(training: Training, evaluations: Mapping[str, HeldOut]) -> dict[str, float]:
    return evaluate(training.model, evaluations, training.settings)


# What happened


def _result(training: Training, data: Data, peak_memory: int) -> Result:
    """The scores, and what it took."""
    progress = training.progress
    samples = training.steps * training.settings["batch_size"]
    unique_pairs = min(data.size, samples)
    return replace(
        _facts(training.settings, progress, training.device, training.group.size, peak_memory),
        samples_seen=samples,
        steps=training.steps,
        unique_pairs=unique_pairs,
        repeats=samples / unique_pairs,
        images_per_second=samples / progress.seconds,
        final_loss=training.final_loss,
    )


def _facts(
    settings: Mapping[str, Any], progress: Progress, device: torch.device, processes: int, peak_memory: int
) -> Result:
    # On a CPU a device is a core, and its hours are those it worked for us: the wall clock of a core shared with other
    # programs was seen to be up to twice as long, which would be read as a cost of the run.
    on_gpu = device.type == "cuda"
    devices = processes if on_gpu else processes * torch.get_num_threads()
    return Result(
        scores=progress.scores,
        train_seconds=progress.seconds,
        cpu_seconds=progress.cpu_seconds,
        evaluation_seconds=progress.evaluation_seconds,
        attempts=progress.attempts,
        device=device_name(device),
        devices=devices,
        gpu_hours=(progress.seconds * devices if on_gpu else progress.cpu_seconds) / 3600,
        peak_memory_bytes=peak_memory,
        started=progress.started,
        finished=time.time(),
        params=parameters(architecture(settings["model"], settings["image_size"])),
        versions={"torch": torch.__version__, "open_clip": open_clip.__version__, "flipscale": _version()},
    )


def line_of(parent: RunFolder | None) -> Spent | None:
    """What was spent before the run began: by its parent, and by the parent's own."""
    if parent is None:
        return None
    result = parent.result() or Result()
    before = result.parent or Spent(parent.id)

    def both(own: float | None, earlier: float | None) -> Any:
        # What the parent did not measure is not known of the line either.
        return None if own is None else own + (earlier or 0)

    return Spent(parent.id, **{name: both(getattr(result, name), getattr(before, name)) for name in _COUNTED})


# The machine


def _say_nothing(line: str) -> None:
    pass


def _processes(group: Group) -> str:
    return f"process {os.getpid()}" if group.size == 1 else f"{group.size} processes, first {os.getpid()}"


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def keep_freed_memory() -> None:
    """Have glibc keep what is freed instead of giving it back to the system and asking for it at the next step.

    On a CPU the tensors of a step are freed and wanted again; the page faults of it took 5 % of a step of ViT-w64d4-4
    and 11 % of ViT-w128d4-4 at batch 64. Other C libraries have no mallopt, and stay as they are.
    """
    mmap_threshold, trim_threshold = -3, -1
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)


def forget_peak_memory(device: torch.device) -> None:
    """Start the high-water mark anew, as several runs share a process. Where the system has no such thing, it stays."""
    if device.type == "cuda":
        # A compiled model is part of a cycle, and so are errors with their frames: without this their memory on the GPU
        # stays taken while the next run trains, as Python collects cycles by their number and not by their size.
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak_memory_of(device: torch.device) -> int:
    """Peak bytes: of the GPU's memory in tensors, or of the process on a CPU (ru_maxrss is in KiB)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _version() -> str | None:
    try:
        return importlib.metadata.version("flipscale")
    except importlib.metadata.PackageNotFoundError:
        return None
