"""The request for a run, with types: its settings, data sets, evaluation and resources.

`study` reads them from YAML and JSON (study/settings.py has kinds, defaults and sentences), `plain` writes them. A data
set, an evaluation set and a trainer are one of a few kinds; in files they are a mapping with that kind as its only key.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import Any, ClassVar

JsonObject = dict[str, Any]
"""A JSON object as it was read, or as it will be written."""


_PLAIN = {str, int, float, bool, type(None)}


def plain(value: object) -> Any:
    """The value as JSON and YAML hold it."""
    # Called for 10,000 runs, and most values are plain: looking these up by type takes a third of the time that a call
    # for each would take, and fields() as long as all of this.
    if type(value) in _PLAIN:
        return value
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if not is_dataclass(value):
        return _plain_items(value) if isinstance(value, Mapping) else value
    options = _plain_items(vars(value))
    kind = getattr(value, "kind", None)
    return options if kind is None else {kind: options}


def _plain_items(items: Mapping[Any, object]) -> dict[Any, Any]:
    return {name: inner if type(inner) in _PLAIN else plain(inner) for name, inner in items.items()}


# What is trained on


@dataclass(frozen=True)
class Shapes:
    """Images that are drawn, of one or two objects."""

    kind: ClassVar[str] = "shapes"
    pairs: float
    seed: int


@dataclass(frozen=True)
class Fashion:
    """Fashion-MNIST."""

    kind: ClassVar[str] = "fashion"
    folder: str | None


@dataclass(frozen=True)
class WebDataset:
    """Tar shards of images and captions."""

    kind: ClassVar[str] = "webdataset"
    urls: str
    name: str | None
    decode: str | None
    sizes: str | None


DataSet = Shapes | Fashion | WebDataset


# What is only evaluated on


@dataclass(frozen=True)
class ShardSet:
    """Tar shards of images with a class or a caption each."""

    kind: ClassVar[str] = "webdataset"
    urls: str
    name: str | None
    classes: str | Sequence[str] | None
    templates: Sequence[str] | None
    metric: str = "top1"


@dataclass(frozen=True)
class FolderSet:
    """A folder of images for each class."""

    kind: ClassVar[str] = "folder"
    path: str
    classes: str | Sequence[str] | None
    templates: Sequence[str] | None
    train: str | None
    metric: str = "top1"


@dataclass(frozen=True)
class IdxSet:
    """IDX files of images and labels, as MNIST's."""

    kind: ClassVar[str] = "idx"
    images: str
    labels: str
    classes: Sequence[str]
    templates: Sequence[str] | None
    train_images: str | None
    train_labels: str | None
    metric: str = "top1"


@dataclass(frozen=True)
class CaptionSet:
    """A table of images and captions."""

    kind: ClassVar[str] = "captions"
    file: str
    image: str
    caption: str
    root: str | None


@dataclass(frozen=True)
class CommandSet:
    """The scores that a user's own program measures of a finished run, or a training command of its own."""

    kind: ClassVar[str] = "command"
    arguments: Sequence[str] | None
    """None where the training command gives the scores."""
    scores: Mapping[str, str]
    """The names of its scores, and whether higher or lower is better."""


LabelledSet = ShardSet | FolderSet | IdxSet
"""Images with a class each; a ShardSet may have captions in place of classes."""

EvaluationSet = Shapes | Fashion | LabelledSet | CaptionSet | CommandSet


# What is fine-tuned on, with labels


@dataclass(frozen=True)
class LabelledFolders:
    """Two folders, each with a folder of images for each class."""

    kind: ClassVar[str] = "folder"
    train: str
    test: str
    name: str | None


@dataclass(frozen=True)
class LabelledShards:
    """Tar shards of images with the number of their class."""

    kind: ClassVar[str] = "webdataset"
    train: str
    test: str
    name: str | None


@dataclass(frozen=True)
class LabelledIdx:
    """IDX files of images and labels."""

    kind: ClassVar[str] = "idx"
    train_images: str
    train_labels: str
    test_images: str
    test_labels: str
    name: str | None


FineTuningSet = Shapes | Fashion | LabelledFolders | LabelledShards | LabelledIdx


