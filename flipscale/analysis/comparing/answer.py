"""A comparison for people: one screen that answers the study's question, and all of it, as parts for the renderer."""

import itertools
import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median_low

from flipscale.analysis.comparing.comparison import Comparison
from flipscale.analysis.comparing.estimates import NOT_REACHED, Curve, Effect, Estimate, Pair, Speedup
from flipscale.analysis.comparing.roles import PROBED, settings_named
from flipscale.analysis.comparing.stated import Choice, JudgedClaim, StudyClaims, Verdict
from flipscale.analysis.fitting import kind_parts, kinds_of, law_screen
from flipscale.analysis.sensitivity import sensitivity_words
from flipscale.analysis.stats import ALPHA, OWN_SEEDS, WARN_P, Interval, design_by, sensitivity_of
from flipscale.cell import arm_words, cell_words, setting_words
from flipscale.door.record import ScoredBy
from flipscale.door.statements import Expectation
from flipscale.scores import is_fraction, is_score, score_label
from flipscale.tables import Listing, Part, PrintedTable, as_markdown, as_text
from flipscale.words import (
    bound,
    by_reason,
    count,
    device_hours,
    fixed,
    joined,
    margin_words,
    rounded,
    score_value,
    short,
    signed,
    times,
)

LINES, ROWS, WARNINGS = 20, 8, 2
"""The most lines, rows and warnings of the screen."""

LISTED = 8
"""The most reasons that a list of runs gives."""

SMALLEST_P = 1e-4
"""Smaller p values are written as less than this."""

COUNTED = {
    Effect.AHEAD: "better",
    Effect.BEHIND: "worse",
    Effect.LEVEL: "level",
    Effect.NOT_SIGNIFICANT: "undecided",
    Effect.ONE_SEED: "one seed",
    Effect.NO_CI: "no CI",
}
"""The class in which a gain is counted."""


def comparison_text(comparison: Comparison, *, full: bool = False, width: int = 80) -> str:
    """For a terminal: the screen, or all of it."""
    return as_text(everything(comparison), width) if full else screen(comparison, width)


def comparison_markdown(comparison: Comparison) -> str:
    """All of it as Markdown."""
    return as_markdown(everything(comparison)) + "\n"


def screen(comparison: Comparison, width: int = 80) -> str:
    """At most LINES lines: the question, an arm or claim a line, what was compared, what its seeds detect, warnings."""
    question = [comparison.question] if comparison.question else []
    if comparison.laws:
        laws = law_screen(comparison.laws, comparison.question, settings_named(comparison.labels), width)
        said = (_at_most(2, f"! {warning}", width) for warning in warnings(comparison)[:WARNINGS])
        return "\n".join([laws, *itertools.chain.from_iterable(said)])
    table, noun, total = answer_table(comparison)
    table = replace(table, title="", notes=(), wraps=True).without_empty()
    notes = notes_of(comparison)
    caught = warnings(comparison)
    kept = LINES - 1 - min(len(caught), WARNINGS)  # The last line counts what is not shown; each warning has a line.
    for rows in range(len(table.rows), 0, -1):
        shown: list[Part] = [*question, replace(table, rows=table.rows[:rows]), *notes]
        lines = as_text(shown, width, "\n").splitlines()
        if len(lines) <= kept:
            break
    for number, warning in enumerate(caught[:WARNINGS]):
        left = LINES - 1 - len(lines) - (min(len(caught), WARNINGS) - 1 - number)
        lines += _at_most(min(2, left), f"! {warning}", width)
    more = [count(total - rows, noun)] if rows < total else []
    of_claims = asked(comparison) == "claims"
    if comparison.stated and (more or not of_claims):
        more = [*([] if of_claims else more), claim_count(comparison.stated)]
    if len(caught) > WARNINGS:
        more.append(count(len(caught) - WARNINGS, "more note"))
    return "\n".join([*lines, *(_at_most(1, f"more in --full: {'; '.join(more)}", width) if more else [])])


def _at_most(most: int, words: str, width: int) -> list[str]:
    """The words in lines of that width; if they are more, the last ends with dots."""
    lines = textwrap.wrap(words, width, subsequent_indent="  ", break_on_hyphens=False)
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], f"{lines[most - 1][: width - 3]}..."] if most > 0 else []


def asked(comparison: Comparison) -> str:
    """What the study asks for: claims, a speedup, a gain or a law; where it does not say, what its results allow."""
    if comparison.answer:
        return comparison.answer
    if comparison.stated:
        return "claims"
    return "speedup" if any(curve.speedup for curve in comparison.curves) else "gain"


