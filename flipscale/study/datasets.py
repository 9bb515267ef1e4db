"""The data sets a study can name: for training, and for evaluation alone."""

from flipscale.scores import METRICS
from flipscale.settings import (
    CaptionSet,
    CommandSet,
    Fashion,
    FolderSet,
    IdxSet,
    LabelledFolders,
    LabelledIdx,
    LabelledShards,
    Shapes,
    ShardSet,
    WebDataset,
)
from flipscale.study.kinds import Choice, Count, Either, Keys, ListOf, MapOf, Maybe, Number, OneOf, Option, Text
from flipscale.study.named_sets import check_metric

TEMPLATES = Option(
    Maybe(ListOf(Text(holds="{}", names=("imagenet_simple", "openai_imagenet")))),
    None,
    "prompts for zero-shot, with {} for the class, or imagenet_simple (FLIP's 7), or openai_imagenet (80); "
    "null takes the data's, or else 'a photo of a {}'",
)

_METRIC = Option(
    Choice(METRICS, "metric"),
    "top1",
    "metric of the set; map11 takes images of several classes, roc_auc two classes",
)

_SHAPES = Keys(
    "shapes",
    {
        "pairs": Option(Number(0, 1), 0.3, "share of images with two objects and a relation between them"),
        "seed": Option(Count(0), 0, "which world of images is drawn; the run's own seed does not change it"),
    },
    record=Shapes,
)

_FASHION = Keys(
    "fashion",
    {
        "folder": Option(
            Maybe(Text()), None, "folder of Fashion-MNIST's IDX files; null is where Debian puts them", place=True
        )
    },
    short="folder",
    record=Fashion,
)

_URLS = Option(
    Text(), None, "pattern of the tar shards, as in laion400m/{00000..41455}.tar; paths, URLs or pipe: commands", True
)
_NAME = Option(Maybe(Text()), None, "the data set's name in a run's identity; null takes the pattern's last folder")

DATASET = OneOf(
    "data set",
    {
        "shapes": _SHAPES,
        "fashion": _FASHION,
        "webdataset": Keys(
            "webdataset",
            {
                "urls": _URLS,
                "name": _NAME,
                "decode": Option(
                    Maybe(Choice(("once", "always"), "way of decoding")),
                    None,
                    "decode once, into a cache on disk, or always, as a stream; null decides by size",
                    place=True,
                ),
                "sizes": Option(
                    Maybe(Text()),
                    None,
                    "JSON file with the number of samples of each shard, like open_clip's sizes.json; null counts them",
                    place=True,
                ),
            },
            short="urls",
            record=WebDataset,
        ),
    },
)
"""Data sets for training and evaluation."""

EVALUATION_SET = OneOf(
    "evaluation set",
    {
        "shapes": _SHAPES,
        "fashion": _FASHION,
        "webdataset": Keys(
            "webdataset",
            {
                "urls": _URLS,
                "name": _NAME,
                "classes": Option(
                    Maybe(Either(Text(), ListOf(Text()))),
                    None,
                    "names of the classes that .cls files number, listed or in a text file; null: samples have "
                    "captions",
                ),
                "templates": TEMPLATES,
                "metric": _METRIC,
            },
            short="urls",
            record=ShardSet,
        ),
        "folder": Keys(
            "folder",
            {
                "path": Option(Text(), None, "folder with a folder of images for each class", True, place=True),
                "classes": Option(
                    Maybe(Either(Text(), ListOf(Text()))),
                    None,
                    "names of the classes, listed in the order of the folders or in a JSON file {folder: name}",
                ),
                "templates": TEMPLATES,
                "train": Option(Maybe(Text()), None, "another such folder, to train the linear probe on", place=True),
                "metric": _METRIC,
            },
            short="path",
            record=FolderSet,
        ),
        "idx": Keys(
            "idx",
            {
                "images": Option(Text(), None, "IDX file of images, such as MNIST's, .gz or not", True, place=True),
                "labels": Option(Text(), None, "IDX file of their labels", True, place=True),
                "classes": Option(ListOf(Text()), None, "names of the classes, from label 0 on", True),
                "templates": TEMPLATES,
                "train_images": Option(Maybe(Text()), None, "images to train the linear probe on", place=True),
                "train_labels": Option(Maybe(Text()), None, "their labels", place=True),
                "metric": _METRIC,
            },
            record=IdxSet,
            check=check_metric,
        ),
        "captions": Keys(
            "captions",
            {
                "file": Option(Text(), None, "table of images and captions, .csv, .tsv or .jsonl", True, place=True),
                "image": Option(Text(), "filepath", "column of the image's path"),
                "caption": Option(Text(), "title", "column of the caption"),
                "root": Option(Maybe(Text()), None, "folder that paths start from; null is the table's", place=True),
            },
            short="file",
            record=CaptionSet,
        ),
        "command": Keys(
            "command",
            {
                "arguments": Option(
                    Maybe(ListOf(Text())),
                    None,
                    "the program and its arguments; the run's folder is appended; null: the training command gives the "
                    "scores",
                    place=True,
                ),
                "scores": Option(
                    MapOf("higher or lower", Choice(("higher", "lower"), "direction")),
                    None,
                    "names of its scores, each with which is better, higher or lower, such as {cider: higher}",
                    True,
                ),
            },
            record=CommandSet,
        ),
    },
)
"""Data sets for evaluation alone. A set is known by the name the study gives it, wherever its files lie."""

_LABELLED_NAME = Option(
    Maybe(Text()),
    None,
    "the set's name in a run's identity; null takes the last two parts of where the training images lie",
)


def _place_of(says: str) -> Option:
    return Option(Text(), None, says, required=True, place=True)


FINE_TUNING_SET = OneOf(
    "labelled set",
    {
        "shapes": _SHAPES,
        "fashion": _FASHION,
        "folder": Keys(
            "folder",
            {
                "train": _place_of("folder with a folder of training images for each class"),
                "test": _place_of("the same for test images"),
                "name": _LABELLED_NAME,
            },
            record=LabelledFolders,
        ),
        "webdataset": Keys(
            "webdataset",
            {
                "train": _place_of("pattern of the tar shards of training images, each with a .cls"),
                "test": _place_of("the same for test images"),
                "name": _LABELLED_NAME,
            },
            record=LabelledShards,
        ),
        "idx": Keys(
            "idx",
            {
                "train_images": _place_of("IDX file of training images, such as MNIST's, .gz or not"),
                "train_labels": _place_of("IDX file of their labels"),
                "test_images": _place_of("IDX file of test images"),
                "test_labels": _place_of("IDX file of their labels"),
                "name": _LABELLED_NAME,
            },
            record=LabelledIdx,
        ),
    },
)
"""Data sets for fine-tuning: training and test images with their classes."""
