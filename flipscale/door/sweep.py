"""A sweep, and what it says of each arm: the value that is best for it, or why none is, and which values to add.

The optimum of a loss over log2 of a learning rate is a parabola in its neighbourhood. A best value at an edge of the
grid is no optimum, as it may lie beyond.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Any, Protocol

from flipscale.door.statements import Values
from flipscale.scores import is_fraction, lower_is_better, score_label
from flipscale.tables import Part, PrintedTable
from flipscale.words import count, joined, score_value

ERRORS = 2.0
"""Standard errors by which a best value has to be better than guessing, and two minima apart from what is between."""

LEARNED = 1e-3
"""The least part of the way from guessing to a perfect score that counts as learned, whatever the noise."""

NAMED_ARMS = 8
"""Up to this many arms a sentence names each with its value."""


class Rule(Protocol):
    """What gives a setting of a cell by its others."""

    @property
    def names(self) -> frozenset[str]:
        """The settings that it reads."""

    def __call__(self, settings: Values) -> Any: ...


Arm = tuple[str, ...]
"""The settings that tell an arm of a sweep from others, as Python writes them."""


@dataclass(frozen=True)
class Sweep:
    """How a study chooses a setting for each arm, on other seeds than those that it compares."""

    over: str
    """The setting."""
    values: tuple[float, ...]
    """What is tried, ascending: values of the setting, or factors of what `rule` gives."""
    rule: Rule | None
    """The study's own rule for the setting; None where `values` are the setting's own."""
    seeds: tuple[int, ...]
    by: str
    """The score that chooses."""
    pick: str
    """parabola or grid."""
    tie: float
    """Of values that differ less from the best, the lowest is taken: points of accuracy, or percent of a loss."""
    extend: int
    """The most values that may be added to an arm whose best is at an edge."""
    at: Values
    """Where an arm has several cells: the settings of the one that tries values for all."""
    arm: tuple[str, ...]
    """The settings that tell arms apart."""
    pooled: tuple[str, ...] = ()
    """Those of them whose values share a choice."""

    @property
    def middle(self) -> float:
        """The value with which a cell is planned whose own is unknown."""
        return self.values[(len(self.values) - 1) // 2]


@dataclass(frozen=True)
class TriedValue:
    """A value that was tried for an arm."""

    value: float
    """Of the setting, or a factor of the study's own rule."""
    runs: Mapping[str, tuple[int, float | None]]
    """Ended runs: id -> seed and score, which is None where training diverged."""
    due: int = 0
    """Runs that have not ended."""

    @property
    def scores(self) -> list[float]:
        return [score for _, score in self.runs.values() if score is not None]

    @property
    def mean(self) -> float | None:
        """The mean score over its seeds; None where a run diverged, which no other seed makes good."""
        return fmean(self.scores) if self.runs and len(self.scores) == len(self.runs) else None


