"""One run, from what was asked to its result, or to a checkpoint if a signal comes. Every process of the run does it.

Open the data, build the model, go on from a checkpoint or start from the parent's weights, train, evaluate, write
model.pt and last result.json. Process 0 has the lease: it evaluates and writes.
"""

import gc
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import open_clip
import torch

from flipscale.data.pairs import Data
from flipscale.run import AVERAGED_FILE, WEIGHTS_FILE, Doing, Lease, Result, RunFolder, Spent
from flipscale.train.failure import say
from flipscale.train.machine import PeakMemory, device_name, version
from flipscale.train.processes import Group
from flipscale.train.requests import (
    gone_on_with,
    kept_step,
    kept_trunk,
    parent_of,
    request_of,
    spent_before,
    unique_pairs_of,
)
from flipscale.train.stop import Stop
from flipscale.train.trainers.builtin.loop import fit, records_of_trunk
from flipscale.train.trainers.builtin.prepare import Prepared, prepare
from flipscale.train.trainers.builtin.training import Progress, Training, gpu_hours_of
from flipscale.train.trainers.program.evaluation import programs_of, with_program_scores


def pretrain(run: RunFolder, lease: Lease | None, group: Group, stop: Stop, checkpoint_seconds: float) -> None:
    """Train the run, from its parent's weights or its trunk if it has one. Only process 0 has the lease."""
    settings, resources = request_of(run)
    talk = partial(say, run) if lease else _say_nothing
    memory = PeakMemory(group.device)
    prepared = prepare(run, settings, resources, group, leads=lease is not None)
    training, data = prepared.training, prepared.data
    with group.together():
        resumed = training.resume(run)
        trunk = None if resumed else kept_trunk(run)
        if trunk is not None:
            training.go_on_from(trunk)
        elif not resumed and (before := gone_on_with(run)):
            training.go_on_with(before)
    training.begin()
    steps, progress = training.steps, training.progress
    if trunk is not None and lease is not None:
        lease.append(records_of_trunk(training, trunk))
    talk(
        f"attempt {progress.attempts}, {_processes(group)}, on {device_name(group.device)}, "
        + (f"goes on after step {progress.step} of {steps}" if progress.step else f"{steps} steps")
        + (f" with the trunk of {trunk.id}" if trunk else "")
    )
    stopped = fit(
        training,
        data,
        lease,
        score=prepared.score,
        stopping=lambda: stop.signal or 0,
        say=talk,
        checkpoint_seconds=checkpoint_seconds,
        kept_step=kept_step(run),
    )
    peak_memory = group.agree(memory.read() or 0)[0] or None
    group.part()
    if stopped:
        stop.signal = stop.signal or stopped
        talk(f"stopped by {stop.name} after step {progress.step} of {steps}, with a checkpoint")
        return
    if lease is None:
        return
    _write_weights(prepared, lease)
    parent = parent_of(run)
    others = unique_pairs_of(parent) if prepared.pairs_before is None else prepared.pairs_before
    result = replace(
        _result(training, data, peak_memory, prepared.parameters),
        corrupt_samples=prepared.corrupt + progress.corrupt,
        corrupt_evaluation_images=prepared.corrupt_images,
        chance=training.evaluated.chance,
        digests=training.evaluated.digests,
        parent=spent_before(parent, others),
        trunk=Spent(**progress.trunk) if progress.trunk else None,
    )
    # Programs that score the run may need the memory.
    del training, data, prepared
    _finish(result, run, lease, stop, talk)


def _write_weights(prepared: Prepared, lease: Lease) -> None:
    """Write model.pt, averaged.pt and hits.json; and a checkpoint where the user's own programs are to score the
    weights: if one of them fails or is stopped, nothing is trained again."""
    training = prepared.training
    with lease.replace(WEIGHTS_FILE) as file:
        prepared.save(file)
    if training.settings.average:
        with training.averaged(), lease.replace(AVERAGED_FILE) as file:
            prepared.save(file)
    if prepared.score is not None and not training.evaluated.scores:
        # An earlier attempt had done all but those programs, and its checkpoint is of the last step.
        lease.live(Doing.EVALUATING)
        training.evaluated = prepared.score(Group())  # The others have left.
    lease.write_hits(training.evaluated.hits)
    if programs_of(training.settings):
        training.save(lease)


def _finish(result: Result, run: RunFolder, lease: Lease, stop: Stop, talk: Callable[[str], None]) -> None:
    """Have the user's own programs score the run, and write its result, unless a signal stops one of them."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
    scored = with_program_scores(result, run, lease, stop, talk)
    if scored is None:
        return
    # result.json goes last: its presence is what "finished" means. The checkpoint is of no use after it.
    lease.write_result(scored)
    (run.path / "checkpoint.pt").unlink(missing_ok=True)
    talk(f"finished, {scored.train_seconds or 0:.1f} s of training")


# What happened


def _result(training: Training, data: Data, peak_memory: int | None, trained: int) -> Result:
    """The scores, and what it took. trained: how many parameters."""
    progress = training.progress
    samples = training.steps * training.settings.batch_size
    unique_pairs = min(data.size, samples)
    return replace(
        facts(progress, training.device, training.group.size, peak_memory),
        params=trained,
        samples_seen=samples,
        steps=training.steps,
        unique_pairs=unique_pairs,
        repeats=samples / unique_pairs,
        images_per_second=samples / progress.seconds,
        final_loss=training.final_loss,
    )


def facts(progress: Progress, device: torch.device, processes: int, peak_memory: int | None) -> Result:
    """What it took on these processes, one a device."""
    devices = processes if device.type == "cuda" else processes * torch.get_num_threads()
    return Result(
        scores=progress.scores,
        train_seconds=progress.seconds,
        cpu_seconds=progress.cpu_seconds,
        evaluation_seconds=progress.evaluation_seconds,
        attempts=progress.attempts,
        device=device_name(device),
        devices=devices,
        gpu_hours=gpu_hours_of(progress, device, processes),
        peak_memory_bytes=peak_memory,
        started=progress.started,
        finished=time.time(),
        versions={"torch": torch.__version__, "open_clip": open_clip.__version__, "flipscale": version()},
    )


def _say_nothing(line: str) -> None:
    pass


def _processes(group: Group) -> str:
    return f"process {os.getpid()}" if group.size == 1 else f"{group.size} processes, first {os.getpid()}"
