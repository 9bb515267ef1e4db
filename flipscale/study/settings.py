"""Every setting of a run: its kind, its default, and a sentence about it. One table, read by all that need it.

The study reader checks against it, the JSON Schema and the documentation are written from it, and a run's identity is
the settings of this table that differ from their defaults: a setting added later must have a default that means
'as before', and then old ids stand.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flipscale.study.kinds import Choice, Count, Keys, Kind, ListOf, Maybe, ModelName, Number, OneOf, Option, Text

DATASET = OneOf(
    "data set",
    {
        "shapes": Keys(
            "shapes",
            {
                "pairs": Option(Number(0, 1), 0.3, "share of images with two objects and a relation between them"),
                "seed": Option(Count(0), 0, "which world of images is drawn; the run's own seed does not change it"),
            },
        ),
        "fashion": Keys(
            "fashion",
            {
                "folder": Option(
                    Maybe(Text()), None, "folder of Fashion-MNIST's IDX files; null is where Debian puts them"
                )
            },
            short="folder",
        ),
        "webdataset": Keys(
            "webdataset",
            {
                "urls": Option(Text(), None, "pattern of the tar shards, as in laion400m/{00000..41455}.tar", True),
                "name": Option(
                    Maybe(Text()), None, "the data set's name in a run's identity; null takes the pattern's last folder"
                ),
            },
            short="urls",
        ),
    },
)

EVALUATION = Keys(
    "evaluation",
    {
        "data": Option(Maybe(DATASET), None, "data to evaluate on; null takes the training data's held-out part"),
        "images": Option(Count(), 2000, "at most so many held-out images"),
        "at": Option(
            ListOf(Number(0, 1, above=True)), [1.0], "fractions of the schedule to evaluate at; the end is always one"
        ),
        "templates": Option(
            Maybe(ListOf(Text(holds="{}"))), None, "prompts for zero-shot, with {} for the class; null takes the data's"
        ),
    },
)


@dataclass(frozen=True)
class Setting:
    """One setting of a run. `rule` is an expression that gives the value where the study says nothing."""

    kind: Kind
    says: str
    default: Any = None
    required: bool = False
    rule: str | None = None


SETTINGS: Mapping[str, Setting] = {
    "model": Setting(ModelName(), "open_clip's name of a ViT, or ViT-w48d3-4: width 48, depth 3, patch 4", None, True),
    "image_size": Setting(Maybe(Count()), "side of the image in pixels; null takes the model's own"),
    "text_length": Setting(Count(3), "tokens of text, in training and evaluation; FLIP's 32", 32),
    "data": Setting(DATASET, "what is trained on: shapes, fashion or webdataset", DATASET.read("shapes", (), print)),
    "data_size": Setting(Maybe(Count()), "unique pairs used, an exact subset; null uses all there are"),
    "samples": Setting(Count(), "length of the schedule, in samples seen", None, True),
    "mask_ratio": Setting(
        Number(0, 1, below=True), "share of image patches dropped in training; none are at evaluation", 0.0
    ),
    "batch_size": Setting(Count(2), "pairs a step, over all devices together", None, True),
    "lr": Setting(Number(0, above=True), "peak learning rate; FLIP's rule if left out", rule="4e-6 * batch_size / 256"),
    "warmup": Setting(
        Count(0),
        "samples of linear warm-up; if left out FLIP's 51.2M, at most a tenth of the schedule",
        rule="min(51200000, samples // 10)",
    ),
    "weight_decay": Setting(Number(0), "AdamW's, on weights that are not biases, norms, positions or temperature", 0.2),
    "beta1": Setting(Number(0, 1, below=True), "AdamW's, for the mean of the gradient", 0.9),
    "beta2": Setting(Number(0, 1, below=True), "AdamW's, for the mean of its square; FLIP's 0.95", 0.95),
    "eps": Setting(Number(0, above=True), "AdamW's", 1e-8),
    "grad_clip": Setting(Maybe(Number(0, above=True)), "norm the gradient is clipped to; null clips nothing"),
    "precision": Setting(Choice(("fp32", "bf16"), "precision"), "of the forward pass; weights are always fp32", "fp32"),
    "seed": Setting(Count(0), "of initialisation, data order and masks", 0),
    "evaluation": Setting(EVALUATION, "what is measured, and when", EVALUATION.read({}, (), print)),
}
