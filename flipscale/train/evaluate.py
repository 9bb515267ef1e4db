"""A model is scored on held-out data, with whole images and as `evaluation.inference` says.

On a GPU its towers compute in the run's precision, and on a CPU in float32, as all that follows from the features.
All processes of the run encode, see encoding.py.

Scores are fractions from 0 to 1, except held_out_loss, which is in nats. A score the data cannot give is absent. Those
of the run's own data have plain names; those of a further set have its name in front: `imagenet_v2.zero_shot_top1`.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip import CLIP
from open_clip.loss import ClipLoss
from torch import Tensor

from flipscale import randomness
from flipscale.cost import training_view
from flipscale.data.digest import digests
from flipscale.data.held_out import open_held_out
from flipscale.data.pairs import Flags, Form, HeldOutItems, Images, Integers
from flipscale.data.views import view_stored
from flipscale.errors import DataError, Diverged
from flipscale.identity import inferences, measure_of, show_setting
from flipscale.run import Hits, show_life
from flipscale.scores import AVERAGED, LOSS_BATCH, SCORES, class_chance, metric_score
from flipscale.settings import CommandSet, Evaluation, EvaluationSet, FolderSet, IdxSet, Settings, ShardSet
from flipscale.study.settings import images_scored
from flipscale.train.encoding import Encode, Encoders
from flipscale.train.machine import exact_fp32
from flipscale.train.mask import complementary, masked_view
from flipscale.train.model import encode_text, pixels
from flipscale.train.objective import pooled_features
from flipscale.train.processes import Group
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

    scores: dict[str, float]
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
    found = {}
    if only is None or "" in only:
        found[""] = open_held_out(
            main_set,
            form,
            images=images_scored(evaluation, main_set),
            templates=_written_out(evaluation.templates),
            trained_on=evaluation.data is None,
            probe=probe,
        )
    for name, declared in evaluation.sets.items():
        if isinstance(declared, CommandSet) or (only is not None and name not in only):
            continue  # Its program runs when all else is over, see trainers/program/evaluation.py.
        data, templates = _with_class_names(declared), _templates_of(declared, evaluation)
        images = images_scored(evaluation, declared)
        try:
            found[name] = open_held_out(data, form, images=images, templates=templates, trained_on=False, probe=probe)
        except DataError as error:
            raise DataError(f"evaluation.sets.{name}: {error}") from error
    known = digests_once(settings)
    return {
        name: replace(held_out, source=_source(settings, name), digest=known.get(name))
        for name, held_out in found.items()
        if held_out is not None
    }


def digests_once(settings: Settings) -> dict[str, str]:
    """`data.digest.digests`, once in a process, as the items of a set are read once."""
    key = repr((settings.data, settings.evaluation))
    if key not in _digests:
        _digests[key] = digests(settings)
    return _digests[key]


_digests: dict[str, dict[str, str]] = {}


def _source(settings: Settings, name: str) -> str:
    """A set is known by its name, as in a run's id; where its files lie does not matter."""
    evaluation, main_set = settings.evaluation, settings.evaluation.data or settings.data
    images = images_scored(evaluation, evaluation.sets[name] if name else main_set)
    return f"{name or show_setting(main_set)}, images {images}"


def _with_class_names(declared: EvaluationSet) -> EvaluationSet:
    """The same with open_clip's names of ImageNet's classes, where it asks for them."""
    if isinstance(declared, ShardSet | FolderSet) and declared.classes == "imagenet":
        return replace(declared, classes=list(open_clip.IMAGENET_CLASSNAMES))
    return declared


def _templates_of(declared: EvaluationSet, evaluation: Evaluation) -> list[str] | None:
    templates = declared.templates if isinstance(declared, ShardSet | FolderSet | IdxSet) else None
    return _written_out(templates or evaluation.templates)


