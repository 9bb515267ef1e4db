"""Procedural pictures of coloured shapes with captions: unlimited pairs, made on the spot and hard enough to scale on.

A picture holds one large object ("a big red star") or, in a share `pairs` of them, two smaller ones and how they lie
("a small blue ring left of a big red star"). There are 10 shapes, 4 colours and 2 sizes, so 80 classes, and place,
angle, size, shade, background and noise vary. Captions may leave out size and colour. Few colours are on purpose:
with many, colour alone tells most pairs of a batch apart and shape is not learnt.

Everything follows from (seed, index) by integer hashes and float32 arithmetic without libm, so a pair is the same to
the last bit in any batch. Shapes are drawn analytically: the distance to the outline, cut off at half a pixel.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flipscale import randomness
from flipscale.data.inspection import Look
from flipscale.data.labelled import ClassifiedSet, Labelled
from flipscale.data.pairs import Data, Form, HeldOutItems, Images, Integers, Scoring, Tokenize, prompt_tokens
from flipscale.data.shuffle import Shuffle
from flipscale.data.views import Views, view_stored
from flipscale.settings.declarations import Shapes, plain

Floats32 = npt.NDArray[np.floating[Any]]  # float32, which the stubs lose when a Python number comes in
Outline = Callable[[Floats32, Floats32], Floats32]

SHAPE_SIZES = ("big", "small")
SHAPE_COLOURS = ("red", "green", "blue", "yellow")
RELATIONS = ("left of", "right of", "above", "below")
SHAPE_TEMPLATES = ["a {}"]

# The ranges below and in `_scenes` are tuned so that 8k to 64k samples, seconds to minutes of one core, span what there
# is to learn. A CLIP of width 48 and depth 3 (batch 64, lr 1e-3, seed 0) has zero-shot accuracy .27, .35, .84 after
# 8k, 16k, 32k samples, and with mask ratio .5 of .21, .33, .75, and .98 after 64k, in .54 to .63 of the time. Seeds
# differ: three at 32k and .5 gave .67 to .77, two at 32k and .75 gave .41 and .64. With wider ranges of place, size,
# shade and background the run at 32k and .5 recognised only .31 of the shapes. The held-out loss, 1.36 to 1.43 over the
# three seeds, shows repeated data better than zero-shot does: 2.78 with 256 unique pairs, where zero-shot is .64.
_RGB = np.array([[215, 45, 45], [45, 175, 60], [55, 80, 220], [215, 190, 40]], np.float32)
_OBJECT_RADIUS = np.array([0.95, 0.62], np.float32)  # by size; the picture goes from -1 to 1, x to the right and y down
# How far an object may be off its place.
_SPREAD = np.float32(0.06)
_PAIR_SPREAD = np.float32(0.1)
_PAIR_SCALE = np.float32(0.55)  # how much smaller the objects of a pair are
_PAIR_STEP = np.array(
    [[-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5]], np.float32
)  # by relation, from the middle to the first
_UNNAMED = 0.2  # how often a caption leaves out an object's size, and its colour

# Outlines: (x to the right, y down) in radii -> signed distance to the outline, or nearly, negative inside.


def _circle(x: Floats32, y: Floats32) -> Floats32:
    return np.sqrt(x * x + y * y) - 0.88


def _ring(x: Floats32, y: Floats32) -> Floats32:
    return np.abs(np.sqrt(x * x + y * y) - 0.68) - 0.22


def _square(x: Floats32, y: Floats32) -> Floats32:
    return np.maximum(np.abs(x), np.abs(y)) - 0.78


def _diamond(x: Floats32, y: Floats32) -> Floats32:
    return 0.7071 * (np.abs(x) + np.abs(y)) - 0.7


def _triangle(x: Floats32, y: Floats32) -> Floats32:
    distance: Floats32 = np.maximum(0.866 * np.abs(x) - 0.5 * y - 0.42, y - 0.66)
    return distance


def _cross(x: Floats32, y: Floats32) -> Floats32:
    x = np.abs(x)
    y = np.abs(y)
    return np.maximum(np.minimum(x, y) - 0.28, np.maximum(x, y) - 0.92)


def _star(x: Floats32, y: Floats32) -> Floats32:
    """A point is in a five-pointed star if at most one of the pentagon's five sides cuts it off."""
    first = second = np.full_like(x, -9)
    for nx, ny in ((0.0, 1.0), (0.9511, 0.3090), (-0.9511, 0.3090), (0.5878, -0.8090), (-0.5878, -0.8090)):
        side = nx * x + ny * y - 0.33
        second = np.maximum(second, np.minimum(first, side))
        first = np.maximum(first, side)
    return second