@dataclass(frozen=True)
class TunedArm:
    """An arm, or the sizes of one that share a choice, with all that was tried."""

    arms: tuple[Arm, ...]
    words: str
    """The arm in words; '' for the only one."""
    tried: tuple[TriedValue, ...]
    """Ascending."""
    chance: float | None
    """What guessing gives; None if unknown."""
    error: float
    """Standard error of a value's mean, pooled over all arms; 0 where each has one seed."""
    rule: Sweep

    @property
    def due(self) -> int:
        """Runs that have not ended."""
        return sum(each.due for each in self.tried)

    @property
    def _lower(self) -> bool:
        return bool(lower_is_better(self.rule.by))

    @cached_property
    def losses(self) -> list[float]:
        """The means of the values, lower is better; infinite where training diverged."""
        sign = 1 if self._lower else -1
        return [math.inf if each.mean is None else sign * each.mean for each in self.tried]

    @cached_property
    def best(self) -> int:
        """The place of the best value."""
        return self.losses.index(min(self.losses))

    @cached_property
    def guesses(self) -> bool:
        """Whether neither the best value nor the mean of all runs is better than guessing."""
        chance = self.chance
        sign = 1 if self._lower else -1
        if chance is None:
            return False
        ahead = [sign * (chance - score) for each in self.tried for score in each.scores]
        if len(ahead) < 2:
            return False
        is_ahead = fmean(ahead) > ERRORS * stdev(ahead) / len(ahead) ** 0.5
        return not self._learned(self.losses[self.best]) and not is_ahead

    def _learned(self, loss: float) -> bool:
        """Whether a value's loss is better than guessing."""
        if self.chance is None:
            return True
        least = max(ERRORS * self.error, LEARNED * abs((0 if self._lower else 1) - self.chance))
        return (1 if self._lower else -1) * self.chance - loss > least

    @property
    def noise(self) -> float:
        """Standard error of a value's mean: by seeds, or else by the residuals of a parabola through the values that
        learned; infinite where they are too few for one."""
        if self.error:
            return self.error
        import numpy as np  # It takes a tenth of a second, and most sweeps have seeds.

        points = [(math.log2(each.value), loss) for each, loss in zip(self.tried, self.losses, strict=True)]
        learned = [(x, loss) for x, loss in points if loss < math.inf and self._learned(loss)]
        if len(learned) < 4:
            return math.inf
        xs, losses = np.array(learned).T
        residuals = losses - np.polyval(np.polyfit(xs, losses, 2), xs)
        return math.sqrt(float((residuals**2).sum()) / (len(learned) - 3))

    @property
    def beyond(self) -> float | None:
        """The value to add where the best may lie beyond those tried; None where it does not."""
        values = [each.value for each in self.tried]
        if self.guesses or 0 < self.best < len(values) - 1:
            return None
        edge, next_to_it = values[:2] if self.best == 0 else (values[-1], values[-2])
        return float(f"{edge**2 / next_to_it:.3g}")

    @property
    def refusal(self) -> str:
        """Why no value is the best, and what would show one; '' where one is."""
        best = self.best
        losses = self.losses
        beyond = self.beyond
        values = [f"{each.value:g}" for each in self.tried]
        more = ", ".join(f"{each:g}" for each in sorted({*(each.value for each in self.tried), beyond or 0}))
        over = f"over: {{{self.rule.over}: {f'[{more}]' if self.rule.rule is None else repr(f'x[{more}]')}}}"
        if losses[best] == math.inf:
            return f"training diverged at every value; try lower ones: {over}"
        if self.guesses:
            level = score_value(self.chance or 0.0, is_fraction(self.rule.by))
            return f"no value is better than guessing ({level}); give it more samples, or leave it out (exclude)"
        if beyond is not None:
            return f"its best value, {values[best]}, is the {'highest' if best else 'lowest'} tried; add one: {over}"
        # A minimum apart from the best value by a barrier above the noise; a value at chance is none.
        for place, loss in enumerate(losses):
            low, high = sorted((place, best))
            barrier = max(losses[low + 1 : high], default=-math.inf) - loss
            is_apart = barrier == math.inf or barrier > ERRORS * math.sqrt(2) * self.noise
            if is_apart and self._learned(loss):
                both = f"{values[low]} and {values[high]}"
                return f"its curve has two minima, at {both}; add values between them, or more seeds"
        return ""

    @property
    def chosen(self) -> float | None:
        """The best value; None where runs have not ended, or it is refused."""
        if self.due or self.refusal:
            return None
        values = [each.value for each in self.tried]
        losses = self.losses
        best = self.best
        if self.rule.pick == "grid":
            close = self.rule.tie / 100 * (1 if is_fraction(self.rule.by) else abs(losses[best]))
            return next(value for value, loss in zip(values, losses, strict=True) if loss <= losses[best] + close)
        near = slice(best - 1, best + 2)
        return vertex(values[near], losses[near])

    @property
    def expected_best(self) -> list[float]:
        """The expected best score of 1, 2, ... values drawn from those tried. None that diverged is among them."""
        return expected_best([each.mean for each in self.tried if each.mean is not None], lower=self._lower)


def vertex(values: Sequence[float], losses: Sequence[float]) -> float:
    """The value at the vertex of the parabola through three points over log2 of the value, to three digits; the middle
    one where a neighbour diverged or all three are level."""
    x0, x1, x2 = map(math.log2, values)
    y0, y1, y2 = losses
    left = (y1 - y0) / (x1 - x0)
    right = (y2 - y1) / (x2 - x1)
    if not math.isfinite(left) or not math.isfinite(right) or right <= left:
        return values[1]
    at = (x0 + x1) / 2 - left * (x2 - x0) / (2 * (right - left))
    return float(f"{2**at:.3g}")


def expected_best(scores: Sequence[float], *, lower: bool) -> list[float]:
    """The expected best of n of these scores, for n = 1, 2, ...: unbiased (Tang et al. 2020, arXiv 2004.13705)."""
    ordered = sorted(scores, reverse=lower)
    total = len(ordered)
    return [
        sum(math.comb(place, n - 1) * score for place, score in enumerate(ordered)) / math.comb(total, n)
        for n in range(1, total + 1)
    ]


