"""What a study states of its results before anybody looks at them, as compare judges it and a study file is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Values = Mapping[str, Any]
"""Settings by name: some of them, or not settled yet."""

LOOKS = 1
"""The looks of a study that gives none."""

MARGIN = 1.0
"""The margin of a study that gives none."""


class Expectation(StrEnum):
    """The statement of a claim about its left side, compared with its right one."""

    BETTER = "better"
    WORSE = "worse"
    LEVEL = "level"
    FASTER = "faster"
    """Less of the study's cost of time to the claim's score."""
    FEWER_SAMPLES = "fewer_samples"
    """Fewer samples to the claim's score."""
    RISES = "rises"
    """Left's lead grows along a setting."""
    FALLS = "falls"

    @property
    def is_slope(self) -> bool:
        """Whether it is about how a difference changes along a setting."""
        return self in (Expectation.RISES, Expectation.FALLS)

    @property
    def along_the_schedule(self) -> bool:
        """Whether it is about curves, not about cells."""
        return self in (Expectation.FASTER, Expectation.FEWER_SAMPLES)


@dataclass(frozen=True)
class Contrast:
    """Two cells of a study, each known by its values of some settings; they are compared seed by seed."""

    left: Values
    right: Values
    best_of: str | None = None
    """A setting that neither side fixes: each takes the value that is best on the other seeds."""
    left_cells: tuple[Values, ...] = ()
    """The cells that left then chooses from."""
    right_cells: tuple[Values, ...] = ()
    amount: float | None = None
    """Of several contrasts along a setting: its value here, FLOPs of a schedule that is given in them."""

    @property
    def sides(self) -> tuple[tuple[Values, ...], tuple[Values, ...]]:
        """The cells of left and of right: one each, or those that it chooses from."""
        return self.left_cells or (self.left,), self.right_cells or (self.right,)


@dataclass(frozen=True)
class StatedClaim:
    """A claim that the study file states, before anybody looks at the results."""

    name: str
    contrast: Contrast
    than: Contrast | None
    """The contrast that `contrast` differs from: then the claim is about a difference of differences."""
    expect: Expectation
    published: float | None
    """The published value, as left - right in points of accuracy or percent of a loss; positive if left is better. A
    factor along the schedule."""
    family: str = ""
    """The question that it answers: Holm's correction is for the claims of one family."""
    score: float | Values | None = None
    """Along the schedule: the score that both sides are read at, or the cell whose mean it is."""
    than_score: float | Values | None = None
    """That of `than`, if it has another."""
    margin: float | None = None
    """Sides closer than this are level, in points or percent of a loss; None: the study's margin."""
    along: tuple[Contrast, ...] = ()
    """The contrasts between which the difference rises or falls, `contrast` the first of them."""


SIZES = ("model", "data_size", "samples")
"""The settings that make a cell larger than another."""
