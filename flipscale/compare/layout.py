"""How a comparison is laid out, on a terminal and in Markdown: tables first, then words, then what was left out."""

from collections.abc import Callable, Mapping, Sequence

from flipscale.compare.comparison import Comparison
from flipscale.compare.estimates import Effect, Estimate, finding
from flipscale.compare.head_text import COUNTED, head_lines
from flipscale.compare.parts import Curve, Pair
from flipscale.compare.stated import StudyClaims
from flipscale.compare.stated_text import claim_rows, claims_legend
from flipscale.compare.words import name_of, score_words, size_words, verdicts
from flipscale.fit.words import by_reason
from flipscale.words import count, joined, ratio_interval, short, times

CERTAINTY = ("95 % CI", "corrected", "effect")
"""Columns of the table that say how sure a gain is."""

AsTable = Callable[[Sequence[str], Sequence[Sequence[str]]], str]

_LISTED = 8  # reasons listed, each with its runs
_NAMED = 4  # names that fit a readable line


def comparison_text(comparison: Comparison) -> str:
    """All of it for a terminal."""
    return _laid_out(comparison, aligned, "\n".join)


def comparison_markdown(comparison: Comparison) -> str:
    """All of it as Markdown."""
    return _laid_out(comparison, markdown, listed)


def claims_markdown(stated: StudyClaims) -> str:
    """The claims that a study states, as Markdown."""
    return "\n\n".join(_claim_parts(stated, markdown))


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a terminal."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows)]
    return "\n".join(line.rstrip() for line in lines)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]
    return "\n".join(lines)


def listed(lines: Sequence[str]) -> str:
    """Lines as a list in Markdown; one that begins with spaces belongs to the line before."""
    return "\n".join(line if line.startswith(" ") else f"- {line}" for line in lines)


def _laid_out(comparison: Comparison, as_table: AsTable, as_lines: Callable[[Sequence[str]], str]) -> str:
    """The comparison with its tables drawn by `as_table`, and the lines of its head by `as_lines`."""
    # Without arms the notes say why there is nothing to compare; others are of a table, and are said before it.
    parts = [] if comparison.arms else list(comparison.notes)
    if lines := head_lines(comparison):
        parts.append(as_lines(lines))
    if comparison.stated:
        parts += _claim_parts(comparison.stated, as_table)
    if comparison.pairs:
        parts += [f"{effects_title(comparison)}:", as_table(*effect_table(comparison))]
    parts += _curve_parts(comparison, as_table)
    if said := verdicts(comparison):
        parts += ["In words:", listed(said)]
    parts += legend(comparison)
    parts += _runs_by_reason("left out", comparison.left_out)
    parts += _runs_by_reason("without a twin", comparison.unpaired)
    return "\n\n".join(parts) + "\n"


def effects_title(comparison: Comparison) -> str:
    """The title of the table of effects."""
    return f"At equal {comparison.at}" if comparison.at else "Arm by arm"


def _claim_parts(stated: StudyClaims, as_table: AsTable) -> list[str]:
    return ["Claims:", as_table(*claim_rows(stated)), claims_legend(stated)]


def _curve_parts(comparison: Comparison, as_table: AsTable) -> list[str]:
    parts = []
    curves = [curve for curve in comparison.curves if curve.speedup is not None]
    if curves:
        parts += ["Along the curves:", as_table(*_curve_rows(comparison, curves))]
    if len(curves) < len(comparison.curves):
        parts.append("Without a curve:\n\n" + "\n".join(f"- {line}" for line in _without_a_curve(comparison)))
    return parts


def _runs_by_reason(title: str, runs: Mapping[str, str]) -> list[str]:
    """'3 runs left out:' and one line per reason; nothing without runs."""
    if not runs:
        return []
    reasons = by_reason(runs)
    listed = [f"- {line}" for line in reasons[:_LISTED]]
    if len(reasons) > _LISTED:
        listed.append(f"- and {len(reasons) - _LISTED} lines more: `compare --json` has all of them")
    return ["\n".join([f"{count(len(runs), 'run')} {title}:\n", *listed])]


def legend(comparison: Comparison) -> list[str]:
    """The meaning of brackets and parentheses, and how far they can be trusted together."""
    said = []
    if any(pair.gain.n > 1 for pair in comparison.pairs):
        said.append("Parentheses give the range over seeds, which is no CI.")
    said += _noise_words(comparison)
    families = [
        count(claims, noun)
        for claims, noun in ((comparison.gains_claimed, "gain"), (comparison.speedups_claimed, "speed-up"))
        if claims > 1
    ]
    if families:
        said.append(
            f"CIs of {joined(families)} are corrected for that (Holm): the chance of a wrong sign in "
            f"{'either family' if len(families) > 1 else 'the family'} is at most 5 %."
        )
    return ["\n".join(said)] if said else []


def _noise_words(comparison: Comparison) -> list[str]:
    """The noise behind the intervals of gains."""
    noise = comparison.noise
    if noise is None or not noise.moments:
        return []
    if noise.prior_sd is None:
        return ["Gains are raw mean differences, with 95 % CIs by the cell's own seeds (Student t)."]
    return [
        "Gains are raw mean differences, with 95 % CIs by Student t: each variance is shrunk towards that of the "
        f"median of {noise.cells} gains."
    ]


