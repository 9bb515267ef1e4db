"""A comparison as data: what it claims about each series and arm, and all it rests on, also as DataFrames.

Only this module decides what is claimed. as_json.py and answer.py present it to programs and to people.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from flipscale.analysis.comparing.estimates import Curve, Estimate, Pair, corrected
from flipscale.analysis.comparing.head import Head
from flipscale.analysis.comparing.points import Point, Terms
from flipscale.analysis.comparing.roles import Baseline
from flipscale.analysis.comparing.stated import TIME, StudyClaims
from flipscale.analysis.comparing.twins import PairKey
from flipscale.analysis.stats import Interval, Noise
from flipscale.cell import SettingLabels, arm_words
from flipscale.door.record import ScoredBy
from flipscale.door.statements import Expectation


def corrected_curves(curves: Sequence[Curve], cost: str, stated: StudyClaims | None, looks: int) -> tuple[Curve, ...]:
    """Curves whose speed-ups along the first cost are those of claims, or corrected for all others: one family."""
    decided = [_of_claims(curve, stated) if stated and curve.x == TIME else curve for curve in curves]
    family = {
        place: curve.speedup
        for place, curve in enumerate(decided)
        if curve.x == cost and curve.speedup and not curve.speedup.speedup.corrected
    }
    judged = corrected([read.speedup for read in family.values()], looks)
    for (place, read), speedup in zip(family.items(), judged, strict=True):
        decided[place] = replace(decided[place], speedup=replace(read, speedup=speedup))
    return tuple(decided)


def _of_claims(curve: Curve, stated: StudyClaims) -> Curve:
    """The curve with the speed-up, and the samples, of claims about the same reading."""
    read = curve.speedup
    if read is None or curve.sides is None:
        return curve
    faster, fewer = (
        stated.factor(expect, curve.sides, read.at) for expect in (Expectation.FASTER, Expectation.FEWER_SAMPLES)
    )
    if fewer and fewer.interval and fewer.interval.high < math.inf:
        low, high = fewer.interval
        ends = Interval(1 / high, 1 / low if low else math.inf)  # 0 where some draws never reach the score
        read = replace(read, samples=replace(read.samples, interval=ends))
    return replace(curve, speedup=replace(read, speedup=faster or read.speedup))


def with_pairs(curves: Sequence[Curve], pairs: Sequence[Pair], cost: str) -> tuple[Curve, ...]:
    """The curves, those along this cost with the twins of their longest schedule.

    Where both curves end there at equal cost, the gain at equal cost is that of these twins.
    """
    longest: dict[tuple[str, str], Pair] = {}
    for pair in pairs:
        before = longest.get((pair.series, pair.arm))
        if before is None or (pair.at or 0) > (before.at or 0):
            longest[pair.series, pair.arm] = pair
    done = []
    for curve in curves:
        twins = longest.get((curve.series, curve.arm))
        if twins and curve.at_equal_samples and twins.seeds == curve.seeds:
            curve = replace(curve, gain=twins.gain)
        done.append(replace(curve, pair=twins) if curve.x == cost else curve)
    return tuple(done)


@dataclass(frozen=True, kw_only=True)
class Comparison(Terms):
    """Everything that masking did to one score in one study, or what one column of any table did to another."""

    arms: Mapping[str, Baseline]
    """Each arm, and its values of the baseline's columns."""
    pairs: tuple[Pair, ...]
    curves: tuple[Curve, ...]
    points: tuple[Point, ...]
    """The runs that are compared."""
    cells: int
    seeds: tuple[int, int]
    """The fewest and the most runs of a cell and arm."""
    on_cpu: bool
    """Whether its hours are core-hours."""
    left_out: Mapping[str, str]
    """Runs that were not compared at all, and why."""
    unpaired: Mapping[str, str]
    """Runs without a twin: they are on the curves, not in the pairs."""
    stated: StudyClaims | None = None
    """The claims that the study states, judged; None where it states none."""
    at_budgets: StudyClaims | None = None
    """Its arms at their best models for budgets of FLOPs, which no claim states; None without such budgets."""
    noise: Noise[PairKey] | None
    """How far gains at equal samples scatter over seeds; None without pairs."""
    head: Head | None
    """None without pairs."""
    scores: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    """Without arms, each cell's scores by their columns, with Student's intervals over seeds."""
    items: int | None = None
    """How many test images the score of every run is a share of; None where that is unknown, or differs."""
    chance: float | None = None
    """What guessing gives for the score; None where that is unknown, or differs."""
    scored_by: tuple[ScoredBy, ...] = ()
    """Where the run folders are here and say it; the sets of a mean are several."""
    guessing_note: str = ""
    """That its runs score no better than guessing; '' if they do, or if that is unknown."""
    caveats: tuple[str, ...] = ()
    """What the study says against its own numbers."""
    question: str = ""
    answer: str | None = None
    """What heads the answer: speedup, gain, law or claims; None by what there is."""
    labels: SettingLabels = field(default_factory=dict)
    """Words for values of settings, as the study has them."""
    laws: tuple[Mapping[str, Any], ...] = ()
    """The fitted laws of the study, as fits.json has them; none unless they are its answer."""

    @property
    def runs(self) -> int:
        """How many runs are compared."""
        return len(self.points)

    @property
    def table(self) -> pd.DataFrame:
        """A row for each cell and arm at equal samples: its gain with the CI and p that decide, and cost ratios."""
        scale, percent, points = (100, " (%)", " (points)") if self.fraction else (1, "", "")
        rows = []
        for pair in self.pairs:
            gain = pair.gain
            low, high = gain.decisive or (math.nan, math.nan)
            rows.append(
                {
                    "cell": pair.cell,
                    "arm": self.arm_name(pair.arm),
                    "seeds": len(pair.seeds),
                    f"baseline{percent}": scale * pair.baseline_score,
                    f"{self.score}{percent}": scale * pair.score,
                    f"gain{points}": scale * gain.value,
                    f"low{points}": scale * low,
                    f"high{points}": scale * high,
                    "p": (gain.corrected or gain).p,
                    "effect": str(gain.effect),
                    **{f"{name} (x)": ratio.mean for name, ratio in pair.ratios.items()},
                }
            )
        return pd.DataFrame(rows)

    @property
    def speedups(self) -> pd.DataFrame:
        """A row for each arm and score that it and the baseline reach, along the first cost, with uncorrected 95 % CIs.

        `stated` is the score at which the speed-up is stated; that row has the CI that decides.
        """
        scale, percent = (100, " (%)") if self.fraction else (1, "")
        rows = []
        for curve in self.first_curves:
            read = curve.speedup
            for at in curve.speedup_at:
                stated = read is not None and at.score == read.score
                ends = read.speedup.decisive if read and stated else at.speedup.interval
                few, many = (at.samples and at.samples.interval) or (math.nan, math.nan)
                low, high = ends or (math.nan, math.nan)
                rows.append(
                    {
                        "series": curve.series,
                        "arm": self.arm_name(curve.arm),
                        f"{self.score}{percent}": scale * at.score,
                        "speedup (x)": at.speedup.mean,
                        "low (x)": low,
                        "high (x)": high,
                        "samples (x)": at.samples and at.samples.mean,
                        "samples low (x)": few,
                        "samples high (x)": many,
                        "stated": stated,
                    }
                )
        return pd.DataFrame(rows)

    @property
    def first_curves(self) -> list[Curve]:
        """Those along the first cost, one for each series and arm: what is claimed of it, with their twins."""
        return [curve for curve in self.curves if curve.x == self.costs[0]]

    def arm_name(self, arm: str) -> str:
        """'mask 50 %', or as the study's labels have it."""
        return arm_words(self.arms[arm], self.baseline, self.labels)

    @property
    def is_scored_on_several(self) -> bool:
        """Whether its runs were scored on different data under one name."""
        return len({each.measure for each in self.scored_by}) < len(self.scored_by)

    @property
    def gains_claimed(self) -> int:
        """Gains at equal samples that no claim decides, each corrected for their number."""
        return sum(_in_no_claim(pair.gain) for pair in self.pairs)

    @property
    def speedups_claimed(self) -> int:
        """Speed-ups that no claim decides, each corrected for their number."""
        return sum(_in_no_claim(curve.speedup.speedup) for curve in self.first_curves if curve.speedup)

    @property
    def repeats_claims(self) -> bool:
        """Whether a gain at equal samples is that of a claim, corrected in the claim's family."""
        return any(pair.gain.corrected is not None and pair.gain.corrected.claim for pair in self.pairs)


def _in_no_claim(estimate: Estimate) -> bool:
    return estimate.corrected is not None and not estimate.corrected.claim