def _written_out(names: Sequence[str] | None) -> list[str] | None:
    """The prompts with the named lists among them written out."""
    if names is None:
        return None
    return [
        text
        for name in names
        for text in ([t("{}") for t in NAMED_TEMPLATES[name]] if name in NAMED_TEMPLATES else [name])
    ]


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
    classifiers: dict[bytes, Tensor] = {}
    evaluated = Evaluated({})
    encoders = encoders_of(model, settings, group)
    with exact_fp32():
        if group is not None and group.rank:
            encoders.follow()
        for name, held_out in evaluations.items():
            scale = model.logit_scale.exp()
            for shown in [AVERAGED] if averaged else ("", *inferences(settings)):
                measure = measure_of(name, shown)
                if only is not None and measure not in only:
                    continue
                view = _View(settings, "" if averaged else shown)
                for measured in _scores(encoders, held_out, view, scale, classifiers):
                    score = f"{measure}.{measured.score}" if measure else measured.score
                    evaluated.scores[score], evaluated.chance[score] = measured.value, measured.chance
                    if measured.hits is not None:
                        evaluated.hits[score] = _packed(measured.hits, held_out.source)
            if held_out.digest is not None:
                evaluated.digests[name] = held_out.digest
        if group is None or group.rank == 0:
            encoders.release()
    model.train(training)
    return evaluated


class _View(NamedTuple):
    """How images are shown."""

    settings: Settings
    inference: str
    """'' for whole images, or one of INFERENCES."""

    def way(self, *, pooled: bool) -> str:
        """The name of encoding images so."""
        return f"{'pooled' if pooled else 'images'} {self.inference}".rstrip()


class _Score(NamedTuple):
    """One score of a set."""

    score: str
    value: float
    chance: float
    hits: Tensor | None = None
    """How likely each item is a hit [N], see `hits`: 0 or 1 where no two similarities are equal."""


def _share(score: str, found: Tensor, chance: float) -> _Score:
    """A score that is a share of hits."""
    return _Score(score, float(found.double().mean()), chance, found)


def share_of_hits(score: str, found: Tensor, chance: float, source: str) -> Evaluated:
    """The result of one score that is a share of hits. found: how likely each item is a hit [N], see `hits`."""
    return Evaluated({score: float(found.double().mean())}, {score: chance}, {score: _packed(found, source)})


def _packed(found: Tensor, items: str) -> Hits:
    """One bit an item. A tie is a hit with the chance that it is one, by a draw that is the same for every run."""
    chances = found.double().cpu().numpy()
    draws = randomness.uniform(randomness.key("ties"), np.arange(len(chances), dtype=np.int64), 1)[:, 0]
    return Hits(items, len(chances), np.packbits(chances > draws).tobytes())


def _scores(
    encoders: Encoders, held_out: HeldOutItems, view: _View, scale: Tensor, classifiers: dict[bytes, Tensor]
) -> Iterator[_Score]:
    """All that a set gives. Sets with the same prompts share a classifier."""
    images: Tensor | None = None
    if held_out.pairs is not None:
        images = _encode_images(encoders, held_out.pairs[0], view)
        yield from _pair_scores(encoders, held_out, images, scale)
    if held_out.labelled is not None:
        # Those of Fashion-MNIST are the images of its pairs.
        if held_out.pairs is None or held_out.labelled[0] is not held_out.pairs[0]:
            images = _encode_images(encoders, held_out.labelled[0], view)
        assert images is not None
        yield from _class_scores(encoders, held_out, view, images, classifiers)


def _pair_scores(encoders: Encoders, held_out: HeldOutItems, images: Tensor, scale: Tensor) -> Iterator[_Score]:
    """The held-out loss, over each image and its first caption, and retrieval, with all captions."""
    assert held_out.pairs is not None
    texts = _encode_captions(encoders, held_out.pairs[1])
    if held_out.image_of is None:
        image_of, paired = torch.arange(len(texts), device=texts.device), texts
    else:
        image_of = torch.from_numpy(held_out.image_of).to(texts.device)
        paired = texts[torch.searchsorted(image_of, torch.arange(len(images), device=texts.device))]
    chance = SCORES["held_out_loss"].chance(min(LOSS_BATCH, len(images)))
    yield _Score("held_out_loss", _loss(images, paired, scale), chance)
    if held_out.retrieval:
        for score, found in retrieval(images, texts, image_of).items():
            yield _share(score, found, _retrieval_chance(score, len(images), image_of))