def answer_table(comparison: Comparison) -> tuple[PrintedTable, str, int]:
    """The answer on the screen: claims, or arms at the size that heads the study; what its rows are, and how many
    there are in all."""
    if comparison.stated and asked(comparison) == "claims":
        judged = comparison.stated.claims
        rows = tuple((each.claim.name, claim_cell(each), each.verdict) for each in judged[:ROWS])
        has_ci = any(each.difference and each.difference.decisive for each in judged[:ROWS])
        here = "here (95 % CI)" if has_ci else "here"
        return PrintedTable("Claims", ("claim", here, "verdict"), rows), "claim", len(judged)
    if not comparison.arms:
        scores = scores_table(comparison)
        return replace(scores, rows=scores.rows[:ROWS]), "other row", len(scores.rows)
    return arms_table(comparison, shown_curves(comparison)), "other row", len(comparison.first_curves)


def shown_curves(comparison: Comparison) -> list[Curve]:
    """The rows of the screen: all, or those of the size that heads the study."""
    curves = comparison.first_curves
    if len(curves) > ROWS and comparison.head:
        base = next(pair.series for pair in comparison.pairs if pair.cell == comparison.head.base_cell)
        curves = [curve for curve in curves if curve.series == base]
    return curves[:ROWS]


def arms_table(comparison: Comparison, curves: Sequence[Curve]) -> PrintedTable:
    """An arm a row: its gain at equal samples and at equal time, and its time to the same score."""
    at = comparison.at if comparison.at not in comparison.baseline else None  # Arms may differ in their lengths.
    lengths = {pair.at for curve in curves if (pair := _pair(comparison, curve))}
    length = short(next(iter(lengths))) if len(lengths) == 1 and None not in lengths else "equal"
    scores = {curve.speedup.score for curve in curves if curve.speedup}
    to = f" to {score_words(comparison, next(iter(scores)))}" if len(scores) == 1 else ""
    columns = {
        "gain": f"{length} {at}" if at else "gain",
        "equal": f"equal {cost_words(comparison, comparison.costs[0])}",
        "speedup": f"speed-up{to}",
    }
    order = ["speedup", "equal", "gain"] if asked(comparison) == "speedup" else list(columns)
    rows = []
    series = {curve.series for curve in curves}
    alone = cell_words(next(iter(series))) if len(series) == 1 else ""
    for curve in curves:
        pair = _pair(comparison, curve)
        cells = {
            "gain": gain_cell(comparison, pair.gain if pair else None, brief=True)
            + (f" at {short(pair.at)}" if at and pair and pair.at and len(lengths) > 1 else ""),
            "equal": gain_cell(comparison, curve.gain, brief=True),
            "speedup": speed_cell(curve.speedup),
        }
        name = name_of(comparison, "" if alone else curve.series, curve.arm)
        rows.append((name, *(cells[column] for column in order)))
    return PrintedTable("The answer", (alone, *(columns[name] for name in order)), tuple(rows)).without_empty()


def scores_table(comparison: Comparison) -> PrintedTable:
    """The scores of a study without arms, the compared one of each cell first."""
    rows = []
    for name in dict.fromkeys(name for scores in comparison.scores.values() for name in scores):
        label = score_label(name) if is_score(name) else name
        for cell, scores in comparison.scores.items():
            rows.append((label, cell_words(cell), _score_cell(name, scores.get(name))))
    return PrintedTable("", ("score", "cell", "mean (95 % CI over seeds)"), tuple(rows)).without_empty()


def _score_cell(name: str, score: Estimate | None) -> str:
    """'78.6 % (77.9 % to 79.3 %)'; of one seed without a CI."""
    if score is None:
        return "-"
    low, *high = (score_value(each, is_fraction(name)) for each in (score.value, *(score.interval or ())))
    return f"{low} ({' to '.join(high)})" if high else low


def _pair(comparison: Comparison, curve: Curve) -> Pair | None:
    """The twins of a row: those of the cell that heads the study, or else of the longest schedule."""
    at_base = [arm.base for arm in comparison.head.arms if arm.base] if comparison.head else []
    return next((pair for pair in at_base if (pair.series, pair.arm) == (curve.series, curve.arm)), curve.pair)


