"""How many classes or pairs a model chooses from when it is scored, as far as is known without opening an image."""

from typing import assert_never

from flipscale.data.labelled import class_folders, names_in_order
from flipscale.errors import DataError
from flipscale.settings import (
    CaptionSet,
    CommandSet,
    DataSet,
    EvaluationSet,
    Fashion,
    FolderSet,
    IdxSet,
    Shapes,
    ShardSet,
    WebDataset,
)

FASHION_CLASSES = (
    "t-shirt",
    "pair of trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)

FASHION_TEST_IMAGES = 10_000

SHAPE_SIZES = ("big", "small")
SHAPE_COLOURS = ("red", "green", "blue", "yellow")
SHAPES = ("circle", "ring", "square", "diamond", "triangle", "cross", "star", "moon", "heart", "bowtie")
SHAPE_CLASSES = tuple(
    f"{size} {colour} {shape}" for size in SHAPE_SIZES for colour in SHAPE_COLOURS for shape in SHAPES
)

IMAGENET_CLASSES = 1000
"""How many classes `classes: imagenet` stands for, with open_clip's names."""

MOST_SURE_SHAPES = 10_000
"""Up to this number, held-out scenes of shapes are certainly all different; there are 12,800 in all."""


def classes_of(data: DataSet | EvaluationSet) -> int | None:
    """How many classes a labelled set has; None if it has none, or if they follow from files that are not here."""
    match data:
        case Shapes():
            return len(SHAPE_CLASSES)
        case Fashion():
            return len(FASHION_CLASSES)
        case IdxSet():
            return len(data.classes)
        case FolderSet() | ShardSet():
            try:
                return _named_classes(data)
            except DataError:
                return None
        case WebDataset() | CaptionSet() | CommandSet():
            return None
    assert_never(data)


def _named_classes(data: FolderSet | ShardSet) -> int | None:
    if isinstance(data, FolderSet):
        return len(class_folders(data.path)[1])
    if data.classes is None:
        return None
    return IMAGENET_CLASSES if data.classes == "imagenet" else len(names_in_order(data.classes, data.urls))


def pairs_of(data: DataSet | EvaluationSet, images: int) -> int | None:
    """How many held-out pairs a set has, where evaluation.images is `images`; None if only its files tell."""
    match data:
        case Shapes():
            return images if images <= MOST_SURE_SHAPES or not data.pairs else None
        case Fashion():
            return min(images, FASHION_TEST_IMAGES)
        case _:
            return None
