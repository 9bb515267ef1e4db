"""The learning rate of a step follows from the settings and the step alone. Lengths are counted in samples."""

import math

from flipscale.cost import steps_of
from flipscale.identity import WHOLE, Course
from flipscale.settings import Settings


def learning_rate(settings: Settings, step: int, course: Course = WHOLE) -> float:
    """The learning rate of step `step` (0 is the first): linear warm-up to `lr`, then the settings' `schedule`.

    course: the schedule, where it began before this run or goes on after it.

    cosine: half a cosine down to 0, open_clip's `cosine_lr`. The last warm-up step and the first after it are at `lr`.
    constant: `lr` until the last `cooldown` samples, over which it falls in a straight line, as in open_clip's
    `const_lr_cooldown` with power 1: it would reach 0 one step after the last. Without a cooldown it stays at `lr`.
    """
    peak, batch, warmup = settings.lr, settings.batch_size, settings.warmup
    seen, end = course.before + step * batch, course.end or steps_of(settings) * batch
    if seen < warmup:
        return peak * min(1.0, (seen + batch) / warmup)
    if settings.schedule == "constant":
        return peak * min(1.0, (end - seen) / settings.cooldown) if settings.cooldown else peak
    return peak * 0.5 * (1 + math.cos(math.pi * (seen - warmup) / (end - warmup)))
