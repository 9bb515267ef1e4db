"""Groups of rows for people and for programs."""

import math
from collections.abc import Sequence

from flipscale.analysis.comparing.as_json import estimate_json
from flipscale.analysis.comparing.estimates import Estimate
from flipscale.analysis.comparing.groups import GroupGain, Groups, Method
from flipscale.analysis.comparing.roles import settings_words
from flipscale.analysis.stats import MOST_SEEDS
from flipscale.tables import Part, PrintedTable, as_text
from flipscale.words import count, joined, listed

MOST_ROWS, UNDECIDED = 16, 3
"""The most rows of the screen, and the most sentences on what more runs would do."""


def groups_text(groups: Groups, *, full: bool = False, width: int = 80) -> str:
    """A row for each arm and cell, then what the numbers stand on, and what more runs would do."""
    shown = groups.gains
    if not full and len(shown) > MOST_ROWS:
        overall = [gain for gain in shown if gain.is_overall]
        shown = (*shown[: MOST_ROWS - len(overall)], *overall)
    digits = _digits([each.gain for each in groups.gains])
    arms = {gain.arm for gain in shown}
    alone = next(iter(arms)) if len(arms) == 1 and len(shown) > 1 else ""
    rows = tuple(_row(gain, digits, alone) for gain in shown)
    columns = (alone, "runs", "baseline", "arm", "gain (95 % CI)", "verdict")
    parts: list[Part] = [PrintedTable("", columns, rows, wraps=True), *_notes(groups)]
    if len(shown) < len(groups.gains):
        parts.append(f"More in --full: {count(len(groups.gains) - len(shown), 'row')}.")
    return as_text(parts, width, "\n")


def _row(each: GroupGain, digits: int, alone: str) -> tuple[str, ...]:
    scores = [f"{score:.{digits}f}" for score in each.scores]
    arm = "" if alone else each.arm
    name = ", ".join(filter(None, ("over all" if each.is_overall else "", each.cell, arm)))
    runs = f"{each.runs[0]} : {each.runs[1]}"
    if each.method is Method.TWINS:
        runs = count(each.runs[1], "pair")
    return name, runs, *scores, gain_words(each.gain, digits), each.verdict


def gain_words(gain: Estimate, digits: int) -> str:
    """'+0.0394 (+0.0055, +0.0734)': the corrected CI where there is a family."""
    number = f"{gain.value:+.{digits}f}"
    ends = gain.decisive
    return f"{number} ({ends.low:+.{digits}f}, {ends.high:+.{digits}f})" if ends else number


def _digits(gains: Sequence[Estimate]) -> int:
    """Decimals that give the narrowest interval three digits, or else the smallest difference two."""
    halves = [(ends.high - ends.low) / 2 for gain in gains if (ends := gain.decisive)]
    sizes = [size for size in halves or [10 * abs(gain.value) for gain in gains] if size > 1e-9]
    return min(8, max(0, 2 - math.floor(math.log10(min(sizes))))) if sizes else 4


def _notes(groups: Groups) -> list[str]:
    better = "lower" if groups.lower_is_better else "higher"
    families = {each.gain.corrected.of for each in groups.gains if each.gain.corrected}
    several = f"corrected for {max(families)} comparisons (Holm)" if families and max(families) > 1 else ""
    means = f"Gains are in {groups.y}, above 0 where better ({better} {groups.y})"
    lines = [f"{means}; CIs are {several}." if several else f"{means}."]
    methods = joined(dict.fromkeys(each.method for each in groups.gains))
    lines.append(f"The baseline is {settings_words(groups.baseline)}. Compared by {methods}.")
    if groups.margin is not None:
        lines.append(f"Level: the 90 % CI is within {groups.margin:g} of 0.")
    seeds: dict[str, dict[str, None]] = {}
    for each in groups.gains:
        seeds.setdefault(each.arm, {}).update(dict.fromkeys(each.without_twin))
    lone = [f"{arm} at {groups.seed} {listed(list(names), 4)}" for arm, names in seeds.items() if names]
    if lone:
        lines.append(f"Without a twin: {listed(lone, 3, '; ')}.")
    if groups.failed:
        arms = [f"{n} of {arm or 'the baseline'}" for arm, n in groups.failed.items()]
        lines.append(f"Without a finite {groups.y}, so left out: {joined(arms)}.")
    if groups.not_kept:
        rows = count(groups.rows + groups.not_kept, "row")
        lines.append(f"{groups.rows:,} of {rows}; --where leaves out the others.")
    if groups.unfinished:
        name, n = groups.unfinished
        lines.append(f"! {count(n, 'row')} with a {groups.y} and a {name} other than finished.")
    if groups.confounded:
        lines.append(f"! Arms also differ in {joined(groups.confounded)}, so gains may owe something to that.")
    undecided = [each for each in groups.gains if each.more]
    return [*lines, *(_more_words(each) for each in undecided[:UNDECIDED])]


def _more_words(each: GroupGain) -> str:
    """'arm=b: 4 more runs of each would find 0.02 (80 % power).'"""
    more = each.more
    assert more is not None
    name = ", ".join(filter(None, (each.cell, each.arm)))
    what = f"show a difference of 0 to be within {more.find:.3g}" if more.is_margin else f"find {more.find:.3g}"
    if more.more is None:
        return f"{name}: more than {MOST_SEEDS:,} more runs of each are needed to {what}."
    if more.more == 0:
        return f"{name}: these runs would {what} with 80 % power, so the difference is probably smaller."
    of = count(more.more, "more pair") if each.method is Method.TWINS else f"{count(more.more, 'more run')} of each"
    return f"{name}: {of} would {what} (80 % power)."


def groups_json(groups: Groups) -> dict[str, object]:
    """The same in JSON's types; docs/compare.md lists the keys."""
    return {
        "baseline": dict(groups.baseline),
        "y": groups.y,
        "lower_is_better": groups.lower_is_better,
        "margin": groups.margin,
        "gains": [_gain_json(each) for each in groups.gains],
        "passes": groups.passes,
        "gate": groups.gate,
        "failed": {arm or "baseline": n for arm, n in groups.failed.items()},
        "not_kept": groups.not_kept,
        "unfinished": groups.unfinished and {groups.unfinished[0]: groups.unfinished[1]},
        "arms_also_differ_in": list(groups.confounded),
    }


def _gain_json(each: GroupGain) -> dict[str, object]:
    more = each.more
    return {
        "cell": each.cell,
        "arm": each.arm,
        "overall": each.is_overall,
        "method": each.method,
        "runs": {"baseline": each.runs[0], "arm": each.runs[1]},
        "scores": {"baseline": each.scores[0], "arm": each.scores[1]},
        "gain": estimate_json(each.gain),
        "verdict": each.verdict,
        "without_twin": len(each.without_twin),
        "more_runs": more and {"of_each": more.more, "find": more.find, "is_margin": more.is_margin},
    }