def notes_of(comparison: Comparison, rows: Sequence[Curve] | None = None) -> list[str]:
    """What the numbers of the answer are, what was compared, and what its seeds detect. rows: those of its table, or
    else of the screen."""
    rows = shown_curves(comparison) if rows is None else rows
    if not comparison.arms:
        return list(comparison.notes)
    level: list[str] = []
    estimates: list[Estimate | None]
    if asked(comparison) == "claims" and comparison.stated:
        units = {"x": "factors (x)", "": "differences"}
        kinds = dict.fromkeys(units.get(judged.unit, judged.unit) for judged in comparison.stated.claims)
        estimates = [judged.difference for judged in comparison.stated.claims]
        printed = [claim_cell(judged) for judged in comparison.stated.claims]
        what = f"Numbers are {joined(kinds)}, with 95 % CIs corrected for the claims of a family (Holm)"
    else:
        estimates = [pair.gain for pair in comparison.pairs]
        printed = [speed_cell(curve.speedup) for curve in rows]
        what = f"Gains are {_of_score(comparison, rows)}; parentheses are 95 % CIs{_corrected(comparison)}"
        if comparison.margin and any(pair.gain.effect is Effect.LEVEL for pair in comparison.pairs):
            level = [f"Level: the 90 % CI is within {margin_words(comparison.margin, comparison.fraction)} of 0."]
    if any(estimate and estimate.failures for estimate in estimates):
        what += "; fail: runs of both sides at chance while others took off, or without a score"
    if any("(open)" in cell for cell in printed):
        what += "; open: a CI without ends"
    said = [f"{what}.", *level]
    curves = () if asked(comparison) == "claims" else comparison.curves
    if curves and not any(curve.speedup for curve in curves):
        said.append(f"Speed-ups are not read: {curves[0].why}.")
    elif curves:
        said.append(_of_curves(comparison, rows))
    for arm in comparison.head.arms[:2] if comparison.head else ():
        if arm.single_runs:
            runs = arm.single_runs
            counts = f"better in {runs.better} and worse in {runs.worse} of {count(runs.cells, 'cell')} of one seed"
            means = (
                fixed(100 * mean, 2) if comparison.fraction else f"{mean:.4g}" for mean in (runs.score, runs.baseline)
            )
            said.append(f"{comparison.arm_name(arm.arm)}: {counts}, mean {' against '.join(means)}.")
    few, most = comparison.seeds
    seeds = count(most, "seed") if few == most else f"{few} to {most} seeds"
    arms = count(len(comparison.arms) + 1, "arm")
    cells = count(comparison.cells, "cell")
    most_cells = f"up to {cells}" if comparison.cells > 1 else cells
    compared = f"{count(comparison.runs, 'run')}, {seeds} each: {arms} in {most_cells}."
    return [*said, " ".join([compared, *power_words(comparison)])]


def _of_score(comparison: Comparison, rows: Sequence[Curve]) -> str:
    """'points of zero-shot accuracy, top 1, over no mask (73.1 %; guessing gives 10.0 %)'.

    The baseline's score stands there if all rows have one.
    """
    score = score_label(comparison.score) if is_score(comparison.score) else comparison.score
    pairs = filter(None, (_pair(comparison, curve) for curve in rows))
    bases = {score_words(comparison, pair.baseline_score) for pair in pairs}
    over = arm_words(comparison.baseline, comparison.baseline, comparison.labels)
    levels = [next(iter(bases))] if len(bases) == 1 else []
    if comparison.chance is not None:
        levels.append(f"guessing gives {score_words(comparison, comparison.chance)}")
    over += f" ({'; '.join(levels)})" if levels else ""
    return f"points of {score}, over {over}" if comparison.fraction else f"in {score} over {over}, above 0 where better"


def _of_curves(comparison: Comparison, curves: Sequence[Curve]) -> str:
    """To which score speed-ups are read, and at which costs gains at equal cost."""
    time = cost_words(comparison, comparison.costs[0])
    lengths = {curve.speedup.at for curve in curves if curve.speedup and curve.speedup.at}
    at = f"{short(lengths.pop())} {comparison.at}" if len(lengths) == 1 else "its last but one length"
    said = f"Speed-ups are in {time}, to the baseline's mean after {at}"
    if not (equal := sorted(curve.equal_at for curve in curves if curve.equal_at)):
        return f"{said}."
    most = " to ".join(dict.fromkeys(rounded(end, 2 if end < 100 else 3) for end in (equal[0], equal[-1])))
    return f"{said}; equal {time}: the most that both arms have, {most}."


def _corrected(comparison: Comparison) -> str:
    """', corrected for 12 gains, 6 speed-ups and 8 claims (Holm); at equal cost they are not corrected'."""
    families = ((comparison.gains_claimed, "gain"), (comparison.speedups_claimed, "speed-up"))
    several = [count(claims, noun) for claims, noun in families if claims > 1]
    if comparison.stated and comparison.repeats_claims:
        is_alone = len(comparison.stated.families) == 1
        several.append(count(len(comparison.stated.claims), "claim") if is_alone else "the claims of a family")
    equal = any(curve.gain and curve.gain.interval and not curve.gain.corrected for curve in comparison.curves)
    but = "; at equal cost they are not corrected" if equal else ""
    return f", corrected for {joined(several)} (Holm){but}" if several else ""


