"""What a sweep says of each arm: the value that is best for it, or why none is, and which values to add.

The optimum of a loss over log2 of a learning rate is a parabola in its neighbourhood. A best value at an edge of the
grid is no optimum, as it may lie beyond.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean, stdev, variance

from flipscale.planning import Plan
from flipscale.scores import is_fraction, lower_is_better, score_label
from flipscale.study import Arm, Sweep
from flipscale.tables import Part, PrintedTable
from flipscale.words import count, joined, score_value

ERRORS = 2.0
"""Standard errors by which a best value has to be better than guessing, and two minima apart from what is between."""

LEARNED = 1e-3
"""The least part of the way from guessing to a perfect score that counts as learned, whatever the noise."""

NAMED_ARMS = 8
"""Up to this many arms a sentence names each with its value."""


@dataclass(frozen=True)
class TriedValue:
    """A value that was tried for an arm."""

    value: float
    setting: float
    """The setting itself, where `value` is a factor."""
    runs: Mapping[str, tuple[int, float | None]]
    """Ended runs: id -> seed and score, which is None where training diverged."""
    due: int
    """How many runs it takes."""

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
        return sum(each.due - len(each.runs) for each in self.tried)

    @cached_property
    def losses(self) -> list[float]:
        """The means of the values, lower is better; infinite where training diverged."""
        sign = 1 if lower_is_better(self.rule.by) else -1
        return [math.inf if each.mean is None else sign * each.mean for each in self.tried]

    @property
    def best(self) -> int:
        """The place of the best value."""
        return min(range(len(self.tried)), key=self.losses.__getitem__)

    @property
    def guesses(self) -> bool:
        """Whether neither the best value nor the mean of all runs is better than guessing."""
        sign = 1 if lower_is_better(self.rule.by) else -1
        ahead = [sign * ((self.chance or 0.0) - score) for each in self.tried for score in each.scores]
        if self.chance is None or len(ahead) < 2:
            return False
        of_best, perfect = sign * self.chance - self.losses[self.best], 0 if lower_is_better(self.rule.by) else 1
        least = max(ERRORS * self.error, LEARNED * abs(perfect - self.chance))
        return of_best <= least and fmean(ahead) <= ERRORS * stdev(ahead) / len(ahead) ** 0.5

    @property
    def beyond(self) -> float | None:
        """The value to add where the best may lie beyond those tried; None where it does not."""
        values, best = [each.value for each in self.tried], self.best
        if self.guesses or 0 < best < len(values) - 1:
            return None
        return float(f"{values[0] ** 2 / values[1] if best == 0 else values[-1] ** 2 / values[-2]:.3g}")

    @property
    def refusal(self) -> str:
        """Why no value is the best, and what would show one; '' where one is."""
        best = self.best
        if self.losses[best] == math.inf:
            return f"training diverged at every value; try lower ones: {self._over(self.beyond)}"
        if self.guesses:
            level = score_value(self.chance or 0.0, is_fraction(self.rule.by))
            return f"no value is better than guessing ({level}); give it more samples, or leave it out (exclude)"
        if self.beyond is not None:
            end = "lowest" if best == 0 else "highest"
            return f"its best value, {self.tried[best].value:g}, is the {end} tried; add one: {self._over(self.beyond)}"
        if other := self._second_minimum():
            both = joined([f"{self.tried[place].value:g}" for place in sorted((best, other))])
            return f"its curve has two minima, at {both}; add values between them, or more seeds"
        return ""

    def _over(self, value: float | None) -> str:
        """The line of the study file with one more value."""
        values = ", ".join(f"{each:g}" for each in sorted({*(each.value for each in self.tried), value or 0}))
        listed = f"[{values}]" if self.rule.rule is None else f"'x[{values}]'"
        return f"over: {{{self.rule.over}: {listed}}}"

    def _second_minimum(self) -> int | None:
        """The place of a minimum apart from the best value by a barrier above the noise."""
        apart = ERRORS * math.sqrt(2) * self.error
        for place, loss in enumerate(self.losses):
            low, high = sorted((place, self.best))
            if high - low > 1 and max(self.losses[low + 1 : high]) - loss > apart:
                return place
        return None

    @property
    def chosen(self) -> float | None:
        """The best value; None where runs have not ended, or it is refused."""
        if self.due or self.refusal:
            return None
        values, losses, best = [each.value for each in self.tried], self.losses, self.best
        if self.rule.pick == "grid":
            close = self.rule.tie / 100 * (1 if is_fraction(self.rule.by) else abs(losses[best]))
            return next(value for value, loss in zip(values, losses, strict=True) if loss <= losses[best] + close)
        near = slice(best - 1, best + 2)
        return vertex(values[near], losses[near])

    def expected_best(self) -> list[float]:
        """The expected best score of 1, 2, ... values drawn from those tried. None that diverged is among them."""
        means = [each.mean for each in self.tried if each.mean is not None]
        return expected_best(means, lower=bool(lower_is_better(self.rule.by)))


def vertex(values: Sequence[float], losses: Sequence[float]) -> float:
    """The value at the vertex of the parabola through three points over log2 of the value, to three digits; the middle
    one where a neighbour diverged or all three are level."""
    (x0, x1, x2), (y0, y1, y2) = map(math.log2, values), losses
    left, right = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
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

    @property
    def due(self) -> int:
        """Runs that have not ended."""
        return sum(arm.due for arm in self.arms)

    @property
    def diverged(self) -> int:
        """Runs whose training diverged: they count as the worst, and keep nothing from starting."""
        return sum(score is None for arm in self.arms for each in arm.tried for _, score in each.runs.values())

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
        found: dict[Arm, tuple[float, ...]] = {}
        for arm in self.arms:
            added = further.get(arm.arms[0], ())
            if not arm.due and arm.beyond is not None and len(added) < self.sweep.extend:
                found |= dict.fromkeys(arm.arms, (*added, arm.beyond))
        return {**further, **found}

    @property
    def words(self) -> str:
        """How the settings were chosen, in a sentence."""
        over, by = self.sweep.over, score_label(self.sweep.by).removesuffix(" (lower is better)")
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


def outcome(planned: Plan, sweep: Sweep, scores: Mapping[str, float | None], chance: float | None) -> SweepOutcome:
    """What the ended runs of a planned sweep say.

    scores: of ended runs by id; None where training diverged. chance: what guessing gives.
    """
    arms: dict[Arm, dict[float, TriedValue]] = {}
    members: dict[Arm, dict[Arm, str]] = {}
    alike: dict[tuple[Arm, float], list[float]] = {}
    for each in planned.swept:
        apart = tuple(value for name, value in zip(sweep.arm, each.arm, strict=True) if name not in sweep.pooled)
        members.setdefault(apart, {})[each.arm] = each.words
        tried = arms.setdefault(apart, {}).setdefault(each.value, TriedValue(each.value, each.setting, {}, 0))
        ended = {each.run.id: (each.run.settings.seed, scores[each.run.id])} if each.run.id in scores else {}
        arms[apart][each.value] = replace(tried, runs={**tried.runs, **ended}, due=tried.due + 1)
        if (score := scores.get(each.run.id)) is not None:
            alike.setdefault((each.arm, each.value), []).append(score)
    df = sum(len(seeds) - 1 for seeds in alike.values())
    pooled = sum((len(seeds) - 1) * variance(seeds) for seeds in alike.values() if len(seeds) > 1) / df if df else 0.0
    return SweepOutcome(
        sweep,
        tuple(
            TunedArm(
                tuple(members[apart]),
                next(iter(members[apart].values())),
                tuple(tried[value] for value in sorted(tried)),
                chance,
                math.sqrt(pooled / (len(sweep.seeds) * len(members[apart]))),
                sweep,
            )
            for apart, tried in arms.items()
        ),
    )


# As people read it


def sweep_parts(found: SweepOutcome) -> list[Part]:
    """Each arm's scores and the value that they chose; then what the best of fewer values would have been."""
    over, fraction = found.sweep.over, is_fraction(found.sweep.by)
    values = sorted({each.value for arm in found.arms for each in arm.tried})
    head = ("", *(f"{over} {'x' if found.sweep.rule else ''}{value:g}" for value in values), "chosen")
    rows = tuple(
        (
            arm.words or "all runs",
            *(_score(arm, value, fraction) for value in values),
            f"{arm.chosen:g}" if arm.chosen else "none",
        )
        for arm in found.arms
    )
    best = [arm.expected_best() for arm in found.arms]
    most = max(map(len, best))
    expected = tuple(
        (arm.words or "all runs", *(score_value(of[n], fraction) if n < len(of) else "" for n in range(most)))
        for arm, of in zip(found.arms, best, strict=True)
    )
    label = score_label(found.sweep.by)
    note = "Each score is the mean over the seeds of the sweep; training diverged where it says so."
    numbers = tuple(str(n + 1) for n in range(most))
    why = "An arm with more values tried would start ahead by the difference of two columns."
    return [
        PrintedTable(f"The choice of {over}, {label}", head, rows, (note, *found.refusals)),
        PrintedTable("Expected best score of n values", ("", *numbers), expected, (why,)),
    ]


def _score(arm: TunedArm, value: float, fraction: bool) -> str:
    tried = next((each for each in arm.tried if each.value == value), None)
    if tried is None or not tried.runs:
        return ""
    return "diverged" if tried.mean is None else score_value(tried.mean, fraction)
