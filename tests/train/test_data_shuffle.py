import numpy as np
import pytest

from flipscale.data import shuffle
from flipscale.data.shuffle import Shuffle, order, taken


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 400 pairs over 4 lanes, so that some thousand pairs are many windows."""
    monkeypatch.setattr(shuffle, "WINDOW", 400)
    monkeypatch.setattr(shuffle, "LANES", 4)


def test_up_to_a_window_an_epoch_is_one_permutation() -> None:
    mixed = Shuffle([60, 0, 40])
    assert mixed.size == 100
    np.testing.assert_array_equal(mixed(3, 2, 32), order(seed=3, size=100, start=64, count=32))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("batch_size", [1, 6, 7, 24, 64])
@pytest.mark.parametrize("counts", [[50] * 20, [1000], [7, 0, 493, 1, 200, 0, 306]])
def test_no_pair_is_seen_again_before_all_others_were_seen(counts: list[int], batch_size: int) -> None:
    mixed = Shuffle(counts)
    seen = np.zeros(mixed.size, np.int64)
    for step in range(2500 // batch_size):
        seen += np.bincount(mixed(0, step, batch_size), minlength=mixed.size)
        assert seen.max() - seen.min() <= 1
    assert seen.sum() == 2500 // batch_size * batch_size


@pytest.mark.usefixtures("small")
def test_batches_of_any_size_see_the_same_pairs_if_they_are_multiples_of_the_lanes() -> None:
    mixed = Shuffle([50] * 40)
    seen = [set(np.concatenate([mixed(0, step, size) for step in range(240 // size)])) for size in (4, 12, 48)]
    assert len(seen[0]) == 240
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.usefixtures("small")
def test_processes_that_take_some_rows_each_read_shards_of_their_own() -> None:
    mixed = Shuffle([50] * 40)
    rows = np.stack([mixed(0, step, 8) for step in range(2000 // 8)])
    first, second = (set((part // 50).ravel().tolist()) for part in (rows[:, :4], rows[:, 4:]))
    assert len(first) == len(second) == 20
    assert not first & second


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("counts", [[390], [100, 300, 50, 700, 250]], ids=["one window", "several"])
def test_the_order_of_some_rows_is_that_part_of_the_order_of_all(counts: list[int]) -> None:
    order = Shuffle(counts)
    for step in range(40):
        parts = [Shuffle(counts)(3, step, 48, range(first, first + 16)) for first in (0, 16, 32)]
        assert np.concatenate(parts).tolist() == order(3, step, 48).tolist()


def test_a_lane_mixes_the_pairs_of_several_shards() -> None:
    mixed = Shuffle([20] * 100)
    lane = np.concatenate([mixed(0, step, 4)[:1] for step in range(50)])
    assert len(set((lane // 20).tolist())) >= 3
    assert (np.diff(lane) != 1).mean() > 0.9


@pytest.mark.usefixtures("small")
def test_every_seed_and_every_epoch_has_its_own_order() -> None:
    mixed = Shuffle([50] * 20)
    firsts = [tuple(mixed(seed, step, 4).tolist()) for seed in (0, 1) for step in (0, 250, 500)]
    assert len(set(firsts)) == 6


@pytest.mark.usefixtures("small")
def test_the_order_is_the_same_in_every_version() -> None:
    mixed = Shuffle([50] * 20)
    assert mixed(0, 0, 8).tolist() == [460, 403, 923, 921, 200, 244, 974, 972]
    assert mixed(0, 249, 8).tolist() == [504, 502, 265, 496, 770, 788, 191, 177]


@pytest.mark.usefixtures("small")
def test_the_shards_of_the_next_window_are_named_nearest_first() -> None:
    mixed = Shuffle([50] * 40)
    sequence = mixed._epoch(0, 0)[0].tolist()
    assert mixed.following(np.array(sequence[3:4]), 0, 0, 8) == sequence[4:6]
    wanted = [sequence[place] for place in (2, 11, 3, 12)]
    assert mixed.following(np.array(sequence[:2] + sequence[10:11]), 0, 0, 8) == wanted
    assert mixed.following(np.array(sequence[-1:]), 0, 0, 8) == []


def test_a_million_pairs_in_one_shard_are_no_burden() -> None:
    mixed = Shuffle([10**9])
    assert len(set(mixed(0, 10**5, 4096).tolist())) == 4096


def test_a_subset_takes_the_first_pairs_of_the_shards() -> None:
    assert taken([10, 0, 5, 8], 15) == [10, 0, 5]
    assert taken([10, 0, 5, 8], 16) == [10, 0, 5, 1]
    assert taken([10, 0, 5, 8], 3) == [3]