@dataclass(frozen=True)
class SweepOutcome:
    """A study's sweep as far as its runs have ended."""

    sweep: Sweep
    arms: tuple[TunedArm, ...]
    unscored: int = 0
    """Runs among `due` that have ended and lack only their score."""

    @property
    def due(self) -> int:
        """Runs that have not ended, those that arms share for each of them."""
        return sum(arm.due for arm in self.arms)

    @property
    def scores(self) -> dict[str, float | None]:
        """Of ended runs by id; None where training diverged."""
        return {run: each for arm in self.arms for tried in arm.tried for run, (_, each) in tried.runs.items()}

    @property
    def diverged(self) -> int:
        """Runs whose training diverged: they count as the worst, and keep nothing from starting."""
        return list(self.scores.values()).count(None)

    @property
    def chosen(self) -> dict[Arm, float] | None:
        """The best value of each arm; None while one lacks it."""
        if any(arm.chosen is None for arm in self.arms):
            return None
        return {each: value for arm in self.arms if (value := arm.chosen) is not None for each in arm.arms}

    @property
    def refusals(self) -> list[str]:
        """Why arms have no best value, though all of their runs have ended."""
        return [": ".join(filter(None, (arm.words, arm.refusal))) for arm in self.arms if not arm.due and arm.refusal]

    def extensions(self, further: Mapping[Arm, tuple[float, ...]]) -> dict[Arm, tuple[float, ...]]:
        """`further` with the next value of each arm whose best is at an edge, as far as the study allows it."""
        wider: dict[Arm, tuple[float, ...]] = {}
        for arm in self.arms:
            added = further.get(arm.arms[0], ())
            if not arm.due and arm.beyond is not None and len(added) < self.sweep.extend:
                wider |= dict.fromkeys(arm.arms, (*added, arm.beyond))
        return {**further, **wider}

    @property
    def words(self) -> str:
        """How the settings were chosen, in a sentence."""
        over = self.sweep.over
        by = score_label(self.sweep.by).removesuffix(" (lower is better)")
        unit = "" if self.sweep.rule is None else " times the study's rule"
        values = {arm.words: f"{value:.3g}" for arm in self.arms if (value := arm.chosen) is not None}
        if len(values) > NAMED_ARMS:
            numbers = sorted(map(float, values.values()))
            named = f"{numbers[0]:g} to {numbers[-1]:g}{unit} for {count(len(values), 'arm')}"
        else:
            named = joined(f"{value}{unit}" + (f" for {words}" if words else "") for words, value in values.items())
        tried = sorted({len(arm.tried) for arm in self.arms})
        effort = " to ".join(map(str, (tried[0], tried[-1])[: len(tried)]))
        seeds = joined(map(str, self.sweep.seeds))
        return f"{over} was chosen from {effort} values by {by} on other seeds ({seeds}): {named}."


# As people read it


def sweep_parts(choice: SweepOutcome) -> list[Part]:
    """Each arm's scores and the value that they chose; then what the best of fewer values would have been."""
    over = choice.sweep.over
    fraction = is_fraction(choice.sweep.by)
    values = sorted({each.value for arm in choice.arms for each in arm.tried})
    head = ("", *(f"{over} {'x' if choice.sweep.rule else ''}{value:g}" for value in values), "chosen")
    rows = []
    expected = []
    most = max(len(arm.expected_best) for arm in choice.arms)
    for arm in choice.arms:
        name = arm.words or "all runs"
        best = [score_value(score, fraction) for score in arm.expected_best]
        scores = {
            each.value: "diverged" if each.mean is None else score_value(each.mean, fraction)
            for each in arm.tried
            if each.runs
        }
        chosen = f"{arm.chosen:g}" if arm.chosen else "none"
        rows.append((name, *(scores.get(value, "") for value in values), chosen))
        expected.append((name, *best, *[""] * (most - len(best))))
    label = score_label(choice.sweep.by)
    note = "Each score is the mean over the seeds of the sweep; training diverged where it says so."
    numbers = tuple(str(n + 1) for n in range(most))
    why = "An arm with more values tried would start ahead by the difference of two columns."
    return [
        PrintedTable(f"The choice of {over}, {label}", head, tuple(rows), (note, *choice.refusals)),
        PrintedTable("Expected best score of n values", ("", *numbers), tuple(expected), (why,)),
    ]
