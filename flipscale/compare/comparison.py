"""A comparison as data. as_json.py and answer.py present it to programs and to people."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flipscale.cell import SettingLabels
from flipscale.compare.claims import Claim
from flipscale.compare.columns import Baseline
from flipscale.compare.estimates import Estimate
from flipscale.compare.gains import PairKey, StudyNoise
from flipscale.compare.head import Head
from flipscale.compare.parts import Curve, Pair
from flipscale.compare.stated import StudyClaims
from flipscale.compare.test_images import ImagesOfPairs
from flipscale.settings import JsonObject
from flipscale.stats import Noise


@dataclass(frozen=True)
class ScoredBy:
    """An evaluation with the content of its data, and how many runs have their score from it."""

    measure: str
    """The set and how its images are shown: 'two', 'two.masked'; '' is the study's own data."""
    what: JsonObject | None
    """What is measured, see `identity.measures`; None where a trainer scored."""
    digest: str
    """That of the data."""
    runs: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that masking did to one score in one study, or what one column of any table did to another."""

    baseline: Baseline
    score: str
    lower_is_better: bool
    fraction: bool
    """Whether the score is a fraction, shown in percent."""
    at: str | None
    """The column of schedule lengths, which twins share: `samples` in a study. None where it is unknown."""
    costs: tuple[str, ...]
    """Columns of cost; claims are along the first."""
    arms: Mapping[str, Baseline]
    """Each arm, and its values of the baseline's columns."""
    pairs: tuple[Pair, ...]
    curves: tuple[Curve, ...]
    claims: tuple[Claim, ...]
    """The claims about each series and arm, with their intervals."""
    runs: int
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
    gain_noise: StudyNoise | None
    """How far gains at equal samples scatter over seeds; None without pairs."""
    margin: float | None
    """Gains within it, in the score's own unit, count as level. None makes no such claim."""
    head: Head | None
    """None without pairs."""
    images: ImagesOfPairs = field(default_factory=dict)
    """The effect of other test images on gains, if runs kept which images they got right."""
    hours_note: str = ""
    """Which hours its claims go by, or how the load differed between its arms; '' if neither applies."""
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
    notes: tuple[str, ...] = ()
    """Choices that were made on the reader's behalf; without arms, why there is nothing to compare."""

    @property
    def is_scored_on_several(self) -> bool:
        """Whether its runs were scored on different data under one name."""
        return len({each.measure for each in self.scored_by}) < len(self.scored_by)

    @property
    def noise(self) -> Noise[PairKey] | None:
        """How far gains at equal samples scatter over seeds; None without pairs."""
        return None if self.gain_noise is None else self.gain_noise.noise

    @property
    def gains_claimed(self) -> int:
        """Gains at equal samples that no claim decides, each corrected for their number."""
        return sum(_in_no_claim(pair.gain) for pair in self.pairs)

    @property
    def speedups_claimed(self) -> int:
        """Speed-ups that no claim decides, each corrected for their number."""
        return sum(_in_no_claim(claim.curve.speedup.speedup) for claim in self.claims if claim.curve.speedup)


def _in_no_claim(estimate: Estimate) -> bool:
    return estimate.corrected is not None and not estimate.corrected.claim
