"""A model is scored on held-out data, with whole images and as `evaluation.inference` says.

On a GPU its towers compute in the run's precision, and on a CPU in float32, as all that follows from the features.
All processes of the run encode, see encoding.py.

Scores are fractions from 0 to 1, except held_out_loss, which is in nats. A score the data cannot give is absent. Those
of the run's own data have plain names; those of a further set have its name in front: `imagenet_v2.zero_shot_top1`.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip import CLIP
from open_clip.loss import ClipLoss
from torch import Tensor

from flipscale import randomness
from flipscale.cost.arithmetic import training_view
from flipscale.data.digest import digests
from flipscale.data.formats import open_held_out
from flipscale.data.pairs import Form, HeldOutItems, Images, Integers
from flipscale.data.views import view_stored
from flipscale.errors import DataError, Diverged
from flipscale.planning.identity import inferences, measure_of, show_setting
from flipscale.run import Hits, show_life
from flipscale.scores import AVERAGED, LOSS_BATCH, SCORES, class_chance, metric_score
from flipscale.settings.declarations import (
    CommandSet,
    DataSet,
    Evaluation,
    EvaluationSet,
    FolderSet,
    LabelledSet,
    Settings,
    ShardSet,
)
from flipscale.study.settings import images_scored
from flipscale.train.distributed import Group
from flipscale.train.encoding import Encoders
from flipscale.train.machine import exact_fp32
from flipscale.train.mask import complementary, masked_view
from flipscale.train.model import encode_text, pixels
from flipscale.train.objective import pooled_features
from flipscale.train.set_metrics import map11, mean_per_class, roc_auc

RANKS = (1, 5, 10)

SIMILARITIES_AT_A_TIME = 1 << 26
"""Similarities in memory at a time, a quarter of a GB: not all of a large set's images times captions."""

PROBE_IMAGES = 10_000
"""The most images that the linear probe learns from: 9 s of a core at width 48. It is 5 times evaluation.images if the
study sets that."""

NAMED_TEMPLATES = {
    "imagenet_simple": open_clip.SIMPLE_IMAGENET_TEMPLATES,
    "openai_imagenet": open_clip.OPENAI_IMAGENET_TEMPLATES,
}
"""Prompt templates by name: the 7 that FLIP takes for ImageNet, and CLIP's 80."""


@dataclass(frozen=True)
class Evaluated:
    """The results of an evaluation, by score."""

    scores: dict[str, float] = field(default_factory=dict)
    chance: dict[str, float] = field(default_factory=dict)
    """Chance level on the same items."""
    hits: dict[str, Hits] = field(default_factory=dict)
    """Which items each score that is a fraction got right."""
    digests: dict[str, str] = field(default_factory=dict)
    """The content of each set, by its name."""

    def beside(self, other: "Evaluated") -> "Evaluated":
        """These results and those of another evaluation."""
        return Evaluated(**{name: {**of, **getattr(other, name)} for name, of in vars(self).items()})


def open_evaluations(settings: Settings, form: Form, only: Collection[str] | None = None) -> dict[str, HeldOutItems]:
    """The sets to score a run on: its own data's held-out part as "", if it has one, and each further set by its name.

    A set's prompt templates are its own, else those of the whole evaluation, else its data's. Raises DataError.
    only: the names of the sets to open; None for all.
    """
    evaluation = settings.evaluation
    probe = 0
    if evaluation.linear_probe:
        probe = PROBE_IMAGES if evaluation.images is None else 5 * evaluation.images
    main_set = evaluation.data or settings.data
    known = digests_once(settings)
    opened = {}
    for name, declared in {"": main_set, **evaluation.sets}.items():
        if isinstance(declared, CommandSet) or (only is not None and name not in only):
            continue  # A program runs when all else is over, see trainers/program/evaluation.py.
        images = images_scored(evaluation, declared)
        try:
            held_out = open_held_out(
                _with_class_names(declared),
                form,
                images=images,
                templates=_templates_of(declared, evaluation),
                trained_on=not name and evaluation.data is None,
                probe=probe,
            )
        except DataError as error:
            raise DataError(f"evaluation.sets.{name}: {error}" if name else str(error)) from error
        if held_out is not None:
            # A set is known by its name, as in a run's id; where its files lie does not matter.
            source = f"{name or show_setting(main_set)}, images {images}"
            opened[name] = replace(held_out, source=source, digest=known.get(name))
    return opened