def power_words(comparison: Comparison) -> list[str]:
    """What the seeds detect, by the noise of the answer: of the median claim, or of gains at the cell that heads it."""
    stated = comparison.stated
    head = comparison.head
    if stated and asked(comparison) == "claims":
        known = stated.noise.moments
        claims = [judged for judged in stated.claims if judged.claim.name in known]
        if not claims:
            return []
        middle = median_low(known[judged.claim.name].error for judged in claims)
        judged = next(judged for judged in claims if known[judged.claim.name].error == middle)
        moments = known[judged.claim.name]
        seeds = len(judged.seeds)
        scale = 100 if judged.unit == "points" else 1
        assert judged.difference is not None
        design = design_by(replace(moments, error=middle / scale), seeds, *judged.difference.family)
        words = sensitivity_words(sensitivity_of(design, seeds, comparison.effect), judged.unit == "points")
        return [f"In the median claim {words}"]
    if head is None:
        return []
    at_base = [pair for pair in comparison.pairs if pair.cell == head.base_cell]
    elsewhere = not head.is_base and comparison.cells > 1
    if head.sensitivity is None and any(len(pair.seeds) > 1 for pair in at_base):
        cell = f"at {cell_words(head.base_cell)}" if elsewhere else "of this cell"
        return [f"Some runs {cell} do not take off, so nothing says which difference its seeds detect."]
    if head.sensitivity is None:
        return ["One seed does not say how far runs scatter; 3 seeds would."]
    words = sensitivity_words(head.sensitivity, comparison.fraction)
    return [f"At {cell_words(head.base_cell)}, {words}" if elsewhere else words]


def warnings(comparison: Comparison) -> list[str]:
    """Limits of the answer: runs that only guess, limits of the method, notes on hours, the study's own caveats."""
    noise = comparison.noise
    head = comparison.head
    said = [f"{comparison.guessing_note}."] if comparison.guessing_note else []
    if comparison.is_scored_on_several:
        each = joined(f"{count(of.runs, 'run')} on {scored_by_words(of)}" for of in comparison.scored_by)
        said.insert(0, f"The runs were not all scored on the same data: {each}.")
    if head and head.seed_effect_p is not None and head.seed_effect_p < WARN_P:
        p = f"{head.seed_effect_p:.2g}"
        said.append(f"Seeds move all cells of an arm alike (p = {p}); its CIs may be too narrow.")
    if comparison.hours_note not in ("", PROBED):
        said.append(comparison.hours_note)
    said += comparison.caveats
    if noise and noise.noisy:
        noisy = [pair for pair in comparison.pairs if (pair.series, pair.cell, pair.arm) in noise.noisy]
        named = joined(name_of(comparison, pair.cell, pair.arm) for pair in noisy)
        said.append(f"Far noisier than other gains, and so judged by their own seeds: {named}.")
    return said


def scored_by_words(scored_by: ScoredBy) -> str:
    """'"two" (folder, 16 images at most, masked; data 3f2a9c1b)'."""
    what = scored_by.what or {}
    ((kind, options),) = what.get("set", {"": {}}).items()
    templates = options.get("templates") or what.get("templates")
    said = [
        kind,
        f"{what['images']:,} images at most" if "images" in what else "",
        "" if not templates else f"'{templates[0]}'" if len(templates) == 1 else f"{len(templates)} templates",
        what.get("inference", ""),
    ]
    name = f'"{scored_by.measure}"' if scored_by.measure else "the study's own data"
    on = ", ".join(filter(None, said))
    return f"{name} ({'; '.join(filter(None, (on, f'data {scored_by.digest[:8]}')))})"


# All of it