def _retrieval_chance(score: str, images: int, image_of: Tensor) -> float:
    """The recall of a random order: of one image among all, or of any of an image's captions among all captions."""
    if score.startswith("image"):
        return SCORES[score].chance(images)
    captions, sets = torch.unique(torch.bincount(image_of), return_counts=True)
    chances = [SCORES[score].chance(len(image_of), int(right)) for right in captions]
    return sum(chance * int(n) for chance, n in zip(chances, sets, strict=True)) / images


def _class_scores(
    encoders: Encoders, held_out: HeldOutItems, view: _View, images: Tensor, classifiers: dict[bytes, Tensor]
) -> Iterator[_Score]:
    """Zero-shot accuracy, the set's own metric and the linear probe."""
    if held_out.labelled is None or held_out.prompts is None:
        return
    classes = len(held_out.classes)
    labels = torch.from_numpy(held_out.labelled[1]).to(images.device)
    prompts = held_out.prompts.tobytes()
    if prompts not in classifiers:
        classifiers[prompts] = _classifier(encoders, held_out.prompts)
    similarity = images @ classifiers[prompts].T
    shown = None if held_out.shown is None else torch.from_numpy(held_out.shown).to(images.device)
    shares = {}
    for score in ("zero_shot_top1", "zero_shot_top5"):
        k = SCORES[score].hits
        if k is not None and k < classes:
            shares[score] = hits(similarity, labels if shown is None else shown, (k,))[0]
            yield _share(score, shares[score], _class_chance(score, classes, held_out.shown))
    if held_out.metric != "top1":
        yield _metric_score(held_out, similarity, shares)
    if held_out.probe is not None and len(np.unique(held_out.probe[1])) > 1:
        yield _probe_score(encoders, held_out.labelled, held_out.probe, view, classes)


def _probe_score(
    encoders: Encoders,
    scored: tuple[Images, Integers],
    examples: tuple[Images, Integers],
    view: _View,
    classes: int,
) -> _Score:
    # scikit-learn takes over a second to import, longer than a small run's first steps, and few runs ask for it.
    from flipscale.train.probe import linear_probe

    features, test = (
        _encode_images(encoders, images, view, pooled=True).cpu().numpy() for images in (examples[0], scored[0])
    )
    found = linear_probe(features, examples[1], test, scored[1])
    score = "linear_probe_top1"
    return _share(score, torch.from_numpy(found), SCORES[score].chance(classes))


def _class_chance(score: str, classes: int, shown: Flags | None) -> float:
    """Chance level among the classes, several of which an image may show."""
    if shown is None:
        return SCORES[score].chance(classes)
    images, sets = np.unique(shown.sum(axis=1), return_counts=True)
    chances = [SCORES[score].chance(classes, int(right)) for right in images]
    return float(np.average(chances, weights=sets))


