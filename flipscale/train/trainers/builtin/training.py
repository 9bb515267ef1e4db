"""A model in training: one step of AdamW on the global batch, whatever it is split into, and its checkpoint.

A global batch is split into processes and each process's rows into micro-batches (resources.accumulate). The loss is
still that of the whole batch: every image is contrasted with every text of it. Only `precision` changes what a run
computes, up to the rounding of sums.
"""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from open_clip import CLIP
from open_clip.loss import ClipLoss
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from flipscale.cost.arithmetic import averaged_steps, steps_of
from flipscale.data.pairs import Data, Images, Integers
from flipscale.errors import FlipscaleError, RunFolderError
from flipscale.plain_files import open_plain
from flipscale.planning.identity import WHOLE, Course
from flipscale.run import TRUNK_FILE, Lease, RunFolder, Spent
from flipscale.settings.declarations import Resources, Settings
from flipscale.settings.devices import LOADERS
from flipscale.train.distributed import Group
from flipscale.train.evaluate import Evaluated
from flipscale.train.failure import is_out_of_memory
from flipscale.train.machine import FORWARD_DTYPES, allow_tf32
from flipscale.train.model import build
from flipscale.train.objective import Objective
from flipscale.train.requests import TrainedWeights
from flipscale.train.schedule import learning_rate
from flipscale.train.trainers.builtin.checkpoints import CHECKPOINT_FILE, TrainingState, write_state
from flipscale.train.trainers.builtin.loaders import OwnRows

FINAL_SHARE = 0.05
"""final_loss is the mean over this last share of the steps: single steps are noisy."""

LR_SCALE = "lr_scale"
"""Option of a group of parameters: its learning rate over that of the schedule."""


