"""open_clip's own training program as a run's trainer: `python -m open_clip_train.main`, the usual program at scale.

    trainer: open_clip

A run's settings become the program's flags, see `FLAGS`; a setting without a flag is refused by name before anything
starts. The program starts from the weights that flipscale's own trainer would start from, its log is read back into
metrics.jsonl as it comes, its last checkpoint becomes model.pt, and flipscale's own evaluation gives the scores. A
study therefore compares the two trainers by the same measure.

In the run's folder, open_clip/model is the model's configuration, which open_clip takes as `local-dir:`, and
open_clip/train is the program's own folder. Its checkpoints are those of whole epochs: a run that is killed repeats the
epoch it was in. The order of samples is open_clip's, whose last shuffle follows the clock: the same seed does not give
the same losses.
"""

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from open_clip import CLIP
from torch import Tensor

from flipscale.cost.arithmetic import trained_parameters
from flipscale.data.open_clip_flags import ProgramJob, check_webdataset, command, refuse, settle, wishes
from flipscale.errors import DataError
from flipscale.guard import check_folder, make_folder
from flipscale.plain_files import open_plain, replacing
from flipscale.planning.identity import lineage
from flipscale.run import WEIGHTS_FILE, Doing, Lease, Result, RunFolder, write_json
from flipscale.settings.architecture import architecture
from flipscale.settings.declarations import NORMALIZATIONS, OpenClipTrainer
from flipscale.train.evaluate import check_scores, evaluate
from flipscale.train.failure import say
from flipscale.train.machine import versions
from flipscale.train.metrics import ScoreRecord, scores_in_words
from flipscale.train.model import build, save, weights
from flipscale.train.requests import asked_of, request_of, scored_settings, start_of
from flipscale.train.sources import corrupt_images, evaluations_of
from flipscale.train.stop import Stop
from flipscale.train.trainers.open_clip.printed import ProgramOutput
from flipscale.train.trainers.open_clip.training_shards import shards_of
from flipscale.train.trainers.program.evaluation import finish
from flipscale.train.trainers.program.outcome import complete
from flipscale.train.trainers.program.process import ProgramStart, known_attempts, run_program


