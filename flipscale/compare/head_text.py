"""The head of a comparison in words: at most eight lines."""

from flipscale.compare.comparison import Comparison
from flipscale.compare.estimates import Effect, finding
from flipscale.compare.head import ArmHead, AxisSlope, Head, SingleRuns
from flipscale.compare.words import gain_words
from flipscale.sensitivity import sensitivity_words
from flipscale.stats import WARN_P, Interval, Moments
from flipscale.words import count, fixed, joined, short

TWO_LINES, ONE_LINE = 3, 6
"""Up to this number of arms, each gets one or two lines. With more, only the best and the worst are named."""

COUNTED = {
    Effect.AHEAD: "better",
    Effect.BEHIND: "worse",
    Effect.LEVEL: "level",
    Effect.NOT_SIGNIFICANT: "undecided",
    Effect.ONE_SEED: "of one seed",
    Effect.NO_CI: "without a CI",
}
"""The class in which a cell is counted, by the effect of its gain."""


def head_lines(comparison: Comparison) -> list[str]:
    """The head of the answer; nothing without pairs."""
    head = comparison.head
    if head is None:
        return []
    if len(head.arms) <= TWO_LINES:
        lines = [
            line for arm in head.arms for line in (_first_line(comparison, head, arm), _slopes(comparison, arm)) if line
        ]
    elif len(head.arms) <= ONE_LINE:
        lines = [_first_line(comparison, head, arm) for arm in head.arms]
    else:
        lines = _best_and_worst(comparison, head)
    return [*lines, _seeds(comparison, head), *_test_images(comparison, head), *warnings(comparison)]


def opening(comparison: Comparison) -> list[str]:
    """Two sentences: the gains at the base cell (with many arms, the best and the worst), and what the seeds detect.

    Nothing without pairs.
    """
    head = comparison.head
    if head is None:
        return []
    if len(head.arms) > TWO_LINES:
        counts, *ends = (line.removesuffix(".") for line in _best_and_worst(comparison, head))
        return [f"{'; '.join([counts, *(f'{end[0].lower()}{end[1:]}' for end in ends)])}.", _seeds(comparison, head)]
    effects = joined([_effect_words(comparison, arm) for arm in head.arms])
    where = f"At {base_words(head)}, " if head.base_cell else f"At equal {comparison.at}, " if comparison.at else ""
    return [f"{where}{effects}.", _seeds(comparison, head)]


def _effect_words(comparison: Comparison, arm: ArmHead) -> str:
    """'mask_ratio=0.5 is 3.7 points worse (95 % CI ...)', 'mask_ratio=0.5 makes no significant difference (...)'."""
    if arm.base is None:
        return f"{arm.arm} was not run"
    found = finding(arm.base.gain)
    verb = "makes" if found.effect is Effect.NOT_SIGNIFICANT else "is"
    return f"{arm.arm} {verb} {gain_words(comparison, found)}"


def counts_words(effects: dict[Effect, int]) -> str:
    """'better in 1, worse in 7, undecided in 2'."""
    found: dict[str, int] = {}
    for effect, words in COUNTED.items():
        found[words] = found.get(words, 0) + effects.get(effect, 0)
    return ", ".join(f"{words} in {n}" for words, n in found.items() if n)


def _first_line(comparison: Comparison, head: Head, arm: ArmHead) -> str:
    if head.base_cell:
        where = f" at {base_words(head)}"
    else:
        where = f" at {arm.base.series}" if arm.base and arm.base.series else ""
    base = "not run" if arm.base is None else gain_words(comparison, finding(arm.base.gain))
    cells = sum(arm.effects.values())
    counts = ""
    if arm.single_runs is not None:
        counts = f" {_single_runs_words(comparison, arm.single_runs)}."
    elif cells > 1:
        counts = f" Over {count(cells, 'cell')}: {counts_words(dict(arm.effects))}."
    return f"{arm.arm}{where}: {base}.{counts}"


def _single_runs_words(comparison: Comparison, runs: SingleRuns) -> str:
    """'Over 25 cells of one seed: better in 22, worse in 3; mean 65.97 against 64.32'."""
    equal = runs.cells - runs.better - runs.worse
    counts = {"better": runs.better, "worse": runs.worse, "equal": equal}
    said = ", ".join(f"{words} in {n}" for words, n in counts.items() if n)
    score, baseline = (
        f"{fixed(100 * mean, 2)} %" if comparison.fraction else f"{mean:.4g}" for mean in (runs.score, runs.baseline)
    )
    return f"Over {count(runs.cells, 'cell')} of one seed: {said}; mean {score} against {baseline}"


def base_words(head: Head) -> str:
    """The base cell, and what it is."""
    return f"{head.base_cell} ({'the base' if head.is_base else 'the last cell of the grid'})"


def _slopes(comparison: Comparison, arm: ArmHead) -> str:
    """The second line of an arm: its mean and its slopes; '' where it has neither."""
    parts = [_mean(comparison, arm.mean, sum(arm.effects.values()))] if arm.mean else []
    if arm.slopes:
        said = [slope_words(comparison, slope) for slope in arm.slopes]
        parts.append(f"change of the gain per doubling: {'; '.join(said)}")
    text = "; ".join(parts)
    return f"  {text[0].upper()}{text[1:]}." if text else ""


