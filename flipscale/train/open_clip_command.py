"""open_clip's own training program as a run's trainer: `python -m open_clip_train.main`, which people at scale run.

    trainer: open_clip

A run's settings become the program's flags, see `FLAGS`; what it cannot express is refused by name before anything
starts. It starts from the weights that flipscale's own trainer would start from, its log is read back into
metrics.jsonl as it comes, its last checkpoint becomes model.pt, and flipscale's own evaluation gives the scores. So a
study compares the two trainers by the same measure.

In the run's folder, open_clip/model is the model's configuration, which open_clip takes as `local-dir:`, and
open_clip/train is the program's own folder. Its checkpoints are those of whole epochs: what a run that is killed has
done of an epoch is done again. The order of samples is open_clip's, whose last shuffle follows the clock: the same
seed does not give the same losses.
"""

import contextlib
import importlib.metadata
import json
import math
import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from flipscale.architecture import architecture
from flipscale.cost import parameters
from flipscale.errors import DataError, Diverged
from flipscale.inputs.open_clip_flags import Job, check_webdataset, command, refuse, settle, wishes
from flipscale.run import Doing, Lease, RunFolder, write_json
from flipscale.study.settings import NORMALIZATIONS
from flipscale.train.command import Program, complete, known_attempts, run_program, usage
from flipscale.train.data.decode import CORRUPT_COUNT, CORRUPT_SHARE
from flipscale.train.evaluate import evaluate
from flipscale.train.loop import check_scores
from flipscale.train.model import build, save, weights
from flipscale.train.open_clip_shards import shards_of
from flipscale.train.stop import Stop
from flipscale.train.task import asked_of, corrupt_images, evaluations_of, parent_of

SAY_SECONDS = 10.0

Say = Callable[[str], None]


