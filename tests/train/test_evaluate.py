import json
import math
import socket
from dataclasses import replace
from functools import partial

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import top_k_accuracy_score

from flipscale.data.formats import open_held_out
from flipscale.data.pairs import Form, HeldOutItems
from flipscale.settings.declarations import Evaluation, Shapes, plain
from flipscale.train import evaluate as evaluation
from flipscale.train.encoding import Encoders
from flipscale.train.evaluate import encoders_of, evaluate, hits, open_evaluations, packed_hits, retrieval
from flipscale.train.mask import complementary
from flipscale.train.model import build, encode_text, pixels, tokenize
from tests.train.conftest import SETTINGS
from tests.train.forks import Forked

SIMILARITY = torch.tensor([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.9, 0.5, 0.1]])


def hit_rate(similarity, right, k):
    return float(hits(similarity, right, (k,))[0].double().mean())


def recalls(images, texts, image_of):
    return {score: float(found.double().mean()) for score, found in retrieval(images, texts, image_of).items()}


@pytest.fixture(scope="module")
def held_out():
    return open_held_out(
        Shapes(0.3, seed=0),
        Form(28, 32, partial(tokenize, length=32)),
        images=160,
        templates=["a {}", "there is a {} here"],
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
    scores = evaluate(build(settings(text_length=32)), {"": held_out}, settings()).scores
    assert set(scores) == {
        "held_out_loss",
        *(f"{way}_retrieval_r{k}" for way in ("image", "text") for k in (1, 5, 10)),
        "zero_shot_top1",
        "zero_shot_top5",
    }
    assert all(0 <= value <= 1 for name, value in scores.items() if name != "held_out_loss")


def test_scores_are_those_of_unmasked_images(settings, held_out):
    scores = [
        evaluate(build(settings(mask_ratio=ratio, text_length=32)), {"": held_out}, settings()).scores
        for ratio in (0, 0.75)
    ]
    assert scores[0] == scores[1]


def test_training_goes_on_in_training_mode(settings, held_out):
    model = build(settings(text_length=32))
    evaluate(model, {"": held_out}, settings())
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
    assert evaluate(model, {"": held_out}, settings()).scores["held_out_loss"] == pytest.approx(
        float(sum(losses) / 2), rel=1e-5
    )


def test_fewer_than_64_pairs_are_one_batch(settings, held_out):
    images, tokens = held_out.pairs
    few = HeldOutItems(pairs=(images[:10], tokens[:10]), retrieval=False)
    scores = evaluate(build(settings(text_length=32)), {"": few}, settings()).scores
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
    scores = evaluate(model, {"": held_out}, settings()).scores
    assert scores["zero_shot_top1"] == pytest.approx(float(top5[:, 0].float().mean()))
    assert scores["zero_shot_top5"] == pytest.approx(float(top5.any(dim=1).float().mean()))


def test_retrieval_ranks_the_texts_of_an_image_and_the_images_of_a_text(settings, held_out):
    model = build(settings(text_length=32)).eval()
    images, tokens = (array[:40] for array in held_out.pairs)
    with torch.no_grad():
        image = model.encode_image(pixels(images, torch.device("cpu")), normalize=True)
        text = encode_text(model, torch.from_numpy(tokens), normalize=True)
    scores = evaluate(model, {"": HeldOutItems(pairs=(images, tokens), retrieval=True)}, settings()).scores
    own = torch.arange(40)[:, None]
    assert scores["text_retrieval_r5"] == pytest.approx(
        float(((image @ text.T).topk(5).indices == own).float().sum() / 40)
    )
    assert scores["image_retrieval_r5"] == pytest.approx(
        float(((text @ image.T).topk(5).indices == own).float().sum() / 40)
    )


def test_what_the_data_cannot_give_is_absent(settings, held_out):
    model = build(settings(text_length=32))
    labelled = HeldOutItems(
        pairs=None, retrieval=False, labelled=held_out.labelled, classes=held_out.classes, prompts=held_out.prompts
    )
    assert set(evaluate(model, {"": labelled}, settings()).scores) == {"zero_shot_top1", "zero_shot_top5"}
    images, labels = held_out.labelled
    two = HeldOutItems(
        pairs=None, retrieval=False, labelled=(images, labels % 2), classes=("a", "b"), prompts=held_out.prompts[:2]
    )
    assert set(evaluate(model, {"": two}, settings()).scores) == {"zero_shot_top1"}
    assert evaluate(model, {"": HeldOutItems(pairs=None, retrieval=False)}, settings()).scores == {}


# Retrieval with several captions an image


def from_similarity(rows):
    """Images and texts whose products are these, text by image: an image's feature is its column."""
    similarity = torch.tensor(rows)
    return torch.eye(similarity.shape[1]), similarity


def test_an_image_is_found_by_any_of_its_captions_and_each_caption_counts():
    """By hand: 2 images with 2 and 3 captions.

    The texts of image 0 rank 2, 3 | 0, 1, 4 (right: 0, 1), so its best is third; those of image 1 rank 4 first (right).
    """
    images, texts = from_similarity([[0.6, 0.1], [0.5, 0.7], [0.9, 0.2], [0.8, 0.3], [0.1, 0.9]])
    scores = recalls(images, texts, torch.tensor([0, 0, 1, 1, 1]))
    assert scores["text_retrieval_r1"] == 1 / 2
    assert scores["text_retrieval_r5"] == scores["text_retrieval_r10"] == 1
    # Texts 0 and 4 find their image first.
    assert scores["image_retrieval_r1"] == pytest.approx(2 / 5)
    assert scores["image_retrieval_r5"] == 1


def clip_benchmarks_recall(images, texts, image_of, k):
    """What clip_benchmark's zeroshot_retrieval documents: 1 if at least one right item is among the top k, else 0."""
    scores = texts @ images.T
    positive = torch.zeros_like(scores, dtype=torch.bool)
    positive[torch.arange(len(scores)), image_of] = True

    def recall(scores, positive):
        return float(positive.gather(1, scores.topk(k, dim=1).indices).any(dim=1).double().mean())

    return recall(scores, positive), recall(scores.T, positive.T)


@pytest.mark.parametrize("similarities", [1 << 26, 500, 1])
def test_retrieval_is_that_of_clip_benchmark_in_blocks_of_any_size(similarities, monkeypatch):
    monkeypatch.setattr(evaluation, "SIMILARITIES_AT_A_TIME", similarities)
    random = torch.Generator().manual_seed(0)
    images = F.normalize(torch.randn(40, 8, generator=random), dim=-1)
    image_of = torch.arange(40).repeat_interleave(torch.arange(40) % 5 + 1)
    texts = F.normalize(images[image_of] + 1.5 * torch.randn(len(image_of), 8, generator=random), dim=-1)
    scores = recalls(images, texts, image_of)
    for k in (1, 5, 10):
        of_text, of_image = clip_benchmarks_recall(images, texts, image_of, k)
        assert scores[f"image_retrieval_r{k}"] == pytest.approx(of_text)
        assert scores[f"text_retrieval_r{k}"] == pytest.approx(of_image)
    assert 0.1 < scores["text_retrieval_r1"] < 0.9


@pytest.mark.parametrize(("k", "chance"), [(1, 1 / 2), (2, 5 / 6), (3, 1.0)])
def test_of_equal_texts_the_chance_that_one_of_two_right_ones_is_in(k, chance):
    """2 of 4 equal texts are right: both are left out of k with chance C(2, k) / C(4, k)."""
    right = torch.tensor([[True, False, True, False, False]])
    assert hit_rate(torch.tensor([[0.5, 0.5, 0.5, 0.5, 0.1]]), right, k) == pytest.approx(chance)


def test_rows_may_have_different_numbers_of_right_columns():
    right = torch.tensor([[True, False, False], [True, True, True], [False, False, True]])
    assert hits(torch.ones(3, 3), right, (1,))[0].tolist() == pytest.approx([1 / 3, 1, 1 / 3])


@pytest.mark.parametrize("right", [torch.tensor([1]), torch.tensor([[False, True, False]])])
def test_similarity_that_is_no_number_gives_no_score(right):
    assert math.isnan(hit_rate(torch.tensor([[0.1, math.nan, 0.2]]), right, 1))


def test_without_ties_hit_rate_is_scikit_learns():
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 20, (300,), generator=random)
    similarity = torch.randn(300, 20, generator=random) + F.one_hot(labels, 20)
    for k in (1, 5):
        theirs = top_k_accuracy_score(labels.numpy(), similarity.numpy(), k=k, labels=np.arange(20))
        assert hit_rate(similarity, labels, k) == pytest.approx(theirs)


