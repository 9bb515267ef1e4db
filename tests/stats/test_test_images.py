"""The sampling error of test images is what other test sets of as many images would show."""

import math

import numpy as np
import pytest

from flipscale.analysis.stats.test_images import image_sampling


def bits(text: str) -> np.ndarray:
    return np.array([letter == "1" for letter in text])


def test_one_pair_by_hand():
    """10 images: 3 right in the arm alone, 1 in the baseline alone: d = .2, q = .4, sqrt((.4 - .04) / 10) = .1897."""
    found = image_sampling([bits("1111110000")], [bits("1110001000")])
    assert (found.images, found.seeds, found.shared) == (10, 1, None)
    assert found.difference == pytest.approx(0.2)
    assert found.standard_error == pytest.approx(0.18974, abs=1e-5)


def test_twins_that_disagree_on_15_percent_of_2000_images_have_an_error_of_0_87_points():
    """The example of facts: q = .15, N = 2000, no difference."""
    arm, baseline = np.zeros(2000, np.bool_), np.zeros(2000, np.bool_)
    arm[:150], baseline[150:300] = True, True
    assert 100 * image_sampling([arm], [baseline]).standard_error == pytest.approx(0.87, abs=0.005)


def test_two_seeds_by_hand():
    """Differences of 4 images: 1, 0, 0, 1 and 1, 0, 0, -1; their means over seeds 1, 0, 0, 0 have variance 3 / 16."""
    found = image_sampling([bits("1001"), bits("1000")], [bits("0000"), bits("0001")])
    assert found.difference == pytest.approx(1 / 4)
    assert found.standard_error == pytest.approx(math.sqrt(3 / 16 / 4))
    # Left beside the effects of seeds and images are -.25, -.25, -.25, .75 and their negatives: 1.5 / (1 * 3) / 8.
    assert found.shared == pytest.approx(1.5 / 3 / 8)


def test_runs_that_agree_on_every_image_have_no_error():
    assert image_sampling([bits("1010")] * 2, [bits("1010")] * 2).standard_error == 0


# Against brute force


def studies(count: int, seeds: int, images: int, random: np.random.Generator, *, seed_noise: float):
    """Hits of paired runs, [count, seeds, images]: images differ in difficulty and in what the arm does to them."""

    def shape(noise: float, *size: int) -> np.ndarray:
        return noise * random.normal(size=size)

    difficulty = shape(2.0, count, 1, images)
    effect = 0.3 + shape(1.0, count, 1, images) + shape(seed_noise, count, seeds, 1)
    runs = (random.random((count, seeds, images)) for _ in range(2))
    arm, baseline = (
        draw < 1 / (1 + np.exp(-logit)) for draw, logit in zip(runs, (difficulty + effect, difficulty), strict=True)
    )
    return arm, baseline * np.ones((1, seeds, 1), np.bool_)


def test_the_error_is_the_spread_over_test_sets():
    """One seed's classifiers, as it were: which images come is all that varies between 3,000 test sets."""
    arm, baseline = studies(3000, 1, 200, np.random.default_rng(0), seed_noise=0)
    found = [image_sampling(list(a), list(b)) for a, b in zip(arm, baseline, strict=True)]
    spread = np.std([one.difference for one in found])
    assert np.mean([one.standard_error**2 for one in found]) ** 0.5 == pytest.approx(spread, rel=0.04)


@pytest.mark.parametrize(("seeds", "seed_noise"), [(3, 0.3), (5, 0.0)])
def test_with_that_of_the_seeds_it_is_the_spread_over_seeds_and_test_sets(seeds, seed_noise):
    arm, baseline = studies(2000, seeds, 200, np.random.default_rng(1), seed_noise=seed_noise)
    found = [image_sampling(list(a), list(b)) for a, b in zip(arm, baseline, strict=True)]
    of_seeds = (arm.mean(axis=2) - baseline.mean(axis=2)).std(axis=1, ddof=1) / math.sqrt(seeds)
    spread = np.std([one.difference for one in found])
    # Variances: those of the seeds and of the images both hold the noise of an image in a seed.
    both = np.mean(of_seeds**2) + np.mean([one.standard_error**2 - one.shared for one in found])
    assert math.sqrt(both) == pytest.approx(spread, rel=0.05)
    total = [one.with_seeds(float(error)) for one, error in zip(found, of_seeds, strict=True)]
    assert np.mean(np.square(total)) ** 0.5 == pytest.approx(spread, rel=0.12)
    assert np.mean(of_seeds**2) ** 0.5 < 0.95 * spread