@dataclass
class Progress:
    """How far a run has come, over all the attempts whose work is in it."""

    started: float
    attempts: int = 1
    step: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of all processes together."""
    evaluation_seconds: float = 0.0
    scores: dict[str, float] = field(default_factory=dict)
    recorded_step: int = 0
    recorded_seconds: float = 0.0
    corrupt: int = 0
    """Samples that turned out unreadable on the way, in all processes and attempts, without those known before."""
    trunk: dict[str, Any] = field(default_factory=dict)
    """The part of this that the run of its trunk took, as `Spent` has it; empty where it trains all itself."""


def gpu_hours_of(progress: Progress, device: torch.device, processes: int) -> float:
    """Device-hours of training, those of its trunk included.

    On a CPU a device is a core, and its hours are those it worked for us: the wall clock of a core shared with other
    programs was seen to be up to twice as long, which would be read as a cost of the run.
    """
    if device.type != "cuda":
        return progress.cpu_seconds / 3600
    own_seconds = progress.seconds - progress.trunk.get("train_seconds", 0.0)
    return float(progress.trunk.get("gpu_hours", 0.0) + own_seconds * processes / 3600)


class Training:
    """Weights, optimizer state and progress, which together are a checkpoint, and the means to take a step."""

    def __init__(
        self,
        settings: Settings,
        group: Group,
        resources: Resources,
        vocabulary: Integers | None = None,
        start: TrainedWeights | None = None,
        steps_before: int = 0,
        course: Course = WHOLE,
    ):
        """settings: of the stage that is trained, see `stage` of planning/identity.py. vocabulary, start: see `build`.

        steps_before: how many steps of this batch the runs took that this one goes on from, see
            `flipscale.train.requests.steps_before`. Pairs, their order and the masks go on from there.
        course: the schedule of which it trains a part.
        """
        self.settings = settings
        self.group = group
        self.device = group.device
        self.steps = steps_of(settings)
        self.steps_before = steps_before
        self.course = course
        self.parts = resources.accumulate
        self.loaders = (
            (LOADERS if self.device.type == "cuda" else 0) if resources.loaders is None else resources.loaders
        )
        """Processes that read and decode its batches, of data that is read as it is needed."""
        self.loading_seconds = 0.0
        """Processor time of theirs that nobody has counted yet."""
        self.rows = rows_of(settings, group.size, self.parts)
        check_precision(settings.precision, self.device)
        allow_tf32(settings.precision == "fp32")
        self.model, self.objective = self._build(vocabulary, start)
        self.optimizer = self._optimizer()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=settings.precision == "fp16")
        self.loss = _SigmoidLoss(group) if settings.is_sigmoid else _GlobalLoss(group)
        self.progress = Progress(started=time.time())
        # No checkpoint holds it: none is written after the last step, so a resumed run takes that again and is scored.
        self.evaluated = Evaluated()
        # The loss and the logit scale of each step stay on the device: reading one makes the host wait for a GPU, so
        # they are read at records only. Runs of other lengths, which go on from here, have their records elsewhere.
        self.history = torch.zeros((self.steps, 2), dtype=torch.float64, device=self.device)
        # Each process has all weights, and so their sum.
        self.averaged_from = self.steps - averaged_steps(settings)
        self.sums = [torch.zeros_like(each) for each in self.model.parameters()] if settings.average else []
        if resources.activation_checkpointing:
            self.model.set_grad_checkpointing(True)
        if resources.compile:
            # A process that does several runs would reach torch's limit of graphs for one function, 8, after which
            # it computes without compiling and says nothing.
            torch.compiler.reset()
            self.objective.compile()
        self.module: nn.Module = self.objective

    def _build(self, vocabulary: Integers | None, start: TrainedWeights | None) -> tuple[CLIP, nn.Module]:
        """The model and what training computes with it, which is on the device."""
        model: CLIP = build(self.settings, vocabulary, start).to(self.device)
        return model, Objective(model, self.settings).to(self.device)

    def _optimizer(self) -> torch.optim.AdamW:
        return optimizer_of(self.objective, self.settings)

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return learning_rate(self.settings, self.progress.step, self.course)

    @property
    def drawn_step(self) -> int:
        """The next step, counted from the first one of the runs before: its pairs and masks follow from it."""
        return self.steps_before + self.progress.step

    def loss_of(self, first: int, last: int) -> float:
        """The mean loss of these steps, without the last. Reading it waits for the device."""
        return float(self.history[first:last, 0].sum()) / (last - first)

    @property
    def final_loss(self) -> float:
        return self.loss_of(self.steps - max(1, round(FINAL_SHARE * self.steps)), self.steps)

    @property
    def first(self) -> int:
        """The row of the global batch that is this process's first."""
        return self.group.rank * self.rows

    @property
    def logit_scale(self) -> float | None:
        """The parameter itself, a logarithm; None where no features are compared."""
        return float(self.model.logit_scale.detach())

    def batch(self, data: Data, step: int) -> tuple[Images, Integers]:
        """This process's rows of the batch of a step: images [b, 3, S, S] and tokens [b, T]."""
        return self.own_rows.of(data, step)

    @property
    def own_rows(self) -> OwnRows:
        return OwnRows(self.settings, self.first, self.rows, self.steps_before)

    def begin(self) -> None:
        """Connect the processes, when each has its weights: from here on their gradients are the mean over all."""
        step = self.progress.step
        last, first = self.group.agree(step, -step)
        if last != -first:
            raise RunFolderError(
                f"The processes found different checkpoints, of steps {-first} and {last}: the results folder must be "
                f"shared by all machines. If it is, submit again."
            )
        self.module = self.group.data_parallel(self.objective)

    def step(self, images: Tensor, tokens: Tensor) -> None:
        """One step of AdamW on this process's rows of the batch: images [b, 3, S, S] uint8, tokens [b, T] int64."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * group.get(LR_SCALE, 1.0)
        images, tokens = (part.to(self.device, non_blocking=True) for part in (images, tokens))
        loss = self._backward(images, tokens) if self.parts == 1 else self._backward_in_parts(images, tokens)
        loss = self.group.mean_(loss)
        if self.settings.grad_clip is not None:
            self.scaler.unscale_(self.optimizer)
            # Walking through the modules for their parameters takes longer than clipping a small model's gradients.
            trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(trained, self.settings.grad_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            # The scale stays between 1 and 100, as in FLIP: above 100 CLIP's training is unstable (arXiv 2103.00020).
            self.model.logit_scale.clamp_(0, math.log(100))
            step = self.history[self.progress.step % self.steps]  # A probe goes on after the end.
            step[0], step[1] = loss, self.model.logit_scale
            self.progress.step += 1
            if self.sums and self.progress.step > self.averaged_from:
                torch._foreach_add_(self.sums, list(self.model.parameters()))

    @contextlib.contextmanager
    @torch.no_grad()
    def averaged(self) -> Iterator[None]:
        """The model has the mean of its weights after the last steps, until the block ends."""
        weights = list(self.model.parameters())
        last = [each.clone() for each in weights]
        for each, total in zip(weights, self.sums, strict=True):
            each.copy_(total / (self.progress.step - self.averaged_from))
        yield
        for each, value in zip(weights, last, strict=True):
            each.copy_(value)

    def autocast(self) -> torch.autocast:
        dtype = FORWARD_DTYPES.get(self.settings.precision)
        return torch.autocast(self.device.type, dtype or torch.bfloat16, enabled=dtype is not None)

    def _backward(self, images: Tensor, tokens: Tensor) -> Tensor:
        """The loss of this process's rows against the whole batch; its gradients are left in the parameters."""
        with self.autocast():
            image, text, extra = self._features(self.module, images, tokens, 0)
        loss: Tensor = self.loss(image, text, *self._temperature()) + extra
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _temperature(self) -> list[Tensor]:
        """What multiplies similarities, and what is added to them where the loss is a sigmoid."""
        bias = self.model.logit_bias
        return [self.model.logit_scale.exp(), *([] if bias is None else [bias])]

    def _backward_in_parts(self, images: Tensor, tokens: Tensor) -> Tensor:
        """The same in micro-batches: memory for the activations of one, time for one more forward pass.

        First all features, without their graphs; then the loss of the whole batch and its gradient for the features;
        then each micro-batch forward again and backward from there. open_clip's accum_freq does the same with the loss
        computed anew for each micro-batch, which counts the gradient of the logit scale that many times; here, once.
        """
        rows = len(images) // self.parts
        parts = [slice(first, first + rows) for first in range(0, len(images), rows)]
        with torch.no_grad(), self.autocast():
            seen = [self._features(self.objective, images[part], tokens[part], part.start) for part in parts]
        towers = [torch.cat([features[tower] for features in seen]).requires_grad_() for tower in (0, 1)]
        temperature = self._temperature()
        leaves = [each.detach().requires_grad_() for each in temperature]
        loss: Tensor = self.loss(*towers, *leaves)
        of_images, of_texts, *of_temperature = torch.autograd.grad(self.scaler.scale(loss), [*towers, *leaves])
        for part in parts:
            gradients = of_images[part], of_texts[part]
            is_last = part.stop == len(images)
            more = list(zip(temperature, of_temperature, strict=True)) if is_last else []
            with self._in_part(is_last):
                self._backward_from(images[part], tokens[part], part.start, gradients, more)
        extras: Tensor = torch.stack([extra for *_, extra in seen]).mean()
        return loss.detach() + extras

    def _backward_from(
        self,
        images: Tensor,
        tokens: Tensor,
        row: int,
        gradients: Sequence[Tensor],
        more: Sequence[tuple[Tensor, Tensor]],
    ) -> None:
        """A micro-batch forward again, and backward from the gradients of its features and those of `more`."""
        with self.autocast():
            *features, extra = self._features(self.module, images, tokens, row)
        ends = [*zip(features, gradients, strict=True)]
        if extra.requires_grad:
            ends.append((extra, self.scaler.scale(torch.ones_like(extra)) / self.parts))
        ends += more
        torch.autograd.backward([end for end, _ in ends], [gradient for _, gradient in ends])

    def _features(self, module: nn.Module, images: Tensor, tokens: Tensor, row: int) -> Any:
        return module(images, tokens, self.drawn_step, self.first + row, self.settings.batch_size)

    def _in_part(self, is_last: bool) -> contextlib.AbstractContextManager[None]:
        """Gradients add up here and go to the other processes with the last part of a batch."""
        module = self.module
        waits = not is_last
        return module.no_sync() if waits and isinstance(module, DistributedDataParallel) else contextlib.nullcontext()

    def state(self, *, is_trunk: bool = False) -> TrainingState:
        """What a checkpoint holds: tensors that the next step changes. is_trunk: for runs that go on from there."""
        state: TrainingState = {
            "model": self.objective.state_dict(),
            "parameters": self._parameters,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "progress": asdict(self.progress),
            "history": self.history[: self.progress.step],
            "gpu_hours": gpu_hours_of(self.progress, self.device, self.group.size),
        }
        if self.sums and not is_trunk:
            state["sums"] = self.sums  # A run that goes on from a trunk begins its sum later.
        return state

    def save(self, lease: Lease) -> None:
        """Write a checkpoint, now."""
        write_state(lease, self.state(), CHECKPOINT_FILE)

    def resume(self, folder: RunFolder) -> bool:
        """Go on from the folder's checkpoint, if there is one."""
        path = folder.path / CHECKPOINT_FILE
        try:
            os.close(open_plain(path))
        except (FileNotFoundError, NotADirectoryError):
            return False
        self._load(path, self._take_all)
        self.progress.attempts += 1
        return True

    def go_on_from(self, trunk: RunFolder) -> None:
        """Go on from where the constant rate of another run of the same schedule ends."""
        state = self._load(trunk.path / TRUNK_FILE, self._take_all)
        before = self.progress
        spent = Spent(
            id=trunk.id,
            samples_seen=before.step * self.settings.batch_size,
            train_seconds=before.seconds,
            cpu_seconds=before.cpu_seconds,
            gpu_hours=state["gpu_hours"],
        )
        self.progress = Progress(
            started=time.time(),
            step=before.step,
            seconds=before.seconds,
            cpu_seconds=before.cpu_seconds,
            corrupt=before.corrupt,
            trunk=vars(spent),
        )

    def go_on_with(self, parent: TrainedWeights) -> None:
        """Take up the optimizer's state of a run whose weights are here and whose schedule goes on.

        What has another shape begins without one, and so do the words and positions of texts of another length.
        """

        def take(state: TrainingState) -> None:
            weights = state["model"]
            here = self.optimizer.state_dict()
            moments = {name: state["optimizer"]["state"][number] for number, name in enumerate(state["parameters"])}
            tables = ("token_embedding.weight", "model.positional_embedding", "text.positional_embedding")
            new = () if parent.settings.text_length == self.settings.text_length else tables
            for number, name in enumerate(self._parameters):
                is_alike = name in moments and weights[name].shape == self.objective.get_parameter(name).shape
                if is_alike and not name.endswith(new):
                    here["state"][number] = moments[name]
            self.optimizer.load_state_dict(here)
            self.scaler.load_state_dict(state["scaler"])
            decoder = {name: value for name, value in weights.items() if not name.startswith("model.")}
            if decoder.keys() <= self.objective.state_dict().keys():
                self.objective.load_state_dict(decoder, strict=False)

        self._load(parent.path.with_name(TRUNK_FILE), take)

    @property
    def _parameters(self) -> list[str]:
        """The names of what is trained, in the order of the optimizer."""
        names = {id(parameter): name for name, parameter in self.objective.named_parameters()}
        return [names[id(parameter)] for group in self.optimizer.param_groups for parameter in group["params"]]

    def _take_all(self, state: TrainingState) -> None:
        self.objective.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(**state["progress"])
        self.history[: self.progress.step] = state["history"]
        self.sums = state.get("sums", self.sums)

    def _load(self, path: Path, take: Callable[[TrainingState], None]) -> TrainingState:
        """Read a checkpoint, take it up, and return it. RunFolderError for a file that is none."""
        try:
            state: TrainingState = torch.load(path, map_location=self.device, weights_only=True)
            take(state)
        except OSError:
            raise
        except Exception as error:  # Unpickling anything but a checkpoint may raise nearly any error.
            if is_out_of_memory(error):
                raise
            raise RunFolderError(
                f"{path}: cannot be resumed from ({type(error).__name__}). Delete it and submit again; the run then "
                f"starts over."
            ) from error
        return state