def everything(comparison: Comparison) -> list[Part]:
    """The answer of every series and arm, then claims, gains, curves, notes, and what was left out."""
    # Without arms the notes say why there is nothing to compare; others are of a table, and are said before it.
    parts: list[Part] = [] if comparison.arms else [scores_table(comparison), *comparison.notes]
    for kind in kinds_of(comparison.laws):
        parts += kind_parts(kind, comparison.laws, settings_named(comparison.labels))
    if comparison.first_curves:
        answered = replace(comparison, answer="gain") if asked(comparison) == "claims" else comparison
        notes = notes_of(answered, comparison.first_curves)
        parts.append(replace(arms_table(comparison, comparison.first_curves), notes=tuple(notes)))
    if comparison.stated:
        parts.append(claims_table(comparison.stated))
    if comparison.at_budgets:
        parts.append(budgets_table(comparison.at_budgets))
    if comparison.pairs:
        parts.append(gains_table(comparison))
        parts += _over_cells(comparison)
    curves = [curve for curve in comparison.curves if curve.speedup is not None]
    if curves:
        parts.append(_curves_table(comparison, curves))
    if len(curves) < len(comparison.curves):
        parts.append(Listing("Without a curve", tuple(_without_a_curve(comparison))))
    is_one = comparison.scored_by and not comparison.is_scored_on_several
    if notes := [
        *([f"Scored on {joined(map(scored_by_words, comparison.scored_by))}."] if is_one else []),
        *warnings(comparison),
        *([PROBED] if comparison.hours_note == PROBED else []),
        *_images(comparison),
    ]:
        parts.append(Listing("Notes", tuple(notes)))
    return [*parts, *_by_reason("left out", comparison.left_out), *_by_reason("without a twin", comparison.unpaired)]


def gains_table(comparison: Comparison) -> PrintedTable:
    """Every cell and arm at equal samples, without the columns that no gain has."""
    percent = " (%)" if comparison.fraction else ""
    names = list(comparison.pairs[0].ratios)
    costs = [f"{cost_words(comparison, name)} (x)" for name in names]
    scores = f"baseline{percent}", f"{comparison.score}{percent}"
    columns = ("cell", "arm", "seeds", *scores, f"gain{_in_points(comparison)}", "corrected CI", "effect")
    rows = []
    for pair in comparison.pairs:
        gain = pair.gain
        unit = points(comparison)
        levels = [score_words(comparison, value).removesuffix(" %") for value in (pair.baseline_score, pair.score)]
        rows.append(
            (
                cell_words(pair.cell or pair.series) or "all",
                comparison.arm_name(pair.arm),
                str(len(pair.seeds)),
                *levels,
                gain_cell(comparison, gain, corrected=False),
                unit.interval(gain.decisive) if gain.corrected and gain.decisive else "-",
                COUNTED[gain.effect],
                *("-" if (ratio := pair.ratios[name].mean) is None else f"{ratio:.2f}" for name in names),
            )
        )
    title = f"At equal {comparison.at}" if comparison.at else "Arm by arm"
    return PrintedTable(title, (*columns, *costs), tuple(rows), (_noise_words(comparison),)).without_empty()


def _noise_words(comparison: Comparison) -> str:
    noise = comparison.noise
    by = "the cell's own seeds"
    is_shrunk = [len(pair.seeds) < OWN_SEEDS for pair in comparison.pairs]
    if noise and noise.prior_sd is not None and any(is_shrunk):
        by = f"variances shrunk towards that of the median of {noise.cells} gains"
        by += "" if all(is_shrunk) else f", from {OWN_SEEDS} seeds on the cell's own"
    return f"Gains are raw mean differences (95 % CI: Student t by {by}){_corrected(comparison)}."


def _over_cells(comparison: Comparison) -> list[Part]:
    """Each arm over all cells: how often it is better or worse, its mean, and how its gain changes along axes."""
    assert comparison.head is not None
    arms = [arm for arm in comparison.head.arms if sum(arm.effects.values()) > 1]
    if not arms:
        return []
    axes = list(dict.fromkeys(slope.axis for arm in arms for slope in arm.slopes))
    rows = []
    small = replace(points(comparison), digits=2)  # Slopes are small.
    for arm in arms:
        effects = [f"{arm.effects[effect]} {words}" for effect, words in COUNTED.items() if effect in arm.effects]
        slopes = dict.fromkeys(axes, "-")
        for slope in arm.slopes:
            bends = " not a line" if slope.bends_p is not None and slope.bends_p < ALPHA else ""
            slopes[slope.axis] = f"{small.with_interval(slope.slope, slope.interval)}{bends}"
        mean = small.with_interval(arm.mean.mean, arm.mean.interval()) if arm.mean else "-"
        rows.append((comparison.arm_name(arm.arm), ", ".join(effects), mean, *slopes.values()))
    unit = _in_points(comparison)
    along = [f"per doubling of {'model size' if axis == 'model' else axis}{unit}" for axis in axes]
    return [PrintedTable("Over all cells", ("arm", "gains", f"mean{unit}", *along), tuple(rows)).without_empty()]


