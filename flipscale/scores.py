"""Scores: which exist, their names, and which direction is better. No other module decides these.

A score of the study's own evaluation has a plain name, `zero_shot_top1`. One of a set under evaluation.sets has the
set's name before it, `imagenet_v2.zero_shot_top1`. The scores of users' own programs, as `coco.cider`, and columns of
other people's tables are judged by their names.
"""

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Unit = Literal["fraction", "nats", "number"]

INFERENCES = ("masked", "ensemble")
"""How masked runs may be shown images besides whole ones: as few patches as in training, or the mean of several masks
that cover all (FLIP, arXiv 2212.00794, table 1d). The scores are named like those of a set, `masked.zero_shot_top1`."""

AVERAGED = "averaged"
"""The same for the mean of the weights of a run's last steps, where it has one: `averaged.zero_shot_top1`."""


def is_averaged(name: str) -> bool:
    """Whether a score is one of averaged weights: `averaged.zero_shot_top1`, `imagenet_v2.averaged.zero_shot_top1`."""
    return set_and_score(name)[0].rpartition(".")[2] == AVERAGED


@dataclass(frozen=True)
class Score:
    """A score that an evaluation can measure."""

    unit: Unit
    meaning: str
    """Its description in the table of columns."""
    label: str
    """Its name in words, as an axis shows it."""
    lower_is_better: bool = False
    hits: int | None = None
    """A hit is the right one among this many best; None for a loss."""

    def chance(self, choices: int, right: int = 1) -> float:
        """Chance level among this number of classes, images or texts: a share of hits, or the loss in nats.

        A score that depends on more than that has no such level, see `class_chance`.

        right: number of choices that are right, as the captions of an image are.
        """
        if self.hits is None:
            return math.log(choices)
        tries = min(self.hits, choices)
        return 1 - math.comb(choices - right, tries) / math.comb(choices, tries) if right > 1 else tries / choices


LOSS_BATCH = 64
"""Pairs in a batch of held_out_loss. It grows with the batch, so this is part of the score; guessing gives log 64, or
4.16 nats."""

FINE_TUNED = "fine_tune_top1"
"""The one score of a run with a fine_tuning."""

SCORES: Mapping[str, Score] = {
    "zero_shot_top1": Score("fraction", "zero-shot classification, top 1", "zero-shot accuracy, top 1", hits=1),
    "zero_shot_top5": Score("fraction", "zero-shot classification, top 5", "zero-shot accuracy, top 5", hits=5),
    "image_retrieval_r1": Score("fraction", "text -> image recall at 1", "text to image recall at 1", hits=1),
    "image_retrieval_r5": Score("fraction", "text -> image recall at 5", "text to image recall at 5", hits=5),
    "image_retrieval_r10": Score("fraction", "text -> image recall at 10", "text to image recall at 10", hits=10),
    "text_retrieval_r1": Score("fraction", "image -> text recall at 1", "image to text recall at 1", hits=1),
    "text_retrieval_r5": Score("fraction", "image -> text recall at 5", "image to text recall at 5", hits=5),
    "text_retrieval_r10": Score("fraction", "image -> text recall at 10", "image to text recall at 10", hits=10),
    "linear_probe_top1": Score(
        "fraction", "linear classifier on frozen image features, top 1", "linear probe accuracy, top 1", hits=1
    ),
    FINE_TUNED: Score(
        "fraction", "image tower fine-tuned on labelled images, top 1", "fine-tuned accuracy, top 1", hits=1
    ),
    "held_out_loss": Score(
        "nats",
        f"unmasked contrastive loss of held-out pairs in batches of {LOSS_BATCH}",
        "held-out loss, nats (lower is better)",
        lower_is_better=True,
    ),
}
"""Every score that any evaluation may have, in the order of the columns of results.csv."""

SET_SCORES: Mapping[str, Score] = {
    "mean_per_class": Score(
        "fraction",
        "zero-shot classification, top 1, mean of the accuracies of the classes",
        "zero-shot accuracy, mean per class",
        hits=1,
    ),
    "map11": Score(
        "fraction",
        "zero-shot classification, mean over classes of the average precision at 11 recalls, as VOC2007 has it",
        "zero-shot mean average precision (11 points)",
    ),
    "roc_auc": Score(
        "fraction",
        "zero-shot classification, area under the ROC curve of the second of two classes",
        "zero-shot ROC AUC",
    ),
    "mean_top1_top5": Score(
        "fraction", "zero-shot classification, mean of top 1 and top 5", "zero-shot accuracy, mean of top 1 and top 5"
    ),
    "mean": Score("fraction", "mean of the sets' own metrics; missing where one of them is", "mean over its sets"),
}
"""The scores that only a set has. Their columns are NAME.score: of a set that names it as its metric, or of a mean."""

METRICS = ("top1", *(name for name in SET_SCORES if name != "mean"))
"""The metrics that a labelled set may name."""


def metric_score(metric: str) -> str:
    """The score of a metric, without the set's name."""
    return "zero_shot_top1" if metric == "top1" else metric


def class_chance(score: str, classes: int) -> float | None:
    """Chance level of a classification score among this number of classes.

    None for map11, where it is the share of the images that show a class.
    """
    if score == "map11":
        return None
    if score == "roc_auc":
        return 0.5
    if score == "mean_top1_top5":
        return (SCORES["zero_shot_top1"].chance(classes) + SCORES["zero_shot_top5"].chance(classes)) / 2
    return (SCORES.get(score) or SET_SCORES[score]).chance(classes)