def _ratio_cell(ratio: Estimate) -> str:
    """A cost ratio with its range over seeds."""
    if ratio.mean is None:
        return "-"
    low, high = (f"{end:.2f}" for end in (min(ratio.values), max(ratio.values)))
    return f"{ratio.mean:.2f}x" + (f" ({low} to {high})" if ratio.n > 1 and low != high else "")


def _factor_cell(factor: Estimate) -> str:
    if factor.mean is None:
        return "-"
    text = f"{'at least ' if factor.at_least else ''}{times(factor.mean)}x"
    return text if factor.interval is None else f"{text} ({ratio_interval(*factor.interval).removeprefix('95 % CI ')})"


def effect_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of effects, arm by cell, without the columns that no gain has."""
    costs = list(comparison.pairs[0].ratios)
    header = [*_pair_header(comparison), *costs]
    return _without_empty(header, [_pair_row(comparison, pair, costs) for pair in comparison.pairs])


def _pair_header(comparison: Comparison) -> list[str]:
    unit = " %" if comparison.fraction else ""
    gained = "gain, points" if comparison.fraction else "gain"
    return ["cell", "arm", "seeds", f"baseline{unit}", f"{comparison.score}{unit}", gained, *CERTAINTY]


def _without_empty(header: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """A table without the columns of certainty that no gain has."""
    kept = [i for i, name in enumerate(header) if name not in CERTAINTY or any(row[i] not in ("", "-") for row in rows)]
    return [header[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _pair_row(comparison: Comparison, pair: Pair, costs: Sequence[str]) -> list[str]:
    scores = [score_words(comparison, value).removesuffix(" %") for value in (pair.baseline_score, pair.score)]
    gain, both = pair.gain, pair.gain.corrected
    effect = finding(gain).effect
    return [
        pair.cell or pair.series or "all",
        pair.arm,
        str(len(pair.seeds)),
        *scores,
        _gain_value(comparison, gain.mean),
        _gain_ends(comparison, gain.low, gain.high),
        "-" if both is None else _gain_ends(comparison, both.low, both.high),
        "" if effect is Effect.ONE_SEED else f"{COUNTED[effect]}{_failures(gain)}",
        *(_ratio_cell(pair.ratios[name]) for name in costs),
    ]


def _failures(gain: Estimate) -> str:
    """' (fails in 1 of 5, the baseline in 3)'."""
    if gain.failures is None:
        return ""
    theirs, ours = gain.failures
    return f" (fails in {ours} of {gain.n}, the baseline in {theirs})"


def _gain_value(comparison: Comparison, value: float | None) -> str:
    return "-" if value is None else size_words(comparison, value).removesuffix(" points")


def _gain_ends(comparison: Comparison, low: float | None, high: float | None) -> str:
    """'-7.1 to -1.9'."""
    return "-" if low is None or high is None else " to ".join(_gain_value(comparison, end) for end in (low, high))


def _curve_rows(comparison: Comparison, curves: list[Curve]) -> tuple[list[str], list[list[str]]]:
    """A row per curve: the speed-up with its parts, and the gain at the largest cost that both cover."""
    header = ["series", "arm", "cost", "to", "speed-up", "cheaper a sample", "samples", "at cost", "gain", "crossover"]
    rows = []
    for curve in curves:
        assert curve.speedup is not None
        found = curve.speedup
        at = "" if found.at is None else f" ({short(found.at)})"
        why = str(found.missed) if found.speedup.mean is None else _factor_cell(found.speedup)
        parts = [_factor_cell(found.cheaper), _factor_cell(found.samples)]
        equal = ["-" if curve.equal_at is None else short(curve.equal_at), _gain_cell(comparison, curve.gain)]
        to = f"{score_words(comparison, found.score)}{at}"
        rows.append([curve.series or "all", curve.arm, curve.x, to, why, *parts, *equal, _crossover_cell(curve)])
    return header, rows


def _gain_cell(comparison: Comparison, gain: Estimate | None) -> str:
    if gain is None or gain.mean is None:
        return "-"
    ends = "" if gain.interval is None else f" ({_gain_ends(comparison, gain.low, gain.high)})"
    return f"{_gain_value(comparison, gain.mean)}{ends}"


def _crossover_cell(curve: Curve) -> str:
    """Its place and its interval."""
    cross = curve.crossover
    if cross is None:
        return "none"
    low, high = cross.interval or (0.0, float("inf"))
    ends = [short(end) if 0 < end < float("inf") else "..." for end in (low, high)]
    return f"{short(cross.at)}, then {cross.turns}" + (f" ({ends[0]} to {ends[1]})" if cross.interval else "")


def _without_a_curve(comparison: Comparison) -> list[str]:
    """One line per reason: the costs it holds for, the reason, and the curves that are missing for it."""
    missing: dict[tuple[str, str | None], list[Curve]] = {}
    for curve in comparison.curves:
        if curve.speedup is None:
            missing.setdefault((curve.x, curve.why), []).append(curve)
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
    for series, of_series in _by_series(curves).items():
        if len(of_series) == len(_by_series(of_x)[series]):
            names.append(series or "the only series")
        else:
            names += [name_of(series, curve.arm) for curve in of_series]
    return "; ".join(names) if len(names) <= _NAMED else f"{len(curves)} of {len(of_x)} curves"


def _by_series(curves: list[Curve]) -> dict[str, list[Curve]]:
    found: dict[str, list[Curve]] = {}
    for curve in curves:
        found.setdefault(curve.series, []).append(curve)
    return found