def test_the_held_out_loss_is_that_of_each_images_first_caption(settings, held_out):
    model = build(settings(text_length=32))
    images, tokens = (array[:20] for array in held_out.pairs)
    plain = evaluate(model, {"": HeldOutItems(pairs=(images, tokens), retrieval=True)}, settings()).scores
    # Every second image has a further caption.
    order = np.sort(np.concatenate([np.arange(20), np.arange(0, 20, 2)]))
    second = np.concatenate([[False], order[1:] == order[:-1]])
    more = np.where(second[:, None], held_out.pairs[1][order + 40], tokens[order])
    several = evaluate(
        model, {"": HeldOutItems(pairs=(images, more), retrieval=True, image_of=order)}, settings()
    ).scores
    assert several["held_out_loss"] == plain["held_out_loss"]
    assert several["image_retrieval_r10"] != plain["image_retrieval_r10"]


# Several sets


def test_scores_of_a_set_have_its_name_in_front(settings, held_out):
    model = build(settings(text_length=32))
    labelled = HeldOutItems(
        pairs=None, retrieval=False, labelled=held_out.labelled, classes=held_out.classes, prompts=held_out.prompts
    )
    scores = evaluate(model, {"": held_out, "again": labelled, "nothing": HeldOutItems(None, False)}, settings()).scores
    assert list(scores)[-2:] == ["again.zero_shot_top1", "again.zero_shot_top5"]
    assert scores["again.zero_shot_top1"] == scores["zero_shot_top1"]
    assert len(scores) == 11


