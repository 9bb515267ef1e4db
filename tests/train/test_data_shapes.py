import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from flipscale.data import shapes
from flipscale.data.formats import open_data, open_held_out
from flipscale.data.pairs import Data, Form, HeldOutItems
from flipscale.settings.declarations import Shapes


class Words:
    """Tokens that stand for whole captions, so that a test can read them."""

    def __init__(self) -> None:
        self.known: list[str] = []

    def __call__(self, texts: list[str]) -> npt.NDArray[np.int64]:
        self.known += texts
        return np.arange(len(self.known) - len(texts), len(self.known))[:, None].repeat(16, axis=1)

    def read(self, tokens: npt.NDArray[np.int64]) -> list[str]:
        return [self.known[token] for token in tokens[:, 0]]


def training(words: Words, data_size: int | None = None, image_size: int = 28, **options: Any) -> Data:
    data = Shapes(**{"pairs": 0.3, "seed": 0, **options})
    return open_data(data, Form(image_size, 16, words), data_size=data_size, samples=640)


def held_out(words: Words, images: int, templates: list[str] | None = None, **options: Any) -> HeldOutItems:
    data = Shapes(**{"pairs": 0.3, "seed": 0, **options})
    found = open_held_out(data, Form(28, 16, words), images=images, templates=templates)
    assert found is not None
    return found


def test_a_pair_is_the_same_in_any_batch() -> None:
    words = Words()
    data = training(words)
    images, tokens = data.batch(np.arange(300))
    alone, its_tokens = data.batch(np.array([137]))
    np.testing.assert_array_equal(alone[0], images[137])
    np.testing.assert_array_equal(its_tokens[0], tokens[137])


def test_images_are_the_same_on_every_platform_and_in_every_version() -> None:
    images, _ = training(Words()).batch(np.arange(256))
    assert hashlib.sha256(images.tobytes()).hexdigest()[:16] == "f48e206e30e7a8e3"


def test_captions_are_the_same_in_every_version() -> None:
    words = Words()
    _, tokens = training(words).batch(np.arange(4))
    assert words.read(tokens) == [
        "a small red square",
        "a small bowtie",
        "a big green ring right of a small red moon",
        "a big green heart",
    ]


@pytest.mark.parametrize("image_size", [16, 28, 64])
def test_images_have_the_size_asked_for(image_size: int) -> None:
    images, tokens = training(Words(), image_size=image_size).batch(np.arange(5))
    assert (images.shape, images.dtype) == ((5, 3, image_size, image_size), np.uint8)
    assert (tokens.shape, tokens.dtype) == ((5, 16), np.int64)


def test_without_a_data_size_no_pair_of_a_schedule_repeats() -> None:
    data = training(Words())
    assert data.size == 640
    images, _ = data.batch(np.arange(640))
    assert len(np.unique(images.reshape(640, -1), axis=0)) == 640


def test_a_smaller_data_size_is_the_beginning_of_a_larger() -> None:
    small, large = training(Words(), data_size=8), training(Words(), data_size=16)
    assert (small.size, large.size) == (8, 16)
    np.testing.assert_array_equal(small.batch(np.arange(8))[0], large.batch(np.arange(8))[0])


def test_another_seed_draws_another_world() -> None:
    here, there = training(Words()).batch(np.arange(64))[0], training(Words(), seed=1).batch(np.arange(64))[0]
    assert not (here == there).all(axis=(1, 2, 3)).any()


def test_every_class_is_held_out_equally_often() -> None:
    found = held_out(Words(), images=160)
    assert found.labelled is not None
    assert len(found.classes) == 80
    assert np.bincount(found.labelled[1]).tolist() == [2] * 80


def test_held_out_images_show_what_their_label_says() -> None:
    """Size by the pixels that are not background, colour by which channels are strong, shape by its hole."""
    found = held_out(Words(), images=160)
    assert found.labelled is not None
    area: dict[str, list[int]] = {"big": [], "small": []}
    for image, label in zip(found.labelled[0].astype(int), found.labelled[1], strict=True):
        size, colour, shape = found.classes[label].split()
        spread = image.max(axis=0) - image.min(axis=0)
        red, green, blue = image[:, spread > 60].mean(axis=1)
        seen = (
            "yellow"
            if min(red, green) > 2 * blue
            else max(("red", red), ("green", green), ("blue", blue), key=lambda c: c[1])[0]
        )
        assert seen == colour
        if shape == "circle":
            area[size].append(int((spread > 60).sum()))
    assert min(area["big"]) > max(area["small"])


def test_held_out_images_are_never_trained_on() -> None:
    found = held_out(Words(), images=200)
    assert found.pairs is not None
    assert found.labelled is not None
    trained = {image.tobytes() for image in training(Words()).batch(np.arange(5000))[0]}
    assert not trained & {image.tobytes() for image in (*found.pairs[0], *found.labelled[0])}


def test_without_pairs_there_is_a_held_out_loss_but_no_retrieval() -> None:
    found = held_out(Words(), images=100, pairs=0.0)
    assert found.pairs is not None
    assert len(found.pairs[0]) == 100
    assert not found.retrieval


def test_prompts_are_each_class_in_each_template() -> None:
    words = Words()
    found = held_out(words, images=80, templates=["a {}", "one {} here"])
    assert found.prompts is not None
    assert found.prompts.shape == (80, 2, 16)
    assert words.read(found.prompts[0]) == ["a big red circle", "one big red circle here"]


def test_a_caption_is_put_into_tokens_once() -> None:
    words = Words()
    data = training(words)
    for start in range(0, 1000, 50):
        data.batch(np.arange(start, start + 50))
    assert len(words.known) == len(set(words.known))


def test_held_out_scenes_are_told_apart_by_their_captions() -> None:
    """Retrieval counts the one caption of a scene as right: no other may say the same, in either order."""
    words = Words()
    found = held_out(words, images=2000)
    assert found.pairs is not None
    captions = words.read(found.pairs[1])
    assert found.retrieval
    assert len(set(captions)) == len(found.pairs[0]) == 2000
    mirror = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    for caption in captions:
        relation = next(word for word in mirror if word in caption)
        first, second = caption.split(f" {relation} ")
        assert f"{second} {mirror[relation]} {first}" not in captions


@pytest.mark.parametrize("pairs", [0.0, 0.3, 1.0])
def test_pixels_do_not_wrap_around_and_so_many_captions_tell_of_two_objects(pairs: float) -> None:
    words = Words()
    images, tokens = training(words, pairs=pairs).batch(np.arange(2000))
    assert images.min() > 10
    assert images.max() < 245
    told = [any(f" {word} a " in caption for word in shapes.RELATIONS) for caption in words.read(tokens)]
    assert np.mean(told) == pytest.approx(pairs, abs=0.04)
