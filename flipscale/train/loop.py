"""The training loop: FLIP's recipe on a schedule counted in samples, with exact resumption.

Nothing in a step depends on when or where it runs: batches and masks follow from the seed and the step, so weights,
optimizer state and `Progress` are all that a checkpoint needs. On a CPU, a run that was killed and resumed gives the
same losses, bit by bit, as one that was not.
"""

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from open_clip import CLIP
from open_clip.loss import ClipLoss
from torch import nn

from flipscale.cost import steps_of
from flipscale.errors import Diverged, RunFolderError
from flipscale.run import Lease, RunFolder
from flipscale.train.data import Data, Images, Integers, order
from flipscale.train.model import build, encode_text, pixels

RECORDS = 200
"""About so many records of the loss a run."""

CHECKPOINT_SECONDS = 30.0
"""At most so much training is lost when a run is killed, unless writing a checkpoint takes long, see `fit`."""

FINAL_SHARE = 0.05
"""final_loss is the mean over this last share of the steps: single steps are noisy."""

SAY_SECONDS = 10.0
"""A line of progress goes to the log this often."""

LOADERS = 4
"""Threads that make batches ahead of a GPU. On a CPU there are none: they would take the time of the training."""


@dataclass
class Progress:
    """How far a run has come, over all the attempts whose work is in it."""

    started: float
    attempts: int = 1
    step: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    scores: dict[str, float] = field(default_factory=dict)
    recorded_step: int = 0
    recorded_seconds: float = 0.0