def test_normalization_is_the_runs(settings, held_out):
    model = build(settings(text_length=32)).eval()
    images = held_out.pairs[0][:64]
    few = HeldOutItems(pairs=(images, held_out.pairs[1][:64]), retrieval=False)
    with torch.no_grad():
        image = F.normalize(model.encode_image(pixels(images, torch.device("cpu"), "openai")), dim=-1)
        text = encode_text(model, torch.from_numpy(few.pairs[1]), normalize=True)
        logits = model.logit_scale.exp() * image @ text.T
        loss = (F.cross_entropy(logits, torch.arange(64)) + F.cross_entropy(logits.T, torch.arange(64))) / 2
    scores = [evaluate(model, {"": few}, settings(normalization=name)).scores for name in ("imagenet", "openai")]
    assert scores[1]["held_out_loss"] == pytest.approx(float(loss), rel=1e-6)
    assert scores[0] != scores[1]


# Masked inference (FLIP, table 1d)


def encoded(model, images, asked, inference="", what="images"):
    """The features of images as an evaluation has them."""
    asked = replace(asked, evaluation=replace(asked.evaluation, inference=[inference] if inference else []))
    return evaluation._encode_images(encoders_of(model, asked), asked, f"{what} {inference}".rstrip(), images)


def seen(model, images, settings, inference="", **changes):
    with torch.no_grad():
        return encoded(model.eval(), images, settings(**changes), inference)


