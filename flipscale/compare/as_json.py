"""A comparison for programs, in JSON's types; docs/compare.md lists the keys."""

import math
from dataclasses import asdict

from flipscale.compare.claims import Claim
from flipscale.compare.comparison import Comparison
from flipscale.compare.equal_cost import EqualCost
from flipscale.compare.estimates import Estimate, finding
from flipscale.compare.head import Head
from flipscale.compare.head_text import head_lines
from flipscale.compare.parts import Curve, Pair
from flipscale.compare.stated_text import claims_json
from flipscale.compare.words import name_of, verdict, verdicts
from flipscale.stats import Noise


def comparison_json(comparison: Comparison) -> dict[str, object]:
    """The whole comparison: `series` has an entry for each claim, `verdicts` its sentence."""
    return {
        "baseline": dict(comparison.baseline),
        "x": list(comparison.costs),
        "y": comparison.score,
        "lower_is_better": comparison.lower_is_better,
        "fraction": comparison.fraction,
        "at": comparison.at,
        "series": [_entry(comparison, claim) for claim in comparison.claims],
        "claims": comparison.stated and claims_json(comparison.stated),
        "pairs": [_pair(comparison, pair) for pair in comparison.pairs],
        "head": comparison.head and _head(comparison, comparison.head),
        "noise": comparison.noise and _noise(comparison.noise),
        "margin": comparison.margin,
        "equal_cost": [_equal_cost(comparison, of_cost) for of_cost in comparison.equal_cost],
        "corrected": {
            "method": "Holm",
            "gains": comparison.gains_claimed,
            "speedups": comparison.speedups_claimed,
        },
        **({"wins": [asdict(wins) for wins in comparison.wins]} if comparison.wins else {}),
        "left_out": dict(comparison.left_out),
        "unpaired": dict(comparison.unpaired),
        "notes": list(comparison.notes),
        "hours_note": comparison.hours_note,
        "verdicts": verdicts(comparison),
    }


def _pair(comparison: Comparison, pair: Pair) -> dict[str, object]:
    """All fields of a pair but its draws, and `images` if its runs kept which test images they got right."""
    images = comparison.images.get((pair.cell, pair.arm))
    return {**asdict(pair, dict_factory=_without_draws), **({} if images is None else {"images": asdict(images)})}


def _head(comparison: Comparison, head: Head) -> dict[str, object]:
    """The head of the answer; `lines` puts it in words."""
    return {
        "base_cell": head.base_cell,
        "is_base": head.is_base,
        "arms": [
            {
                "arm": arm.arm,
                "base": arm.base and {"gain": arm.base.gain.mean, **_certainty(arm.base.gain)},
                "effects": {effect.name.lower(): n for effect, n in arm.effects.items()},
                "slopes": [asdict(slope) for slope in arm.slopes],
                "mean": arm.mean and asdict(arm.mean),
                **({} if arm.single_runs is None else {"single_runs": asdict(arm.single_runs)}),
            }
            for arm in head.arms
        ],
        "sensitivity": head.sensitivity and asdict(head.sensitivity),
        "seed_effect_p": head.seed_effect_p,
        "lines": head_lines(comparison),
    }


def _noise(noise: Noise) -> dict[str, object]:
    """How far gains scatter over seeds, on the scale of the score."""
    return {
        "method": noise.method.name.lower(),
        "cells": noise.cells,
        "seeds": noise.seeds,
        "sd": noise.sd,
        "prior_df": noise.prior_df,
        "capped": noise.capped,
        "arm_ratios": dict(noise.arm_ratios),
        "wild": list(noise.wild),
    }


def _entry(comparison: Comparison, claim: Claim) -> dict[str, object]:
    key = (claim.series, claim.arm)
    pairs = [pair for pair in comparison.pairs if (pair.series, pair.arm) == key]
    seeds = claim.curve.seeds or (claim.pair.seeds if claim.pair else ())
    return {
        "name": name_of(*key),
        "arm": dict(comparison.arms[claim.arm]),
        "series": claim.series,
        "y": comparison.score,
        "n": len(seeds),
        "seeds": list(seeds),
        **_along(claim.curve),
        "gain_at_equal_samples": _equal_samples(comparison, claim.pair) if claim.pair else None,
        "at_equal_samples": [_equal_samples(comparison, pair) for pair in pairs],
        "costs": {curve.x: _along(curve) for curve in comparison.curves if (curve.series, curve.arm) == key},
        "verdict": verdict(comparison, claim),
    }


