from functools import partial

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from flipscale.train.data import HeldOut, open_held_out
from flipscale.train.evaluate import evaluate, hit_rate
from flipscale.train.model import build, encode_text, pixels, tokenize

SIMILARITY = torch.tensor([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.9, 0.5, 0.1]])


@pytest.fixture(scope="module")
def held_out():
    return open_held_out(
        {"shapes": {"pairs": 0.3, "seed": 0}},
        images=160,
        image_size=28,
        text_length=32,
        templates=["a {}", "there is a {} here"],
        cache=None,
        tokenize=partial(tokenize, length=32),
    )


@pytest.mark.parametrize(("k", "rate"), [(1, 1 / 3), (2, 2 / 3), (3, 1.0)])
def test_a_hit_is_a_right_column_among_the_k_largest(k, rate):
    assert hit_rate(SIMILARITY, torch.tensor([0, 1, 2]), k) == pytest.approx(rate)


@pytest.mark.parametrize(("k", "rate"), [(1, 0.1), (5, 0.5), (10, 1.0)])
def test_a_model_that_sees_no_difference_scores_at_chance(k, rate):
    assert hit_rate(torch.ones(4, 10), torch.tensor([0, 3, 6, 9]), k) == pytest.approx(rate)


def test_a_tie_for_the_last_place_counts_half():
    assert hit_rate(torch.tensor([[0.9, 0.5, 0.5]]), torch.tensor([1]), 2) == 0.5


def test_shapes_give_every_score(settings, held_out):
    scores = evaluate(build(settings(text_length=32)), held_out)
    assert set(scores) == {
        "held_out_loss",
        *(f"{way}_retrieval_r{k}" for way in ("image", "text") for k in (1, 5, 10)),
        "zero_shot_top1",
        "zero_shot_top5",
    }
    assert all(0 <= value <= 1 for name, value in scores.items() if name != "held_out_loss")


def test_scores_are_those_of_unmasked_images(settings, held_out):
    scores = [evaluate(build(settings(mask_ratio=ratio, text_length=32)), held_out) for ratio in (0, 0.75)]
    assert scores[0] == scores[1]


def test_training_goes_on_in_training_mode(settings, held_out):
    model = build(settings(text_length=32))
    evaluate(model, held_out)
    assert model.training
    assert model.visual.patch_dropout.training


def test_the_held_out_loss_is_over_whole_batches_of_64(settings, held_out):
    model = build(settings(text_length=32)).eval()
    images, tokens = held_out.pairs
    assert len(images) == 160
    losses = []
    with torch.no_grad():
        for rows in (slice(0, 64), slice(64, 128)):
            image = F.normalize(model.encode_image(pixels(images[rows], torch.device("cpu"))), dim=-1)
            text = F.normalize(model.encode_text(torch.from_numpy(tokens[rows])), dim=-1)
            logits = model.logit_scale.exp() * image @ text.T
            own = torch.arange(64)
            losses.append((F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2)
    assert evaluate(model, held_out)["held_out_loss"] == pytest.approx(float(sum(losses) / 2), rel=1e-5)


def test_fewer_than_64_pairs_are_one_batch(settings, held_out):
    images, tokens = held_out.pairs
    few = HeldOut(pairs=(images[:10], tokens[:10]), retrieval=False)
    scores = evaluate(build(settings(text_length=32)), few)
    assert list(scores) == ["held_out_loss"]
    assert scores["held_out_loss"] == pytest.approx(np.log(10), abs=0.5)


def test_zero_shot_is_that_of_open_clip(settings, held_out):
    model = build(settings(text_length=32)).eval()
    weights = open_clip.build_zero_shot_classifier(
        model, partial(open_clip.tokenize, context_length=32), held_out.classes, ["a {}", "there is a {} here"]
    )
    images, labels = held_out.labelled
    with torch.no_grad():
        logits = model.encode_image(pixels(images, torch.device("cpu")), normalize=True) @ weights
    top5 = logits.topk(5).indices == torch.from_numpy(labels)[:, None]
    scores = evaluate(model, held_out)
    assert scores["zero_shot_top1"] == pytest.approx(float(top5[:, 0].float().mean()))
    assert scores["zero_shot_top5"] == pytest.approx(float(top5.any(dim=1).float().mean()))


def test_retrieval_ranks_the_texts_of_an_image_and_the_images_of_a_text(settings, held_out):
    model = build(settings(text_length=32)).eval()
    images, tokens = (array[:40] for array in held_out.pairs)
    with torch.no_grad():
        image = model.encode_image(pixels(images, torch.device("cpu")), normalize=True)
        text = encode_text(model, torch.from_numpy(tokens), normalize=True)
    scores = evaluate(model, HeldOut(pairs=(images, tokens), retrieval=True))
    own = torch.arange(40)[:, None]
    assert scores["text_retrieval_r5"] == pytest.approx(
        float(((image @ text.T).topk(5).indices == own).float().sum() / 40)
    )
    assert scores["image_retrieval_r5"] == pytest.approx(
        float(((text @ image.T).topk(5).indices == own).float().sum() / 40)
    )


def test_what_the_data_cannot_give_is_absent(settings, held_out):
    model = build(settings(text_length=32))
    labelled = HeldOut(
        pairs=None, retrieval=False, labelled=held_out.labelled, classes=held_out.classes, prompts=held_out.prompts
    )
    assert set(evaluate(model, labelled)) == {"zero_shot_top1", "zero_shot_top5"}
    images, labels = held_out.labelled
    two = HeldOut(
        pairs=None, retrieval=False, labelled=(images, labels % 2), classes=("a", "b"), prompts=held_out.prompts[:2]
    )
    assert set(evaluate(model, two)) == {"zero_shot_top1"}
    assert evaluate(model, HeldOut(pairs=None, retrieval=False)) == {}