def _curves_table(comparison: Comparison, curves: Sequence[Curve]) -> PrintedTable:
    """A row per curve: the speed-up with its parts, the gain at the largest cost that both cover, and the crossover."""
    rows = []
    for curve in curves:
        read = curve.speedup
        cross = curve.crossover
        assert read is not None
        at = "" if read.at is None else f" ({short(read.at)})"
        bound = read.speedup.at_least and read.samples.mean
        samples = f"<={FACTOR.number(bound)}" if bound else estimate_words(read.samples, FACTOR)
        equal = "-" if curve.equal_at is None else short(curve.equal_at)
        turns = "none" if cross is None else f"{short(cross.at)}, then {cross.turns}"
        if cross and cross.interval:
            ends = [short(end) if 0 < end < math.inf else "..." for end in cross.interval]
            turns += f" ({ends[0]}, {ends[1]})"
        rows.append(
            (
                name_of(comparison, curve.series, curve.arm),
                cost_words(comparison, curve.x),
                f"{score_words(comparison, read.score)}{at}",
                speed_cell(read),
                estimate_words(read.cheaper, FACTOR),
                samples,
                equal,
                gain_cell(comparison, curve.gain),
                turns,
            )
        )
    parts = ("cost a sample (x cheaper)", "samples (x as many)")
    columns = ("", "cost", "to score", "speed-up", *parts, "equal cost", "gain there", "crossover")
    several = comparison.speedups_claimed > 1
    but = f", but those of speed-ups in {cost_words(comparison, comparison.costs[0])}" if several else ""
    notes = (f"Scores are the baseline's mean after its last but one length. CIs are uncorrected{but}.",)
    return PrintedTable("Along the curves", columns, tuple(rows), notes).without_empty()


def _without_a_curve(comparison: Comparison) -> list[str]:
    """One line per reason: the costs it holds for, and how many curves are missing for it."""
    missing: dict[tuple[str, str], list[Curve]] = {}
    for curve in comparison.curves:
        if curve.speedup is None:
            missing.setdefault((cost_words(comparison, curve.x), curve.why or ""), []).append(curve)
    lines: dict[str, list[str]] = {}
    for (cost, why), curves in missing.items():
        whose = joined(dict.fromkeys(name_of(comparison, curve.series, curve.arm) for curve in curves[:LISTED]))
        more = f" and {len(curves) - LISTED} more" if len(curves) > LISTED else ""
        lines.setdefault(f"{why} ({whose}{more})", []).append(cost)
    return [f"{joined(costs)}: {why}" for why, costs in lines.items()]


def _images(comparison: Comparison) -> list[str]:
    """At most how far other test images would move a gain at the cell that heads the answer: the binomial error of two
    independent scores. Twins are scored on the same images, so their errors partly cancel."""
    pairs = [arm.base for arm in comparison.head.arms if arm.base] if comparison.head else []
    if comparison.items is None or not pairs:
        return []
    scores = max([(pair.baseline_score, pair.score) for pair in pairs], key=_variance_of_images)
    error = 100 * math.sqrt(_variance_of_images(scores) / comparison.items)
    return [
        f"CIs are about these {comparison.items:,} test images: other images would add a standard error of at most "
        f"{fixed(error, 2)} points."
    ]


def _variance_of_images(scores: Sequence[float]) -> float:
    return sum(score * (1 - score) for score in scores)


def _by_reason(title: str, runs: Mapping[str, str]) -> list[Part]:
    """'3 runs left out:' and one line per reason; nothing without runs."""
    if not runs:
        return []
    reasons = by_reason(runs)
    more = [f"and {len(reasons) - LISTED} lines more: `compare --json` has all of them"] * (len(reasons) > LISTED)
    return [Listing(f"{count(len(runs), 'run')} {title}", (*reasons[:LISTED], *more))]


# Claims


def claims_table(stated: StudyClaims) -> PrintedTable:
    """Every claim of a study with the published number, both intervals, p and verdict."""
    columns = ("claim", "published", "here (95 % CI)", "corrected CI", "p, corrected", "verdict")
    rows = []
    for judged in stated.claims:
        unit = PrintedUnit(judged.unit)
        published = "-" if judged.claim.published is None else unit.number(judged.claim.published)
        both = judged.difference and judged.difference.corrected
        digits = 3 if both and abs(both.p - ALPHA) < ALPHA / 10 else 2  # So that 0.0502 is not read as 0.05.
        p = "-" if not both else f"< {SMALLEST_P:.4f}" if both.p < SMALLEST_P else f"{both.p:.{digits}g}"
        verdict = str(judged.verdict) + (f": {judged.why}" if judged.why else "")
        corrected = unit.interval(both.interval) if both and both.interval else "-"
        rows.append((judged.claim.name, published, claim_cell(judged, corrected=False), corrected, p, verdict))
    return PrintedTable("Claims", columns, tuple(rows), tuple(_claim_notes(stated))).without_empty()