def digests_once(settings: Settings) -> dict[str, str]:
    """`data.digest.digests`, once in a process, as the items of a set are read once."""
    key = repr((settings.data, settings.evaluation))
    if key not in _digests:
        _digests[key] = digests(settings)
    return _digests[key]


_digests: dict[str, dict[str, str]] = {}


def _with_class_names(declared: DataSet | EvaluationSet) -> DataSet | EvaluationSet:
    """The same with open_clip's names of ImageNet's classes, where it asks for them."""
    if isinstance(declared, ShardSet | FolderSet) and declared.classes == "imagenet":
        return replace(declared, classes=list(open_clip.IMAGENET_CLASSNAMES))
    return declared


def _templates_of(declared: DataSet | EvaluationSet, evaluation: Evaluation) -> list[str] | None:
    """The prompts of a set, with the named lists among them written out; None for its data's own."""
    named = (isinstance(declared, LabelledSet) and declared.templates) or evaluation.templates
    if named is None:
        return None
    lists = ([t("{}") for t in NAMED_TEMPLATES[name]] if name in NAMED_TEMPLATES else [name] for name in named)
    return list(chain.from_iterable(lists))


@torch.inference_mode()
def evaluate(
    model: CLIP,
    evaluations: Mapping[str, HeldOutItems],
    settings: Settings,
    group: Group | None = None,
    only: Collection[str] | None = None,
    *,
    averaged: bool = False,
) -> Evaluated:
    """Score `model`. It comes back in the mode it was given in.

    averaged: its weights are the mean of a run's last ones, which is scored on whole images.

    settings: as `identity.scored` gives them. only: the measures to take (`identity.measures`); None for all.
    group: the processes that have the model; all of them call this, and process 0 has the evaluations and the scores.
    None is this process alone.
    """
    training = model.training
    model.eval()
    evaluated = Evaluated()
    classifiers = dict[bytes, Tensor]()
    encoders = encoders_of(model, settings, group)
    with exact_fp32():
        if group is not None and group.rank:
            encoders.follow()
        for name, held_out in evaluations.items():
            for shown in [AVERAGED] if averaged else ("", *inferences(settings)):
                measure = measure_of(name, shown)
                if only is None or measure in only:
                    inference = "" if averaged else shown
                    scale = model.logit_scale.exp()
                    _Scorer(evaluated, measure, held_out, encoders, settings, inference, scale, classifiers).score()
            if held_out.digest is not None:
                evaluated.digests[name] = held_out.digest
        if group is None or group.rank == 0:
            encoders.release()
    model.train(training)
    return evaluated


