"""A comparison: plain data, which reads as JSON, as a table, as Markdown, and as one careful sentence per arm."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from flipscale.compare.entries import entries
from flipscale.compare.estimates import Estimate, corrected
from flipscale.compare.layout import aligned, laid_out, markdown
from flipscale.compare.parts import Curve, Level, Pair
from flipscale.compare.words import verdict


@dataclass(frozen=True)
class Comparison:
    """Everything that masking did to one score in one study, or what one column of any table did to another."""

    baseline: dict[str, Any]
    score: str
    lower_is_better: bool
    fraction: bool
    """Whether the score is a fraction, shown in percent."""
    at: str | None
    """Name of the schedule length, `samples`."""
    costs: tuple[str, ...]
    """Columns of cost; verdicts speak of the first."""
    arms: dict[str, dict[str, Any]]
    """Each arm, and its values of the baseline's columns."""
    pairs: tuple[Pair, ...]
    curves: tuple[Curve, ...]
    left_out: dict[str, str]
    """Runs that took no part at all, and why."""
    unpaired: dict[str, str]
    """Runs without a twin: they are on the curves, not in the pairs."""
    notes: tuple[str, ...] = ()
    """What was decided about the table without being asked; without arms, why there is nothing to compare."""

    def to_dict(self) -> dict[str, Any]:
        """All of it in JSON types; the keys are in docs/compare.md."""
        return {
            "baseline": self.baseline,
            "x": list(self.costs),
            "y": self.score,
            "lower_is_better": self.lower_is_better,
            "fraction": self.fraction,
            "at": self.at,
            "series": entries(self),
            "pairs": [asdict(pair) for pair in self.pairs],
            "corrected": {"method": "Holm", **{name: len(family) for name, family in self.families.items()}},
            "left_out": self.left_out,
            "unpaired": self.unpaired,
            "notes": list(self.notes),
            "verdicts": self.verdicts,
        }

    @property
    def told_pairs(self) -> list[Pair]:
        """The pairs that verdicts speak of: of each series and arm the longest schedule."""
        longest: dict[tuple[str, str], Pair] = {}
        for pair in self.pairs:
            before = longest.get((pair.series, pair.arm))
            if before is None or (pair.at or 0) > (before.at or 0):
                longest[pair.series, pair.arm] = pair
        return list(longest.values())

    @property
    def told_curves(self) -> list[Curve]:
        """The curves that verdicts speak of: one of each series and arm, along the first cost."""
        return [curve for curve in self.curves if curve.x == self.costs[0]]

    @property
    def families(self) -> dict[str, list[Estimate]]:
        """What the verdicts claim, by question: each question is a family of claims, corrected as one."""
        families = {
            "gains": [pair.gain for pair in self.told_pairs],
            "speedups": [level.speedup for curve in self.told_curves for level in curve.told],
        }
        return {name: [e for e in family if e.p is not None] for name, family in families.items()}

    @property
    def verdicts(self) -> list[str]:
        """One sentence per series and arm, which claims no more than its intervals."""
        return [verdict(self, curve) for curve in self.told_curves]

    def table(self) -> str:
        """All of it as text for a terminal."""
        return laid_out(self, aligned)

    def markdown(self) -> str:
        """All of it as Markdown."""
        return laid_out(self, markdown)


def judged(comparison: Comparison) -> Comparison:
    """The same with every estimate that a verdict speaks of corrected for all that are spoken of."""
    told = comparison.told_pairs
    gains = {
        (pair.series, pair.arm, pair.cell): gain
        for pair, gain in zip(told, corrected([pair.gain for pair in told]), strict=True)
    }
    pairs = [replace(pair, gain=gains.get((pair.series, pair.arm, pair.cell), pair.gain)) for pair in comparison.pairs]
    levels = [(curve.series, curve.arm, level) for curve in comparison.told_curves for level in curve.told]
    speedups: dict[tuple[str, str], dict[float, Estimate]] = {}
    for (series, arm, level), speedup in zip(levels, corrected([level.speedup for *_, level in levels]), strict=True):
        speedups.setdefault((series, arm), {})[level.score] = speedup
    curves = [
        _with(curve, speedups.get((curve.series, curve.arm), {})) if curve.x == comparison.costs[0] else curve
        for curve in comparison.curves
    ]
    return replace(comparison, pairs=tuple(pairs), curves=tuple(curves))


def _with(curve: Curve, speedups: Mapping[float, Estimate]) -> Curve:
    """The curve with these speed-ups, by score, in place of its own."""
    if not speedups:
        return curve
    at = tuple(Level(level.score, speedups.get(level.score, level.speedup)) for level in curve.speedup_at)
    best = curve.speedup
    if curve.target is not None and best.mean is not None:
        best = speedups.get(curve.target, best)
    return replace(curve, speedup=best, speedup_at=at)