def _metric_score(held_out: HeldOutItems, similarity: Tensor, shares: Mapping[str, Tensor]) -> _Score:
    """The metric that the set is judged by.

    similarity: of each image to each class [N, C], cosines; shares: the hits of top 1 and top 5, see `hits`.
    """
    assert held_out.labelled is not None
    labels, metric, classes = held_out.labelled[1], held_out.metric, len(held_out.classes)
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
    return _Score(metric_score(metric), value, chance)


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
    of_texts, of_images = [], []
    for i in range(0, len(texts), rows):
        show_life()
        of_texts.append(hits(texts[i : i + rows] @ images.T, image_of[i : i + rows], RANKS))
    for i in range(0, len(images), rows):
        show_life()
        block = numbers[i : i + rows]
        # The product is the one above, so that without blocks both look at the same numbers to the last bit.
        similarity = (texts @ images[i : i + rows].T).T
        of_images.append(hits(similarity, block if single else image_of == block[:, None], RANKS))
    image_hits, text_hits = torch.cat(of_texts, dim=1), torch.cat(of_images, dim=1)
    found = {}
    for row, k in enumerate(RANKS):
        found[f"image_retrieval_r{k}"] = image_hits[row]
        found[f"text_retrieval_r{k}"] = text_hits[row]
    return found


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
    found = []
    for k in ks:
        # How likely the first right column gets one of the places left; else the second, of one fewer; and so on.
        chance = ((k - above) / level).clamp(0, 1)
        for more in range(1, int(others.max()) + 1):
            next_chance = ((k - above) / (level - more).clamp(min=1)).clamp(0, 1)
            chance = torch.where(others >= more, chance + (1 - chance) * next_chance, chance)
        # NaN equals nothing, not even itself.
        found.append(chance.where(level > 0, torch.nan))
    return torch.stack(found)


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
    """The ways in which a run's model encodes: images and texts as unit features; images before the projection."""
    device = model.logit_scale.device

    def images(batch: Tensor, first: int, *, view: _View, pooled: bool = False) -> Tensor:
        return _encode_batch(model, pixels(batch, device, settings.normalization), first, view, pooled)

    def texts(batch: Tensor, first: int) -> Tensor:
        return F.normalize(encode_text(model, batch).float(), dim=-1)

    ways: dict[str, Encode] = {"texts": texts}
    for shown in ("", *inferences(settings)):
        view = _View(settings, shown)
        ways |= {view.way(pooled=pooled): partial(images, view=view, pooled=pooled) for pooled in (False, True)}
    return Encoders(ways, device, settings.precision, group)


def _encode_images(encoders: Encoders, images: Images, view: _View, *, pooled: bool = False) -> Tensor:
    """Unit features [N, E]; or with `pooled` [N, W], what the tower has before its projection, of any length."""
    if view.inference == "masked":
        images = view_stored(images, training_view(view.settings).shape.image.image_size, None)
    return encoders.encode(view.way(pooled=pooled), images)


def _encode_batch(model: CLIP, batch: Tensor, first: int, view: _View, pooled: bool) -> Tensor:
    """A batch that begins with image `first` of its set.

    masked: a part of the patches, as many as in training, or with `mask_shape: resize` all of an image that is as small
    as in training; ensemble: the mean of several parts' features, which together see every patch (FLIP, arXiv
    2212.00794, table 1d). Parts follow from the seed and the place in the set.
    """
    visual, settings, inference = model.visual, *view

    def encode() -> Tensor:
        return pooled_features(visual, batch) if pooled else F.normalize(model.encode_image(batch).float(), dim=-1)

    if not inference or settings.mask_shape == "resize":
        return encode()
    mask, ratio, seed = visual.patch_dropout, settings.mask_ratio, settings.seed
    if inference == "masked":
        views = [masked_view(mask.patches, ratio, seed, settings.mask_shape, first=first, images=len(batch))]
    else:
        views = complementary(mask.patches, ratio, seed, first=first, images=len(batch))
    seen = []
    for kept in views:
        with mask.seeing(kept.to(batch.device)):
            seen.append(encode())
    mean = torch.stack(seen).mean(dim=0)
    return mean if pooled else F.normalize(mean, dim=-1)


def _encode_captions(encoders: Encoders, tokens: Integers) -> Tensor:
    """Unit features [N, E] of tokens [N, T]. Equal captions, as Fashion-MNIST's 80, are encoded once."""
    distinct, which = np.unique(tokens, axis=0, return_inverse=True)
    if len(distinct) == len(tokens):
        return encoders.encode("texts", tokens)
    return encoders.encode("texts", distinct)[torch.from_numpy(which.ravel()).to(encoders.device)]