@dataclass(frozen=True)
class _Scorer:
    """Takes one measure of a set."""

    evaluated: Evaluated
    """What it adds to."""
    measure: str
    held_out: HeldOutItems
    encoders: Encoders
    settings: Settings
    inference: str
    """How images are shown: '' for whole ones, or one of INFERENCES."""
    scale: Tensor
    classifiers: dict[bytes, Tensor]
    """By their prompts: sets with the same ones share a classifier."""

    def score(self) -> None:
        """Take all scores that the set gives."""
        held_out = self.held_out
        images = None
        if held_out.pairs is not None:
            images = self._encoded("images", held_out.pairs[0])
            self._score_pairs(images, held_out.pairs[1])
        if held_out.labelled is not None and held_out.prompts is not None:
            # Those of Fashion-MNIST are the images of its pairs.
            if images is None or held_out.pairs is None or held_out.labelled[0] is not held_out.pairs[0]:
                images = self._encoded("images", held_out.labelled[0])
            self._score_classes(images, *held_out.labelled, held_out.prompts)

    def _encoded(self, what: str, images: Images) -> Tensor:
        return _encode_images(self.encoders, self.settings, f"{what} {self.inference}".rstrip(), images)

    def _add(self, score: str, value: float, chance: float) -> str:
        column = f"{self.measure}.{score}" if self.measure else score
        self.evaluated.scores[column], self.evaluated.chance[column] = value, chance
        return column

    def _add_share(self, score: str, likely: Tensor, chance: float) -> None:
        """likely: how likely each item is a hit [N], see `hits`: 0 or 1 where no two similarities are equal."""
        column = self._add(score, float(likely.double().mean()), chance)
        self.evaluated.hits[column] = packed_hits(likely, self.held_out.source)

    def _score_pairs(self, images: Tensor, captions: Integers) -> None:
        """The held-out loss, over each image and its first caption, and retrieval, with all captions."""
        texts = _encode_captions(self.encoders, captions)
        if self.held_out.image_of is None:
            image_of = torch.arange(len(texts), device=texts.device)
            paired = texts
        else:
            image_of = torch.from_numpy(self.held_out.image_of).to(texts.device)
            paired = texts[torch.searchsorted(image_of, torch.arange(len(images), device=texts.device))]
        chance = SCORES["held_out_loss"].chance(min(LOSS_BATCH, len(images)))
        self._add("held_out_loss", _loss(images, paired, self.scale), chance)
        if self.held_out.retrieval:
            for score, likely in retrieval(images, texts, image_of).items():
                self._add_share(score, likely, _retrieval_chance(score, len(images), image_of))

    def _score_classes(self, images: Tensor, labelled: Images, classes_of: Integers, prompts: Integers) -> None:
        """Zero-shot accuracy, the set's own metric and the linear probe."""
        held_out = self.held_out
        classes = len(self.held_out.classes)
        key = prompts.tobytes()
        if key not in self.classifiers:
            self.classifiers[key] = _classifier(self.encoders, prompts)
        similarity = images @ self.classifiers[key].T
        right = torch.from_numpy(classes_of if held_out.shown is None else held_out.shown).to(images.device)
        shares = {}
        for score in ("zero_shot_top1", "zero_shot_top5"):
            k = SCORES[score].hits
            if k is not None and k < classes:
                shares[score] = hits(similarity, right, (k,))[0]
                several = np.ones(1, np.int64) if held_out.shown is None else held_out.shown.sum(axis=1)
                self._add_share(score, shares[score], _mean_chance(score, classes, several))
        if held_out.metric != "top1":
            self._add(metric_score(held_out.metric), *_metric(held_out, classes_of, similarity, shares))
        if held_out.probe is not None and len(np.unique(held_out.probe[1])) > 1:
            # scikit-learn takes over a second to import, and few runs ask for it.
            from flipscale.train.feature_probe import linear_probe

            features, test = (self._encoded("pooled", shown).cpu().numpy() for shown in (held_out.probe[0], labelled))
            likely = linear_probe(features, held_out.probe[1], test, classes_of)
            self._add_share("linear_probe_top1", torch.from_numpy(likely), SCORES["linear_probe_top1"].chance(classes))


def packed_hits(likely: Tensor, items: str) -> Hits:
    """One bit an item. A tie is a hit with the chance that it is one, by a draw that is the same for every run."""
    chances = likely.double().cpu().numpy()
    draws = randomness.uniform(randomness.key("ties"), np.arange(len(chances), dtype=np.int64), 1)[:, 0]
    return Hits(items, len(chances), np.packbits(chances > draws).tobytes())


def _mean_chance(score: str, choices: int, right: Integers) -> float:
    """How often guessing is right, on average over items with these numbers of right choices."""
    numbers, items = np.unique(right, return_counts=True)
    return float(np.average([SCORES[score].chance(choices, int(number)) for number in numbers], weights=items))


def _retrieval_chance(score: str, images: int, image_of: Tensor) -> float:
    """The recall of a random order: of one image among all, or of any of an image's captions among all captions."""
    if score.startswith("image"):
        return SCORES[score].chance(images)
    return _mean_chance(score, len(image_of), torch.bincount(image_of).cpu().numpy())