_DECLARED: dict[str, bool] = {}
"""Whether lower is better in each score that a study of the user's own program declares."""


def declare(scores: Mapping[str, str]) -> None:
    """Make scores known by what a study says of them: {'val_loss': 'lower'}. flipscale's own keep their direction."""
    _DECLARED.update({name: better == "lower" for name, better in scores.items() if not is_own_score(name)})


def is_declared(name: str) -> bool:
    """Whether a study declared the score: it has a direction, whatever its name, and a unit of its own."""
    return name in _DECLARED


def fault_of_score(name: str, better: str) -> str:
    """Why a study cannot declare this score; '' if it can."""
    if is_own_score(name) and bool(lower_is_better(name)) != (better == "lower"):
        return f"'{name}' is a score of flipscale's, and {'lower' if lower_is_better(name) else 'higher'} is better"
    return ""


FINAL_LOSS = Score(
    "nats",
    "mean training loss of the last 5 % of steps",
    "training loss at the end, nats (lower is better)",
    lower_is_better=True,
)
"""The column final_loss. No evaluation measures it, but it may be compared and drawn like a score."""

PREFERRED = ("zero_shot_top1", "image_retrieval_r1", "held_out_loss", *SCORES)
"""The score compared when none is named is the first of these that was measured."""

_SAYS_LOWER = re.compile(r"(^|[^a-z])(err|error|loss|ppl|perplexity|nll|bpb)", re.IGNORECASE)
_SAYS_LOWER_OF_A_SET = re.compile(r"[._](fid|kid|wer|cer|ece|mce|mse|rmse|brier|distance|seconds)\d*(_|$)")
"""More words for which lower is better, in scores of a set: in other names they may mean something else."""

_SAYS_FRACTION = re.compile(
    r"acc|top_?[15](_|$)|recall|precision|(^|_)(f1|m?ap|m?iou|auc|share|(r|pm)_?(0|1|5|10))(_|\d|$)", re.IGNORECASE
)
_SAYS_HIGHER = re.compile(r"(acc|top[-_@ ]?[15]|recall|(^|_)r@?_?(1|5|10)(_|$)|map$|auc)", re.IGNORECASE)


def set_and_score(name: str) -> tuple[str, str]:
    """The set and the score of a column: ('imagenet_v2', 'zero_shot_top1'); '' as the set of a plain name."""
    of_set, _, score = name.rpartition(".")
    return of_set, score


@functools.cache
def is_own_score(name: str) -> bool:
    """Whether flipscale itself measures a score of this name, of the study's own evaluation or of a set."""
    of_set, score = set_and_score(name)
    return (score in SCORES or (score in SET_SCORES and bool(of_set))) and bool(of_set) == ("." in name)


def is_score(name: str) -> bool:
    """Whether a column is a score: one that flipscale measures, or SET.score of a program that a study names.

    The scores that open_clip's program gives itself do not count: no study declares them.
    """
    return (
        name in _DECLARED
        or is_own_score(name)
        or (_OF_A_PROGRAM.fullmatch(name) is not None and not name.startswith("open_clip."))
    )


_OF_A_PROGRAM = re.compile(r"[A-Za-z]\w*\.[A-Za-z]\w*")


def _known(name: str) -> Score | None:
    """The properties of a score that flipscale measures."""
    score = set_and_score(name)[1]
    return (SCORES.get(score) or SET_SCORES.get(score)) if is_own_score(name) else None


def is_fraction(name: str) -> bool:
    """Whether a column is a score between 0 and 1, which people read in percent.

    For a program's score the name decides: accuracy, top1, recall, precision, f1, map, iou, auc, r1, pm0, ...
    """
    if known := _known(name):
        return known.unit == "fraction"
    if name in _DECLARED:
        return False
    return is_score(name) and not lower_is_better(name) and bool(_SAYS_FRACTION.search(set_and_score(name)[1]))


def is_open_ended(name: str) -> bool:
    """Whether a column is a score such as CIDEr: higher is better, with no upper end.

    It has no distance from 1 that a law could follow.
    """
    return is_score(name) and not is_fraction(name) and not lower_is_better(name)


def lower_is_better(name: str) -> bool | None:
    """Whether lower is better in a column, of a score or of anybody's table; None where its name does not say.

    `1 - x` has the direction opposite to x.
    """
    return _DECLARED[name] if name in _DECLARED else _by_name(name)


@functools.cache
def _by_name(name: str) -> bool | None:
    if known := _known(name):
        return known.lower_is_better
    if is_score(name) and _SAYS_LOWER_OF_A_SET.search(name):
        return True
    compact = name.replace(" ", "")
    if "1-" in compact:
        inner = lower_is_better(compact.replace("1-", ""))
        return None if inner is None else not inner
    if _SAYS_LOWER.search(name):
        return True
    return False if _SAYS_HIGHER.search(name) else None


def score_label(name: str) -> str:
    """A score in words, as an axis shows it; that of a set has the set's name before it."""
    of_set, score = set_and_score(name)
    known = FINAL_LOSS if name == "final_loss" else _known(name)
    lower = " (lower is better)" if known is None and is_score(name) and lower_is_better(name) else ""
    words = known.label if known else f"{score}{lower}"
    return f"{of_set}: {words}" if of_set else words
