"""One run, from what was asked to its result, or to a checkpoint if a signal comes. Every process of the run does it.

Open the data, build the model, go on from a checkpoint or start from the parent's weights, train, evaluate, write
model.pt and last result.json. Process 0 has the lease: it evaluates and writes.
"""

import gc
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import IO

import torch

from flipscale.cost.arithmetic import trained_parameters
from flipscale.data.digest import digests
from flipscale.data.pairs import Data, HeldOutItems
from flipscale.planning.identity import labelled_set, labelled_test_images, show_setting
from flipscale.run import AVERAGED_FILE, WEIGHTS_FILE, Doing, Lease, Result, RunFolder, Spent
from flipscale.settings.declarations import Resources, Settings
from flipscale.train.classify import score_classifier
from flipscale.train.distributed import Group
from flipscale.train.evaluate import Evaluated, evaluate
from flipscale.train.failure import say
from flipscale.train.machine import PeakMemory, device_name, versions
from flipscale.train.model import save
from flipscale.train.requests import (
    course,
    gone_on_with,
    kept_step,
    kept_trunk,
    parent_of,
    request_of,
    scored_settings,
    spent_before,
    start_of,
    steps_before,
    unique_pairs_of,
)
from flipscale.train.sources import (
    corrupt_images,
    evaluations_of,
    open_labelled_data,
    open_training_data,
    vocabulary,
)
from flipscale.train.stop import Stop
from flipscale.train.trainers.builtin.checkpoints import CHECKPOINT_FILE
from flipscale.train.trainers.builtin.fine_tuning import HeadTraining
from flipscale.train.trainers.builtin.loop import fit, records_of_trunk
from flipscale.train.trainers.builtin.training import Progress, Training, gpu_hours_of
from flipscale.train.trainers.program.evaluation import finish, programs_of


def pretrain(run: RunFolder, lease: Lease | None, group: Group, stop: Stop, checkpoint_seconds: float | None) -> None:
    """Train the run, from its parent's weights or its trunk if it has one. Only process 0 has the lease.

    checkpoint_seconds: the training between two checkpoints; None: as the study asks, or as `fit` has it.
    """
    settings, resources = request_of(run)
    talk: Callable[[str], None] = partial(say, run) if lease else lambda line: None
    memory = PeakMemory(group.device)
    prepared = _prepare(run, settings, resources, group, leads=lease is not None)
    training = prepared.training
    data = prepared.data
    with group.together():
        resumed = training.resume(run)
        trunk = None if resumed else kept_trunk(run)
        if trunk is not None:
            training.go_on_from(trunk)
        elif not resumed and (before := gone_on_with(run)):
            training.go_on_with(before)
    training.begin()
    steps = training.steps
    progress = training.progress
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
        checkpoint_seconds=resources.checkpoint if checkpoint_seconds is None else checkpoint_seconds,
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
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
    seconds = f"{result.train_seconds or 0:.1f} s of training"
    finish(result, run, lease, stop, [run.path / CHECKPOINT_FILE], seconds)


def _write_weights(prepared: "_Prepared", lease: Lease) -> None:
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


# Before it trains


@dataclass(frozen=True)
class _Prepared:
    """The parts of a run's training."""

    training: Training
    data: Data
    score: Callable[[Group], Evaluated] | None
    """None where nothing is scored. All processes of the group call it; process 0 gets the scores."""
    save: Callable[[IO[bytes]], None]
    """Writes the weights."""
    parameters: int
    """How many are trained."""
    corrupt: int
    """Samples that were known to be unreadable before the training began."""
    corrupt_images: int
    """Images to score on that were skipped."""
    pairs_before: int | None
    """Pairs of earlier runs that are not pairs of this one; None for a fine-tuning, which sees other images."""


def _prepare(run: RunFolder, settings: Settings, resources: Resources, group: Group, *, leads: bool) -> _Prepared:
    """Open the data and build the model, from the parent's weights if there is a parent. All processes call it.

    settings: of the stage. leads: whether this is the process that has the items to score. Raises on all processes what
    fails on one.
    """
    if settings.fine_tuning is not None:
        return _labelled(run, settings, resources, group)
    return _pairs(run, settings, resources, group, leads=leads)


def _pairs(run: RunFolder, settings: Settings, resources: Resources, group: Group, *, leads: bool) -> _Prepared:
    with group.together():
        data = open_training_data(run, settings)
        evaluations = evaluations_of(run, settings) if leads else {}
    words = group.share(vocabulary(data, evaluations))
    known_corrupt = data.corrupt()
    with group.together():
        before = steps_before(run, settings.batch_size)
        training = Training(settings, group, resources, words, start_of(run), steps_before=before, course=course(run))
    return _Prepared(
        training=training,
        data=data,
        score=partial(_score, training, evaluations, scored_settings(run)) if group.share(bool(evaluations)) else None,
        save=partial(save, training.model),
        parameters=trained_parameters(settings),
        corrupt=known_corrupt,
        corrupt_images=corrupt_images(evaluations),
        pairs_before=_pairs_before(training, data),
    )


def _score(training: Training, evaluations: Mapping[str, HeldOutItems], settings: Settings, group: Group) -> Evaluated:
    evaluated = evaluate(training.model, evaluations, settings, group)
    if not (settings.average and training.progress.step == training.steps):
        return evaluated
    with training.averaged():
        return evaluated.beside(evaluate(training.model, evaluations, settings, group, averaged=True))


def _pairs_before(training: Training, data: Data) -> int:
    """How many pairs the runs before saw and this one does not: together they go along one order."""
    samples = training.steps * training.settings.batch_size
    before = training.steps_before * training.settings.batch_size
    return min(data.size, before + samples) - min(data.size, samples)


def _labelled(run: RunFolder, settings: Settings, resources: Resources, group: Group) -> _Prepared:
    with group.together():
        opened = open_labelled_data(run, settings)
    classes = opened.test.classes
    with group.together():
        training = HeadTraining(settings, group, resources, start_of(run), len(classes))
    source = f"{show_setting(labelled_set(settings))}, images {labelled_test_images(settings)}"
    known = digests(settings)

    def score(group: Group) -> Evaluated:
        return replace(
            score_classifier(training.classifier, opened.test, source, settings.precision, group), digests=known
        )

    def keep(file: IO[bytes]) -> None:
        head = {name: value.detach().cpu() for name, value in training.classifier.head.state_dict().items()}
        save(training.model, file, head=head, classes=list(classes))

    return _Prepared(
        training=training,
        data=opened.training,
        score=score,
        save=keep,
        parameters=training.trained_parameters,
        corrupt=0,
        corrupt_images=opened.test.corrupt,
        pairs_before=None,
    )


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
        versions=versions(),
    )


def _processes(group: Group) -> str:
    return f"process {os.getpid()}" if group.size == 1 else f"{group.size} processes, first {os.getpid()}"