def slope_words(comparison: Comparison, slope: AxisSlope) -> str:
    """'data_size -1.50 points (95 % CI -1.84 to -1.17; not a line)'."""
    axis = "model size" if slope.axis == "model" else slope.axis
    bends = "; not a line" if slope.bends_p is not None and slope.bends_p < 0.05 else ""
    unit = " points" if comparison.fraction else ""
    return f"{axis} {precise(comparison, slope.slope)}{unit} (95 % CI {_interval(comparison, slope.interval)}{bends})"


def _mean(comparison: Comparison, mean: Moments, cells: int) -> str:
    unit = " points" if comparison.fraction else ""
    ci = _interval(comparison, mean.interval())
    return f"mean over {count(cells, 'cell')} {precise(comparison, mean.mean)}{unit} (95 % CI {ci})"


def precise(comparison: Comparison, value: float) -> str:
    """A slope or a mean: two decimals of a point, as slopes are small."""
    return fixed(100 * value, 2, sign=True) if comparison.fraction else f"{value:+.3g}"


def _interval(comparison: Comparison, ends: Interval) -> str:
    return f"{precise(comparison, ends.low)} to {precise(comparison, ends.high)}"


def _best_and_worst(comparison: Comparison, head: Head) -> list[str]:
    at_base = [arm for arm in head.arms if arm.base is not None and arm.base.gain.mean is not None]
    effects: dict[Effect, int] = {}
    for arm in head.arms:
        for effect, n in arm.effects.items():
            effects[effect] = effects.get(effect, 0) + n
    cells = sum(effects.values())
    lines = [f"{len(head.arms)} arms, {count(cells, 'comparison')} at equal {comparison.at}: {counts_words(effects)}."]
    if at_base:
        ordered = sorted(at_base, key=lambda arm: arm.base.gain.mean if arm.base and arm.base.gain.mean else 0.0)
        where = f" at {base_words(head)}" if head.base_cell else ""
        for name, arm in (("Best", ordered[-1]), ("Worst", ordered[0])):
            assert arm.base is not None
            lines.append(f"{name}{where}: {arm.arm}, {gain_words(comparison, finding(arm.base.gain))}.")
    return lines


def _seeds(comparison: Comparison, head: Head) -> str:
    """The effect that the seeds detect."""
    if head.sensitivity is None and any(len(pair.seeds) > 1 for pair in comparison.pairs):
        return "Some runs of this cell do not take off, so nothing says which difference its seeds detect."
    if head.sensitivity is None:
        return "Each cell has one seed, so nothing says how far runs scatter; 3 seeds would."
    return sensitivity_words(head.sensitivity, comparison.fraction)


def _test_images(comparison: Comparison, head: Head) -> list[str]:
    """The effect of other test images at the base cell, beside that of other seeds."""
    noise = comparison.gain_noise
    if noise is None:
        return []
    found = [
        (sampling, moments.error)
        for arm in head.arms
        if arm.base is not None
        and (moments := noise.moments(arm.base)) is not None
        and (sampling := comparison.images.get((head.base_cell, arm.arm))) is not None
    ]
    if not found:
        return []
    sampling, seeds = max(found, key=lambda pair: pair[0].with_seeds(pair[1]))
    these = f"CIs are about these {sampling.images:,} test images"
    with_images, by_seeds = fixed(100 * sampling.with_seeds(seeds), 2), fixed(100 * seeds, 2)
    if with_images == by_seeds:
        return [f"{these}; other images would hardly change the standard error at the base, {by_seeds} points."]
    return [
        f"{these}: with other images as well as other seeds the standard error at the base is up to {with_images} "
        f"points, not {by_seeds}."
    ]


def warnings(comparison: Comparison) -> list[str]:
    """Limits of the answer: runs that only guess, notes on the hours, the study's caveats, limits of the method."""
    notes = [f"{comparison.guessing_note}." if comparison.guessing_note else "", comparison.hours_note]
    said = [f"Note: {note}" for note in notes if note] + [f"Caveat: {caveat}" for caveat in comparison.caveats]
    return said + _near_limits(comparison)


def _near_limits(comparison: Comparison) -> list[str]:
    noise, head = comparison.noise, comparison.head
    if noise is None or head is None:
        return []
    said: list[str] = []
    if head.seed_effect_p is not None and head.seed_effect_p < WARN_P:
        p = f"{head.seed_effect_p:.2g}"
        said.append(f"seeds seem to move all cells alike (p = {p}), so intervals may be too narrow")
    if noise.noisy:
        cells = [pair for pair in comparison.pairs if (pair.series, pair.cell, pair.arm) in noise.noisy]
        named = ", ".join(f"{short(pair.cell or pair.series)} {pair.arm}".strip() for pair in cells)
        said.append(f"{count(len(cells), 'gain')} far noisier than the rest: {named}")
    return [f"Note: {'; '.join(said)}."] if said else []
