"""A comparison and how it reads: plain data, as a table, as Markdown, and one careful sentence per arm."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Estimate:
    """A number measured once per seed: its mean, and how far that can be trusted."""

    n: int
    """Seeds that gave a value."""
    mean: float | None
    """Mean over seeds; of a ratio the geometric mean, so that 2x and 1/2x cancel."""
    sd: float | None
    """Standard deviation over seeds; of a ratio, of its logarithm."""
    low: float | None
    """Lower end of the 95 % Student t interval of the mean."""
    high: float | None
    """Upper end of it."""
    values: tuple[float, ...]
    """The value of each seed, in the order of seeds."""
    why: str | None = None
    """Why there is no mean, or no interval."""


@dataclass(frozen=True)
class Pair:
    """Runs against their twins in one cell: the same schedule, so equal samples."""

    cell: str
    series: str
    at: float | None
    """Schedule length."""
    arm: str
    """What differs from the baseline, as 'mask_ratio=0.5'."""
    seeds: tuple[int, ...]
    baseline_score: float
    score: float
    gain: Estimate
    ratios: dict[str, Estimate]
    """Cost, masked over baseline: train_flops, time, peak_memory_bytes."""


@dataclass(frozen=True)
class Level:
    """The speed-up at one score that every seed of both arms passes through."""

    score: float
    speedup: Estimate


@dataclass(frozen=True)
class Curve:
    """Two curves of score against one cost, in one series."""

    series: str
    arm: str
    x: str
    """The cost: gpu_hours, train_flops, ..."""
    seeds: tuple[int, ...]
    target: float | None
    """The baseline's best score, mean over seeds; each seed is read at its own."""
    speedup: Estimate
    """At equal accuracy; its n is the seeds in which the target is reached within the measured points."""
    speedup_at: tuple[Level, ...]
    equal_at: float | None
    """The largest cost that all curves cover."""
    gain: Estimate
    """At that cost."""


@dataclass(frozen=True)
class Comparison:
    """Everything that masking did to one score in one study."""

    baseline: dict[str, Any]
    score: str
    lower_is_better: bool
    fraction: bool
    """Whether the score is a fraction, shown in percent."""
    at: str | None
    """Name of the schedule length, `samples`."""
    pairs: tuple[Pair, ...]
    curves: tuple[Curve, ...]
    left_out: dict[str, str]
    """Runs that took no part at all, and why."""
    unpaired: dict[str, str]
    """Runs without a twin: they are on the curves, not in the pairs."""

    def to_dict(self) -> dict[str, Any]:
        """All of it in JSON types."""
        return {**asdict(self), "verdicts": self.verdicts}

    @property
    def verdicts(self) -> list[str]:
        """One sentence per series and arm, which claims no more than its intervals."""
        first = self.curves[0].x if self.curves else ""
        return [_verdict(self, curve) for curve in self.curves if curve.x == first]

    def table(self) -> str:
        """All of it as text for a terminal."""
        return self._text(_aligned)

    def markdown(self) -> str:
        """All of it as Markdown."""
        return self._text(_markdown)

    def _text(self, as_table: Callable[[list[str], list[list[str]]], str]) -> str:
        parts = []
        if self.pairs:
            parts += [f"At equal {self.at or 'samples'}:", as_table(*_pair_rows(self))]
        curves = [curve for curve in self.curves if curve.target is not None]
        if curves:
            parts += ["Along the curves:", as_table(*_curve_rows(self, curves))]
        if len(curves) < len(self.curves):
            parts.append("Without a curve:\n\n" + "\n".join(f"- {line}" for line in _without_a_curve(self)))
        if self.verdicts:
            parts += ["In words:", "\n".join(f"- {verdict}" for verdict in self.verdicts)]
        if self.pairs or curves:
            parts.append("Parentheses are the range over seeds, which is no interval.")
        intervals = sum(pair.gain.low is not None for pair in self.pairs)
        if intervals > 1:
            parts.append(
                f"Brackets are 95 % intervals, each for itself: of {intervals} gains about {intervals / 20:.1g} "
                f"would lie outside theirs by chance."
            )
        for title, runs in (("left out", self.left_out), ("without a twin", self.unpaired)):
            if runs:
                listed = "\n".join(f"- {run}: {why}" for run, why in runs.items())
                parts.append(f"{_runs(len(runs))} {title}:\n\n{listed}")
        return "\n\n".join(parts) + "\n"


