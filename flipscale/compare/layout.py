"""How a comparison is laid out, on a terminal and in Markdown: tables first, then words, then what was left out."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from flipscale.compare.comparison import Comparison
from flipscale.compare.estimates import Effect, Estimate, finding
from flipscale.compare.head_text import COUNTED, head_lines
from flipscale.compare.parts import Crossover, Curve, Pair
from flipscale.compare.stated import ClaimFamily
from flipscale.compare.stated_text import claim_rows, claims_legend
from flipscale.compare.wins import wins_words
from flipscale.compare.words import name_of, score_words, size_words, verdicts
from flipscale.fit.words import by_reason
from flipscale.stats import NoiseMethod
from flipscale.words import count, joined, short

CERTAINTY = ("95 % CI", "corrected", "effect", "own seeds")
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


def claims_markdown(stated: ClaimFamily) -> str:
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
    if comparison.equal_cost:
        parts += ["At equal cost, though samples differ:", as_table(*_equal_cost_rows(comparison))]
    parts += _curve_parts(comparison, as_table)
    if said := verdicts(comparison):
        parts += ["In words:", listed(said)]
    if comparison.wins:
        parts += ["Sets won, at the longest schedule, by means over seeds and without a test:"]
        parts += [listed(wins_words(comparison.wins))]
    parts += legend(comparison)
    parts += _runs_by_reason("left out", comparison.left_out)
    parts += _runs_by_reason("without a twin", comparison.unpaired)
    return "\n\n".join(parts) + "\n"


def effects_title(comparison: Comparison) -> str:
    """The title of the table of effects."""
    return f"At equal {comparison.at}" if comparison.at else "Arm by arm"


def _claim_parts(stated: ClaimFamily, as_table: AsTable) -> list[str]:
    return ["Claims:", as_table(*claim_rows(stated)), claims_legend(stated)]


def _curve_parts(comparison: Comparison, as_table: AsTable) -> list[str]:
    parts = []
    curves = [curve for curve in comparison.curves if curve.target is not None]
    if curves:
        parts += ["Along the curves:", as_table(*_curve_rows(comparison, curves))]
        if bending := [curve for curve in curves if _bends(curve)]:
            parts += ["Speed-up along the scores that both have:", as_table(*_level_rows(comparison, bending))]
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
    said += _equal_cost_words(comparison)
    return ["\n".join(said)] if said else []


def _equal_cost_words(comparison: Comparison) -> list[str]:
    """Families of gains at equal cost, each corrected by itself."""
    families = [
        f"{count(len(gains), 'gain')} {what}"
        for equal in comparison.equal_cost
        for gains, what in (
            (equal.pairs, f"at equal {equal.held}"),
            (equal.best, f"of best sizes at equal {equal.held}"),
        )
        if gains
    ]
    if not families:
        return []
    return [f"CIs of {joined(families)} are corrected as well, each family by itself and by its own noise."]


def _noise_words(comparison: Comparison) -> list[str]:
    """The noise behind the intervals of gains."""
    noise = comparison.noise
    if noise is None or not comparison.gains_claimed:
        return []
    if noise.method is NoiseMethod.OWN:
        few = "as there are too few cells to learn the noise from"
        return [f"Gains: 95 % CIs by each cell's own seeds (Student t), {few}."]
    df = f"{'at most ' if noise.capped else ''}{noise.prior_df:.2g} more degrees of freedom"
    return [
        f"Gains: 95 % CIs by a moderated t: each cell's variance is pulled towards that of all {noise.cells} cells, "
        f"which count as {df}. Beside it, by the cell's own seeds alone."
    ]


def _gain_cell(comparison: Comparison, gain: Estimate) -> str:
    ends = _gain_ends(comparison, gain, gain.interval).replace(" to ", ", ")
    mean = _gain_value(comparison, gain.mean)
    return mean if gain.mean is None or gain.interval is None else f"{mean} [{ends}]"


def _ratio_cell(ratio: Estimate) -> str:
    """A cost ratio with its range over seeds."""
    if ratio.mean is None:
        return "-"
    low, high = (f"{end:.2f}" for end in (min(ratio.values), max(ratio.values)))
    return f"{ratio.mean:.2f}x" + (f" ({low} to {high})" if ratio.n > 1 and low != high else "")


def _speedup_cell(speedup: Estimate) -> str:
    if speedup.mean is None:
        return "-"
    ends = speedup.interval
    if ends and speedup.says_nothing(*ends):
        return f"{speedup.mean:.2f}x [too wide]"
    text = f"{'at least ' if speedup.at_least else ''}{speedup.mean:.2f}x"
    return f"{text} [{_ratio_ends(*ends)}]" if ends else text


def _ratio_ends(low: float, high: float) -> str:
    """'0.31, 0.74', or '...1.10' and '0.29...' where an end is open."""
    if math.isinf(high):
        return f"{low:.2f}..."
    return f"{low:.2f}, {high:.2f}" if low > 0 else f"...{high:.2f}"


def effect_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of effects, arm by cell, without the columns that no gain has."""
    costs = list(comparison.pairs[0].ratios)
    header = [*_pair_header(comparison), *costs]
    return _without_empty(header, [_pair_row(comparison, pair, costs) for pair in comparison.pairs])