def _metric(
    held_out: HeldOutItems, labels: Integers, similarity: Tensor, shares: Mapping[str, Tensor]
) -> tuple[float, float]:
    """The metric that the set is judged by, and its chance level.

    similarity: of each image to each class [N, C], cosines; shares: the hits of top 1 and top 5, see `hits`.
    """
    metric = held_out.metric
    classes = len(held_out.classes)
    chance = class_chance(metric_score(metric), classes)
    cosines = similarity.double().cpu().numpy()
    match metric:
        case "mean_per_class":
            value = mean_per_class(shares["zero_shot_top1"].double().cpu().numpy(), labels)
        case "roc_auc":
            value = roc_auc(cosines[:, 1] - cosines[:, 0], labels == 1)
        case "mean_top1_top5":
            value = sum(float(share.double().mean()) for share in shares.values()) / 2
        case _:
            shown = np.arange(classes) == labels[:, None] if held_out.shown is None else held_out.shown
            value = map11(cosines, shown)
            # A model that sees no difference has this precision at every recall.
            chance = float(shown.mean(axis=0)[shown.any(axis=0)].mean())
    assert chance is not None
    return value, chance


def check_scores(scores: Mapping[str, float], when: str) -> None:
    """Raises Diverged for a score that is not a finite number."""
    for name, value in scores.items():
        if not math.isfinite(value):
            raise Diverged(f"{name} is {value} at {when}; lower lr or lengthen warmup.")


# Ranks


