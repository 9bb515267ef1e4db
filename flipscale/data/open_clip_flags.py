"""A run's settings as flags of open_clip's own training program, and the settings that it cannot express.

The flags are those of open_clip_train 3: params.py, main.py and data.py of the package open_clip_torch.
"""

import contextlib
import importlib.metadata
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from open_clip_train.params import parse_args
from open_clip_train.scheduler import const_lr, const_lr_cooldown, cosine_lr

from flipscale.cost.arithmetic import steps_of, training_view
from flipscale.errors import FlipscaleError
from flipscale.settings.declarations import NORMALIZATIONS, OpenClipTrainer, Resources, Settings, WebDataset

PROGRAM_RECORDS = 200
"""Approximate number of loss records of a run, as with flipscale's own trainer."""

EPOCH_SAMPLES = 10_000_000
"""Samples of an epoch of a run that does not see all of its data once: the most that a kill costs."""

MOST_EPOCHS = 100
"""The most epochs (or 4 times the requested number, if that is more) that a run is cut into so that cooldown and
schedule end with one."""

WEBDATASET = "0.2.86"
"""The last version that open_clip_train 3 works with: later ones end each shard with a mark that it cannot read."""

WORKERS = 4
"""Data loaders per process on a GPU, open_clip's default. On a CPU there are none: they would slow down training."""


@dataclass(frozen=True)
class Shards:
    """The shards that --train-data names."""

    urls: str
    count: int
    """How many shards there are."""
    pairs: int
    """How many pairs they hold."""
    corrupt: int = 0
    """How many pairs were left out when they were written, as they could not be read."""