def _equal_cost_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """The table of gains at equal cost: pairs of cells, then the best of several sizes."""
    header = ["equal", "against", *_pair_header(comparison)]
    rows = []
    for of_cost in comparison.equal_cost:
        rows += [[of_cost.held, equal.baseline_cell, *_pair_row(comparison, equal.pair, [])] for equal in of_cost.pairs]
        for best in of_cost.best:
            row = _pair_row(comparison, replace(best.pair, cell=_sizes([choice.arm for choice in best.chosen])), [])
            against = _sizes([choice.baseline for choice in best.chosen])
            rows.append([f"{of_cost.held} {short(best.budget)}, best of {best.sizes}", against, *row])
    return _without_empty(header, rows)


def _sizes(chosen: Sequence[str]) -> str:
    """The sizes that were chosen, and how often where it was not always the same: 'model=S (2), model=B (1)'."""
    times = Counter(chosen)
    return ", ".join(f"{size} ({n})" if len(times) > 1 else size for size, n in times.most_common())


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
    gain, corrected, alone = pair.gain, pair.gain.corrected, pair.gain.by_its_seeds
    effect = finding(gain).effect
    return [
        pair.cell or pair.series or "all",
        pair.arm,
        str(len(pair.seeds)),
        *scores,
        _gain_value(comparison, gain.mean),
        _gain_ends(comparison, gain, gain.interval),
        _gain_ends(comparison, gain, None if corrected is None else [corrected.low, corrected.high]),
        "" if effect is Effect.ONE_SEED else COUNTED[effect],
        "" if alone is None else _gain_ends(comparison, gain, alone.interval),
        *(_ratio_cell(pair.ratios[name]) for name in costs),
    ]


def _gain_value(comparison: Comparison, value: float | None) -> str:
    if value is None:
        return "-"
    return size_words(comparison, value).removesuffix(" points")


def _gain_ends(comparison: Comparison, gain: Estimate, ends: Sequence[float] | None) -> str:
    """'-7.1 to -1.9'; 'too wide' where that would say nothing."""
    if ends is None:
        return "-"
    if gain.says_nothing(*ends):
        return "too wide"
    return " to ".join(_gain_value(comparison, end) for end in ends)


def _curve_rows(comparison: Comparison, curves: list[Curve]) -> tuple[list[str], list[list[str]]]:
    header = ["series", "arm", "cost", "baseline's best", "speed-up", "best of both", "speed-up", "one shift"]
    header += ["equal cost", "gain", "crossover"]
    rows = []
    for curve in curves:
        assert curve.target is not None
        target = score_words(comparison, curve.target)
        both = ["-", "-"]
        if curve.speedup_at:
            last = curve.speedup_at[-1]
            both = [score_words(comparison, last.score), _speedup_cell(last.speedup)]
        equal = "-" if curve.equal_at is None else short(curve.equal_at)
        gain = _gain_cell(comparison, curve.gain)
        speedups = [target, _speedup_cell(curve.speedup), *both, _shift_cell(curve)]
        rows.append([curve.series or "all", curve.arm, curve.x, *speedups, equal, gain, _crossover_cell(curve)])
    return header, rows


def _shift_cell(curve: Curve) -> str:
    shift = curve.one_shift
    if shift is None or shift.p is None:
        return "-"
    p = "p<0.001" if shift.p < 0.001 else f"p={shift.p:.1g}"
    return f"{'' if shift.rejected else 'not '}rejected, {p}"


def _crossover_cell(curve: Curve) -> str:
    """Its place and its interval; an end that is only the end of the curves has dots; the share without one."""
    cross = curve.crossover
    if cross is None:
        return "-"
    share = "" if cross.none is None else f"{100 * cross.none:.0f} % of draws have none"
    if cross.at is None:
        return f"none ({share})" if share else "none"
    text = f"{short(cross.at)}, then {cross.turns}"
    return f"{text} [{_open_ends(cross)}; {share}]" if cross.interval else text


def _open_ends(cross: Crossover) -> str:
    """'...0.0012, 0.0046' for an interval that is open below."""
    assert cross.interval is not None
    first, last = (short(end) for end in cross.interval)
    return f"{'...' if cross.open[0] else ''}{first}, {last}{'...' if cross.open[1] else ''}"


def _bends(curve: Curve) -> bool:
    """Whether to show the whole speed-up curve: one number is not enough, or there is no test whether it is."""
    speedups = [level.speedup.mean for level in curve.speedup_at if level.speedup.mean is not None]
    if curve.one_shift is None or len(speedups) < 2:
        return False
    if curve.one_shift.rejected is None:
        return max(speedups) > 1.05 * min(speedups)
    return curve.one_shift.rejected


def _level_rows(comparison: Comparison, curves: list[Curve]) -> tuple[list[str], list[list[str]]]:
    """One row per curve: the speed-up at every second of its levels."""
    rows = []
    for curve in curves:
        cells = [
            f"{_speedup_cell(level.speedup)} at {score_words(comparison, level.score)}"
            for level in curve.speedup_at[::2]
        ]
        rows.append([name_of(curve.series, curve.arm), curve.x, *cells, *[""] * (5 - len(cells))])
    return ["arm", "cost", "at the lowest", "", "", "", "at the best"], rows


def _without_a_curve(comparison: Comparison) -> list[str]:
    """One line per reason: the costs it holds for, the reason, and the curves that are missing for it."""
    missing: dict[tuple[str, str | None], list[Curve]] = {}
    for curve in comparison.curves:
        if curve.target is None:
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