def retrieval(images: Tensor, texts: Tensor, image_of: Tensor) -> dict[str, Tensor]:
    """The hits at 1, 5 and 10 of unit features images [N, E] and texts [T, E]; text t is a caption of image_of[t].

    A hit of image retrieval is a text whose image is among the k nearest images, [T]; one of text retrieval an image of
    which any caption is among the k nearest texts, [N]. The recalls are their means, as in CLIP's papers and in
    clip_benchmark's `zeroshot_retrieval` (https://github.com/LAION-AI/CLIP_benchmark), which holds the whole matrix in
    memory.
    """
    rows = max(1, SIMILARITIES_AT_A_TIME // max(len(images), len(texts)))
    numbers = torch.arange(len(images), device=images.device)
    single = torch.equal(image_of, numbers)
    of_texts = []
    of_images = []
    for i in range(0, len(texts), rows):
        show_life()
        of_texts.append(hits(texts[i : i + rows] @ images.T, image_of[i : i + rows], RANKS))
    for i in range(0, len(images), rows):
        show_life()
        block = numbers[i : i + rows]
        # The product is the one above, so that without blocks both look at the same numbers to the last bit.
        similarity = (texts @ images[i : i + rows].T).T
        of_images.append(hits(similarity, block if single else image_of == block[:, None], RANKS))
    ways = {"image": torch.cat(of_texts, dim=1), "text": torch.cat(of_images, dim=1)}
    return {f"{way}_retrieval_r{k}": likely[row] for row, k in enumerate(RANKS) for way, likely in ways.items()}


def hits(similarity: Tensor, right: Tensor, ks: tuple[int, ...]) -> Tensor:
    """The chance [len(ks), N] that the k largest of a row of `similarity` [N, M] hold a right column.

    right: the column of each row [N], or which columns are right [N, M], one or more in each row.

    Equal values are taken to be in random order, so a model that sees no difference scores k / M, not 0 or 1. Libraries
    order them by column: scikit-learn's `top_k_accuracy_score` and torchmetrics' `multiclass_accuracy` then give 0 or 1
    by where the right column stands. Elsewhere they agree, and took 26 and 13 times as long on a CPU (2,000 x 1,000).
    """
    if right.ndim == 1:
        best = similarity.gather(1, right[:, None])
        others = torch.zeros_like(right)
    else:
        best = similarity.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
        others = ((similarity == best) & right).sum(dim=1) - 1
    above = (similarity > best).sum(dim=1)
    level = (similarity == best).sum(dim=1)
    likely = []
    for k in ks:
        # How likely the first right column gets one of the places left; else the second, of one fewer; and so on.
        chance = ((k - above) / level).clamp(0, 1)
        for more in range(1, int(others.max()) + 1):
            next_chance = ((k - above) / (level - more).clamp(min=1)).clamp(0, 1)
            chance = torch.where(others >= more, chance + (1 - chance) * next_chance, chance)
        # NaN equals nothing, not even itself.
        likely.append(chance.where(level > 0, torch.nan))
    return torch.stack(likely)


def _loss(images: Tensor, texts: Tensor, logit_scale: Tensor) -> float:
    """Mean contrastive loss over batches of 64 pairs. An incomplete last batch counts only if it is the only one."""
    loss = ClipLoss()
    whole = range(0, max(len(images) - LOSS_BATCH, 0) + 1, LOSS_BATCH)
    losses = [loss(images[i : i + LOSS_BATCH], texts[i : i + LOSS_BATCH], logit_scale) for i in whole]
    return float(torch.stack(losses).double().mean())


# Features


def _classifier(encoders: Encoders, prompts: Integers) -> Tensor:
    """One unit vector a class [C, E], from tokens [C, templates, T]: embed each prompt, normalise, mean, normalise.

    As CLIP and FLIP do; open_clip's `build_zero_shot_classifier` does the same, at the full context length only.
    """
    classes, templates, length = prompts.shape
    texts = encoders.encode("texts", prompts.reshape(classes * templates, length))
    return F.normalize(texts.reshape(classes, templates, -1).mean(dim=1), dim=-1)


def encoders_of(model: CLIP, settings: Settings, group: Group | None = None) -> Encoders:
    """The ways in which a run's model encodes: 'texts' and 'images' as unit features [N, E]; images 'pooled' [N, W],
    what the tower has before its projection, of any length. 'images masked' are images as that inference shows them.
    """
    device = model.logit_scale.device

    def encode(way: str, batch: Tensor, first: int) -> Tensor:
        if way == "texts":
            return F.normalize(encode_text(model, batch).float(), dim=-1)
        return _encode_batch(model, pixels(batch, device, settings.normalization), first, settings, way)

    return Encoders(encode, device, settings.precision, group)


def _encode_images(encoders: Encoders, settings: Settings, way: str, images: Images) -> Tensor:
    """Features of all images, see `encoders_of`."""
    if way.endswith("masked"):
        images = view_stored(images, training_view(settings).shape.image.image_size, None)
    return encoders.encode(way, images)


def _encode_batch(model: CLIP, batch: Tensor, first: int, settings: Settings, way: str) -> Tensor:
    """A batch that begins with image `first` of its set.

    masked: a part of the patches, as many as in training, or with `mask_shape: resize` all of an image that is as small
    as in training; ensemble: the mean of several parts' features, which together see every patch (FLIP, arXiv
    2212.00794, table 1d). Parts follow from the seed and the place in the set.
    """
    visual = model.visual
    what, _, inference = way.partition(" ")

    def encode() -> Tensor:
        if what == "pooled":
            return pooled_features(visual, batch)
        return F.normalize(model.encode_image(batch).float(), dim=-1)

    if not inference or settings.mask_shape == "resize":
        return encode()
    mask = visual.patch_dropout
    ratio = settings.mask_ratio
    seed = settings.seed
    if inference == "masked":
        views = [masked_view(mask.patches, ratio, seed, settings.mask_shape, first=first, images=len(batch))]
    else:
        views = complementary(mask.patches, ratio, seed, first=first, images=len(batch))
    seen = []
    for kept in views:
        with mask.seeing(kept.to(batch.device)):
            seen.append(encode())
    mean = torch.stack(seen).mean(dim=0)
    return mean if what == "pooled" else F.normalize(mean, dim=-1)


def _encode_captions(encoders: Encoders, tokens: Integers) -> Tensor:
    """Unit features [N, E] of tokens [N, T]. Equal captions, as Fashion-MNIST's 80, are encoded once."""
    distinct, which = np.unique(tokens, axis=0, return_inverse=True)
    if len(distinct) == len(tokens):
        return encoders.encode("texts", tokens)
    return encoders.encode("texts", distinct)[torch.from_numpy(which.ravel()).to(encoders.device)]
