"""The metrics of labelled sets, against scikit-learn's."""

import io
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import recall_score

from flipscale.data.formats import open_held_out
from flipscale.data.pairs import Form, HeldOutItems
from flipscale.errors import DataError
from flipscale.scores import class_chance
from flipscale.settings.declarations import Shapes
from flipscale.train.evaluate import evaluate, hits
from flipscale.train.model import build, tokenize
from flipscale.train.set_metrics import map11, mean_per_class, roc_auc
from tests.train.test_held_out import LABELS, opened, picture, tar

RNG = np.random.default_rng(5)


def test_mean_per_class_is_scikit_learns_macro_recall() -> None:
    similarity = RNG.normal(size=(300, 7))
    labels = RNG.choice(7, size=300, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.05, 0])
    found = hits(torch.from_numpy(similarity), torch.from_numpy(labels), (1,))[0].double().numpy()
    wanted = recall_score(labels, similarity.argmax(axis=1), labels=np.unique(labels), average="macro")
    assert mean_per_class(found, labels) == pytest.approx(wanted)
    assert mean_per_class(found, labels) != pytest.approx(found.mean())


def test_roc_auc_is_how_often_a_positive_image_is_ahead_and_equal_scores_count_half() -> None:
    scores, positive = np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False])
    assert roc_auc(scores, positive) == 3.5 / 4
    assert roc_auc(-scores, positive) == 0.5 / 4
    assert roc_auc(np.zeros(4), positive) == 0.5


def test_map11_of_vocs_own_kind_of_example() -> None:
    # Ranked right, wrong, right, wrong: 1 up to a recall of 1/2, then 2/3.
    scores, right = np.array([[4.0], [3.0], [2.0], [1.0]]), np.array([[True], [False], [True], [False]])
    assert map11(scores, right) == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert map11(np.zeros((4, 1)), right) == 0.5


def test_similarity_that_is_no_number_makes_no_metric() -> None:
    shown = np.array([[True, False], [False, True]])
    assert math.isnan(map11(np.array([[np.nan, 1.0], [0.0, 1.0]]), shown))
    assert math.isnan(roc_auc(np.array([np.nan, 1.0]), np.array([True, False])))


# Of sets


@pytest.fixture(scope="module")
def labelled() -> HeldOutItems:
    """The drawn shapes as a labelled set with uneven classes."""
    found = open_held_out(
        Shapes(0.3, seed=0), Form(28, 32, partial(tokenize, length=32)), images=160, templates=["a {}"]
    )
    assert found is not None
    assert found.labelled is not None
    return HeldOutItems(None, False, labelled=found.labelled, classes=found.classes, prompts=found.prompts)


def scored(settings: Any, held_out: HeldOutItems) -> tuple[dict[str, float], dict[str, float]]:
    evaluated = evaluate(build(settings(text_length=32)), {"set": held_out}, settings())
    return evaluated.scores, evaluated.chance


@pytest.mark.parametrize("metric", ["mean_per_class", "map11", "mean_top1_top5"])
def test_a_metric_stands_beside_the_scores_that_every_labelled_set_has(settings: Any, labelled: Any, metric: str):
    plain, _ = scored(settings, labelled)
    scores, chance = scored(settings, replace(labelled, metric=metric))
    assert list(scores) == [*plain, f"set.{metric}"]
    assert {name: scores[name] for name in plain} == plain
    assert 0 < scores[f"set.{metric}"] < 1
    if metric == "mean_top1_top5":
        both = (plain["set.zero_shot_top1"] + plain["set.zero_shot_top5"]) / 2
        assert scores["set.mean_top1_top5"] == pytest.approx(both)
    if metric != "map11":
        assert chance[f"set.{metric}"] == class_chance(metric, len(labelled.classes))
    else:
        classes = len(set(labelled.labelled[1].tolist()))
        assert chance["set.map11"] == pytest.approx(1 / classes)


def test_roc_auc_is_of_the_second_class(settings: Any, labelled: Any) -> None:
    images, labels = labelled.labelled
    two = replace(labelled, labelled=(images, labels % 2), classes=labelled.classes[:2], prompts=labelled.prompts[:2])
    turned = replace(two, labelled=(images, 1 - labels % 2), prompts=two.prompts[::-1].copy())
    scores, chance = scored(settings, replace(two, metric="roc_auc"))
    assert scores["set.roc_auc"] == pytest.approx(scored(settings, replace(turned, metric="roc_auc"))[0]["set.roc_auc"])
    assert chance["set.roc_auc"] == 0.5