def run_open_clip(run: RunFolder, lease: Lease, stop: Stop) -> bool:
    """Let open_clip's program train the run: True if it finished, False if a signal stopped it on the way.

    Raises FlipscaleError for what the program cannot do, before it starts, and Failed, by kind, for what fails in it.
    """
    settings, resources = request_of(run)
    assert isinstance(settings.trainer, OpenClipTrainer)
    arguments = settings.trainer.arguments
    wished = wishes(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    refuse(settings, resources, device)
    check_webdataset()
    job = settle(settings, resources, device, run.path.resolve() / "open_clip", shards_of(run, settings), wished)
    job = replace(job, parents=len(lineage(asked_of(run).settled)) - 1)
    for folder in (job.folder, job.checkpoints.parent, job.checkpoints):
        check_folder(folder)
    done = _epochs_done(job)
    if done < job.epochs:
        say(
            run,
            f"open_clip's program, {job.epochs} epochs of {job.steps_per_epoch} steps; a kill costs at most an epoch; "
            + (f"goes on after epoch {done}" if done else "none is done yet"),
        )
        if not done:
            write_model(job, run)
    output = ProgramOutput(job, run, lease, done)
    if done < job.epochs:
        start = ProgramStart(command(job, arguments), _ENVIRONMENT)
        ended = run_program(start, run, lease, stop, heed=output.heed)
        done = _epochs_done(job)
        if ended.stopped and done < job.epochs:
            say(run, f"stopped by {stop.name} in epoch {output.epoch + 1} of {job.epochs}; goes on after epoch {done}")
            return False
        if not ended.stopped:
            ended.raise_failure("open_clip_train.main", run)
    output.read_results()
    if output.step < job.steps or done < job.epochs:
        raise DataError(
            f"open_clip's program ended after step {output.step} of {job.steps}: it did not find enough pairs in "
            f"{job.shards.urls}. See its output (flipscale logs ID)."
        )
    leftovers = (job.checkpoints, job.folder / "model" / _WEIGHTS, job.folder / "times.json", run.path / "program.json")
    result = _result(run, lease, job, output)
    return finish(result, run, lease, stop, leftovers, f"{output.seconds:.1f} s of training")


# Before it starts

# Under torchrun or SLURM the program would take flipscale's own place in its group for its own.
_ENVIRONMENT = dict.fromkeys(
    ("RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS", "PMI_RANK", "PMI_SIZE")
)

_WEIGHTS = "open_clip_pytorch_model.bin"
"""The name under which open_clip finds the weights beside a configuration."""


def write_model(job: ProgramJob, run: RunFolder) -> None:
    """The folder that --model names: the configuration, and the weights to start from under a name open_clip finds."""
    settings = job.settings
    shutil.rmtree(job.folder / "train", ignore_errors=True)
    make_folder(job.folder / "model", job.folder.parent)
    config = architecture(settings.model, settings.image_size).open_clip_config
    config["text_cfg"]["context_length"] = settings.text_length
    for name in ("hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs"):
        config["text_cfg"].pop(name, None)
    mean, std = NORMALIZATIONS[settings.normalization]
    preprocess = {"mean": list(mean), "std": list(std), "interpolation": "bicubic", "resize_mode": "shortest"}
    write_json(job.folder / "model" / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": preprocess})
    state = weights(build(settings, start=start_of(run)))
    name = _positions(state)
    state[name] = state[name][: settings.text_length].clone()
    with replacing(job.folder / "model" / _WEIGHTS) as file:
        torch.save(state, file)


def _positions(state: Mapping[str, Tensor]) -> str:
    """The name of the text tower's table of positions, which here ends with text_length."""
    return "positional_embedding" if "positional_embedding" in state else "text.positional_embedding"


def _epochs_done(job: ProgramJob) -> int:
    """The epochs that the checkpoint holds, 0 without one. It is renamed into place, so it is whole."""
    return int(_checkpoint(job)["epoch"]) if (job.checkpoints / "epoch_latest.pt").exists() else 0


def _checkpoint(job: ProgramJob) -> Any:
    path = job.checkpoints / "epoch_latest.pt"
    os.close(open_plain(path))
    return torch.load(path, map_location="cpu", mmap=True, weights_only=True)


# At the end


def _result(run: RunFolder, lease: Lease, job: ProgramJob, output: ProgramOutput) -> Result:
    """The last checkpoint becomes model.pt, and the run's result is flipscale's evaluation of it."""
    settings = job.settings
    model = _trained(job, run)
    with lease.replace(WEIGHTS_FILE) as file:
        save(model, file)
    lease.live(Doing.EVALUATING)
    began = time.perf_counter()
    evaluations = evaluations_of(run, settings)
    evaluated = evaluate(model.to(job.device), evaluations, scored_settings(run))
    scores = evaluated.scores
    seconds = time.perf_counter() - began
    check_scores(scores, "the end")
    samples = job.steps * settings.batch_size
    lease.append([ScoreRecord(job.steps, samples, scores, seconds).to_dict()])
    say(run, f"step {job.steps} of {job.steps}, {scores_in_words(scores)}")
    measured = {
        "scores": {**output.scores, **scores},
        "unique_pairs": _unique_pairs(job),
        "train_seconds": output.seconds,
        "cpu_seconds": output.cpu_seconds or None,
        "evaluation_seconds": seconds,
        "devices": job.processes * (1 if job.device == "cuda" else torch.get_num_threads()),
        "params": trained_parameters(settings),
        "corrupt_samples": job.shards.corrupt + output.unreadable,
        "corrupt_evaluation_images": corrupt_images(evaluations),
        "versions": versions(),
        "chance": evaluated.chance,
        "digests": evaluated.digests,
    }
    lease.write_hits(evaluated.hits)
    return complete(measured, run, known_attempts(run))


def _trained(job: ProgramJob, run: RunFolder) -> CLIP:
    """The model with the last checkpoint's weights.

    Beyond text_length its table of positions stays as it began, as flipscale's own trainer leaves it.
    """
    state = _checkpoint(job)["state_dict"]
    state = {name.removeprefix("module."): value for name, value in state.items()}
    model = build(job.settings, start=start_of(run))
    name = _positions(state)
    rest = model.state_dict()[name][job.settings.text_length :]
    model.load_state_dict({**state, name: torch.cat([state[name], rest])})
    return model


def _unique_pairs(job: ProgramJob) -> int | None:
    """The different pairs seen, where that is certain: in one epoch, or in epochs that go through all of them."""
    samples = job.steps_per_epoch * job.settings.batch_size
    if job.shards.pairs is None:
        return None
    return min(samples, job.shards.pairs) if job.epochs == 1 or samples >= job.shards.pairs else None
