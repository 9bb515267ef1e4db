"""The request for a run, declared once: its settings, data sets, evaluation and resources.

Each field has its type (kinds.py), its default and a sentence about it. The study reader checks against them, the JSON
Schema and the documentation are written from them, and a run's identity is the settings that differ from their
defaults: a setting added later must have a default that means 'as before', so that old ids stay valid.

`plain` writes records as JSON. A data set, an evaluation set and a trainer are one of a few kinds; in files they are a
mapping with that kind as its only key.
"""

import enum
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, ClassVar, Literal

from flipscale.errors import FlipscaleError
from flipscale.kinds import (
    Among,
    By,
    Count,
    Declared,
    DurationOrNever,
    Every,
    Flag,
    Fraction,
    JsonObject,
    Listed,
    Named,
    NotNegative,
    OneOf,
    Positive,
    SamplesOfRun,
    Schedule,
    Share,
    Some,
    StageLength,
    Text,
    Whole,
    Within,
    checked,
    command_words,
    count_from,
    option,
    options_of,
    schema_of,
    show,
    trainer_words,
)
from flipscale.scores import INFERENCES, METRICS
from flipscale.settings.architecture import known_models, own_image_size
from flipscale.settings.devices import DEVICES, FUSED_SINCE, LOADERS, pairs_drawn, pairs_read


def plain(value: object) -> Any:
    """The value as JSON and YAML hold it."""
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, str | int | float) or not is_dataclass(value):
        return value
    if isinstance(value, Settings) and value.parameter_names:
        return _with_parameters(value)
    options = plain(vars(value))
    kind = getattr(value, "kind", None)
    return options if kind is None else {kind: options}


def _with_parameters(settings: "Settings") -> JsonObject:
    """Settings with the user's own parameters apart; of flipscale's where these are no CLIP, those that are given."""
    values = {name: value for name, value in vars(settings).items() if name not in settings.parameter_names}
    if not settings.is_clip:
        options = options_of(type(settings))
        always = ("seed", "trainer", "evaluation")
        values = {name: value for name, value in values.items() if name in always or value != options[name].default}
    return {"parameters": {name: getattr(settings, name) for name in settings.parameter_names}, **plain(values)}


# Kinds of value that only settings have