def budgets_table(judged: StudyClaims) -> PrintedTable:
    """Each arm against the baseline, both at their best models for each budget of FLOPs; and the slope over budgets."""
    columns = ("at the best model", "budget", "gain (95 % CI)", "its models", "the baseline's")
    rows = []
    for each in judged.claims:
        amount = "per doubling" if each.claim.along else f"{short(each.claim.contrast.amount)} FLOPs"
        arm = ", ".join(setting_words(*setting) for setting in each.claim.contrast.left.items())
        models = ("", "") if each.claim.along else [_taken(choice) for choice in each.best]
        rows.append((arm, amount, claim_cell(each, corrected=False), *models))
    notes = (
        "Each seed takes the model with the best mean over the other seeds; * marks an edge of the grid.",
        f"Gains are in {judged.claims[0].unit}. They are exploratory: CIs are uncorrected, without verdicts.",
    )
    return PrintedTable("Best of a budget", columns, tuple(rows), notes)


def _taken(choice: Choice) -> str:
    """'ViT-w32d1-4 (2), ViT-w16d1-4 (1) *'."""
    counts = Counter(map(str, choice.values))
    names = [name if len(counts) == 1 else f"{name} ({n})" for name, n in counts.most_common()]
    return ", ".join(names) + (" *" if choice.at_edge else "")


def _claim_notes(stated: StudyClaims) -> list[str]:
    said = [f"{claim_count(stated)}."]
    units = {judged.unit for judged in stated.claims}
    if differences := sorted(units - {"x", ""}):
        said.append(f"Differences are in {joined(differences)}, positive where the first side named is better.")
    if "x" in units:
        said.append("A factor (x) is what the other side takes to the claim's score over what the first side takes.")
    if len(stated.claims) > 1 and stated.families:
        families = joined(f"{name} ({n})" if name else f"{n} claims" for name, n in stated.families.items())
        said.append(f"Verdicts go by the corrected CI and p (Holm, within a family: {families}).")
    if stated.level_margins:
        margins = " or ".join(f"{margin:g}" for margin in stated.level_margins)
        whose = "the claim's" if any(judged.claim.margin for judged in stated.claims) else "the study's"
        said.append(f"Level means that the corrected 90 % CI lies within {margins} of 0, {whose} margin.")
    said += _best_notes(stated)
    if stated.noise.noisy:
        said.append(f"Much noisier than the rest, and so judged by their own seeds: {'; '.join(stated.noise.noisy)}.")
    if any(judged.difference and judged.difference.failures for judged in stated.claims):
        said.append("Where runs of a cell do not take off, an exact test of its pairs decides, without a CI.")
    return said


def _best_notes(stated: StudyClaims) -> list[str]:
    """How claims at the best of several cells, and those about slopes, are to be read."""
    notes = []
    settings = dict.fromkeys(judged.claim.contrast.best_of for judged in stated.claims if judged.best)
    for setting in settings:
        notes.append(f"Each side of a claim with best_of is at its best {setting} by the other seeds.")
        at_edge = [
            judged.claim.name
            for judged in stated.claims
            if judged.claim.contrast.best_of == setting and any(choice.at_edge for choice in judged.best)
        ]
        if at_edge:
            notes.append(
                f"The best {setting} is at an edge of the grid, and may lie beyond it, in: {'; '.join(at_edge)}."
            )
    if any(judged.claim.along for judged in stated.claims):
        notes.append("A claim along a setting is about the change of the difference per doubling of it.")
    return notes


def claim_count(stated: StudyClaims) -> str:
    """'29 claims: 12 hold, 2 contradicted, 15 undecided'."""
    words = {Verdict.HOLDS: "hold"}
    counts = [f"{stated.count(verdict)} {words.get(verdict, verdict)}" for verdict in Verdict if stated.count(verdict)]
    return f"{count(len(stated.claims), 'claim')}: {', '.join(counts)}"


def claim_cell(judged: JudgedClaim, *, corrected: bool = True) -> str:
    """'+2.4 (+0.1, +4.7)', '1.53x (1.07, 2.0)', '-12.0 (fail 3/5, other 0/5)'."""
    words = estimate_words(judged.difference, PrintedUnit(judged.unit), corrected=corrected, other="other")
    is_level = judged.claim.expect is Expectation.LEVEL and judged.difference and judged.difference.interval
    return f"{words} 90 % CI" if is_level else words


# Cells of tables