class _GlobalLoss(ClipLoss):  # type: ignore[misc]
    """open_clip's loss of this process's rows against those of all, with gradients for all: its mean over the processes
    is the loss of the whole batch. open_clip calls it local_loss with gather_with_grad. It is given float32 features
    and computed outside of autocast: bf16 rounds similarities to 1 in 256, which the temperature makes 0.4 of a logit.
    """

    def __init__(self, group: Group):
        super().__init__(local_loss=True, cache_labels=True, rank=group.rank, world_size=group.size)
        self.group = group

    def get_logits(
        self, image_features: Tensor, text_features: Tensor, logit_scale: Tensor, logit_bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits [b, B] of own images for all texts, and of own texts for all images."""
        width = image_features.shape[1]
        both = self.group.gathered(torch.cat([image_features, text_features], dim=1))
        images = both[:, :width]
        texts = both[:, width:]
        return logit_scale * image_features @ texts.T, logit_scale * text_features @ images.T


class _SigmoidLoss(nn.Module):
    """SigLIP's loss (arXiv 2303.15343) of this process's images against the texts of all, whose mean over the processes
    is open_clip's SigLipLoss of the whole batch. Logits of one process's texts at a time are in memory: the backward
    pass computes them again. Its inputs are float32, as in `_GlobalLoss`.
    """

    def __init__(self, group: Group):
        super().__init__()
        self.group = group

    def forward(self, images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        """Features [b, E] of own images and texts."""

        def part(number: int, texts: Tensor) -> Tensor:
            logits = scale * images @ texts.T + bias
            if number == self.group.rank:
                logits.diagonal().neg_()  # An image and its own text are to agree.
            return F.softplus(logits).sum() / len(images)

        chunks = self.group.gathered(texts).chunk(self.group.size)
        parts = [checkpoint(part, number, chunk, use_reentrant=False) for number, chunk in enumerate(chunks)]
        return torch.stack(parts).sum()


def rows_of(settings: Settings, processes: int, parts: int) -> int:
    """The rows of a batch that each process takes. FlipscaleError where they do not come out whole."""
    batch = settings.batch_size
    share = processes * parts
    if batch % share:
        nearest = max(share, (2 * batch + share) // (2 * share) * share)
        raise FlipscaleError(
            f"batch_size {batch} cannot be split into {processes} processes x {parts} micro-batches; the nearest "
            f"batch_size that can is {nearest}. Or make the product of resources.processes and "
            "resources.accumulate a divisor of batch_size."
        )
    return batch // processes


def check_precision(precision: str, device: torch.device) -> None:
    if precision == "fp16" and device.type == "cpu":
        raise FlipscaleError("precision fp16 needs a GPU, and there is none here; set precision: bf16 or fp32.")


def optimizer_of(module: nn.Module, settings: Settings) -> torch.optim.AdamW:
    """AdamW with FLIP's settings. Weight decay is for matrices: not for biases, LayerNorm and positional embeddings.

    FLIP's released code decays the class token and the logit scale too, as its test by name misses them. Here, as in
    open_clip, nothing with fewer than two dimensions is decayed; unlike in open_clip, nor are positional embeddings.
    """
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            (decayed if is_decayed(name, parameter) else others).append(parameter)
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return adamw(groups, settings)


def adamw(groups: list[dict[str, Any]], settings: Settings) -> torch.optim.AdamW:
    """AdamW of these groups of parameters, which updates all weights of one in one kernel."""
    betas = settings.beta1, settings.beta2
    return torch.optim.AdamW(groups, lr=settings.lr, betas=betas, eps=settings.eps, fused=True)


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies to this parameter."""
    return parameter.ndim >= 2 and not name.endswith("positional_embedding")
