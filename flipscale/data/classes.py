"""The classes and the number of test images of data sets that need no file to be known."""

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