def name_of(comparison: Comparison, series: str, arm: str) -> str:
    """'ViT-B-16, mask 50 %', or the arm alone where there is one series."""
    return ", ".join(filter(None, (cell_words(series), comparison.arm_name(arm))))


def cost_words(comparison: Comparison, cost: str) -> str:
    """A cost as people call it: core-hours on a CPU, GPU-hours on a GPU."""
    hours = device_hours("cpu" if comparison.on_cpu else "cuda")
    return {"gpu_hours": hours, "train_flops": "FLOPs", "peak_memory_bytes": "memory"}.get(cost, cost)


def score_words(comparison: Comparison, score: float) -> str:
    """A score as a reader knows it: a fraction in percent."""
    return score_value(score, comparison.fraction)


@dataclass(frozen=True)
class PrintedUnit:
    """How numbers of a kind, and their intervals, are written."""

    name: str = ""
    """points, percent, x for a factor; '' for the score's own."""
    scale: float = 1.0
    digits: int = 1
    brief: bool = False
    """Whether numbers from 10 on are whole."""

    def number(self, value: float) -> str:
        """'+0.8', '1.17x'."""
        if self.name == "x":
            return f"{times(value)}x"
        scaled = self.scale * value
        return (
            fixed(scaled, 0 if self.brief and abs(scaled) >= 9.95 else self.digits, sign=True)
            if self.name
            else signed(value)
        )

    def interval(self, ends: Interval) -> str:
        """'(-6.8, +0.8)', '(1.18, 1.64)', '(>1.18)' where it is open."""
        low, high = ends
        if self.name != "x":
            return f"({self.number(low)}, {self.number(high)})"
        if math.isinf(high):
            return f"(>{times(low)})" if low > 0 else "(open)"
        return f"({times(low)}, {times(high)})" if low > 0 else f"(<{times(high)})"

    def with_interval(self, value: float, ends: Interval) -> str:
        return f"{self.number(value)} {self.interval(ends)}"


FACTOR = PrintedUnit("x")


def points(comparison: Comparison, *, brief: bool = False) -> PrintedUnit:
    """The unit of gains: points of a fraction, or the score's own."""
    return PrintedUnit("points", 100, brief=brief) if comparison.fraction else PrintedUnit()


def _in_points(comparison: Comparison) -> str:
    return " (points)" if comparison.fraction else ""


def estimate_words(estimate: Estimate | None, unit: PrintedUnit, *, corrected: bool = True, other: str = "base") -> str:
    """'-3.2 (-6.8, +0.8)' with the CI that decides, '>=4.8x (>3.1)', '+1.9 (one seed)'; '-' where there is none."""
    if estimate is None or estimate.mean is None:
        return "-"
    number = f">={bound(estimate.mean)}x" if estimate.at_least else unit.number(estimate.mean)
    if estimate.failures:
        theirs, ours, runs = estimate.failures
        return f"{number} (fail {ours}/{runs}, {other} {theirs}/{runs})"
    ends = estimate.decisive if corrected else estimate.interval
    if ends is None:
        return f"{number} ({COUNTED[estimate.effect]})"
    is_exact = unit.name == "x" and {unit.number(end) for end in ends} == {number}
    is_exact |= estimate.at_least and unit.number(ends.low) == unit.number(estimate.mean)
    return number if is_exact else f"{number} {unit.interval(ends)}"


def gain_cell(comparison: Comparison, gain: Estimate | None, *, corrected: bool = True, brief: bool = False) -> str:
    """A gain; the `brief` one of the screen says that arms are level."""
    if gain is None or gain.mean is None:
        return "-"
    unit = points(comparison, brief=brief)
    words = estimate_words(gain, unit, corrected=corrected)
    ends = gain.decisive if corrected else gain.interval
    if comparison.fraction and ends and ends.high - ends.low >= 1:
        return f"{unit.number(gain.value)} (no verdict: {count(gain.n, 'seed')})"
    return f"{words} level" if brief and gain.effect is Effect.LEVEL else words


def gain_words(comparison: Comparison, gain: Estimate) -> str:
    """'-3.2 (-6.8, +0.8) points, no significant difference'."""
    unit = " points" if comparison.fraction else ""
    return f"{estimate_words(gain, points(comparison))}{unit}, {gain.effect}"


def speed_cell(speedup: Speedup | None) -> str:
    """'1.17x (1.01, 1.35)', 'not reached'."""
    if speedup is None or speedup.speedup.mean is None:
        return "not reached" if speedup and speedup.speedup.why == NOT_REACHED else "-"
    return estimate_words(speedup.speedup, FACTOR)