@pytest.mark.parametrize(("ratio", "views"), [(0.5, 2), (0.75, 4)])
def test_an_ensemble_is_the_mean_of_views_that_together_see_every_patch(ratio, views, settings, held_out):
    model, images = build(settings(mask_ratio=ratio)), held_out.pairs[0][:5]
    found = complementary(49, ratio, 0, images=5)
    assert len(found) == views
    features = []
    for kept in found:
        with model.eval().visual.patch_dropout.seeing(kept), torch.no_grad():
            features.append(model.encode_image(pixels(images, torch.device("cpu")), normalize=True))
    mean = F.normalize(sum(features) / views, dim=-1)
    ensemble = seen(model, images, settings, mask_ratio=ratio, inference="ensemble")
    torch.testing.assert_close(ensemble, mean)
    assert (ensemble - seen(model, images, settings, mask_ratio=ratio)).abs().max() > 1e-3


def test_masked_inference_sees_as_many_patches_as_training(settings, held_out):
    counts = []
    model = build(settings(mask_ratio=0.75))
    model.visual.transformer.register_forward_pre_hook(lambda module, inputs: counts.append(inputs[0].shape[1]))
    masked = seen(model, held_out.pairs[0][:5], settings, mask_ratio=0.75, inference="masked")
    assert counts == [1 + 12]
    seen(model, held_out.pairs[0][:5], settings, mask_ratio=0.75)
    assert counts[1:] == [1 + 49]
    torch.testing.assert_close(masked.norm(dim=1), torch.ones(5))


@pytest.mark.parametrize("inference", ["masked", "ensemble"])
def test_an_images_masks_do_not_depend_on_its_batch(inference, settings, held_out, monkeypatch):
    model, images = build(settings()), held_out.pairs[0][:20]
    whole = seen(model, images, settings, inference=inference)
    monkeypatch.setattr(evaluation, "LOSS_BATCH", 7)
    torch.testing.assert_close(seen(model, images, settings, inference=inference), whole)
    other = seen(model, images, settings, inference=inference, seed=1)
    assert (other - whole).abs().max() > 1e-3


def test_a_masked_run_is_scored_in_all_ways_and_an_unmasked_one_on_whole_images(settings, held_out):
    shown = {"evaluation": {"inference": ["masked", "ensemble"]}}
    found = evaluate(build(settings(mask_ratio=0.5)), {"": held_out, "b": held_out}, settings(mask_ratio=0.5, **shown))
    names = {f"{part}held_out_loss" for part in ("", "masked.", "ensemble.", "b.", "b.masked.", "b.ensemble.")}
    assert names == {name for name in found.scores if "loss" in name}
    assert (
        len({found.scores[name] for name in ("held_out_loss", "masked.held_out_loss", "ensemble.held_out_loss")}) == 3
    )
    assert found.scores["b.masked.held_out_loss"] == found.scores["masked.held_out_loss"]
    whole = evaluate(build(settings(mask_ratio=0)), {"": held_out}, settings(mask_ratio=0, **shown))
    assert not [name for name in whole.scores if "." in name]


# Linear probe


def probed(settings, **changes):
    asked = settings(**changes)
    asked = replace(asked, evaluation=replace(asked.evaluation, linear_probe=True, images=80))
    return asked, open_evaluations(asked, Form(28, 32, partial(tokenize, length=32)))


def test_the_linear_probe_is_scored_where_there_are_images_to_learn_from(settings):
    asked, evaluations = probed(settings, text_length=32)
    assert evaluations[""].probe[0].shape == (400, 3, 28, 28)
    assert np.bincount(evaluations[""].probe[1]).tolist() == [5] * 80
    scores = evaluate(build(asked), evaluations, asked).scores
    assert 1 / 80 < scores["linear_probe_top1"] < 1
    assert (
        "linear_probe_top1"
        not in evaluate(build(asked), {"": HeldOutItems(pairs=evaluations[""].pairs, retrieval=False)}, asked).scores
    )


