"""The interface of every data set: training pairs by index, and held-out items to score a model on. Numpy only."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flipscale.data.views import Views
from flipscale.errors import DataError

Images = npt.NDArray[np.uint8]
"""[n, 3, S, S], red green blue."""

Integers = npt.NDArray[np.int64]
"""Indices [n], labels [n] or tokens [..., text_length]."""

Flags = npt.NDArray[np.bool_]
"""Which classes each image shows [n, classes]."""

EXTENSIONS = {"jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"}
"""Endings of image files."""

Tokenize = Callable[[list[str]], Integers]
"""Captions -> tokens [n, text_length]. Data sets call it once for each distinct caption."""


def located(name: str) -> Path:
    """A path of a declaration. One that is not absolute starts from FLIPSCALE_DATA, else from the current folder."""
    return Path(os.environ.get("FLIPSCALE_DATA", ""), name)


@dataclass(frozen=True)
class Form:
    """The form in which a data set gives its items: that of the model."""

    image_size: int
    text_length: int
    tokenize: Tokenize
    cache: Path = Path("results/cache")
    """A folder for indexes, fetched and decoded shards."""
    shown_size: int | None = None
    """Side in pixels of the images that training shows, if smaller; None is image_size. Drawn and decoded images have
    image_size: then all mask shapes share one cache, and each image is resized from its crop."""

    @property
    def view_size(self) -> int:
        """Pixels of a side of what training shows."""
        return self.shown_size or self.image_size


@dataclass(frozen=True)
class Scoring:
    """What is wanted of a set to score on."""

    images: int
    """At most this many of a kind: of a labelled folder, IDX or webdataset set with more, a subset with even classes
    that is the same for every run; of the rest the first."""
    templates: Sequence[str] | None
    """Prompt templates with {} for the class name; None for the data set's own."""
    trained_on: bool = True
    """Whether the set is also what the run trains on, so its held-out split is meant. Shapes and fashion have one and
    give the same either way. A webdataset has none, unless it is declared for evaluation alone, when all of it counts
    as held out."""
    probe: int = 0
    """How many labelled images at most the linear probe learns from, of the sets that have some; 0 opens none."""


@dataclass(frozen=True)
class Data:
    """Image-text pairs to train on, by index. No state: the same index gives the same pair in any batch."""

    size: int
    """How many unique pairs there are; their indices are 0 .. size - 1."""

    batch: Callable[[Integers, Views | None], tuple[Images, Integers]]
    """Indices [B] and how each is looked at -> images [B, 3, S, S] and tokens [B, text_length]. Without views, the
    middle square. Several threads may call it at a time."""

    order: Callable[..., Integers]
    """Seed, step and batch_size -> the indices [batch_size] of that step's global batch; with a range of rows as well,
    those of these rows: each of several processes takes some consecutive ones."""

    corrupt: Callable[[], int] = lambda: 0
    """How many pairs were found so far that cannot be read, so that others were seen in their place."""

    vocabulary: Integers | None = None
    """The ids, ascending, of all tokens that the pairs can hold; None if that is not known before they are read."""

    flaws: Callable[[], Mapping[int, str]] = dict
    """The pairs that were found so far that cannot be read, and why, where pairs are read as they are needed."""

    note: Callable[[Mapping[int, str], int], None] = lambda flaws, rows: None
    """Count pairs that another process found unreadable, and how many it read. DataError for too many."""

    reopen: Callable[[], "Data"] | None = None
    """Opens the same data in another process, where pairs are read as they are needed. It can be pickled."""


DISTINCT_SHARE = 0.95
"""With a smaller share of distinct captions among held-out pairs retrieval is not scored: right answers would not
count."""


@dataclass(frozen=True)
class HeldOutItems:
    """Items never trained on. Parts that a data set lacks are None or empty, and their scores stay missing."""

    pairs: tuple[Images, Integers] | None
    """Images and the tokens of their captions: the held-out contrastive loss, and retrieval."""

    retrieval: bool
    """Whether the captions of `pairs` tell its images apart, so that retrieval means something."""

    image_of: Integers | None = None
    """Which image of `pairs` each caption is of, ascending; every image has one or more. None: one each, in order."""

    labelled: tuple[Images, Integers] | None = None
    """Images and their class, an index into `classes`: zero-shot classification."""

    classes: tuple[str, ...] = ()
    """The name of each class."""

    shown: Flags | None = None
    """Which classes each labelled image shows, where it may show several; else each shows the one of its label."""

    metric: str = "top1"
    """The metric of zero-shot classification beside top 1 and top 5, one of flipscale.scores.METRICS."""

    prompts: Integers | None = None
    """Tokens [classes, templates, text_length]: each class name put into each prompt template."""

    probe: tuple[Images, Integers] | None = None
    """Other images of the same classes, which may have been trained on: the linear probe learns from them."""

    corrupt: int = 0
    """How many items were skipped because they could not be read."""

    source: str = ""
    """The data set in words, without its path: two runs that are scored on the same items have the same."""

    digest: str | None = None
    """The digest of its content, see `flipscale.data.digest`; None where that is unknown."""

    @property
    def vocabulary(self) -> Integers:
        """The ids of all tokens in captions and prompts, ascending."""
        texts = [] if self.pairs is None else [self.pairs[1]]
        texts += [] if self.prompts is None else [self.prompts]
        return np.unique(np.concatenate([tokens.ravel() for tokens in texts])) if texts else np.empty(0, np.int64)


def prompt_tokens(classes: tuple[str, ...], templates: Sequence[str], tokenize: Tokenize) -> Integers:
    """The tokens [classes, templates, text_length] of every class name in every template ('a photo of a {}')."""
    tokens = tokenize([template.replace("{}", name) for name in classes for template in templates])
    return tokens.reshape(len(classes), len(templates), -1)


def paired_items(
    images: Images, tokens: Integers, corrupt: int, where: str, image_of: Integers | None = None
) -> HeldOutItems:
    """Images with captions: for the held-out loss, and for retrieval if their captions tell them apart.

    Raises DataError, which begins with `where`, for a single image.
    """
    if len(images) < 2:
        raise DataError(
            f"{where}: gives one image to score on, so any model would find it; name a set of two images or more, and "
            f"set evaluation.images to 2 or more."
        )
    distinct = len(np.unique(tokens, axis=0)) >= DISTINCT_SHARE * len(tokens)
    return HeldOutItems(pairs=(images, tokens), retrieval=distinct, image_of=image_of, corrupt=corrupt)


Captioned = tuple[Images, list[list[str]], int]
"""Images [n, 3, S, S], the captions of each, and how many more samples were wanted and could not be read."""


def captioned_items(captioned: Captioned, form: Form, where: str) -> HeldOutItems:
    """`paired_items` of images that may have several captions each."""
    images, captions, corrupt = captioned
    image_of = np.repeat(np.arange(len(captions)), [len(texts) for texts in captions])
    return paired_items(images, form.tokenize([text for texts in captions for text in texts]), corrupt, where, image_of)
