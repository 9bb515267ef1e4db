"""Every setting of a run: its kind, its default, and a sentence about it. One table, read by all that need it.

The study reader checks against it, the JSON Schema and the documentation are written from it, and a run's identity is
the settings of this table that differ from their defaults: a setting added later must have a default that means
'as before', so that old ids stay valid.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flipscale.scores import INFERENCES
from flipscale.settings import (
    CommandSet,
    CommandTrainer,
    DataSet,
    Evaluation,
    EvaluationSet,
    FineTuning,
    FineTuningSet,
    FlipscaleTrainer,
    OpenClipTrainer,
    Reconstruction,
    Settings,
    Shapes,
    Tuning,
    Weights,
    plain,
)
from flipscale.study.datasets import DATASET, EVALUATION_SET, FINE_TUNING_SET, TEMPLATES
from flipscale.study.kinds import (
    Choice,
    CommandWords,
    Count,
    Flag,
    Keys,
    Kind,
    ListOf,
    MapOf,
    Maybe,
    ModelName,
    Number,
    OneOf,
    Option,
    Schedule,
    Text,
)
from flipscale.study.named_sets import check_evaluation
from flipscale.study.study import Values

EVALUATION = Keys(
    "evaluation",
    {
        "data": Option(Maybe(DATASET), None, "data to evaluate on; null takes the training data's held-out part"),
        "images": Option(
            Maybe(Count()),
            None,
            "most held-out images of each set; null takes all up to 10,000, or 2,000 where images are drawn",
        ),
        "at": Option(
            ListOf(Number(0, 1, above=True)), [1.0], "fractions of the schedule to evaluate at; the end is always one"
        ),
        "templates": TEMPLATES,
        "sets": Option(MapOf("set", EVALUATION_SET), {}, "more sets to score on, by name; their scores are NAME.score"),
        "linear_probe": Option(Flag(), False, "whether a linear classifier on frozen image features is also scored"),
        "means": Option(
            MapOf("list of sets", ListOf(Text())),
            {},
            "means over sets by name, each by its own metric, or over scores as SET.score; the score is NAME.mean",
        ),
        "inference": Option(
            ListOf(Choice(INFERENCES, "inference")),
            [],
            "what masked runs are shown beside whole images: masked, as few patches as in training, or ensemble, the "
            "mean of masks that cover all; the scores are masked.SCORE and SET.masked.SCORE",
        ),
    },
    record=Evaluation,
    check=check_evaluation,
)

MOST_TEST_IMAGES = 10_000
"""How many images of each set are scored at most where the study says nothing: all that Fashion-MNIST and CIFAR hold.
The standard error of an accuracy is then at most half a point."""

DRAWN_TEST_IMAGES = 2000
"""The same for a set whose images are drawn, without end. Its studies are small: scoring 10,000 images would take
longer than training on their shortest schedules."""


def images_scored(evaluation: Evaluation, data: DataSet | EvaluationSet | FineTuningSet) -> int:
    """The most held-out images of this set that are scored: the study's number, else the set's default."""
    if isinstance(data, CommandSet):
        return 0
    if evaluation.images is not None:
        return evaluation.images
    return DRAWN_TEST_IMAGES if isinstance(data, Shapes) else MOST_TEST_IMAGES


RECONSTRUCTION = Keys(
    "reconstruction",
    {
        "weight": Option(Number(0, above=True), 1.0, "weight of the reconstruction loss beside the contrastive loss"),
        "width": Option(Maybe(Count()), None, "width of the decoder; null is half the image tower's"),
        "depth": Option(Count(), 2, "blocks of the decoder"),
    },
    record=Reconstruction,
)

TUNING = Keys(
    "tuning",
    {
        "samples": Option(Count(), None, "length of the tuning, in samples seen; FLIP's is 128M after 2.56B", True),
        "lr": Option(Maybe(Number(0, above=True)), None, "peak learning rate; null is a hundredth of the run's"),
        "warmup": Option(Maybe(Count(0)), None, "samples of linear warm-up; null is a fifth of the tuning"),
        "batch_size": Option(Maybe(Count(2)), None, "pairs per step; null is the run's"),
        "mask_ratio": Option(Number(0, 1, below=True), 0.0, "share of image patches dropped while tuning"),
        "model": Option(
            Maybe(ModelName()),
            None,
            "model with the same towers and other patches, such as FLIP's ViT-L-14 after ViT-L-16; null is the run's",
        ),
        "image_size": Option(
            Maybe(Count()), None, "side of the image in pixels; null is the run's, or that of tuning.model"
        ),
        "text_length": Option(Maybe(Count(3)), None, "tokens of text; null is the run's"),
    },
    short="samples",
    record=Tuning,
)

FINE_TUNING = Keys(
    "fine_tuning",
    {
        "samples": Option(
            Count(), None, "length of the fine-tuning, in images seen; FLIP's is 64M, 50 epochs of ImageNet", True
        ),
        "data": Option(
            Maybe(FINE_TUNING_SET), None, "labelled training and test images; null takes the training data's classes"
        ),
        "images": Option(Maybe(Count()), None, "most test images; null is as in evaluation.images"),
        "lr": Option(
            Maybe(Number(0, above=True)), None, "peak learning rate of the head; null is 5e-5 * batch_size / 256"
        ),
        "batch_size": Option(Count(2), 1024, "images per step"),
        "warmup": Option(Maybe(Count(0)), None, "samples of linear warm-up; null is a tenth of the fine-tuning"),
        "weight_decay": Option(Number(0), 0.05, "AdamW's"),
        "beta1": Option(Number(0, 1, below=True), 0.9, "AdamW's beta1, for the mean of the gradient"),
        "beta2": Option(Number(0, 1, below=True), 0.999, "AdamW's beta2, for the mean of its square"),
        "layer_decay": Option(
            Number(0, 1, above=True), 0.75, "factor of the learning rate from each block to the one before it"
        ),
        "label_smoothing": Option(Number(0, 1, below=True), 0.1, "share of the target spread over all classes"),
        "mixup": Option(Number(0, 2), 0.8, "alpha of mixup; 0 mixes none"),
        "cutmix": Option(Number(0, 2), 1.0, "alpha of CutMix; with mixup, half of the steps each; 0 cuts none"),
        "drop_path": Option(
            Number(0, 1, below=True), 0.2, "stochastic depth: how often the last block is skipped, earlier ones less"
        ),
        "randaugment": Option(Number(0, 10), 9.0, "magnitude of RandAugment's two operations per image; 0 does none"),
        "crop": Option(
            Maybe(Number(0, 1, above=True)),
            0.08,
            "smallest share of the area of a random crop; null: the middle square",
        ),
        "flip": Option(Flag(), True, "whether images are mirrored at random"),
    },
    short="samples",
    record=FineTuning,
)
"""Defaults are of FLIP's table 12 (arXiv 2212.00794), whose setting is MAE's (arXiv 2111.06377, table 9)."""

INIT = Keys(
    "init",
    {
        "path": Option(Text(), None, "open_clip checkpoint, or a tag of open_clip's pretrained weights", True),
        "name": Option(
            Maybe(Text()), None, "its name in a run's identity; null takes the last folder's and the file's"
        ),
    },
    short="path",
    record=Weights,
)

TRAINER = OneOf(
    "trainer",
    {
        "flipscale": Keys("flipscale", {}, record=FlipscaleTrainer),
        "open_clip": Keys(
            "open_clip",
            {"arguments": Option(CommandWords(), [], "further arguments for open_clip's program")},
            record=OpenClipTrainer,
        ),
        "command": Keys(
            "command",
            {
                "arguments": Option(
                    CommandWords(), None, "the program and its arguments; the run's folder is appended", True
                ),
                "name": Option(Maybe(Text()), None, "its name in a run's identity; null takes the arguments"),
            },
            short="arguments",
            record=CommandTrainer,
        ),
    },
)


NORMALIZATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "openai": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
"""Mean and deviation of each channel, of pixels from 0 to 1: FLIP's (arXiv 2212.00794), and open_clip's default."""


@dataclass(frozen=True)
class Setting:
    """One setting of a run. `rule` is an expression that gives the value where the study says nothing."""

    kind: Kind
    says: str
    default: Any = None
    required: bool = False
    rule: str | None = None
    needs: str | None = None
    """The setting without which this one does nothing: while that is at its default, this is not part of an id.

    A mask_ratio in the tuning counts as one of the run, and so do samples of a tuning or a fine-tuning.
    """


SETTINGS: Mapping[str, Setting] = {
    "model": Setting(ModelName(), "open_clip's name of a ViT, or ViT-w48d3-4: width 48, depth 3, patch 4", None, True),
    "image_size": Setting(Maybe(Count()), "side of the image in pixels; null takes the model's own"),
    "text_length": Setting(
        Maybe(Count(3)), "tokens of text, in training and evaluation; FLIP's 32; null takes the model's own", 32
    ),
    "data": Setting(
        DATASET, "the training data: shapes, fashion or webdataset", DATASET.read("shapes", (), print), needs="samples"
    ),
    "data_size": Setting(Maybe(Count()), "unique pairs used, an exact subset; null uses all", needs="samples"),
    "crop": Setting(
        Maybe(Number(0, 1, above=True)),
        "smallest share of the area that a random crop keeps (FLIP 0.5, open_clip 0.9); null takes the whole "
        "middle square",
        needs="samples",
    ),
    "flip": Setting(
        Flag(), "whether images are mirrored at random; FLIP does, open_clip does not", False, needs="samples"
    ),
    "normalization": Setting(
        Choice(tuple(NORMALIZATIONS), "normalization"),
        "mean and deviation of pixels; FLIP's or open_clip's",
        "imagenet",
    ),
    "samples": Setting(
        Schedule(),
        "length of the schedule, in samples seen; or in training FLOPs, such as 1e15 FLOPs; 0 scores init as it is",
        None,
        True,
    ),
    "mask_ratio": Setting(
        Number(0, 1, below=True), "share of image patches dropped in training; none are at evaluation", 0.0
    ),
    "mask_shape": Setting(
        Choice(("random", "grid", "block", "gaussian", "resize"), "mask shape"),
        "which patches are kept; gaussian: the middle more often; resize: all of a smaller image",
        "random",
        needs="mask_ratio",
    ),
    "text_mask_ratio": Setting(
        Number(0, 1, below=True),
        "share of text tokens dropped in training; none are at evaluation",
        0.0,
        needs="samples",
    ),
    "text_mask": Setting(
        Choice(("prioritised", "random", "block"), "text mask"),
        "which tokens are dropped: padding first, any, or all but a block",
        "prioritised",
        needs="text_mask_ratio",
    ),
    "reconstruction": Setting(
        Maybe(RECONSTRUCTION),
        "an MAE decoder whose loss is added, such as {weight: 1, depth: 2}; null: none",
        needs="samples",
    ),
    "batch_size": Setting(Count(2), "pairs per step, over all devices", None, True, needs="samples"),
    "lr": Setting(
        Number(0, above=True),
        "peak learning rate; FLIP's rule if left out",
        rule="4e-6 * batch_size / 256",
        needs="samples",
    ),
    "warmup": Setting(
        Count(0),
        "samples of linear warm-up; if left out FLIP's 51.2M, at most a tenth of the schedule",
        rule="min(51200000, samples // 10)",
        needs="samples",
    ),
    "schedule": Setting(
        Choice(("cosine", "constant"), "schedule"),
        "course of the learning rate after warm-up: half a cosine, or constant",
        "cosine",
        needs="samples",
    ),
    "cooldown": Setting(
        Count(0), "samples at the end of a constant schedule over which lr falls to 0", 0, needs="schedule"
    ),
    "weight_decay": Setting(
        Number(0),
        "AdamW's weight decay, on weights that are not biases, norms, positions or temperature",
        0.2,
        needs="samples",
    ),
    "beta1": Setting(Number(0, 1, below=True), "AdamW's beta1, for the mean of the gradient", 0.9, needs="samples"),
    "beta2": Setting(
        Number(0, 1, below=True), "AdamW's beta2, for the mean of its square; FLIP's 0.95", 0.95, needs="samples"
    ),
    "eps": Setting(Number(0, above=True), "AdamW's", 1e-8, needs="samples"),
    "grad_clip": Setting(
        Maybe(Number(0, above=True)), "norm the gradient is clipped to; null clips nothing", needs="samples"
    ),
    "precision": Setting(
        Choice(("fp32", "bf16", "fp16"), "precision"), "precision of the forward pass; weights are always fp32", "fp32"
    ),
    "init": Setting(Maybe(INIT), "open_clip checkpoint to start from; null starts from random weights"),
    "tuning": Setting(
        Maybe(TUNING),
        "unmasked tuning after the schedule, a run of its own, such as {samples: 128M} or, on larger images, "
        "{samples: 128M, image_size: 224}; null: none",
    ),
    "fine_tuning": Setting(
        Maybe(FINE_TUNING),
        "end-to-end fine-tuning of the image tower on labelled images, a run of its own after the tuning, such "
        "as {samples: 64M, data: {folder: {train: DIR, test: DIR}}}; null: none",
    ),
    "trainer": Setting(
        TRAINER, "what trains: flipscale, open_clip's own program, or a command", TRAINER.read("flipscale", (), print)
    ),
    "seed": Setting(Count(0), "seed of initialisation, data order and masks", 0),
    "evaluation": Setting(EVALUATION, "what is measured, and when", EVALUATION.read({}, (), print)),
}


def read_settings(values: Values) -> Settings:
    """The settings that run.json holds. One that it lacks is at its default.

    Raises ValueError for a value that its setting cannot have.
    """
    return Settings(
        **{
            name: read_setting(name, values.get(name))
            if name in values or setting.required or setting.rule
            else setting.default
            for name, setting in SETTINGS.items()
        }
    )


def read_setting(name: str, value: object) -> Any:
    """One setting of run.json. Raises ValueError for a value that it cannot have."""
    problems: list[str] = []
    kind = SETTINGS[name].kind
    read = kind.read(_said(kind, value), (), lambda _, what: problems.append(f"{name}: {what}"))
    if problems:
        raise ValueError(problems[0])
    return read


def _said(kind: Kind, value: Any) -> Any:
    """The value as a study would write it, without options at defaults that may not be written, like an empty list."""
    if isinstance(kind, Maybe):
        return _said(kind.kind, value)
    if isinstance(kind, OneOf) and isinstance(value, dict):
        return {name: _said(kind.options[name], item) if name in kind.options else item for name, item in value.items()}
    if isinstance(kind, MapOf) and isinstance(value, dict):
        return {name: _said(kind.kind, item) for name, item in value.items()}
    if isinstance(kind, Keys) and isinstance(value, dict):
        return _said_options(kind, value)
    return value


def _said_options(keys: Keys, values: Values) -> Values:
    defaults = {name: plain(option.default) for name, option in keys.options.items()}
    differing = {name: value for name, value in values.items() if name not in defaults or value != defaults[name]}
    return {
        name: _said(keys.options[name].kind, value) if name in defaults else value for name, value in differing.items()
    }
