"""What the names of scores say."""

import pytest

from flipscale.scores import (
    LOSS_BATCH,
    SCORES,
    class_chance,
    is_fraction,
    is_open_ended,
    is_score,
    lower_is_better,
    score_label,
    set_and_score,
)


@pytest.mark.parametrize(
    ("name", "lower"),
    [
        ("zero_shot_top1", False),
        ("imagenet.zero_shot_top1", False),
        ("held_out_loss", True),
        ("birds.held_out_loss", True),
        ("final_loss", True),
        ("err_avg17", True),
        ("loss", True),
        ("val_loss", True),
        ("perplexity", True),
        ("acc", False),
        ("1 - top1", True),
        ("1-error", False),
        ("image_retrieval_r5", False),
        ("hours", None),
        ("coco.fid", True),
        ("fid", None),
        ("coco.cider", None),
        ("vtab.mean", False),
    ],
)
def test_the_name_of_a_column_says_whether_less_of_it_is_better(name: str, lower: bool | None) -> None:
    assert lower_is_better(name) is lower


@pytest.mark.parametrize(
    ("name", "score", "fraction"),
    [
        ("zero_shot_top1", True, True),
        ("birds.zero_shot_top1", True, True),
        ("held_out_loss", True, False),
        (".zero_shot_top1", False, False),
        ("pets.mean_per_class", True, True),
        ("mean_per_class", False, False),
        ("vtab.mean", True, True),
        ("vqa.accuracy", True, True),
        ("robust.pm10", True, True),
        ("coco.cider", True, False),
        ("coco.perplexity", True, False),
        ("open_clip.clip_val_loss", False, False),
        ("a b.cider", False, False),
        ("final_loss", False, False),
    ],
)
def test_a_score_is_a_known_name_alone_or_behind_that_of_a_set(name: str, score: bool, fraction: bool) -> None:
    assert (is_score(name), is_fraction(name)) == (score, fraction)


def test_a_set_is_what_stands_before_the_last_dot() -> None:
    assert set_and_score("a.b.zero_shot_top1") == ("a.b", "zero_shot_top1")
    assert set_and_score("zero_shot_top1") == ("", "zero_shot_top1")


def test_labels_are_words_with_the_sets_name_before_them() -> None:
    assert score_label("zero_shot_top1") == "zero-shot accuracy, top 1"
    assert score_label("birds.image_retrieval_r1") == "birds: text to image recall at 1"
    assert score_label("final_loss") == "training loss at the end, nats (lower is better)"
    assert score_label("top1") == "top1"
    assert score_label("pets.mean_per_class") == "pets: zero-shot accuracy, mean per class"
    assert score_label("coco.cider") == "coco: cider"
    assert score_label("coco.fid") == "coco: fid (lower is better)"


@pytest.mark.parametrize(
    ("score", "chance"),
    [
        ("zero_shot_top5", 0.5),
        ("mean_per_class", 0.1),
        ("map11", None),
        ("roc_auc", 0.5),
        ("mean_top1_top5", 0.3),
        ("linear_probe_top1", 0.1),
    ],
)
def test_what_guessing_among_ten_classes_gives(score: str, chance: float | None) -> None:
    assert class_chance(score, 10) == (None if chance is None else pytest.approx(chance))


def test_only_a_score_without_an_end_is_open_ended() -> None:
    assert is_open_ended("coco.cider")
    assert not any(map(is_open_ended, ("vqa.accuracy", "coco.fid", "zero_shot_top1", "held_out_loss", "anything")))


def test_only_losses_are_no_fractions() -> None:
    assert [name for name, score in SCORES.items() if score.unit != "fraction"] == ["held_out_loss"]


def test_guessing_gives_the_share_of_hits_among_the_choices():
    assert SCORES["zero_shot_top5"].chance(10) == 0.5
    assert SCORES["image_retrieval_r10"].chance(1000) == 0.01
    assert SCORES["zero_shot_top5"].chance(3) == 1.0
    assert SCORES["held_out_loss"].chance(LOSS_BATCH) == pytest.approx(4.1589, abs=1e-4)


def test_every_score_but_a_loss_says_what_a_hit_is():
    assert {name for name, score in SCORES.items() if score.hits is None} == {"held_out_loss"}
    assert all(name.endswith(str(score.hits)) for name, score in SCORES.items() if score.hits)