class Training:
    """A model in training: weights, optimizer state and progress, which together are a checkpoint."""

    def __init__(self, settings: Mapping[str, Any], device: torch.device):
        self.settings = settings
        self.device = device
        self.steps = steps_of(settings)
        self.model = build(settings).to(device)
        self.optimizer = optimizer_of(self.model, settings)
        self.loss = ClipLoss(cache_labels=True)
        self.progress = Progress(started=time.time())
        # The losses' sums since the last record and over the final share stay on the device: reading a loss makes the
        # host wait for a GPU, so it is read at records only.
        self.recent = torch.zeros((), dtype=torch.float64, device=device)
        self.final = torch.zeros((), dtype=torch.float64, device=device)
        self.final_steps = max(1, round(FINAL_SHARE * self.steps))

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return learning_rate(self.settings, self.progress.step)

    @property
    def final_loss(self) -> float:
        return float(self.final) / self.final_steps

    def step(self, images: Images, tokens: Integers) -> None:
        """One step of AdamW on a batch: images [B, 3, S, S], tokens [B, T]."""
        settings, model = self.settings, self.model
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        model.visual.patch_dropout.step = self.progress.step
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings["precision"] == "bf16"):
            loss = self.loss(
                model.encode_image(pixels(images, self.device), normalize=True),
                encode_text(model, torch.from_numpy(tokens).to(self.device, non_blocking=True), normalize=True),
                model.logit_scale.exp(),
            )
        loss.backward()
        if settings["grad_clip"] is not None:
            nn.utils.clip_grad_norm_(model.parameters(), settings["grad_clip"])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            # The scale stays between 1 and 100, as in FLIP: above 100 CLIP's training is unstable (arXiv 2103.00020).
            model.logit_scale.clamp_(0, math.log(100))
            self.recent += loss.detach()
            if self.progress.step >= self.steps - self.final_steps:
                self.final += loss.detach()
        self.progress.step += 1

    def save(self, lease: Lease) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": asdict(self.progress),
            "recent": self.recent,
            "final": self.final,
        }
        with lease.replace("checkpoint.pt") as file:
            torch.save(state, file)

    def resume(self, folder: RunFolder) -> bool:
        """Go on from the folder's checkpoint, if there is one."""
        path = folder.path / "checkpoint.pt"
        if not path.exists():
            return False
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.progress = Progress(**state["progress"])
            self.recent, self.final = state["recent"], state["final"]
        except (OSError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # Unpickling what is no checkpoint raises nearly anything.
            raise RunFolderError(
                f"{path}: cannot be resumed from ({type(error).__name__}). Delete it and submit again; the run then "
                f"starts over."
            ) from error
        self.progress.attempts += 1
        return True


def fit(
    training: Training,
    data: Data,
    lease: Lease,
    *,
    score: Callable[[], dict[str, float]] | None,
    stopping: Callable[[], bool],
    say: Callable[[str], None],
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> bool:
    """Train to the end of the schedule: True; or until `stopping` says so, with a checkpoint written: False.

    metrics.jsonl gets about 200 records of the loss and one of each evaluation. In them `loss` is the mean since the
    record before, and `logit_scale` is the parameter itself, a logarithm. `score` evaluates the model at the fractions
    of the schedule in settings["evaluation"]["at"] and at the end; its time is not training time. Raises Diverged when
    the loss or a score is no longer a number.
    """
    settings, progress, steps = training.settings, training.progress, training.steps
    record_every = max(1, round(steps / RECORDS))
    score_at = {max(1, _rounded(at * steps)) for at in settings["evaluation"]["at"]} | {steps}
    loaders = LOADERS if training.device.type == "cuda" else 0
    clock = _Clock(progress)
    said = saved = time.monotonic()
    save_seconds = 0.0

    def checkpoint() -> None:
        nonlocal saved, save_seconds
        began = time.monotonic()
        records.flush()
        clock.read()
        training.save(lease)
        saved = time.monotonic()
        save_seconds = saved - began

    with contextlib.closing(_Records(lease)) as records:
        for images, tokens in batches(data, settings, progress.step, steps, loaders):
            if stopping():
                checkpoint()
                return False
            lr = training.lr
            training.step(images, tokens)
            if progress.step % record_every == 0 or progress.step in score_at:
                record = _record(training, clock, lr)
                records.add(record)
                if time.monotonic() - said > SAY_SECONDS:
                    said = time.monotonic()
                    speed = record["images_per_second"]
                    say(f"step {progress.step} of {steps}, loss {record['loss']:.4f}, {speed:.0f} images/s")
            if progress.step in score_at and score is not None:
                records.add(_score(training, clock, score))
                scores = ", ".join(f"{name} {value:.4f}" for name, value in progress.scores.items())
                say(f"step {progress.step} of {steps}, {scores}")
            # However large the model, checkpoints take at most about a twentieth of the time.
            if time.monotonic() - saved > max(checkpoint_seconds, 20 * save_seconds) and progress.step < steps:
                checkpoint()
    clock.read()
    return True


def learning_rate(settings: Mapping[str, Any], step: int) -> float:
    """The learning rate of step `step` (0 is the first): linear warm-up to `lr`, then half a cosine to 0.

    The shape is open_clip's `cosine_lr`, counted in samples: the last warm-up step and the first after it are at `lr`.
    """
    peak: float = settings["lr"]
    batch: int = settings["batch_size"]
    warmup: int = settings["warmup"]
    seen = step * batch
    if seen < warmup:
        return peak * min(1.0, (seen + batch) / warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * (seen - warmup) / (steps_of(settings) * batch - warmup)))


def optimizer_of(model: CLIP, settings: Mapping[str, Any]) -> torch.optim.AdamW:
    """AdamW with FLIP's settings. Weight decay is for matrices: not for biases, LayerNorm and positional embeddings.

    FLIP's released code decays the class token and the logit scale too, as its test by name misses them. Here, as in
    open_clip, nothing with fewer than two dimensions is decayed; unlike in open_clip, nor are positional embeddings.
    """
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_matrix = parameter.ndim >= 2 and not name.endswith("positional_embedding")
            (decayed if is_matrix else others).append(parameter)
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings["weight_decay"]}, {"params": others, "weight_decay": 0.0}],
        lr=settings["lr"],
        betas=(settings["beta1"], settings["beta2"]),
        eps=settings["eps"],
        fused=True,
    )