def _along(curve: Curve) -> dict[str, object]:
    """Readings along one cost."""
    speedup = curve.speedup
    crossover, shift = curve.crossover, curve.one_shift
    return {
        "x": curve.x,
        "target": curve.target,
        "speedup": speedup.mean,
        **_certainty(speedup),
        "speedup_if_straight_in_x": curve.speedup_straight,
        "speedup_curve": [
            {"accuracy": level.score, "speedup": level.speedup.mean, **_certainty(level.speedup)}
            for level in curve.speedup_at
        ],
        "gain_at_equal_x": {"x": curve.equal_at, "gain": curve.gain.mean, **_certainty(curve.gain)},
        "gain_curve": [{"x": gain.cost, "gain": gain.gain.mean, **_certainty(gain.gain)} for gain in curve.gain_at],
        "crossover": crossover
        and {
            "x": crossover.at,
            "interval": crossover.interval and list(crossover.interval),
            "interval_is_open": list(crossover.open),
            "beyond_it": crossover.turns,
            "changes_of_sign": crossover.changes,
            "share_without": crossover.none,
            "why": crossover.why,
        },
        "one_shift": shift
        and {
            "speedup": shift.shift,
            "p": shift.p,
            "rejected": shift.rejected,
            "accuracies": [shift.low, shift.high],
            "why": shift.why,
        },
    }


def _certainty(estimate: Estimate) -> dict[str, object]:
    """How far an estimate can be trusted; `why` where it is missing, or its interval is."""
    corrected = estimate.corrected
    return {
        "interval": estimate.interval and _closed(estimate.interval),
        "p": estimate.p,
        "interval_corrected": corrected and _closed([corrected.low, corrected.high]),
        "p_corrected": corrected and corrected.p,
        "why": estimate.why,
        **({} if estimate.df is None else _beside(estimate)),
    }


def _equal_cost(comparison: Comparison, of_cost: EqualCost) -> dict[str, object]:
    """Comparisons at one equal cost."""
    return {
        "held": of_cost.held,
        "tolerance": of_cost.tolerance,
        "pairs": [
            {**_equal_samples(comparison, equal.pair), "arm": equal.pair.arm, "baseline_cell": equal.baseline_cell}
            for equal in of_cost.pairs
        ],
        "best_of_sizes": [
            {
                **_equal_samples(comparison, best.pair),
                "arm": best.pair.arm,
                "budget": best.budget,
                "sizes": best.sizes,
                "chosen": [asdict(choice) for choice in best.chosen],
            }
            for best in of_cost.best
        ],
    }


def _without_draws(items: list[tuple[str, object]]) -> dict[str, object]:
    return {name: value for name, value in items if name != "draws"}


def _closed(ends: list[float]) -> list[float | None]:
    """An interval in JSON, which has no infinity: null is an open end."""
    return [end if math.isfinite(end) else None for end in ends]


def _beside(estimate: Estimate) -> dict[str, object]:
    """Further fields of an estimate that rests on the noise of the study, among them the CI by its own seeds."""
    alone = estimate.by_its_seeds
    return {
        "df": estimate.df,
        "interval_by_its_seeds": alone and alone.interval,
        "p_by_its_seeds": alone and alone.p,
        "p_level": estimate.p_level,
        "effect": finding(estimate).effect.name.lower(),
    }


def _equal_samples(comparison: Comparison, pair: Pair) -> dict[str, object]:
    return {
        "column": comparison.at,
        "at": pair.at,
        "cell": pair.cell,
        "n": len(pair.seeds),
        "seeds": list(pair.seeds),
        "baseline": pair.baseline_score,
        "score": pair.score,
        "gain": pair.gain.mean,
        **_certainty(pair.gain),
        "speedup": {name: _speedup(ratio) for name, ratio in pair.ratios.items()},
    }


def _speedup(ratio: Estimate) -> dict[str, object]:
    """The cost of the baseline over the arm's: the inverse of Pair.ratios."""
    ends = ratio.interval
    return {
        "speedup": ratio.mean and 1 / ratio.mean,
        "interval": ends and [1 / ends[1], 1 / ends[0]],
        "why": ratio.why,
    }