def run_open_clip(run: RunFolder, lease: Lease, stop: Stop, say: Say) -> bool:
    """Let open_clip's program train the run: True if it finished, False if a signal stopped it on the way.

    Raises FlipscaleError for what the program cannot do, before it starts, and Failed, by kind, for what fails in it.
    """
    settings, resources = asked_of(run)
    arguments = settings["trainer"]["open_clip"]["arguments"] or []
    wished = wishes(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    refuse(settings, resources, device)
    check_webdataset()
    job = settle(settings, resources, device, run.path.resolve() / "open_clip", shards_of(run, settings), wished)
    done = _epochs_done(job)
    if done < job.epochs:
        say(
            f"open_clip's program, {job.epochs} epochs of {job.steps_per_epoch} steps; a kill costs at most an epoch, "
            + (f"goes on after epoch {done}" if done else "of which none is done")
        )
        if not done:
            _write_model(job, run)
    log = _Log(job, lease, say, done)
    if done < job.epochs:
        ended = run_program(command(job, arguments), run, lease, stop, say, environment=_ENVIRONMENT, heed=log.heed)
        done = _epochs_done(job)
        if ended.stopped and done < job.epochs:
            say(f"stopped by {stop.name} in epoch {log.epoch + 1} of {job.epochs}; goes on after epoch {done}")
            return False
        if not ended.stopped:
            ended.raise_failure("open_clip_train.main", run)
    log.read_results()
    if log.step < job.steps or done < job.epochs:
        raise DataError(
            f"open_clip's program ended after step {log.step} of {job.steps}: it did not find as many pairs as that "
            f"takes in {job.shards.urls}. log.txt says what it met."
        )
    _finish(run, lease, job, log, say)
    return True


# Before it starts

# A process of torchrun or of SLURM would take flipscale's own place in its group for the program's.
_ENVIRONMENT = dict.fromkeys(
    ("RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS", "PMI_RANK", "PMI_SIZE")
)

_WEIGHTS = "open_clip_pytorch_model.bin"
"""The name under which open_clip finds the weights beside a configuration."""


def _write_model(job: Job, run: RunFolder) -> None:
    """The folder that --model names: the configuration, and the weights to start from under a name open_clip finds."""
    settings = job.settings
    shutil.rmtree(job.folder / "train", ignore_errors=True)
    (job.folder / "model").mkdir(parents=True, exist_ok=True)
    config = architecture(settings["model"], settings["image_size"]).open_clip_config
    config["text_cfg"]["context_length"] = settings["text_length"]
    for name in ("hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs"):
        config["text_cfg"].pop(name, None)
    mean, std = NORMALIZATIONS[settings["normalization"]]
    preprocess = {"mean": list(mean), "std": list(std), "interpolation": "bicubic", "resize_mode": "shortest"}
    write_json(job.folder / "model" / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": preprocess})
    state = weights(build(settings, start=_start(run)))
    name = _positions(state)
    state[name] = state[name][: settings["text_length"]].clone()
    torch.save(state, job.folder / "model" / _WEIGHTS)


def _start(run: RunFolder) -> Path | None:
    """The weights of the run's parent, if it has one."""
    parent = parent_of(run)
    return parent.path / "model.pt" if parent else None


def _positions(state: Mapping[str, Any]) -> str:
    """The name of the text tower's table of positions, which here ends with text_length."""
    return "positional_embedding" if "positional_embedding" in state else "text.positional_embedding"


def _epochs_done(job: Job) -> int:
    """The epochs that the checkpoint holds, 0 without one. It is renamed into place, so it is whole."""
    path = job.checkpoints / "epoch_latest.pt"
    return int(torch.load(path, map_location="cpu", mmap=True)["epoch"]) if path.exists() else 0


# While it trains

_START = re.compile(r"\| INFO \| Start epoch (\d+)")
_STEP = re.compile(
    r"Train Epoch: \d+ \[\s*(?P<samples>\d+)/.*Logit Scale: (?P<scale>\S+) .*\bLoss: (?P<loss>\S+) \(\S+\)\s*$"
)
_UNREADABLE = "Handling webdataset error"


class _Log:
    """Reads what the program says: its steps become records, and the time of training is told from all the rest."""

    def __init__(self, job: Job, lease: Lease, say: Say, done: int):
        self.job = job
        self.lease = lease
        self.say = say
        self.epoch = done
        self.step = done * job.steps_per_epoch
        self.times: dict[str, list[float]] = {}
        with contextlib.suppress(FileNotFoundError):
            self.times = json.loads((job.folder / "times.json").read_text(encoding="utf-8"))
        # What was done of an epoch that is done again is not counted, as with flipscale's own trainer.
        self.seconds, self.cpu_seconds = self.times.get(str(done), [0.0, 0.0])
        self.mark, self.cpu_mark = 0.0, 0.0
        self.recorded_step, self.recorded_seconds = self.step, self.seconds
        self.unreadable = 0
        self.scores: dict[str, float] = {}
        self.said = time.monotonic()

    def heed(self, line: str, when: float, program: Program) -> None:
        if _UNREADABLE in line:
            self.unreadable += 1
            if self.unreadable > max(CORRUPT_COUNT, CORRUPT_SHARE * self.job.steps * self.job.settings["batch_size"]):
                raise DataError(
                    f"{self.job.shards.urls}: {self.unreadable} samples could not be read, the last one because of "
                    f"{line.partition(_UNREADABLE)[2].strip(' ()').removesuffix('). Ignoring.')}; "
                    f"{CORRUPT_COUNT}, or {CORRUPT_SHARE:.0%}, are passed over."
                )
        elif start := _START.search(line):
            self.read_results()
            self.epoch, self.mark, self.cpu_mark = int(start[1]), when, usage(program.pid)[0]
        elif step := _STEP.search(line):
            self._record(step, when, program)

    def _record(self, found: re.Match[str], when: float, program: Program) -> None:
        job = self.job
        in_epoch = int(found["samples"]) // job.settings["batch_size"]
        self.step = self.epoch * job.steps_per_epoch + in_epoch
        self.seconds += when - self.mark
        self.mark = when
        loss = float(found["loss"])
        lr = job.lr(self.step - 1)
        if not math.isfinite(loss):
            raise Diverged(
                f"The training loss is {loss} at step {self.step} of {job.steps}, where lr is {lr:.3g}; "
                f"lower lr, lengthen warmup or set grad_clip."
            )
        samples = (self.step - self.recorded_step) * job.settings["batch_size"]
        speed = samples / max(self.seconds - self.recorded_seconds, 1e-9)
        self.recorded_step, self.recorded_seconds = self.step, self.seconds
        self._append(loss=loss, lr=lr, logit_scale=math.log(float(found["scale"])), images_per_second=speed)
        if time.monotonic() - self.said > SAY_SECONDS:
            self.said = time.monotonic()
            self.say(f"step {self.step} of {job.steps}, loss {loss:.4f}, {speed:.0f} images/s")
        if in_epoch == job.steps_per_epoch:
            self.cpu_seconds += max(0.0, usage(program.pid)[0] - self.cpu_mark)
            self.times[str(self.epoch + 1)] = [self.seconds, self.cpu_seconds]
            self.lease.fence()
            write_json(job.folder / "times.json", self.times)

    def _append(self, **seen: Any) -> None:
        samples = self.step * self.job.settings["batch_size"]
        record = {"step": self.step, "samples": samples, **seen}
        if "scores" not in seen:
            record["seconds"] = self.seconds
        self.lease.append([{**record, "time": time.time()}])

    def read_results(self) -> None:
        """What the program itself evaluated since, if `arguments` ask it to: its results.jsonl, the last line of it."""
        path = self.job.checkpoints / "results.jsonl"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        if lines:
            told = {name: value for name, value in json.loads(lines[-1]).items() if isinstance(value, int | float)}
            scores = {
                f"open_clip.{re.sub(r'[^A-Za-z0-9_]', '_', name)}": told[name] for name in told if name != "epoch"
            }
            if scores != self.scores:
                self.scores = scores
                self._append(scores=scores)


# At the end


def _finish(run: RunFolder, lease: Lease, job: Job, log: _Log, say: Say) -> None:
    """The last checkpoint becomes model.pt, and the run's result is flipscale's evaluation of it."""
    settings = job.settings
    model = _trained(job, run)
    with lease.replace("model.pt") as file:
        save(model, file)
    lease.live(Doing.EVALUATING)
    began = time.perf_counter()
    evaluations = evaluations_of(run, settings)
    scores = evaluate(model.to(job.device), evaluations, settings)
    seconds = time.perf_counter() - began
    check_scores(scores, "the end")
    samples = job.steps * settings["batch_size"]
    record = {"step": job.steps, "samples": samples, "scores": scores, "evaluation_seconds": seconds}
    lease.append([{**record, "time": time.time()}])
    say(f"step {job.steps} of {job.steps}, {', '.join(f'{name} {value:.4f}' for name, value in scores.items())}")
    measured = {
        "scores": {**log.scores, **scores},
        "unique_pairs": _unique_pairs(job),
        "train_seconds": log.seconds,
        "cpu_seconds": log.cpu_seconds or None,
        "evaluation_seconds": seconds,
        "devices": job.processes * (1 if job.device == "cuda" else torch.get_num_threads()),
        "params": parameters(architecture(settings["model"], settings["image_size"])),
        "corrupt_samples": job.shards.corrupt + log.unreadable,
        "corrupt_evaluation_images": corrupt_images(evaluations),
        "versions": {"torch": torch.__version__, "open_clip": importlib.metadata.version("open_clip_torch")},
    }
    # result.json goes last: its presence is what "finished" means. The checkpoints are of no use after it.
    lease.write_result(complete(measured, run, known_attempts(run)))
    for leftover in (
        job.checkpoints,
        job.folder / "model" / _WEIGHTS,
        job.folder / "times.json",
        run.path / "program.json",
    ):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        leftover.unlink(missing_ok=True)
    say(f"finished, {log.seconds:.1f} s of training")


def _trained(job: Job, run: RunFolder) -> Any:
    """The model with the last checkpoint's weights.

    Beyond text_length its table of positions stays as it began, as flipscale's own trainer leaves it.
    """
    state = torch.load(job.checkpoints / "epoch_latest.pt", map_location="cpu", mmap=True)["state_dict"]
    state = {name.removeprefix("module."): value for name, value in state.items()}
    model = build(job.settings, start=_start(run))
    name = _positions(state)
    rest = model.state_dict()[name][job.settings["text_length"] :]
    model.load_state_dict({**state, name: torch.cat([state[name], rest])})
    return model


def _unique_pairs(job: Job) -> int | None:
    """The different pairs seen, where that is certain: in one epoch, or in epochs that go through all of them."""
    samples = job.steps_per_epoch * job.settings["batch_size"]
    if job.shards.pairs is None:
        return None
    return min(samples, job.shards.pairs) if job.epochs == 1 or samples >= job.shards.pairs else None
