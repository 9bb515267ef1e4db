"""Scores: which ones exist, what they are called, and which way is better. The one place that knows.

A score of the study's own evaluation has a plain name, `zero_shot_top1`. One of a set under evaluation.sets has the
set's name before it, `imagenet_v2.zero_shot_top1`. Columns of other people's tables are judged by their names.
"""

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Unit = Literal["fraction", "nats"]


@dataclass(frozen=True)
class Score:
    """What an evaluation can measure."""

    unit: Unit
    meaning: str
    """What is measured, as the table of columns says it."""
    label: str
    """Its name in words, as an axis shows it."""
    lower_is_better: bool = False
    hits: int | None = None
    """A hit is the right one among this many best; None for a loss."""

    def chance(self, choices: int, right: int = 1) -> float:
        """What guessing gives among so many classes, images or texts: a share of hits, or the loss in nats.

        right: how many of the choices are right, as the captions of an image are.
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
"""Every score, in the order of the columns of results.csv."""

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
_SAYS_HIGHER = re.compile(r"(acc|top[-_@ ]?[15]|recall|(^|_)r@?_?(1|5|10)(_|$)|map$|auc)", re.IGNORECASE)


def set_and_score(name: str) -> tuple[str, str]:
    """The set and the score of a column: ('imagenet_v2', 'zero_shot_top1'); '' as the set of a plain name."""
    of_set, _, score = name.rpartition(".")
    return of_set, score


@functools.cache
def is_score(name: str) -> bool:
    """Whether a column is a score, of the study's own evaluation or of a set."""
    of_set, score = set_and_score(name)
    return score in SCORES and bool(of_set) == ("." in name)


def is_fraction(name: str) -> bool:
    """Whether a column is a score between 0 and 1, which people read in percent."""
    return is_score(name) and SCORES[set_and_score(name)[1]].unit == "fraction"


@functools.cache
def lower_is_better(name: str) -> bool | None:
    """Whether less of a column is better, of a score or of anybody's table; None where its name does not say.

    `1 - x` has the direction opposite to x.
    """
    if is_score(name):
        return SCORES[set_and_score(name)[1]].lower_is_better
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
    known = FINAL_LOSS if name == "final_loss" else SCORES.get(score)
    words = known.label if known else score
    return f"{of_set}: {words}" if of_set else words