@dataclass(frozen=True)
class ProgramJob:
    """One training by open_clip's program, fully settled."""

    settings: Settings
    """The settings of what the run itself trains."""
    resources: Resources
    folder: Path
    """The run's folder open_clip, absolute."""
    shards: Shards
    device: str
    processes: int
    accumulate: int
    epochs: int
    steps_per_epoch: int
    workers: int
    parents: int = 0
    """How many runs it goes on from."""

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    @property
    def warmup_steps(self) -> int:
        return -(-self.settings.warmup // self.settings.batch_size)

    @property
    def cooldown_epochs(self) -> int:
        return _cooldown_steps(self.settings) // self.steps_per_epoch

    @property
    def schedule(self) -> str:
        if self.settings.schedule == "cosine":
            return "cosine"
        return "const-cooldown" if self.cooldown_epochs else "const"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "train" / "checkpoints"

    def lr(self, step: int) -> float:
        """The learning rate of a step, from open_clip's own schedule: its log rounds to six decimals."""
        nothing = SimpleNamespace(param_groups=[])
        peak = self.settings.lr
        warmup = self.warmup_steps
        steps = self.steps
        if self.schedule == "cosine":
            schedule = cosine_lr(nothing, peak, warmup, steps)
        elif self.schedule == "const":
            schedule = const_lr(nothing, peak, warmup, steps)
        else:
            schedule = const_lr_cooldown(nothing, peak, warmup, steps, self.cooldown_epochs * self.steps_per_epoch)
        return float(schedule(step))


@dataclass(frozen=True)
class ClipFlag:
    """A setting and the flags that express it."""

    setting: str
    flags: tuple[str, ...]
    says: str
    value: Callable[[ProgramJob], Sequence[object]]
    """The flags with their values, or nothing."""


def _switch(flag: str, on: object) -> list[str]:
    return [flag] if on else []


def _optimizer(settings: Settings) -> str:
    """The optimizer that the trainer's arguments name; '' for AdamW, whose settings are the run's."""
    arguments = settings.trainer.arguments if isinstance(settings.trainer, OpenClipTrainer) else []
    opt = str(_given(arguments).opt).lower()
    return "" if opt == "adamw" else opt


_PARENT_SEED = 1 << 20
"""Added to the seed for each parent: a stage or tuning would otherwise begin with the same shards as its parent."""


# fmt: off
FLAGS = (
    ClipFlag("`model`, `image_size`, `text_length`", ("--model",),
         "`local-dir:` of a configuration in the run's folder, for models of open_clip's own and of the family alike: "
         "the model's, for images of image_size, with a context of text_length tokens; the words are those of "
         "open_clip's own tokenizer",
         lambda job: ["--model", f"local-dir:{job.folder / 'model'}"]),
    ClipFlag("`init`, the parent of a stage or tuning, else `seed`", (),
         "weights beside that configuration, those that flipscale's own trainer would start from, resized where "
         "it has another model, image size or text length", lambda job: []),
    ClipFlag("`seed`", ("--seed",),
         "seed of the order of shards and of the masks; that of a stage or tuning differs from its parent's; the last "
             "shuffle depends on the clock",
         lambda job: ["--seed", job.settings.seed + _PARENT_SEED * job.parents]),
    ClipFlag("`data`, `data_size`", ("--train-data", "--dataset-type"),
         "the shards of a webdataset as they are where `crop` is set; else shards that flipscale writes into its "
         "cache, with the images and the captions that its own trainer sees",
         lambda job: ["--train-data", job.shards.urls, "--dataset-type", "webdataset"]),
    ClipFlag("`crop`", ("--aug-cfg",),
         "`scale=(crop,1.0)`; null is `scale=(1.0,1.0)`, which leaves square images whole",
         lambda job: ["--aug-cfg", f"scale=({job.settings.crop or 1.0},1.0)"]),
    ClipFlag("`normalization`", ("--image-mean", "--image-std"), "",
         lambda job: ["--image-mean", *NORMALIZATIONS[job.settings.normalization][0],
                      "--image-std", *NORMALIZATIONS[job.settings.normalization][1]]),
    ClipFlag("`samples`", ("--epochs", "--train-num-samples"),
         "epochs of equal length, in whole steps, that add up to the samples: as many as possible that are no "
             "shorter than a pass through the data, or, if the run does not complete one pass, epochs of about 10M "
             "samples",
         lambda job: ["--epochs", job.epochs,
                      "--train-num-samples", job.steps_per_epoch * job.settings.batch_size]),
    ClipFlag("`batch_size`", ("--batch-size",), "divided by the processes and by `accumulate`",
         lambda job: ["--batch-size", job.settings.batch_size // (job.processes * job.accumulate)]),
    ClipFlag("`mask_ratio`", ("--force-patch-dropout",), "keeps the same number of patches, but draws different ones",
         lambda job: ["--force-patch-dropout", job.settings.mask_ratio]),
    ClipFlag("`loss_function`", ("--siglip",), "where it is sigmoid; `arguments` may have it too",
         lambda job: _switch("--siglip", job.settings.loss_function == "sigmoid")),
    ClipFlag("`lr`", ("--lr",), "", lambda job: ["--lr", job.settings.lr]),
    ClipFlag("`warmup`", ("--warmup",), "in steps, rounded up", lambda job: ["--warmup", job.warmup_steps]),
    ClipFlag("`schedule`", ("--lr-scheduler",), "cosine, const or const-cooldown",
         lambda job: ["--lr-scheduler", job.schedule]),
    ClipFlag("`cooldown`", ("--epochs-cooldown",), "in epochs, whose length is chosen to fit it",
         lambda job: ["--epochs-cooldown", job.cooldown_epochs] if job.cooldown_epochs else []),
    ClipFlag("`weight_decay`", ("--wd",), "also decays positional embeddings, which flipscale does not",
         lambda job: ["--wd", job.settings.weight_decay]),
    ClipFlag("`beta1`, `beta2`, `eps`", ("--beta1", "--beta2", "--eps"),
         "with `--opt` in `arguments` the betas are that optimizer's own, or stand there too",
         lambda job: ([] if _optimizer(job.settings) else
                      ["--beta1", job.settings.beta1, "--beta2", job.settings.beta2])
         + ["--eps", job.settings.eps]),
    ClipFlag("`grad_clip`", ("--grad-clip-norm",), "",
         lambda job: [] if job.settings.grad_clip is None else ["--grad-clip-norm", job.settings.grad_clip]),
    ClipFlag("`precision`", ("--precision",), "fp32, amp_bf16 or amp; on a GPU open_clip's fp32 multiplies in TF32",
         lambda job: ["--precision", {"fp32": "fp32", "bf16": "amp_bf16", "fp16": "amp"}[job.settings.precision]]),
    ClipFlag("`resources.accumulate`", ("--accum-freq",), "", lambda job: ["--accum-freq", job.accumulate]),
    ClipFlag("`resources.processes`", ("--local-loss", "--gather-with-grad"),
         "torchrun, on GPUs; the loss is over the whole batch, with all gradients",
         lambda job: _switch("--local-loss", job.processes > 1) + _switch("--gather-with-grad", job.processes > 1)),
    ClipFlag("`resources.compile`", ("--torchcompile",), "",
         lambda job: _switch("--torchcompile", job.resources.compile)),
    ClipFlag("`resources.activation_checkpointing`", ("--grad-checkpointing",), "",
         lambda job: _switch("--grad-checkpointing", job.resources.activation_checkpointing)),
    ClipFlag("", ("--workers",),
         "4 on a GPU, 0 on a CPU, or as in `arguments`; lowered to a number that divides the batches of an epoch",
         lambda job: ["--workers", job.workers]),
    ClipFlag("", ("--device",), "cuda if there is one, else cpu", lambda job: ["--device", job.device]),
    ClipFlag("", ("--logs", "--name", "--resume", "--save-most-recent", "--save-frequency"),
         "the run's folder open_clip/train, with one checkpoint, from which it resumes",
         lambda job: ["--logs", job.folder, "--name", "train", "--resume", "latest", "--save-most-recent",
                      "--save-frequency", 0]),
    ClipFlag("", ("--log-every-n-steps",), "about 200 records per run",
         lambda job: ["--log-every-n-steps", max(1, round(job.steps / PROGRAM_RECORDS))]),
)
# fmt: on
"""All flags that flipscale sets, in the order in which the program gets them."""

_WISHES = ("epochs", "workers")
"""Flags that `arguments` may give: flipscale comes as near as the other settings allow."""

# Other flags of open_clip's program that would change the training from what the run says.
_OTHERS = {
    "skip_scheduler": "schedule",
    "force_image_size": "image_size",
    "force_context_length": "text_length",
    "force_custom_text": "model",
    "force_quick_gelu": "model",
    "pretrained": "init",
    "pretrained_image": "init",
    "use_bnb_linear": "precision",
    "torchscript": "model",
    "trace": "model",
    "horovod": "resources.processes",
    "delete_previous_checkpoint": "the checkpoints",
    "remote_sync": "the checkpoints",
    "copy_codebase": "the folder",
}


def command(job: ProgramJob, arguments: Sequence[str] = ()) -> list[str]:
    """The whole command line. The flags of `FLAGS` come last, so they stand whatever `arguments` say."""
    program = ["-m", "open_clip_train.main"]
    if job.processes > 1:
        # torchrun reads --logs as an abbreviation of its own --logs-specs, unless -- ends its options.
        per_node = ["--standalone", "--nproc-per-node", str(job.processes)]
        program = ["-m", "torch.distributed.run", *per_node, "-m", "--", "open_clip_train.main"]
    given = [str(part) for flag in FLAGS for part in flag.value(job)]
    return ["python", *program, *arguments, *given]


def flags_as_markdown() -> str:
    """The table of docs/trainers.md: each setting and the flag that it becomes."""
    rows = ["| setting | flag | |", "|---|---|---|"]
    for flag in FLAGS:
        names = ", ".join(f"`{name}`" for name in flag.flags)
        rows.append(f"| {flag.setting} | {names} | {flag.says} |")
    return "\n".join(rows) + "\n"


def refuse(settings: Settings, resources: Resources, device: str) -> None:
    """Raise FlipscaleError with every setting that open_clip's program cannot express, and what would be right."""
    processes = resources.processes_on(gpu=device == "cuda")
    accumulate = resources.accumulate
    batch = settings.batch_size
    webdataset = isinstance(settings.data, WebDataset)
    shown = training_view(settings).shape.image.image_size
    refusals = {
        "write text_mask_ratio: 0, as it drops no tokens of texts": settings.text_mask_ratio > 0,
        "write mask_shape: random, as it draws patches at random only": settings.mask_ratio
        and settings.mask_shape not in ("random", "resize"),
        f"write mask_shape: random, or mask_ratio: 0 and image_size: {shown}, as it has one size of image for training "
        "and evaluation": settings.mask_ratio and settings.mask_shape == "resize",
        "write reconstruction: null, as it has no decoder": settings.reconstruction is not None,
        "write flip: false, as it mirrors no images": settings.flip,
        "write cooldown_shape: linear, as its cooldown has no other": settings.cooldown
        and settings.cooldown_shape != "linear",
        "write average: 0, as it keeps no mean of weights": settings.average > 0,
        "write evaluation: {at: [1.0]}, as it is scored at its end only": set(settings.evaluation.at) - {1.0},
        "write precision: bf16 or fp32, as fp16 needs a GPU": settings.precision == "fp16" and device == "cpu",
        "write resources: {processes: 1}, as it cannot train with several on a CPU (its DistributedDataParallel is "
        "given the CPU for a GPU)": processes > 1 and device == "cpu",
        f"write a batch_size that {processes} processes and accumulate: {accumulate} divide, not {batch}": batch
        % (processes * accumulate),
        "write data_size: null where crop is set, as it then reads all pairs of your shards; or crop: null, "
        "with which flipscale writes shards of exactly that many": webdataset and settings.crop and settings.data_size,
    }
    refused = [refusal for refusal, wrong in refusals.items() if wrong]
    if refused:
        raise FlipscaleError(
            f"open_clip's program cannot do what the study asks: {'; '.join(refused)}. Or use flipscale's trainer."
        )


def check_webdataset() -> None:
    """Raise FlipscaleError unless the program works with the installed webdataset."""
    try:
        version = importlib.metadata.version("webdataset")
    except importlib.metadata.PackageNotFoundError:
        version = "none"
    if version == "none" or [int(part) for part in version.split(".")[:3]] > [0, 2, 86]:
        raise FlipscaleError(
            f"open_clip's program needs webdataset up to {WEBDATASET}, and {version} is installed; "
            f"run pip install 'webdataset<={WEBDATASET}'."
        )


def _given(arguments: Sequence[str]) -> Any:
    """What the program reads in these arguments. FlipscaleError where it reads nothing."""
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
            return parse_args(arguments)
    except SystemExit:
        errors = output.getvalue().strip().rpartition("error: ")[2].splitlines() or ["they do not name a training"]
        raise FlipscaleError(
            f"trainer.open_clip.arguments: {errors[0]}; see `python -m open_clip_train.main --help`."
        ) from None


def wishes(arguments: Sequence[str]) -> dict[str, int]:
    """The epochs and workers that `arguments` ask for. Raises FlipscaleError for arguments that the study decides."""
    given = vars(_given(arguments))
    # The program's defaults of beta1, beta2 and eps depend on the optimizer.
    default = vars(parse_args(["--opt", given["opt"]]))
    changed = {name for name in given if given[name] != default[name]}
    owned = {_destination(name): flag.setting for flag in FLAGS for name in flag.flags} | _OTHERS
    if given["opt"].lower() != "adamw":
        changed -= {"beta1", "beta2"}
    for name in sorted(changed & set(owned) - {*_WISHES, "siglip"}):
        setting = owned[name].replace("`", "") or "flipscale itself"
        raise FlipscaleError(
            f"trainer.open_clip.arguments: --{name.replace('_', '-')} is set by {setting}; leave it out there."
        )
    return {name: given[name] for name in _WISHES if name in changed}


def _destination(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def settle(
    settings: Settings,
    resources: Resources,
    device: str,
    folder: Path,
    shards: Shards,
    wished: Mapping[str, int],
) -> ProgramJob:
    """The training that comes nearest to the wishes and meets all other settings exactly."""
    processes = resources.processes_on(gpu=device == "cuda")
    accumulate = resources.accumulate
    epochs = epochs_of(settings, shards.pairs, wished.get("epochs"))
    steps_per_epoch = steps_of(settings) // epochs
    most = wished.get("workers", WORKERS if device == "cuda" else 0)
    if shards.count < processes:
        raise FlipscaleError(
            f"{shards.urls}: {shards.count} shards are too few for {processes} processes, each of which reads its own; "
            "add shards, or lower resources.processes."
        )
    workers = max(
        (n for n in range(1, min(most, shards.count // processes) + 1) if steps_per_epoch * accumulate % n == 0),
        default=0,
    )
    return ProgramJob(
        settings, resources, folder, shards, device, processes, accumulate, epochs, steps_per_epoch, workers
    )


def _cooldown_steps(settings: Settings) -> int:
    return round(settings.cooldown / settings.batch_size) if settings.schedule == "constant" else 0


def epochs_of(settings: Settings, pairs: int, wished: int | None) -> int:
    """The number of epochs of equal length, in whole steps, of the schedule and its cooldown.

    An epoch of open_clip's program goes through the shards from the start, in an order of its own. One that is shorter
    than a pass therefore leaves pairs out, and the next may show the same pairs again.
    """
    steps = steps_of(settings)
    cooldown = _cooldown_steps(settings)
    whole = math.gcd(steps, cooldown)
    possible = [steps // length for length in range(1, whole + 1) if whole % length == 0]
    samples = steps * settings.batch_size
    passes = samples / pairs if pairs else 0
    wish = wished or max(1, int(passes), 0 if passes >= 1 else samples // EPOCH_SAMPLES)
    near = min(possible, key=lambda epochs: abs(math.log(epochs / wish)))
    if wished is None and passes >= 1:
        near = max((epochs for epochs in possible if epochs <= passes), default=near)
    if near > max(MOST_EPOCHS, 4 * wish):
        batch = settings.batch_size
        raise FlipscaleError(
            f"cooldown: {settings.cooldown} is {cooldown} of {steps} steps, and open_clip's program would need "
            f"{near} epochs to cool down for exactly that long; write "
            f"{max(1, round(cooldown * 10 / steps)) / 10:g} of the samples or another round share, in whole "
            f"batches of {batch}."
        )
    return near