def short(value: Any) -> str:
    """A value as a person writes it: 16k, 400M, 12.8B, 0.75; a missing one is null."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return "null"
    if isinstance(value, str | bool):
        return str(value)
    for unit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.4g}{suffix}"
    return f"{value:.4g}"


def times(factor: float) -> str:
    """A factor as a person writes it: 3.7, and 1.06 where one digit would say none."""
    return f"{factor:.2f}" if factor < 2 else f"{factor:.1f}"


# Words

_FEW = 4  # names that a line can list and still be read


def _verdict(comparison: Comparison, curve: Curve) -> str:
    """One sentence for a series and arm: what was seen, in no stronger words than the intervals allow."""
    of_this = [p for p in comparison.pairs if (p.series, p.arm) == (curve.series, curve.arm)]
    longest = max(of_this, key=lambda pair: pair.at or 0, default=None)
    name = f"{curve.series}, {curve.arm}" if curve.series else curve.arm
    # Where there is no curve at all, the gain alone is the sentence.
    speedup = [_speedup_words(comparison, curve)] if curve.target is not None or longest is None else []
    clauses = [*speedup, *([_gain_words(comparison, longest)] if longest else [])]
    return f"{name}: {'; '.join(clauses)}."


def _speedup_words(comparison: Comparison, curve: Curve) -> str:
    s = curve.speedup
    if curve.target is None:
        return f"no speed-up in {curve.x} can be read ({s.why})"
    best = f"the baseline's best {comparison.score} ({_score(comparison, curve.target)})"
    if s.n == len(curve.seeds):
        return f"reaches {best} {_factor_words(s, curve.x)}"
    seen = f"no speed-up is read at {best}, as {s.why}"
    if not curve.speedup_at:
        return f"{seen}, and no score is passed by both in every seed"
    level = curve.speedup_at[-1]
    at = f"{_score(comparison, level.score)}, the best that both have in every seed,"
    return f"{seen}; reaches {at} {_factor_words(level.speedup, curve.x)}"


def _factor_words(s: Estimate, x: str) -> str:
    assert s.mean is not None
    factor = f"{times(s.mean)} times faster" if s.mean >= 1 else f"{times(1 / s.mean)} times slower"
    if s.low is None or s.high is None:
        return f"{factor} in {x}, in the one seed there is, which gives no interval"
    interval = f"95 % interval of the speed-up {times(s.low)} to {times(s.high)}, {s.n} seeds"
    if s.low <= 1 <= s.high:
        return f"with no difference in {x} shown (speed-up {times(s.mean)}; {interval})"
    return f"{factor} in {x} ({interval})"


def _gain_words(comparison: Comparison, pair: Pair) -> str:
    g = pair.gain
    at = f"at equal {comparison.at}" + (f" ({short(pair.at)})" if pair.at is not None else "")
    assert g.mean is not None
    size = f"{_gain(comparison, abs(g.mean)).lstrip('+')} {'better' if g.mean >= 0 else 'worse'}"
    if g.low is None or g.high is None:
        return f"{at} it is {size} in the one seed there is"
    interval = f"{_gain(comparison, g.low).removesuffix(' points')} to {_gain(comparison, g.high)}"
    if g.low <= 0 <= g.high:
        return f"{at} a difference is not shown ({_gain(comparison, g.mean)}, 95 % interval {interval})"
    return f"{at} it is {size} (95 % interval {interval})"


def _score(comparison: Comparison, value: float) -> str:
    return f"{100 * value:.1f} %" if comparison.fraction else f"{value:.4g}"


def _gain(comparison: Comparison, value: float) -> str:
    return f"{100 * value:+.1f} points" if comparison.fraction else f"{value:+.2g}"


def _gain_cell(comparison: Comparison, gain: Estimate) -> str:
    if gain.mean is None:
        return "-"
    scale, digits = (100, ".1f") if comparison.fraction else (1, ".2g")
    text = f"{scale * gain.mean:+{digits}}"
    if gain.low is not None and gain.high is not None:
        text += f" [{scale * gain.low:+{digits}}, {scale * gain.high:+{digits}}]"
    return text


def _ratio_cell(ratio: Estimate, of: int | None = None) -> str:
    if ratio.mean is None:
        return "-"
    text = f"{ratio.mean:.2f}x"
    if ratio.n > 1 and max(ratio.values) - min(ratio.values) > 0.005 * ratio.mean:
        text += f" ({min(ratio.values):.2f} to {max(ratio.values):.2f})"
    return text if of is None or ratio.n == of else f"{text} in {ratio.n} of {of} seeds"


def _pair_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    costs = list(comparison.pairs[0].ratios)
    unit = " %" if comparison.fraction else ""
    gained = "gain, points" if comparison.fraction else "gain"
    header = ["cell", "arm", "seeds", f"baseline{unit}", f"{comparison.score}{unit}", gained, *costs]
    rows = []
    for pair in comparison.pairs:
        scores = [_score(comparison, value).removesuffix(" %") for value in (pair.baseline_score, pair.score)]
        ratios = [_ratio_cell(pair.ratios[name]) for name in costs]
        rows.append(
            [pair.cell or "all", pair.arm, str(len(pair.seeds)), *scores, _gain_cell(comparison, pair.gain), *ratios]
        )
    return header, rows


def _curve_rows(comparison: Comparison, curves: list[Curve]) -> tuple[list[str], list[list[str]]]:
    header = ["series", "arm", "cost", "baseline's best", "speed-up", "best of both", "speed-up", "equal cost", "gain"]
    rows = []
    for curve in curves:
        assert curve.target is not None
        target = _score(comparison, curve.target)
        speedup = _ratio_cell(curve.speedup, len(curve.seeds))
        both = ["-", "-"]
        if curve.speedup_at:
            both = [_score(comparison, curve.speedup_at[-1].score), _ratio_cell(curve.speedup_at[-1].speedup)]
        equal = "-" if curve.equal_at is None else short(curve.equal_at)
        gain = _gain_cell(comparison, curve.gain)
        rows.append([curve.series or "all", curve.arm, curve.x, target, speedup, *both, equal, gain])
    return header, rows


def _without_a_curve(comparison: Comparison) -> list[str]:
    """A line a reason: the costs it holds for, the reason, and whose curves are missing for it."""
    missing: dict[tuple[str, str | None], list[Curve]] = {}
    for curve in comparison.curves:
        if curve.target is None:
            missing.setdefault((curve.x, curve.speedup.why), []).append(curve)
    costs: dict[tuple[str | None, str], list[str]] = {}
    for (x, why), curves in missing.items():
        costs.setdefault((why, _whose(comparison, x, curves)), []).append(x)
    return [f"{', '.join(xs)}: {why} ({whose})" for (why, whose), xs in costs.items()]


def _whose(comparison: Comparison, x: str, curves: list[Curve]) -> str:
    """Whose curves these are, along one cost: a series in which every arm is among them, else its arms by name."""
    of_x = [curve for curve in comparison.curves if curve.x == x]
    arms = {curve.arm for curve in of_x}
    if len(curves) == len(of_x):
        several = len(_by_series(of_x))
        return (f"{len(arms)} arms" if len(arms) > 1 else curves[0].arm) + (
            f" in {several} series" if several > 1 else ""
        )
    names: list[str] = []
    for series, here in _by_series(curves).items():
        if len(here) == len(_by_series(of_x)[series]):
            names.append(series or "the only series")
        else:
            names += [f"{series}, {curve.arm}" if series else curve.arm for curve in here]
    return "; ".join(names) if len(names) <= _FEW else f"{len(curves)} of {len(of_x)} curves"


def _by_series(curves: list[Curve]) -> dict[str, list[Curve]]:
    of: dict[str, list[Curve]] = {}
    for curve in curves:
        of.setdefault(curve.series, []).append(curve)
    return of


def _aligned(header: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows)]
    return "\n".join(line.rstrip() for line in lines)


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]
    return "\n".join(lines)


def seed_words(seeds: Sequence[int]) -> str:
    """'seed 1', or 'seeds 0, 1, 2'."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _runs(n: int) -> str:
    return f"{n} run" if n == 1 else f"{n} runs"
