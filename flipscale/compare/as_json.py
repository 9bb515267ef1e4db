"""A comparison for programs, in JSON's types; docs/compare.md lists the keys."""

from dataclasses import asdict

from flipscale.compare.comparison import Comparison
from flipscale.compare.estimates import Estimate, finding
from flipscale.compare.head import Head
from flipscale.compare.head_text import head_lines
from flipscale.compare.parts import Curve, Pair
from flipscale.compare.stated_text import claims_json, ends_json, estimate_json
from flipscale.compare.words import name_of, verdict


def comparison_json(comparison: Comparison) -> dict[str, object]:
    """The whole comparison: `pairs` at equal samples, `series` along the curves, each with its verdict."""
    noise = comparison.noise
    return {
        "baseline": dict(comparison.baseline),
        "x": list(comparison.costs),
        "y": comparison.score,
        "lower_is_better": comparison.lower_is_better,
        "fraction": comparison.fraction,
        "at": comparison.at,
        "head": comparison.head and _head(comparison, comparison.head),
        "claims": comparison.stated and claims_json(comparison.stated),
        "pairs": [_pair(comparison, pair) for pair in comparison.pairs],
        "series": [
            {
                "name": name_of(claim.series, claim.arm),
                "series": claim.series,
                "arm": dict(comparison.arms[claim.arm]),
                "costs": {
                    curve.x: _curve(curve)
                    for curve in comparison.curves
                    if (curve.series, curve.arm) == (claim.series, claim.arm)
                },
                "verdict": verdict(comparison, claim),
            }
            for claim in comparison.claims
        ],
        "noise": noise
        and {"cells": noise.cells, "prior_sd": noise.prior_sd, "noisy": [" ".join(key) for key in _keys(noise.noisy)]},
        "margin": comparison.margin,
        "corrected": {"method": "Holm", "gains": comparison.gains_claimed, "speedups": comparison.speedups_claimed},
        "left_out": dict(comparison.left_out),
        "unpaired": dict(comparison.unpaired),
        "notes": list(comparison.notes),
        "hours_note": comparison.hours_note,
    }


def _keys(noisy: object) -> list[tuple[str, ...]]:
    assert isinstance(noisy, tuple)
    return [tuple(part for part in key if part) for key in noisy]


def _pair(comparison: Comparison, pair: Pair) -> dict[str, object]:
    """A pair, and `images` if its runs kept which test images they got right."""
    images = comparison.images.get((pair.cell, pair.arm))
    return {
        "cell": pair.cell,
        "series": pair.series,
        "at": pair.at,
        "arm": pair.arm,
        "seeds": list(pair.seeds),
        "baseline": pair.baseline_score,
        "score": pair.score,
        "gain": {**estimate_json(pair.gain), "values": list(pair.gain.values), "df": pair.gain.df},
        "effect": finding(pair.gain).effect.name.lower(),
        "ids": [list(ids) for ids in pair.ids],
        "ratios": {name: _ratio(ratio) for name, ratio in pair.ratios.items()},
        **({} if images is None else {"images": asdict(images)}),
    }


def _ratio(ratio: Estimate) -> dict[str, object]:
    return {"value": ratio.mean, "values": list(ratio.values), "why": ratio.why}


def _curve(curve: Curve) -> dict[str, object]:
    """Readings along one cost."""
    found, crossover = curve.speedup, curve.crossover
    return {
        "seeds": list(curve.seeds),
        "why": curve.why,
        "target": found and found.score,
        "target_at": found and found.at,
        "speedup": found and estimate_json(found.speedup),
        "cheaper_a_sample": found and estimate_json(found.cheaper),
        "samples": found and estimate_json(found.samples),
        "speedup_if_straight_in_x": curve.speedup_straight,
        "speedup_curve": [
            {"score": score, "speedup": speedup.mean, "interval": speedup.interval and ends_json(*speedup.interval)}
            for score, speedup in curve.speedup_at
        ],
        "equal_at": curve.equal_at,
        "gain_at_equal_x": curve.gain and estimate_json(curve.gain),
        "crossover": crossover
        and {
            "x": crossover.at,
            "interval": crossover.interval and ends_json(crossover.interval[0] or None, crossover.interval[1]),
            "beyond_it": crossover.turns,
        },
    }


def _head(comparison: Comparison, head: Head) -> dict[str, object]:
    """The head of the answer; `lines` puts it in words."""
    return {
        "base_cell": head.base_cell,
        "is_base": head.is_base,
        "arms": [
            {
                "arm": arm.arm,
                "effects": {effect.name.lower(): n for effect, n in arm.effects.items()},
                "slopes": [asdict(slope) for slope in arm.slopes],
                "mean": arm.mean and {"value": arm.mean.mean, "interval": asdict(arm.mean.interval())},
                **({} if arm.single_runs is None else {"single_runs": asdict(arm.single_runs)}),
            }
            for arm in head.arms
        ],
        "sensitivity": head.sensitivity and asdict(head.sensitivity),
        "seed_effect_p": head.seed_effect_p,
        "lines": head_lines(comparison),
    }