def _model(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{show(value)} is not a model's name; write one such as ViT-B-16 or ViT-w48d3-4")
    try:
        own_image_size(value)  # Whether patches divide the image is a question of the whole cell.
    except FlipscaleError as error:
        raise ValueError(str(error)) from error
    return value


_FAMILY_NAME = {"type": "string", "pattern": r"^ViT-w\d+d\d+-\d+$"}
ModelName = Annotated[str, By(_model, lambda: {"anyOf": [{"enum": list(known_models())}, _FAMILY_NAME]})]
"""A model flipscale can build and price: a ViT of open_clip's by its name, or one of the family ViT-w48d3-4."""

ImageSize = Annotated[int, count_from(1, null=True)]
TextLength = Annotated[int, count_from(3, null=True)]

Batch = Annotated[int, count_from(2)]
"""Pairs per step: contrast takes two."""

MaskShapeName = Literal["random", "grid", "block", "gaussian", "resize"]
TextMaskName = Literal["prioritised", "random", "block"]
CourseName = Literal["cosine", "constant"]

PROMPTS = ("imagenet_simple", "openai_imagenet")


def _template(value: Any) -> str:
    if not isinstance(value, str) or ("{}" not in value and value not in PROMPTS):
        raise ValueError(
            f"{show(value)} lacks '{{}}'; put it where the class name goes, or write {' or '.join(PROMPTS)}"
        )
    return value


_TEMPLATE_SCHEMA = {"anyOf": [{"type": "string", "pattern": r"\{\}"}, {"enum": list(PROMPTS)}]}
Templates = Some[Annotated[str, By(_template, _TEMPLATE_SCHEMA)]]
Classes = Annotated[
    str | list[str],
    By(lambda value: checked(Some[Text] if isinstance(value, list) else Text, value), lambda: schema_of(Some[Text])),
]
"""A text file of names, or a list of them."""
CommandWords = Annotated[list[str], By(command_words, lambda: schema_of(Some[Text]))]
TrainerWords = Annotated[list[str], By(trainer_words, lambda: schema_of(Some[Text | float]))]
"""The words of a command; a text is split as a shell would, and none runs."""
FurtherWords = Annotated[
    list[str], By(lambda value: command_words(value, Listed[Text]), lambda: schema_of(Listed[Text]))
]

Metric = Annotated[str, Among(METRICS)]

_TEMPLATES = (
    "prompts for zero-shot, with {} for the class, or imagenet_simple (FLIP's 7), or openai_imagenet (80); null takes "
    "the data's, or else 'a photo of a {}'"
)
_METRIC = "metric of the set; map11 takes images of several classes, roc_auc two classes"
_URLS = "pattern of the tar shards, as in laion400m/{00000..41455}.tar; paths, URLs or pipe: commands"
_NAME = "the data set's name in a run's identity; null takes the pattern's last folder"
_LABELLED_NAME = "the set's name in a run's identity; null takes the last two parts of the training images' path"


# What is trained on


@dataclass(frozen=True)
class Shapes(Declared):
    """Images that are drawn, of one or two objects."""

    kind: ClassVar[str] = "shapes"
    pairs: Annotated[float, Within(ge=0, le=1)] = option(
        "share of images with two objects and a relation between them", 0.3
    )
    seed: Whole = option("which world of images is drawn; the run's own seed does not change it", 0)


@dataclass(frozen=True)
class Fashion(Declared):
    """Fashion-MNIST."""

    kind: ClassVar[str] = "fashion"
    short: ClassVar[str] = "folder"
    folder: Text | None = option(
        "folder of Fashion-MNIST's IDX files; null is where Debian puts them", None, place=True
    )


@dataclass(frozen=True)
class WebDataset(Declared):
    """Tar shards of images and captions."""

    kind: ClassVar[str] = "webdataset"
    short: ClassVar[str] = "urls"
    urls: Text = option(_URLS)
    name: Text | None = option(_NAME, None)
    decode: Literal["once", "always"] | None = option(
        "decode once, into a cache on disk, or always, as a stream; null decides by size", None, place=True
    )
    sizes: Text | None = option(
        "JSON file with the number of samples of each shard, like open_clip's sizes.json; null counts them",
        None,
        place=True,
    )


DataSet = Shapes | Fashion | WebDataset
"""For training and evaluation."""


# What is only evaluated on. A set is known by the name the study gives it, wherever its files lie.


@dataclass(frozen=True)
class ShardSet(Declared):
    """Tar shards of images with a class or a caption each."""

    kind: ClassVar[str] = "webdataset"
    short: ClassVar[str] = "urls"
    urls: Text = option(_URLS)
    name: Text | None = option(_NAME, None)
    classes: Classes | None = option(
        "names of the classes that .cls files number, listed or in a text file; null: samples have captions", None
    )
    templates: Templates | None = option(_TEMPLATES, None)
    metric: Metric = option(_METRIC, "top1")


@dataclass(frozen=True)
class FolderSet(Declared):
    """A folder of images for each class."""

    kind: ClassVar[str] = "folder"
    short: ClassVar[str] = "path"
    path: Text = option("folder with a folder of images for each class", place=True)
    classes: Classes | None = option(
        "names of the classes, listed in the order of the folders or in a JSON file {folder: name}", None
    )
    templates: Templates | None = option(_TEMPLATES, None)
    train: Text | None = option("another such folder, to train the linear probe on", None, place=True)
    metric: Metric = option(_METRIC, "top1")


@dataclass(frozen=True)
class IdxSet(Declared):
    """IDX files of images and labels, as MNIST's."""

    kind: ClassVar[str] = "idx"
    images: Text = option("IDX file of images, such as MNIST's, .gz or not", place=True)
    labels: Text = option("IDX file of their labels", place=True)
    classes: Some[Text] = option("names of the classes, from label 0 on")
    templates: Templates | None = option(_TEMPLATES, None)
    train_images: Text | None = option("images to train the linear probe on", None, place=True)
    train_labels: Text | None = option("their labels", None, place=True)
    metric: Metric = option(_METRIC, "top1")


@dataclass(frozen=True)
class CaptionSet(Declared):
    """A table of images and captions."""

    kind: ClassVar[str] = "captions"
    short: ClassVar[str] = "file"
    file: Text = option("table of images and captions, .csv, .tsv or .jsonl", place=True)
    image: Text = option("column of the image's path", "filepath")
    caption: Text = option("column of the caption", "title")
    root: Text | None = option("folder that paths start from; null is the table's", None, place=True)


@dataclass(frozen=True, kw_only=True)
class CommandSet(Declared):
    """The scores that a user's own program measures of a finished run, or a training command of its own."""

    kind: ClassVar[str] = "command"
    arguments: Some[Text] | None = option(
        "the program and its arguments; the run's folder is appended; null: the training command gives the scores",
        None,
        place=True,
    )
    scores: Named[Literal["higher", "lower"]] = option(
        "names of its scores, each with which is better, higher or lower, such as {cider: higher}"
    )


LabelledSet = ShardSet | FolderSet | IdxSet
"""Images with a class each; a ShardSet may have captions in place of classes."""

EvaluationSet = Shapes | Fashion | ShardSet | FolderSet | IdxSet | CaptionSet | CommandSet


# What is fine-tuned on, with labels


@dataclass(frozen=True)
class LabelledFolders(Declared):
    """Two folders, each with a folder of images for each class."""

    kind: ClassVar[str] = "folder"
    train: Text = option("folder with a folder of training images for each class", place=True)
    test: Text = option("the same for test images", place=True)
    name: Text | None = option(_LABELLED_NAME, None)


@dataclass(frozen=True)
class LabelledShards(Declared):
    """Tar shards of images with the number of their class."""

    kind: ClassVar[str] = "webdataset"
    train: Text = option("pattern of the tar shards of training images, each with a .cls", place=True)
    test: Text = option("the same for test images", place=True)
    name: Text | None = option(_LABELLED_NAME, None)


@dataclass(frozen=True)
class LabelledIdx(Declared):
    """IDX files of images and labels."""

    kind: ClassVar[str] = "idx"
    train_images: Text = option("IDX file of training images, such as MNIST's, .gz or not", place=True)
    train_labels: Text = option("IDX file of their labels", place=True)
    test_images: Text = option("IDX file of test images", place=True)
    test_labels: Text = option("IDX file of their labels", place=True)
    name: Text | None = option(_LABELLED_NAME, None)


FineTuningSet = Shapes | Fashion | LabelledFolders | LabelledShards | LabelledIdx


@dataclass(frozen=True)
class Evaluation(Declared):
    """The scores to measure, and when."""

    data: Annotated[DataSet, OneOf("data set")] | None = option(
        "data to evaluate on; null takes the training data's held-out part", None
    )
    images: Count | None = option(
        "most held-out images of each set; null takes all up to 10,000, or 2,000 where images are drawn", None
    )
    at: Some[Fraction] = option("fractions of the schedule to evaluate at; the end is always one", [1.0])
    templates: Templates | None = option(_TEMPLATES, None)
    sets: Named[Annotated[EvaluationSet, OneOf("evaluation set")]] = option(
        "more sets to score on, by name; their scores are NAME.score", {}
    )
    linear_probe: Flag = option("whether a linear classifier on frozen image features is also scored", False)
    means: Named[Some[Text]] = option(
        "means over sets by name, each by its own metric, or over scores as SET.score; the score is NAME.mean", {}
    )
    scores: Named[Literal["higher", "lower"]] = option(
        "scores that a training command gives itself, each with which is better, such as {val_loss: lower}", {}
    )
    inference: Listed[Annotated[str, Among(INFERENCES)]] = option(
        "what masked runs are shown beside whole images: masked, as few patches as in training, or ensemble, the mean "
        "of masks that cover all; the scores are masked.SCORE and SET.masked.SCORE",
        [],
    )


# Parts of a training


@dataclass(frozen=True)
class Reconstruction(Declared):
    """An MAE decoder whose loss is added."""

    weight: Positive = option("weight of the reconstruction loss beside the contrastive loss", 1.0)
    width: Count | None = option("width of the decoder; null is half the image tower's", None)
    depth: Count = option("blocks of the decoder", 2)


@dataclass(frozen=True)
class Tuning(Declared):
    """Unmasked training after the schedule. Fields that are None follow from the run's settings."""

    short: ClassVar[str] = "samples"
    samples: Count = option("length of the tuning, in samples seen; FLIP's is 128M after 2.56B")
    lr: Positive | None = option("peak learning rate; null is a hundredth of the run's", None)
    warmup: Whole | None = option("samples of linear warm-up; null is a fifth of the tuning", None)
    batch_size: Batch | None = option("pairs per step; null is the run's", None)
    mask_ratio: Share = option("share of image patches dropped while tuning", 0.0)
    model: ModelName | None = option(
        "model with the same towers and other patches, such as FLIP's ViT-L-14 after ViT-L-16; null is the run's", None
    )
    image_size: Count | None = option("side of the image in pixels; null is the run's, or that of tuning.model", None)
    text_length: Annotated[int, count_from(3)] | None = option("tokens of text; null is the run's", None)


@dataclass(frozen=True)
class Stage(Declared):
    """A part of the schedule. Options that are None are the run's."""

    short: ClassVar[str] = "samples"
    samples: StageLength = option("its length: a count, or a share of the run's samples, such as 60 %")
    restart: Flag = option(
        "whether a new schedule begins here, with its own warm-up and a fresh optimizer; lr, warmup and schedule then "
        "hold for the stages after it too",
        False,
    )
    model: ModelName | None = option("model with the same towers and other patches", None)
    image_size: Count | None = option("side of the image in pixels; null is the run's, or that of model", None)
    text_length: Annotated[int, count_from(3)] | None = option("tokens of text", None)
    mask_ratio: Share | None = option("share of image patches dropped", None)
    mask_shape: MaskShapeName | None = option("which patches are kept", None)
    text_mask_ratio: Share | None = option("share of text tokens dropped", None)
    text_mask: TextMaskName | None = option("which tokens are dropped", None)
    crop: Fraction | None = option("smallest share of the area that a random crop keeps", None)
    flip: Flag | None = option("whether images are mirrored at random", None)
    batch_size: Batch | None = option("pairs per step", None)
    lr: Positive | None = option("peak learning rate", None)
    warmup: Whole | None = option("samples of linear warm-up, of the first stage or one with restart", None)
    schedule: CourseName | None = option("course of the learning rate, of the first stage or one with restart", None)

    @property
    def changes(self) -> JsonObject:
        """The settings that it gives. One that names a model has the image size of that model, unless it gives one."""
        own_size = self.image_size or (self.model and own_image_size(self.model))
        given = vars(self) | {"image_size": own_size}
        return {name: value for name, value in given.items() if name in STAGED and value is not None}


STAGED = tuple(name for name in options_of(Stage) if name not in ("samples", "restart"))
"""The settings that a stage may change."""


def lengths(stages: Sequence[Stage], samples: int) -> list[int]:
    """The samples of each stage of a run of this many. They add up to those of the run where the shares do."""
    parts = [each.samples * samples if isinstance(each.samples, float) else each.samples for each in stages]
    ends = [round(end) for end in itertools.accumulate(parts)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


@dataclass(frozen=True)
class FineTuning(Declared):
    """End-to-end training of the image tower and a linear head on labelled images. Fields that are None follow from
    the run's settings and from the others here.

    Defaults are of FLIP's table 12 (arXiv 2212.00794), whose setting is MAE's (arXiv 2111.06377, table 9).
    """

    short: ClassVar[str] = "samples"
    samples: Count = option("length of the fine-tuning, in images seen; FLIP's is 64M, 50 epochs of ImageNet")
    data: Annotated[FineTuningSet, OneOf("labelled set")] | None = option(
        "labelled training and test images; null takes the training data's classes", None
    )
    images: Count | None = option("most test images; null is as in evaluation.images", None)
    lr: Positive | None = option("peak learning rate of the head; null is 5e-5 * batch_size / 256", None)
    batch_size: Batch = option("images per step", 1024)
    warmup: Whole | None = option("samples of linear warm-up; null is a tenth of the fine-tuning", None)
    weight_decay: NotNegative = option("AdamW's", 0.05)
    beta1: Share = option("AdamW's beta1, for the mean of the gradient", 0.9)
    beta2: Share = option("AdamW's beta2, for the mean of its square", 0.999)
    layer_decay: Fraction = option("factor of the learning rate from each block to the one before it", 0.75)
    label_smoothing: Share = option("share of the target spread over all classes", 0.1)
    mixup: Annotated[float, Within(ge=0, le=2)] = option("alpha of mixup; 0 mixes none", 0.8)
    cutmix: Annotated[float, Within(ge=0, le=2)] = option(
        "alpha of CutMix; with mixup, half of the steps each; 0 cuts none", 1.0
    )
    drop_path: Share = option("stochastic depth: how often the last block is skipped, earlier ones less", 0.2)
    randaugment: Annotated[float, Within(ge=0, le=10)] = option(
        "magnitude of RandAugment's two operations per image; 0 does none", 9.0
    )
    crop: Fraction | None = option("smallest share of the area of a random crop; null: the middle square", 0.08)
    flip: Flag = option("whether images are mirrored at random", True)


@dataclass(frozen=True)
class Weights(Declared):
    """A checkpoint to start from."""

    called: ClassVar[str] = "init"
    short: ClassVar[str] = "path"
    path: Text = option("open_clip checkpoint, or a tag of open_clip's pretrained weights")
    name: Text | None = option("its name in a run's identity; null takes the last folder's and the file's", None)


@dataclass(frozen=True)
class FlipscaleTrainer(Declared):
    """flipscale's own training."""

    kind: ClassVar[str] = "flipscale"


@dataclass(frozen=True)
class OpenClipTrainer(Declared):
    """open_clip's own program."""

    kind: ClassVar[str] = "open_clip"
    arguments: FurtherWords = option("further arguments for open_clip's program", [])


@dataclass(frozen=True)
class CommandTrainer(Declared):
    """A program of somebody else."""

    kind: ClassVar[str] = "command"
    short: ClassVar[str] = "arguments"
    arguments: TrainerWords = option(
        "the program and its arguments, as a text or a list; {NAME} stands for a setting or parameter, {folder} for "
        "the run's folder, which is appended otherwise"
    )
    name: Text | None = option("its name in a run's identity; null takes the arguments", None)


Trainer = FlipscaleTrainer | OpenClipTrainer | CommandTrainer

NORMALIZATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "openai": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
"""Mean and deviation of each channel, of pixels from 0 to 1: FLIP's (arXiv 2212.00794), and open_clip's default."""


@dataclass(frozen=True, kw_only=True)
class Settings(Declared):
    """Everything that can change the result of a run."""

    parameter_names: ClassVar[tuple[str, ...]] = ()
    """The names of the parameters that the study adds for its own program, see parameters.py."""
    is_clip: ClassVar[bool] = True
    """Whether they give a CLIP and its schedule; a program of the user's own may train something else."""

    model: ModelName = option("open_clip's name of a ViT, or ViT-w48d3-4: width 48, depth 3, patch 4")
    image_size: ImageSize = option("side of the image in pixels; null takes the model's own", None, unit="pixels")
    text_length: TextLength = option(
        "tokens of text, in training and evaluation; FLIP's 32; null takes the model's own", 32, unit="tokens"
    )
    data: Annotated[DataSet, OneOf("data set")] = option(
        "the training data: shapes, fashion or webdataset", Shapes(), needs="samples"
    )
    data_size: Count | None = option(
        "unique pairs used, an exact subset; null uses all", None, needs="samples", unit="pairs"
    )
    crop: Fraction | None = option(
        "smallest share of the area that a random crop keeps (FLIP 0.5, open_clip 0.9); null takes the whole middle "
        "square",
        None,
        needs="samples",
        unit="fraction",
    )
    flip: Flag = option("whether images are mirrored at random; FLIP does, open_clip does not", False, needs="samples")
    normalization: Annotated[str, Among(NORMALIZATIONS)] = option(
        "mean and deviation of pixels; FLIP's or open_clip's", "imagenet"
    )
    samples: Schedule = option(
        "length of the schedule, in samples seen; or in training FLOPs, such as 1e15 FLOPs; 0 scores init as it is",
        unit="samples",
    )
    mask_ratio: Share = option(
        "share of image patches dropped in training; none are at evaluation", 0.0, unit="fraction"
    )
    mask_shape: MaskShapeName = option(
        "which patches are kept; gaussian: the middle more often; resize: all of a smaller image",
        "random",
        needs="mask_ratio",
    )
    text_mask_ratio: Share = option(
        "share of text tokens dropped in training; none are at evaluation", 0.0, needs="samples", unit="fraction"
    )
    text_mask: TextMaskName = option(
        "which tokens are dropped: padding first, any, or all but a block", "prioritised", needs="text_mask_ratio"
    )
    reconstruction: Reconstruction | None = option(
        "an MAE decoder whose loss is added, such as {weight: 1, depth: 2}; null: none", None, needs="samples"
    )
    loss_function: Literal["softmax", "sigmoid"] = option(
        "contrastive loss: CLIP's softmax over the batch, or SigLIP's sigmoid of each pair of an image and a text",
        "softmax",
        needs="samples",
        late=True,
    )
    batch_size: Batch = option("pairs per step, over all devices", needs="samples", unit="samples")
    lr: Positive = option(
        "peak learning rate; FLIP's rule if left out", rule="4e-6 * batch_size / 256", needs="samples"
    )
    warmup: Whole = option(
        "samples of linear warm-up; if left out FLIP's 51.2M, at most a tenth of the schedule, or of the shortest one "
        "of the study where schedules are constant",
        rule="min(51200000, samples // 10)",
        needs="samples",
        unit="samples",
    )
    schedule: CourseName = option(
        "course of the learning rate after warm-up: half a cosine, or constant", "cosine", needs="samples"
    )
    cooldown: SamplesOfRun = option(
        "samples at the end of a constant schedule over which lr falls to 0; or a share of the run's samples, such as "
        "20 %",
        0,
        needs="schedule",
        unit="samples",
    )
    cooldown_shape: Literal["linear", "1-sqrt", "cosine"] = option(
        "how lr falls there: in a straight line, as 1 - sqrt(x), which falls faster at first, or as half a cosine",
        "linear",
        needs="cooldown",
        late=True,
    )
    average: Share = option(
        "share of the schedule's steps, its last ones, whose mean weights are kept in averaged.pt and scored as "
        "averaged.SCORE; 0: none",
        0.0,
        needs="samples",
        unit="fraction",
        late=True,
    )
    weight_decay: NotNegative = option(
        "AdamW's weight decay, on weights that are not biases, norms, positions or temperature", 0.2, needs="samples"
    )
    beta1: Share = option("AdamW's beta1, for the mean of the gradient", 0.9, needs="samples")
    beta2: Share = option("AdamW's beta2, for the mean of its square; FLIP's 0.95", 0.95, needs="samples")
    eps: Positive = option("AdamW's", 1e-8, needs="samples")
    grad_clip: Positive | None = option("norm the gradient is clipped to; null clips nothing", None, needs="samples")
    precision: Literal["fp32", "bf16", "fp16"] = option(
        "precision of the forward pass; weights are always fp32", "fp32"
    )
    init: Weights | None = option("open_clip checkpoint to start from; null starts from random weights", None)
    stages: Some[Stage] | None = option(
        "parts of the schedule with other settings, such as [{samples: 80 %, image_size: 112}, {samples: 20 %}]; null: "
        "one",
        None,
        late=True,
    )
    tuning: Tuning | None = option(
        "unmasked tuning after the schedule, a run of its own, such as {samples: 128M} or, on larger images, "
        "{samples: 128M, image_size: 224}; null: none",
        None,
    )
    fine_tuning: FineTuning | None = option(
        "end-to-end fine-tuning of the image tower on labelled images, a run of its own after the tuning, such "
        "as {samples: 64M, data: {folder: {train: DIR, test: DIR}}}; null: none",
        None,
    )
    trainer: Annotated[Trainer, OneOf("trainer")] = option(
        "what trains: flipscale, open_clip's own program, or a command", FlipscaleTrainer()
    )
    seed: Whole = option("seed of initialisation, data order and masks", 0)
    evaluation: Evaluation = option("what is measured, and when", Evaluation())

    @property
    def is_sigmoid(self) -> bool:
        """Whether the loss is SigLIP's, by the setting or by an argument of open_clip's program."""
        return self.loss_function == "sigmoid" or "--siglip" in getattr(self.trainer, "arguments", ())


# What a study asks for beside the settings of its runs


@dataclass(frozen=True)
class Budget(Declared):
    """Limits on what a whole study may cost; None means no limit."""

    gpu_hours: Positive | None = option("predicted device-hours the whole study may cost", None)
    train_flops: Positive | None = option("training FLOPs the whole study may cost", None)
    runs: Count | None = option("runs the study may have", None)
    price: Positive | None = option("money the whole study may cost, by the `price` of the site file", None)


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
class Resources(Declared):
    """The resources of one run, and how it is priced. None of them is part of an id."""

    gpus: Whole = option("GPUs per run; 0 means cores of a CPU, or the one GPU that a local worker finds", 0)
    device: Annotated[str, Among(DEVICES)] | None = option(
        "the device that the plan is priced on; null means A100, or cpu without gpus", None
    )
    flops_per_second: Annotated[float, Within(ge=1)] | None = option(
        "FLOP/s that one device sustains, if you have measured it", None
    )
    processes: Count | None = option(
        "processes that share the batch of one run; null is one for each GPU, or one", None
    )
    accumulate: Count = option(
        "parts in which a process computes its share of the batch; the contrastive loss still covers the whole batch",
        1,
    )
    activation_checkpointing: Flag = option(
        "whether activations are recomputed in the backward pass instead of stored", False
    )
    compile: Flag = option("whether torch.compile compiles the towers", False)
    loaders: Whole | None = option(
        "processes beside each that trains which read and decode its batches, of data that is read as it is needed; "
        f"null: {LOADERS} on a GPU, else none",
        None,
    )
    stalled: DurationOrNever | None = option(
        "a run without a step for this long (30m, or never) has stalled: it is killed and resumed. null takes the "
        "site's, or else the time of 20 of its steps, at least 10 min",
        None,
    )
    checkpoint: Every | None = option(
        "training between two checkpoints, such as every 5m; null follows from what one costs, at most 10 min", None
    )
    software: Annotated[int, count_from(2017)] | None = option(
        f"year of the software that hours and memory are predicted for, such as 2022; null is today's. Before "
        f"{FUSED_SINCE} there was no fused attention, and GPUs trained half as fast",
        None,
    )
    samples_per_second: Positive | None = option(
        "most pairs per second that reading data feeds to one device; null is "
        f"{pairs_read(224):,.0f} at 224 px, by {LOADERS} cores, for a GPU whose images are decoded as they are "
        f"read, {pairs_drawn(224):,.0f} for one whose images are drawn, and no limit for other data, a CPU or with "
        "flops_per_second",
        None,
    )

    def processes_on(self, *, gpu: bool) -> int:
        """How many processes train a run, a device each: as many as it asks for, else one for each GPU, else one.

        gpu: whether it is trained on GPUs at all.
        """
        return self.processes or (self.gpus if gpu else 0) or 1

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Resources":
        """The resources in a JSON object; others in it are passed over. ValueError for one that cannot be."""
        if not isinstance(values, dict):
            raise ValueError(f"{show(values)} gives no names; write {{NAME: ...}}")
        known = {name: values[name] for name in options_of(cls) if values.get(name) is not None}
        return checked(cls, known)  # type: ignore[no-any-return]

    @property
    def devices(self) -> int:
        """How many devices share the batch of one run, where it is trained on what it asks for."""
        return self.processes_on(gpu=True)


ResourcesRead = Annotated[Resources, By(Resources.of)]
"""Resources as a record of flipscale's own has them."""