def _moon(x: Floats32, y: Floats32) -> Floats32:
    outer = np.sqrt(x * x + y * y) - 0.92
    bite = np.sqrt((x - 0.5) * (x - 0.5) + y * y) - 0.72
    return np.maximum(outer, -bite)


def _heart(x: Floats32, y: Floats32) -> Floats32:
    x = np.abs(x)
    lobe = np.sqrt((x - 0.42) * (x - 0.42) + (y + 0.32) * (y + 0.32)) - 0.48
    tip = np.maximum(0.7071 * (x + y) - 0.55, -0.32 - y)
    distance: Floats32 = np.minimum(lobe, tip)
    return distance


def _bowtie(x: Floats32, y: Floats32) -> Floats32:
    x = np.abs(x)
    y = np.abs(y)
    distance: Floats32 = np.maximum(0.76 * (y - 0.85 * x) - 0.06, x - 0.82)
    return distance


OUTLINES: dict[str, Outline] = {
    "circle": _circle,
    "ring": _ring,
    "square": _square,
    "diamond": _diamond,
    "triangle": _triangle,
    "cross": _cross,
    "star": _star,
    "moon": _moon,
    "heart": _heart,
    "bowtie": _bowtie,
}

SHAPE_CLASSES = tuple(
    f"{size} {colour} {shape}" for size in SHAPE_SIZES for colour in SHAPE_COLOURS for shape in OUTLINES
)


def check(data: Shapes, look: Look, probe: bool) -> None:
    """There is no file to look at."""


def check_training(data: Shapes, look: Look, *, data_size: int | None, batch_size: int) -> None:
    """There is no file to look at."""


def content(data: Shapes, probe: bool) -> Any:
    """The declaration, from which all images follow."""
    return plain(data)