@dataclass(frozen=True)
class Evaluation:
    """The scores to measure, and when."""

    data: DataSet | None
    images: int | None
    at: Sequence[float]
    templates: Sequence[str] | None
    sets: Mapping[str, EvaluationSet]
    linear_probe: bool
    means: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The sets or scores that each mean averages, by its name."""
    inference: Sequence[str] = ()
    """Further ways in which images are shown, beside whole ones: masked, ensemble."""


# Parts of a training


@dataclass(frozen=True)
class Reconstruction:
    """An MAE decoder whose loss is added."""

    weight: float
    width: int | None
    depth: int


@dataclass(frozen=True)
class Tuning:
    """Unmasked training after the schedule. Fields that are None follow from the run's settings."""

    samples: int
    lr: float | None
    warmup: int | None
    batch_size: int | None
    mask_ratio: float
    model: str | None
    image_size: int | None
    text_length: int | None


@dataclass(frozen=True)
class FineTuning:
    """End-to-end training of the image tower and a linear head on labelled images. Fields that are None follow from
    the run's settings and from the others here."""

    samples: int
    data: FineTuningSet | None
    images: int | None
    lr: float | None
    batch_size: int
    warmup: int | None
    weight_decay: float
    beta1: float
    beta2: float
    layer_decay: float
    label_smoothing: float
    mixup: float
    cutmix: float
    drop_path: float
    randaugment: float
    crop: float | None
    flip: bool


@dataclass(frozen=True)
class Weights:
    """A checkpoint to start from."""

    path: str
    name: str | None


@dataclass(frozen=True)
class FlipscaleTrainer:
    """flipscale's own training."""

    kind: ClassVar[str] = "flipscale"


@dataclass(frozen=True)
class OpenClipTrainer:
    """open_clip's own program."""

    kind: ClassVar[str] = "open_clip"
    arguments: Sequence[str]


@dataclass(frozen=True)
class CommandTrainer:
    """A program of somebody else."""

    kind: ClassVar[str] = "command"
    arguments: Sequence[str]
    name: str | None


Trainer = FlipscaleTrainer | OpenClipTrainer | CommandTrainer


@dataclass(frozen=True)
class Settings:
    """Everything that can change the result of a run, in the order of its table (study/settings.py)."""

    model: str
    image_size: int
    """Pixels of a side; the model's own where the study says none."""
    text_length: int
    """Tokens; the model's own where the study says none."""
    data: DataSet
    data_size: int | None
    crop: float | None
    flip: bool
    normalization: str
    samples: int
    mask_ratio: float
    mask_shape: str
    text_mask_ratio: float
    text_mask: str
    reconstruction: Reconstruction | None
    batch_size: int
    lr: float
    warmup: int
    schedule: str
    cooldown: int
    weight_decay: float
    beta1: float
    beta2: float
    eps: float
    grad_clip: float | None
    precision: str
    init: Weights | None
    tuning: Tuning | None
    fine_tuning: FineTuning | None
    trainer: Trainer
    seed: int
    evaluation: Evaluation


@dataclass(frozen=True)
class Budget:
    """Limits on what a whole study may cost; None means no limit."""

    gpu_hours: float | None
    train_flops: float | None
    runs: int | None
    price: float | None = None
    """In the currency of the site."""


class KeepWeights(enum.StrEnum):
    """How long the finished weights of a run stay, as `keep_weights` of its study decides. No part of an id."""

    ALWAYS = "always"
    FOR_CHILDREN = "for children"
    """Until all runs that start from them have finished; then gc may remove them."""
    NEVER = "never"
    """They are removed as soon as the run has finished."""


NODE_GPUS = 8
"""GPUs of a node where no site file says otherwise."""


@dataclass(frozen=True)
class Resources:
    """The resources of one run, and how it is priced. None of them is part of an id."""

    gpus: int = 0
    device: str | None = None
    flops_per_second: float | None = None
    processes: int | None = None
    accumulate: int = 1
    activation_checkpointing: bool = False
    compile: bool = False
    stalled: int | str | None = None
    """Seconds of silence, or 'never'; None takes the site's."""
    fused: bool = True
    software: int | None = None
    """The year of the software that the device runs; None is today's."""
    samples_per_second: float | None = None
    """Pairs a second that one device trains on at most, as reading data takes time; None takes the device's."""

    def processes_on(self, *, gpu: bool) -> int:
        """How many processes train a run, a device each: as many as it asks for, else one for each GPU, else one.

        gpu: whether it is trained on GPUs at all.
        """
        return self.processes or (self.gpus if gpu else 0) or 1

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Resources":
        """The resources in a JSON object; others in it are passed over."""
        return cls(**{name: values[name] for name in cls.__dataclass_fields__ if values.get(name) is not None})

    @property
    def devices(self) -> int:
        """How many devices share the batch of one run, where it is trained on what it asks for."""
        return self.processes_on(gpu=True)
