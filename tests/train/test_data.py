import numpy as np
import numpy.typing as npt
import pytest

from flipscale import randomness
from flipscale.data.formats import open_data, open_held_out
from flipscale.data.pairs import Form
from flipscale.data.shuffle import order
from flipscale.settings.declarations import Shapes, WebDataset


def tokenize(texts: list[str]) -> npt.NDArray[np.int64]:
    return np.array([[len(text)] * 16 for text in texts], np.int64)


def test_an_epoch_holds_every_pair_once() -> None:
    assert sorted(order(seed=0, size=100, start=0, count=100)) == list(range(100))
    assert sorted(order(seed=0, size=100, start=100, count=100)) == list(range(100))


def test_every_epoch_and_every_seed_has_its_own_order() -> None:
    orders = [order(seed, 100, start, 100).tolist() for seed in (0, 1) for start in (0, 100)]
    assert len({tuple(indices) for indices in orders}) == 4


def test_order_does_not_depend_on_the_batch_size() -> None:
    whole = order(seed=3, size=100, start=0, count=250)
    batches = [order(seed=3, size=100, start=start, count=25) for start in range(0, 250, 25)]
    np.testing.assert_array_equal(np.concatenate(batches), whole)


def test_order_is_the_same_in_every_version() -> None:
    assert order(seed=0, size=8, start=0, count=10).tolist() == [5, 0, 7, 3, 2, 4, 1, 6, 4, 2]


def test_a_batch_larger_than_the_data_set_goes_through_it_several_times() -> None:
    assert np.bincount(order(seed=0, size=3, start=0, count=7)).sum() == 7
    assert np.bincount(order(seed=0, size=3, start=0, count=6)).tolist() == [2, 2, 2]


def test_random_numbers_follow_from_key_and_index_alone() -> None:
    numbers = randomness.uniform(randomness.key("a", 1), np.array([5, 6, 7]), 4)
    np.testing.assert_array_equal(randomness.uniform(randomness.key("a", 1), np.array([6]), 2)[0], numbers[1, :2])
    assert not np.isin(randomness.uniform(randomness.key("a", 2), np.array([5, 6, 7]), 4), numbers).any()


def test_random_numbers_are_splitmix64() -> None:
    """The first outputs for seed 1234567, as published with the generator's reference code."""
    words = randomness._mix(np.uint64(1234567) + np.array([1, 2], np.uint64) * randomness._GOLDEN)
    assert words.tolist() == [6457827717110365317, 3203168211198807973]


def test_random_numbers_are_even_in_0_to_1() -> None:
    numbers = randomness.uniform(randomness.key("even"), np.arange(10_000), 1)[:, 0]
    counts = np.histogram(numbers, bins=10, range=(0, 1))[0]
    assert counts.sum() == 10_000
    assert counts.min() > 900
    assert counts.max() < 1100
    assert numbers.dtype == np.float32


def test_a_webdataset_that_is_trained_on_has_nothing_held_out() -> None:
    held_out = open_held_out(
        WebDataset("nowhere.tar", name=None, decode=None, sizes=None),
        Form(28, 16, tokenize),
        images=10,
        templates=None,
    )
    assert held_out is None


@pytest.mark.parametrize("pairs", [0.0, 0.5])
@pytest.mark.parametrize("text_length", [5, 16])
def test_the_vocabulary_of_shapes_is_every_token_that_comes(pairs: float, text_length: int) -> None:
    from functools import partial

    from flipscale.train.model import tokenize

    data = open_data(
        Shapes(pairs, seed=0),
        Form(8, text_length, partial(tokenize, length=text_length)),
        data_size=None,
        samples=20_000,
    )
    assert data.vocabulary is not None
    assert set(np.unique(data.batch(np.arange(20_000), None)[1])) == set(data.vocabulary)
