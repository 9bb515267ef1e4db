"""The learning rate of a step follows from the settings and the step alone. Lengths are counted in samples."""

import math
from collections.abc import Callable

from flipscale.cost.arithmetic import steps_of
from flipscale.planning.identity import WHOLE, Course
from flipscale.settings.declarations import Settings


def learning_rate(settings: Settings, step: int, course: Course = WHOLE) -> float:
    """The learning rate of step `step` (0 is the first): linear warm-up to `lr`, then the settings' `schedule`.

    course: the schedule, where it began before this run or goes on after it.

    cosine: half a cosine down to 0, open_clip's `cosine_lr`. The last warm-up step and the first after it are at `lr`.
    constant: `lr` until the last `cooldown` samples, over which it falls as `cooldown_shape` says, or to the
    end. With x the share of the cooldown that has been seen before the step,
        linear: 1 - x, open_clip's `const_lr_cooldown` with power 1;
        1-sqrt: 1 - sqrt(x) (Hägele et al., arXiv 2405.18392, section 3);
        cosine: (1 + cos(pi x)) / 2.
    All are at `lr` in the first step of the cooldown and would reach 0 one step after the last, as x is 1 there.
    """
    peak = settings.lr
    batch = settings.batch_size
    warmup = settings.warmup
    seen = course.before + step * batch
    end = course.end or steps_of(settings) * batch
    if seen < warmup:
        return peak * min(1.0, (seen + batch) / warmup)
    if settings.schedule == "constant":
        left = min(1.0, (end - seen) / settings.cooldown) if settings.cooldown else 1.0
        return peak * _COOLED[settings.cooldown_shape](left)
    return peak * 0.5 * (1 + math.cos(math.pi * (seen - warmup) / (end - warmup)))


_COOLED: dict[str, Callable[[float], float]] = {
    "linear": lambda left: left,
    "1-sqrt": lambda left: 1 - math.sqrt(1 - left),
    "cosine": lambda left: 0.5 * (1 - math.cos(math.pi * left)),
}
"""The learning rate over its peak by the share of the cooldown that is left, in each shape."""