def test_the_images_of_the_probe_are_none_of_those_it_is_scored_on(settings):
    _, evaluations = probed(settings)
    held_out = evaluations[""]
    scored = {image.tobytes() for image in held_out.labelled[0]}
    assert len(scored | {image.tobytes() for image in held_out.probe[0]}) == 480


def test_the_probe_sees_what_the_tower_has_before_its_projection(settings, held_out):
    model, images = build(settings()).eval(), held_out.pairs[0][:5]
    with torch.no_grad():
        features = encoded(model, images, settings(), what="pooled")
    assert features.shape == (5, 16)
    torch.testing.assert_close(F.normalize(features @ model.visual.proj, dim=-1), seen(model, images, settings))


# What is known of each item, and of chance


def test_each_score_that_is_a_share_keeps_a_bit_an_item_and_their_mean_is_the_score(settings):
    asked, evaluations = probed(settings, text_length=32)
    found = evaluate(build(asked), evaluations, asked)
    assert set(found.hits) == set(found.scores) - {"held_out_loss"}
    for score, hits_of_score in found.hits.items():
        bits = np.unpackbits(np.frombuffer(hits_of_score.bits, np.uint8), count=hits_of_score.count)
        assert len(hits_of_score.bits) == 10
        assert bits.mean() == pytest.approx(found.scores[score])
        assert hits_of_score.items == "shapes, images 80"


def test_the_unit_of_a_bit_is_the_query(settings):
    pairs = HeldOutItems(
        pairs=(np.zeros((3, 3, 28, 28), np.uint8), tokenize(["a", "b", "c", "d", "e"], 32)),
        retrieval=True,
        image_of=np.array([0, 0, 1, 2, 2]),
        source="three",
    )
    found = evaluate(build(settings(text_length=32)), {"mine": pairs}, settings())
    assert {score.split("_")[0]: of.count for score, of in found.hits.items()} == {"mine.image": 5, "mine.text": 3}
    assert found.hits["mine.text_retrieval_r1"].items == "three"


def test_equal_similarities_are_hits_as_often_as_chance_says_and_the_same_ones_for_every_run():
    packed = packed_hits(torch.full((4000,), 0.1), "any")
    bits = np.unpackbits(np.frombuffer(packed.bits, np.uint8), count=packed.count)
    assert bits.mean() == pytest.approx(0.1, abs=0.015)
    assert packed == packed_hits(torch.full((4000,), 0.1), "any")


def test_chance_is_that_of_the_classes_the_images_and_the_batch(settings, held_out):
    chance = evaluate(build(settings(text_length=32)), {"": held_out}, settings()).chance
    assert chance == pytest.approx(
        {
            "held_out_loss": math.log(64),
            **{f"{way}_retrieval_r{k}": k / 160 for way in ("image", "text") for k in (1, 5, 10)},
            "zero_shot_top1": 1 / 80,
            "zero_shot_top5": 5 / 80,
        }
    )


def test_chance_of_text_retrieval_counts_every_caption_of_an_image():
    """By hand: of 4 captions an image with 1 has one hit in 4 by chance, one with 3 has 3 in 4; their mean is 1 / 2."""
    image_of = torch.tensor([0, 1, 1, 1])
    assert evaluation._retrieval_chance("text_retrieval_r1", 2, image_of) == pytest.approx(1 / 2)
    assert evaluation._retrieval_chance("image_retrieval_r1", 2, image_of) == 1 / 2
    # What a model that sees no difference scores.
    found = recalls(torch.ones(2, 3), torch.ones(4, 3), image_of)
    assert found["text_retrieval_r1"] == pytest.approx(1 / 2)


# Several processes, and half precision


