import math

import pytest
import torch
from open_clip_train.scheduler import const_lr, const_lr_cooldown, cosine_lr

from flipscale.train.schedule import learning_rate


def optimizer():
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)])


def rates(settings, steps, **changes):
    asked = settings(lr=1e-3, samples=steps * 32, **changes)
    return [learning_rate(asked, step) for step in range(steps)]


def test_the_cosine_is_open_clips_on_whole_steps(settings):
    theirs = cosine_lr(optimizer(), 1e-3, 100, 1000)
    assert rates(settings, 1000, warmup=100 * 32) == pytest.approx([theirs(step) for step in range(1000)])


def test_the_constant_schedule_is_open_clips_const(settings):
    theirs = const_lr(optimizer(), 1e-3, 10, 100)
    ours = rates(settings, 100, warmup=10 * 32, schedule="constant")
    assert ours == pytest.approx([theirs(step) for step in range(100)])
    assert ours[10:] == [1e-3] * 90


def test_the_cooldown_is_open_clips_const_cooldown(settings):
    theirs = const_lr_cooldown(optimizer(), 1e-3, 10, 100, 20)
    ours = rates(settings, 100, warmup=10 * 32, schedule="constant", cooldown=20 * 32)
    assert ours == pytest.approx([theirs(step) for step in range(100)])
    assert ours[80] == 1e-3
    assert ours[99] == pytest.approx(1e-3 / 20)


def test_a_cooldown_of_samples_that_are_no_whole_steps_falls_in_one_line_to_the_end(settings):
    ours = rates(settings, 10, warmup=0, schedule="constant", cooldown=80)
    assert ours[:7] == [1e-3] * 7
    assert ours[7:] == pytest.approx([1e-3, 1e-3 * 64 / 80, 1e-3 * 32 / 80])


@pytest.mark.parametrize(
    ("shape", "lr"),
    [
        ("linear", [1.0, 0.75, 0.5, 0.25]),
        ("1-sqrt", [1.0, 1 - math.sqrt(0.25), 1 - math.sqrt(0.5), 1 - math.sqrt(0.75)]),
        ("cosine", [1.0, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125)]),
    ],
)
def test_a_cooldown_begins_at_the_peak_and_would_reach_0_one_step_after_its_last(settings, shape, lr):
    ours = rates(settings, 10, warmup=0, schedule="constant", cooldown=4 * 32, cooldown_shape=shape)
    assert ours[:6] == [1e-3] * 6
    assert ours[6:] == pytest.approx([1e-3 * factor for factor in lr])


@pytest.mark.parametrize(
    ("step", "lr"), [(0, 0.5), (1, 1.0), (2, 1.0), (11, 0.5), (19, 0.5 * (1 + math.cos(math.pi * 17 / 18)))]
)
def test_the_learning_rate_warms_up_over_64_samples_and_falls_to_0(settings, step, lr):
    assert learning_rate(settings(lr=1.0, warmup=64), step) == pytest.approx(lr)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_a_warm_up_that_ends_within_a_step_does_not_overshoot(settings, schedule):
    rates = [learning_rate(settings(lr=1.0, warmup=40, schedule=schedule), step) for step in range(20)]
    assert rates[:2] == [0.8, 1.0]
    assert max(rates) == 1.0
