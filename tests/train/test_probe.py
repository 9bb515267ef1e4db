import warnings

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import LogisticRegression

from flipscale.data.labelled import rank_in_class
from flipscale.train import feature_probe
from flipscale.train.feature_probe import linear_probe


def clusters(
    count: int, classes: int, width: int, spread: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Features about a random centre for each class, the classes in turn."""
    random = np.random.default_rng(0)
    centres = np.random.default_rng(1).normal(size=(classes, width))
    labels = np.arange(count) % classes
    return (centres[labels] + spread * random.normal(size=(count, width))).astype(np.float32), labels


def test_classes_that_lie_apart_are_told_apart() -> None:
    features, labels = clusters(400, 8, 16, 0.1)
    assert linear_probe(features[:200], labels[:200], features[200:], labels[200:]).mean() == 1.0


def test_features_that_say_nothing_score_at_chance() -> None:
    features = np.ones((400, 16), np.float32)
    labels = np.arange(400) % 8
    assert linear_probe(features, labels, features, labels).mean() == 1 / 8


def test_the_same_features_give_the_same_score() -> None:
    features, labels = clusters(600, 10, 16, 1.5)
    scores = {linear_probe(features[:300], labels[:300], features[300:], labels[300:]).mean() for _ in range(2)}
    assert len(scores) == 1
    assert 0.5 < scores.pop() < 1


def test_the_penalty_is_about_as_good_as_an_exhaustive_searchs() -> None:
    """Judged by the images that decide, against every half decade with converged fits."""
    features, labels = clusters(400, 10, 32, 3.0)
    decides = rank_in_class(labels) % 5 == 1

    def accuracy(penalty: float) -> float:
        model = LogisticRegression(C=penalty, max_iter=1000).fit(features[~decides], labels[~decides])
        return float((model.predict(features[decides]) == labels[decides]).mean())

    found = accuracy(feature_probe._search(features, labels).C)
    assert found >= max(accuracy(10 ** (half / 2)) for half in range(-12, 13)) - 0.03
    assert found > accuracy(1e6) + 0.05


def test_one_image_in_five_of_each_class_decides_on_the_penalty() -> None:
    assert rank_in_class(np.array([2, 0, 2, 2, 0, 1])).tolist() == [0, 0, 1, 2, 1, 0]


def test_single_images_of_each_class_have_a_penalty_all_the_same() -> None:
    features, labels = clusters(8, 8, 16, 0.1)
    assert feature_probe._search(features, labels).C == 1.0
    assert linear_probe(features, labels, features, labels).mean() == 1.0


def test_few_images_a_class_are_no_warning() -> None:
    features, labels = clusters(60, 40, 16, 0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert linear_probe(features, labels, features, labels).mean() == 1.0


def test_features_that_are_no_number_give_a_score_that_is_none() -> None:
    features, labels = clusters(16, 4, 4, 0.1)
    assert np.isnan(linear_probe(features * np.float32("nan"), labels, features, labels).mean())


def test_reaching_the_bound_on_iterations_is_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_probe, "ITERATIONS", 1)
    features, labels = clusters(200, 8, 16, 3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 0 < linear_probe(features, labels, features, labels).mean() < 1