def training(data: Shapes, form: Form, *, data_size: int | None, samples: int, before: int, crop: float | None) -> Data:
    """The pairs 0 .. size - 1. Runs before have seen the first `first` of them, which do not come again."""
    size = data_size or before + samples
    first = 0 if data_size else before
    stream = randomness.key("shapes", data.seed, "train")
    pairs = data.pairs
    captions = _Captions(form.text_length, form.tokenize)

    def batch(indices: Integers, views: Views | None = None) -> tuple[Images, Integers]:
        scenes = _scenes(stream, indices, pairs)
        images = view_stored(_render(scenes, form.image_size), form.view_size, views)
        return images, captions.tokens(_caption_numbers(scenes))

    shuffle = Shuffle([size - first])

    def order(seed: int, step: int, batch_size: int, rows: range | None = None) -> Integers:
        return first + shuffle(seed, step - first // batch_size, batch_size, rows)

    return Data(size=size, batch=batch, order=order if first else shuffle, vocabulary=captions.vocabulary(pairs))


def held_out(data: Shapes, form: Form, scoring: Scoring) -> HeldOutItems:
    """All 80 classes equally often; and scenes of two objects, no two alike, with whole captions.

    What the linear probe learns from is in no training set.
    """
    seed = data.seed
    pairs = data.pairs
    images = scoring.images
    image_size = form.image_size
    stream = randomness.key("shapes", seed, "held out")
    numbers = np.arange(images, dtype=np.int64)
    if pairs:
        # A scene can be described from either side: left of = right of with the objects exchanged.
        scenes = _scenes(stream, np.arange(4 * images, dtype=np.int64), 1.0)
        first, second = (scenes.size * len(SHAPE_COLOURS) + scenes.colour) * len(OUTLINES) + scenes.shape
        turned = scenes.relation % 2 == 1
        first, second = np.where(turned, second, first), np.where(turned, first, second)
        scene = ((scenes.relation // 2) * len(SHAPE_CLASSES) + first) * len(SHAPE_CLASSES) + second
        numbers = np.sort(np.unique(scene, return_index=True)[1])[:images].astype(np.int64)
    scenes = _scenes(stream, numbers, 1.0 if pairs else 0.0)
    scenes.named[:] = True
    captions = [_caption(number) for number in _caption_numbers(scenes)]
    return HeldOutItems(
        pairs=(_render(scenes, image_size), form.tokenize(captions)),
        retrieval=pairs > 0,
        labelled=_labelled(randomness.key("shapes", seed, "labelled"), images, image_size),
        classes=SHAPE_CLASSES,
        prompts=prompt_tokens(SHAPE_CLASSES, scoring.templates or SHAPE_TEMPLATES, form.tokenize),
        probe=_labelled(randomness.key("shapes", seed, "probe"), scoring.probe, image_size) if scoring.probe else None,
    )


def classified(data: Shapes, form: Form, *, images: int, samples: int) -> ClassifiedSet:
    """Images of one object each, of all 80 classes in turn; those to fine-tune on are in no other set."""
    image_size = form.image_size
    stream = randomness.key("shapes", data.seed, "fine-tuning")

    def batch(indices: Integers, views: Views | None = None) -> tuple[Images, Integers]:
        labels = indices % len(SHAPE_CLASSES)
        drawn = _render(_scenes(stream, indices, 0.0, labels), image_size)
        return view_stored(drawn, image_size, views), labels

    training = Data(size=samples, batch=batch, order=Shuffle([samples]), vocabulary=np.empty(0, np.int64))
    test, labels = _labelled(randomness.key("shapes", data.seed, "labelled"), images, image_size)
    return ClassifiedSet(training, Labelled(test, labels, SHAPE_CLASSES))


def _labelled(stream: int, count: int, image_size: int) -> tuple[Images, Integers]:
    """Images of one object each, of the classes in turn, and their labels."""
    numbers = np.arange(count, dtype=np.int64)
    labels = numbers % len(SHAPE_CLASSES)
    return _render(_scenes(stream, numbers, 0.0, labels), image_size), labels


@dataclass
class _Scenes:
    """The objects on B pictures and the words of their captions. Row 0 is the object that the caption names first."""

    paired: npt.NDArray[np.bool_]  # [B] whether there is a second object
    relation: Integers  # [B] how the first lies to the second
    size: Integers  # [2, B]
    colour: Integers  # [2, B]
    shape: Integers  # [2, B]
    named: npt.NDArray[np.bool_]  # [2, 2, B] whether the caption gives the size and the colour of each
    x: Floats32  # [2, B] middle of each object, the picture going from -1 to 1
    y: Floats32  # [2, B]
    radius: Floats32  # [2, B]
    turn: Floats32  # [2, B] tangent of half the angle
    shade: Floats32  # [2, B] factor of the colour
    background: Floats32  # [B] its grey
    noise: Floats32  # [B] how far it goes
    grain: Integers  # [B] which noise


def _scenes(stream: int, indices: Integers, pairs: float, labels: Integers | None = None) -> _Scenes:
    """The scenes of these indices. Given `labels`, they say what the first object is, and all else is random."""
    random = iter(randomness.uniform(stream, indices, 25).T)

    def each() -> Floats32:
        """One number for each of the two objects: [2, B]."""
        return np.stack([next(random), next(random)])

    paired = next(random) < pairs
    relation = _choice(next(random), len(RELATIONS))
    size, colour, shape = (_choice(each(), len(choices)) for choices in (SHAPE_SIZES, SHAPE_COLOURS, OUTLINES))
    if labels is not None:
        size[0], rest = np.divmod(labels, len(SHAPE_COLOURS) * len(OUTLINES))
        colour[0], shape[0] = np.divmod(rest, len(OUTLINES))
    # Python numbers take on the float32 of the array they meet.
    apart = paired * _PAIR_STEP[relation].T
    spread = np.where(paired, _PAIR_SPREAD, _SPREAD)
    first_second = np.array([[1], [-1]], np.float32)
    return _Scenes(
        paired=paired,
        relation=relation,
        size=size,
        colour=colour,
        shape=shape,
        named=np.stack([each() >= _UNNAMED, each() >= _UNNAMED], axis=1),
        x=apart[0] * first_second + spread * (2 * each() - 1),
        y=apart[1] * first_second + spread * (2 * each() - 1),
        radius=_OBJECT_RADIUS[size] * (0.95 + 0.1 * each()) * np.where(paired, _PAIR_SCALE, np.float32(1)),
        turn=0.08 * (2 * each() - 1),
        shade=1.05 - 0.15 * each(),
        background=35 + 25 * next(random),
        noise=10 * next(random),
        grain=_choice(next(random), _GRAINS),
    )


def _choice(uniform: Floats32, count: int) -> Integers:
    return (uniform * np.float32(count)).astype(np.int64)


# Captions. Every caption has a number, so that each distinct one is put into words and tokens once.

_CAPTION_WORDS = (("", *SHAPE_SIZES), ("", *SHAPE_COLOURS), tuple(OUTLINES))
_PHRASES = len(_CAPTION_WORDS[0]) * len(_CAPTION_WORDS[1]) * len(_CAPTION_WORDS[2])


class _Captions:
    """The tokens of captions, made when first needed."""

    def __init__(self, text_length: int, tokenize: Tokenize):
        # Zeroed memory is not touched before it is written to, so the many captions never met cost nothing.
        self._tokens = np.zeros((_PHRASES + len(RELATIONS) * _PHRASES**2, text_length), np.int64)
        self._known = np.zeros(len(self._tokens), np.bool_)
        self._tokenize = tokenize

    def vocabulary(self, pairs: float) -> Integers:
        """The ids of all tokens: of every phrase and every relation, as a word has the same tokens in any caption."""
        relations = _PHRASES + _PHRASES**2 * np.arange(len(RELATIONS) if pairs else 0, dtype=np.int64)
        return np.unique(self.tokens(np.concatenate([np.arange(_PHRASES, dtype=np.int64), relations])))

    def tokens(self, numbers: Integers) -> Integers:
        new = np.unique(numbers[~self._known[numbers]])
        if len(new):
            self._tokens[new] = self._tokenize([_caption(number) for number in new])
            self._known[new] = True
        return self._tokens[numbers]


def _caption_numbers(scenes: _Scenes) -> Integers:
    """0 .. _PHRASES - 1 for one object, then (relation, first, second)."""
    size = np.where(scenes.named[:, 0], scenes.size + 1, 0)
    colour = np.where(scenes.named[:, 1], scenes.colour + 1, 0)
    first, second = (size * len(_CAPTION_WORDS[1]) + colour) * len(_CAPTION_WORDS[2]) + scenes.shape
    pair: Integers = _PHRASES + (scenes.relation * _PHRASES + first) * _PHRASES + second
    return np.where(scenes.paired, pair, first)


def _caption(number: int) -> str:
    if number < _PHRASES:
        return _phrase(number)
    relation, phrases = divmod(number - _PHRASES, _PHRASES**2)
    return f"{_phrase(phrases // _PHRASES)} {RELATIONS[relation]} {_phrase(phrases % _PHRASES)}"


def _phrase(number: int) -> str:
    rest, shape = divmod(number, len(_CAPTION_WORDS[2]))
    size, colour = divmod(rest, len(_CAPTION_WORDS[1]))
    return " ".join(
        word for word in ("a", _CAPTION_WORDS[0][size], _CAPTION_WORDS[1][colour], _CAPTION_WORDS[2][shape]) if word
    )


# Pictures

_GRAINS = 1 << 16
_CHUNK_PIXELS = 64 * 28 * 28
"""Pixels drawn at a time: the arrays stay in a core's cache."""


def _render(scenes: _Scenes, image_size: int) -> Images:
    count = len(scenes.paired)
    images = np.empty((count, 3, image_size, image_size), np.uint8)
    chunk = max(1, _CHUNK_PIXELS // image_size**2)
    for start in range(0, count, chunk):
        rows = slice(start, start + chunk)
        images[rows] = _pixels(scenes, rows, image_size).reshape(-1, 3, image_size, image_size)
    return images


def _pixels(scenes: _Scenes, rows: slice, image_size: int) -> Floats32:
    """Pixel values [rows, 3, image_size**2], all within 0 .. 255 by the ranges of colours, greys and noise."""
    numbers = np.arange(len(scenes.paired))[rows]
    background = scenes.background[numbers, None, None]
    pixels: Floats32 = _cover(scenes, 0, numbers, image_size) * (_colour(scenes, 0, numbers) - background)
    pixels += background
    paired = np.flatnonzero(scenes.paired[numbers])
    over = pixels[paired]
    second = numbers[paired]
    pixels[paired] = over + _cover(scenes, 1, second, image_size) * (_colour(scenes, 1, second) - over)
    pixels += (_noise(image_size)[scenes.grain[numbers]] * scenes.noise[numbers, None])[:, None, :]
    return pixels


def _colour(scenes: _Scenes, which: int, rows: Integers) -> Floats32:
    """[rows, 3, 1]."""
    colour: Floats32 = _RGB[scenes.colour[which, rows]] * scenes.shade[which, rows, None]
    return colour[:, :, None]


def _cover(scenes: _Scenes, which: int, rows: Integers, image_size: int) -> Floats32:
    """How much of each pixel the object covers, 0 to 1: [rows, 1, image_size**2]."""
    shape = scenes.shape[which, rows]
    sort = np.argsort(shape, kind="stable")
    rows = rows[sort]
    shape = shape[sort]
    along = (2 * np.arange(image_size, dtype=np.float32) + 1) / np.float32(image_size) - 1
    radius = scenes.radius[which, rows, None]
    turn = scenes.turn[which, rows, None]
    # The rotation from the half angle's tangent: exact arithmetic, where sin and cos differ between platforms.
    cos = (1 - turn * turn) / (1 + turn * turn) / radius
    sin = 2 * turn / (1 + turn * turn) / radius
    right = along - scenes.x[which, rows, None]
    down = along - scenes.y[which, rows, None]
    x = ((cos * right)[:, None, :] + (sin * down)[:, :, None]).reshape(len(rows), image_size**2)
    y = ((cos * down)[:, :, None] - (sin * right)[:, None, :]).reshape(len(rows), image_size**2)
    distance = np.empty_like(x)
    edges = np.searchsorted(shape, np.arange(len(OUTLINES) + 1))
    for outline, begin, end in zip(OUTLINES.values(), edges[:-1], edges[1:], strict=True):
        if begin < end:
            distance[begin:end] = outline(x[begin:end], y[begin:end])
    cover = np.empty_like(distance)
    distance *= radius * np.float32(-image_size / 2)
    distance += np.float32(0.5)
    cover[sort] = np.clip(distance, 0, 1, out=distance)
    return cover[:, None, :]


@functools.lru_cache(maxsize=1)
def _noise(image_size: int) -> Floats32:
    """_GRAINS noise pictures [_GRAINS, image_size**2] in -1 .. 1: overlapping views of one field."""
    field = 2 * randomness.uniform(randomness.key("noise"), np.arange(_GRAINS + image_size**2 - 1), 1)[:, 0] - 1
    return np.lib.stride_tricks.sliding_window_view(field, image_size**2)