def batches(
    data: Data, settings: Mapping[str, Any], first: int, steps: int, loaders: int
) -> Iterator[tuple[Images, Integers]]:
    """The batches of steps `first` to `steps`, in order, made ahead by `loaders` threads, or on demand if 0."""
    size = settings["batch_size"]

    def batch(step: int) -> tuple[Images, Integers]:
        return data.batch(order(settings["seed"], data.size, step * size, size))

    if not loaders:
        yield from map(batch, range(first, steps))
        return
    with ThreadPoolExecutor(loaders) as pool:
        ahead = deque(pool.submit(batch, step) for step in range(first, min(first + 2 * loaders, steps)))
        for step in range(first + 2 * loaders, steps + 2 * loaders):
            yield ahead.popleft().result()
            if step < steps:
                ahead.append(pool.submit(batch, step))


class _Clock:
    """Training seconds, wall and CPU, counted into `progress` at each reading."""

    def __init__(self, progress: Progress):
        self.progress = progress
        self.restart()

    def restart(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> None:
        wall, cpu = self.wall, self.cpu
        self.restart()
        self.progress.seconds += self.wall - wall
        self.progress.cpu_seconds += self.cpu - cpu


class _Records:
    """Records on their way to metrics.jsonl, written once a second.

    On a network file system opening a file takes milliseconds, as long as a small model's step.
    """

    def __init__(self, lease: Lease):
        self.lease = lease
        self.waiting: list[Mapping[str, Any]] = []
        self.written = time.monotonic()

    def add(self, record: Mapping[str, Any]) -> None:
        self.waiting.append(record)
        if time.monotonic() - self.written > 1:
            self.flush()

    def flush(self) -> None:
        waiting, self.waiting = self.waiting, []
        self.written = time.monotonic()
        if waiting:
            self.lease.append(waiting)

    close = flush


def _record(training: Training, clock: _Clock, lr: float) -> dict[str, Any]:
    """What was seen since the last record: the mean loss and the speed. Reading the loss waits for the device."""
    progress, batch_size = training.progress, training.settings["batch_size"]
    steps = progress.step - progress.recorded_step
    loss = float(training.recent) / steps
    clock.read()
    if not math.isfinite(loss):
        raise Diverged(
            f"The training loss is {loss} at step {progress.step} of {training.steps}, where lr is {lr:.3g}; "
            f"lower lr, lengthen warmup or set grad_clip."
        )
    seconds = progress.seconds - progress.recorded_seconds
    training.recent.zero_()
    progress.recorded_step, progress.recorded_seconds = progress.step, progress.seconds
    return {
        "step": progress.step,
        "samples": progress.step * batch_size,
        "loss": loss,
        "lr": lr,
        "logit_scale": float(training.model.logit_scale.detach()),
        "images_per_second": steps * batch_size / seconds,
        "seconds": progress.seconds,
        "time": time.time(),
    }


def _score(training: Training, clock: _Clock, score: Callable[[], dict[str, float]]) -> dict[str, Any]:
    """Evaluate, with the clock of the training stopped."""
    progress = training.progress
    clock.read()
    began = time.perf_counter()
    progress.scores = score()
    seconds = time.perf_counter() - began
    progress.evaluation_seconds += seconds
    clock.restart()
    for name, value in progress.scores.items():
        if not math.isfinite(value):
            raise Diverged(
                f"{name} is {value} at step {progress.step} of {training.steps}; lower lr or lengthen warmup."
            )
    return {
        "step": progress.step,
        "samples": progress.step * training.settings["batch_size"],
        "scores": progress.scores,
        "evaluation_seconds": seconds,
        "time": time.time(),
    }


def _rounded(number: float) -> int:
    """To the nearest, halves up: Python's round takes halves to the even neighbour."""
    return math.floor(number + 0.5)