def test_an_image_of_several_classes_is_a_hit_by_any_of_them(settings: Any, labelled: Any) -> None:
    shown = np.arange(len(labelled.classes)) == labelled.labelled[1][:, None]
    same, chance = scored(settings, replace(labelled, shown=shown, metric="map11"))
    plain, _ = scored(settings, replace(labelled, metric="map11"))
    assert same == plain
    more = shown.copy()
    more[:, :40] = True
    wider, wider_chance = scored(settings, replace(labelled, shown=more, metric="map11"))
    assert wider["set.zero_shot_top1"] > plain["set.zero_shot_top1"]
    assert chance["set.zero_shot_top1"] == pytest.approx(1 / 80)
    assert wider_chance["set.zero_shot_top1"] == pytest.approx(more.mean())
    assert wider_chance["set.map11"] == pytest.approx(more.mean(axis=0)[more.any(axis=0)].mean())


# Several classes in shards


def marks(*shown: int) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(shown))
    return file.getvalue()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLIPSCALE_DATA", str(tmp_path))
    return tmp_path


def test_shards_say_several_classes_of_an_image_in_a_cls_or_a_npy(root: Path) -> None:
    samples = [b"2 0", b"1", b"0,1", b"1\n1\n"]
    tar(root / "a.tar", [(f"{n}", {"png": picture(n), "cls": text}) for n, text in enumerate(samples)])
    wanted = [[True, False, True], [False, True, False], [True, True, False], [False, True, False]]
    found = opened("webdataset", {"urls": "a.tar", "classes": LABELS, "metric": "map11"})
    assert found.shown is not None
    assert found.shown.tolist() == wanted
    tar(root / "b.tar", [(f"{n}", {"png": picture(n), "npy": marks(*row)}) for n, row in enumerate(wanted)])
    again = opened("webdataset", {"urls": "b.tar", "classes": LABELS, "metric": "map11"})
    assert again.shown is not None
    assert again.shown.tolist() == wanted
    few = opened("webdataset", {"urls": "b.tar", "classes": LABELS, "metric": "map11"}, images=2)
    assert few.shown is not None
    assert len(few.shown) == 2


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"cls": b"0 dog"}, r"its .cls holds b'0 dog'; write the numbers of its classes, from 0 on, for example 3 14"),
        ({"cls": b"0 3"}, r"has a label 3, but classes names 3"),
        ({"cls": b" "}, r"its .cls holds b' '"),
        ({"txt": b"a dog"}, r"has no .cls, only png, txt"),
        ({"npy": b"no array"}, r"its .npy is not an array of numbers"),
        (
            {"npy": marks(1, 0)},
            r"its .npy has the shape \(2,\) and 1 numbers other than 0; write one for each of the 3",
        ),
        ({"npy": marks(0, 0, 0)}, r"its .npy has the shape \(3,\) and 0 numbers"),
    ],
)
def test_a_sample_whose_classes_cannot_be_told_is_named(root: Path, files: dict[str, bytes], complaint: str) -> None:
    tar(root / "x.tar", [("a", {"png": picture(1), **files})])
    with pytest.raises(DataError, match=complaint):
        opened("webdataset", {"urls": "x.tar", "classes": LABELS, "metric": "map11"})


def test_several_classes_without_the_metric_of_such_images_are_refused(root: Path) -> None:
    tar(root / "x.tar", [("a", {"png": picture(1), "cls": b"0 1"})])
    with pytest.raises(DataError, match=r"its .cls holds b'0 1'; write the number of the class, from 0 on"):
        opened("webdataset", {"urls": "x.tar", "classes": LABELS})


@pytest.mark.parametrize(
    ("metric", "classes", "labels", "complaint"),
    [
        ("roc_auc", LABELS, (0, 1), "roc_auc takes two classes, and this set has 3"),
        ("roc_auc", LABELS[:2], (1, 1), "roc_auc needs images of both classes"),
        ("mean_top1_top5", LABELS, (0, 1), "mean_top1_top5 takes six classes or more, and this set has 3"),
    ],
)
def test_a_metric_that_a_set_cannot_give_is_refused(
    root: Path, metric: str, classes: list[str], labels: tuple[int, int], complaint: str
) -> None:
    tar(root / "x.tar", [(f"{n}", {"png": picture(n), "cls": b"%d" % label}) for n, label in enumerate(labels)])
    with pytest.raises(DataError, match=complaint):
        opened("webdataset", {"urls": "x.tar", "classes": classes, "metric": metric})