SCORED = """
import json, os
from pathlib import Path
from flipscale.train import encoding, feature_probe
from flipscale.train.evaluate import evaluate, open_evaluations
from flipscale.data.pairs import Form
from flipscale.train.model import build, tokenize
from flipscale.train.distributed import Group, joined
from flipscale.study.settings import read_settings
asked = read_settings({asked})
group = joined() or Group()
group.hand_out("") if group.rank == 0 else group.next_task()
form = Form(28, 32, lambda texts: tokenize(texts, 32))
evaluations = open_evaluations(asked, form) if group.rank == 0 else {{}}
feature_probe.ITERATIONS = 5  # What is shared shows with few as well.
batches = []
features = encoding.Encoders._features
encoding.Encoders._features = lambda self, *more: batches.append(more[0]) or features(self, *more)
found = evaluate(build(asked), evaluations, asked, group)
group.agree(0)  # Process 0 has the store, and stays until all have read it.
hits = {{score: [of.count, of.bits.hex()] for score, of in found.hits.items()}}
Path({folder!r}, f"{{group.size}}-{{group.rank}}.json").write_text(json.dumps([found.scores, hits, len(batches)]))
"""


def test_three_processes_score_as_one_does_and_share_the_work(tmp_path):
    evaluation = plain(Evaluation(linear_probe=True, inference=["masked"]))
    asked = {**SETTINGS, "text_length": 32, "evaluation": evaluation}
    code = SCORED.format(asked=asked, folder=str(tmp_path))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [Forked(code, RANK=str(rank), LOCAL_RANK=str(rank), **group) for rank in range(3)]
    for process in [Forked(code), *processes]:
        _, talk = process.communicate()
        assert process.returncode == 0, talk
    (one, *three) = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("1-0", "3-0", "3-1", "3-2"))
    assert one[0].keys() >= {"held_out_loss", "zero_shot_top1", "linear_probe_top1", "masked.image_retrieval_r1"}
    assert three[0][:2] == one[:2]
    assert [found[:2] for found in three[1:]] == [[{}, {}]] * 2
    assert sum(found[2] for found in three) == one[2]
    assert max(found[2] for found in three) < 0.4 * one[2]


@pytest.mark.parametrize(
    ("precision", "device", "dtype"),
    [("bf16", "cuda", torch.bfloat16), ("fp16", "cuda", torch.float16), ("fp32", "cuda", None), ("bf16", "cpu", None)],
)
def test_only_a_gpu_encodes_in_the_precision_of_the_run(precision, device, dtype):
    assert Encoders(None, torch.device(device), precision).dtype == dtype


def test_features_of_half_precision_are_normalised_and_compared_in_float32(settings, held_out):
    model = build(settings()).eval()
    encoders = encoders_of(model, settings())
    with torch.no_grad():
        plain = encoders.encode("images", held_out.pairs[0][:64])
    encoders.dtype, tower = torch.bfloat16, []
    model.visual.transformer.resblocks[0].mlp.c_fc.register_forward_hook(lambda *seen: tower.append(seen[2].dtype))
    with torch.no_grad():
        half = encoders.encode("images", held_out.pairs[0][:64])
    assert (tower, half.dtype) == ([torch.bfloat16], torch.float32)
    torch.testing.assert_close(half.norm(dim=1), torch.ones(64), rtol=0, atol=1e-6)
    assert 0 < float((half - plain).abs().max()) < 0.02


def test_what_a_set_has_twice_is_encoded_once(settings, held_out, monkeypatch):
    """As Fashion-MNIST's 80 captions, and its images, which are those of its pairs."""
    model = build(settings(text_length=32))
    images, tokens = held_out.labelled[0], np.concatenate([held_out.pairs[1][:40]] * 4)
    pairs = replace(held_out, pairs=(images, tokens), image_of=None)
    encoded, encode = [], Encoders.encode
    monkeypatch.setattr(
        Encoders, "encode", lambda self, way, items: encoded.append(len(items)) or encode(self, way, items)
    )
    scores = evaluate(model, {"": pairs}, settings()).scores
    assert encoded == [160, 40, len(held_out.prompts.reshape(-1, 32))]
    apart = replace(pairs, pairs=(images.copy(), tokens))
    assert evaluate(model, {"": apart}, settings()).scores == scores
