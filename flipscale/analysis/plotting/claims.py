"""The claims of a study, one row each: the difference with both intervals, the verdict, and what was published."""

import itertools
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes

from flipscale.analysis.comparing import Estimate, JudgedClaim, StudyClaims, Verdict, claim_count
from flipscale.analysis.plotting.figure_data import FigureData, Undrawable
from flipscale.analysis.plotting.gains import draw_bars, limits_of, name_rows
from flipscale.analysis.plotting.layout import FigureKind, Panel
from flipscale.analysis.plotting.style import LineStyle, arm_style
from flipscale.door.statements import Expectation
from flipscale.scores import score_label
from flipscale.words import joined

MOST_CLAIMS = 60
"""Claims that fit one page."""

# Inches: a line of a name, and the gap between rows.
_NAME_LINE = 0.15
_GAP = 0.1
_NAME_CHARACTERS = 58  # of a claim's name in one line

VERDICT_STYLES = {
    Verdict.HOLDS: LineStyle(arm_style(3).color, "o", ""),
    Verdict.CONTRADICTED: LineStyle(arm_style(2).color, "X", ""),
    Verdict.UNDECIDED: LineStyle("#777777", "D", ""),
}
"""Verdicts differ in shape and in colour."""

_PUBLISHED = LineStyle("#000000", "|", "")


def claims(data: FigureData) -> list[Panel]:
    """One panel of all claims."""
    family = data.stated
    rows = data.rows
    if family is None:
        raise Undrawable("the study states no claims")
    # A factor along the schedule has another axis; compare states it.
    tested = [(judged, judged.difference) for judged in family.claims if judged.difference and judged.unit != "x"]
    if not tested:
        raise Undrawable(f"no claim about a difference can be judged: {family.claims[0].why or 'all are factors'}")
    if len(tested) > MOST_CLAIMS:
        raise Undrawable(f"{len(tested)} claims are more than the {MOST_CLAIMS} that a page holds; compare lists them")
    names = [_wrapped(judged.claim.name) for judged, _ in tested]
    heights = [_GAP + _NAME_LINE * (name.count("\n") + 1) for name in names]
    middles = [end - height / 2 for end, height in zip(itertools.accumulate(heights), heights, strict=True)]

    def draw(ax: Axes) -> None:
        low, high = _limits(tested)
        for y, (judged, difference) in zip(middles, tested, strict=True):
            _draw(ax, y, judged, difference, (low, high))
        for y, (judged, _) in zip(middles, tested, strict=True):
            if (published := judged.claim.published) is not None:
                look = _PUBLISHED.keywords()
                ax.plot([published], [y], ms=12, markeredgewidth=1.5, zorder=5, label="published", **look)
        for y, height, (judged, _) in zip(middles, heights, tested, strict=True):
            if judged.claim.expect is Expectation.LEVEL:
                grey = -judged.margin, judged.margin
                ax.fill_betweenx((y - height / 2, y + height / 2), *grey, color="#f0f0f0", lw=0, zorder=0)
        ax.set_xlim(low, high)
        unit = f" ({tested[0][0].unit})" if tested[0][0].unit else ""
        sides = [side for judged, _ in tested for side in (judged.claim.contrast.left, judged.claim.contrast.right)]
        is_one = all(side.get("score", family.score) == family.score for side in sides)
        what = score_label(family.score) if is_one else "the score of each claim"
        ax.set_xlabel(f"{what}\nfirst side minus the other{unit}; above 0 the first is better")
        ax.set_ylim(sum(heights), 0)
        name_rows(ax, middles, names, 7)

    widest = max(len(line) for name in names for line in name.split("\n"))
    size = 4.6 + 0.062 * widest, sum(heights) + 1.4
    runs = {run for judged, _ in tested for run in judged.runs}
    return [Panel("", rows[rows["id"].isin(runs)], draw, "", _marks(family), size)]


CLAIMS = FigureKind(
    claims,
    "every claim that the study states, with its verdict and the published value",
    "A claim is decided where its thin bar, the CI corrected for its family, lies on one side of zero; the shape "
    "says whether it holds.",
)


def _wrapped(name: str) -> str:
    """A claim's name in lines that fit. A part in parentheses, as a list of claims adds, begins a new line."""
    parts = [name] if len(name) <= _NAME_CHARACTERS else name.replace(" (", "\n(").split("\n")
    return "\n".join(textwrap.fill(part.replace(" %", "\u00a0%"), _NAME_CHARACTERS) for part in parts)


def _marks(family: StudyClaims) -> str:
    level = "; 90 % for level, whose margin is grey" if family.level_margins else ""
    sizes = [str(size) for size in family.families.values()]
    corrected = f"{sizes[0]} comparisons" if len(sizes) == 1 else f"the claims of a family ({joined(sizes)})"
    bars = f"thick bars: 95 % CIs of each claim alone{level}; thin bars: corrected for {corrected} (Holm)\n"
    has_ci = any(judged.difference and judged.difference.interval for judged in family.claims)
    factors = sum(judged.unit == "x" for judged in family.claims)
    elsewhere = f"; those about factors ({factors}) are in the comparison" if factors else ""
    return f"{bars if has_ci else ''}{claim_count(family)}{elsewhere}"


def _limits(tested: Sequence[tuple[JudgedClaim, Estimate]]) -> tuple[float, float]:
    """An axis that shows 0, the uncorrected intervals, the published values, and longer corrected intervals in part."""
    core = [0.0]
    for judged, difference in tested:
        core += [difference.mean or 0.0, *(difference.interval or ()), judged.claim.published or 0.0]
    return limits_of(core, [end for _, difference in tested for end in difference.decisive or ()], 0.15, 0.03)


def _draw(ax: Axes, y: float, judged: JudgedClaim, difference: Estimate, frame: tuple[float, float]) -> None:
    """A claim's intervals and estimate; an interval that leaves the frame ends there in an arrow."""
    style = VERDICT_STYLES[judged.verdict]
    draw_bars(ax, difference.decisive, difference.interval, y, style.color, frame, across=True)
    look = style.keywords() | {"markeredgecolor": "white", "markeredgewidth": 0.5}
    ax.plot([difference.mean or 0.0], [y], zorder=4, ms=6.5, label=str(judged.verdict), **look)
