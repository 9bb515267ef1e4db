"""A comparison for programs, in JSON's types; docs/compare.md lists the keys."""

import math
from collections.abc import Mapping
from dataclasses import asdict, replace

from flipscale.analysis.comparing.comparison import Comparison
from flipscale.analysis.comparing.estimates import Curve, Estimate, Pair
from flipscale.analysis.comparing.head import Head
from flipscale.analysis.comparing.stated import JudgedClaim, StudyClaims, Verdict
from flipscale.door.statements import Contrast


def comparison_json(comparison: Comparison) -> dict[str, object]:
    """The whole comparison: `pairs` at equal samples, `series` along the curves; answer.py has the words."""
    noise = comparison.noise
    return {
        "baseline": dict(comparison.baseline),
        "x": list(comparison.costs),
        "y": comparison.score,
        "lower_is_better": comparison.lower_is_better,
        "fraction": comparison.fraction,
        "at": comparison.at,
        "head": comparison.head and _head(comparison.head),
        "claims": comparison.stated and claims_json(comparison.stated),
        **(
            {"at_budgets": [_budget_json(each) for each in comparison.at_budgets.claims]}
            if comparison.at_budgets
            else {}
        ),
        "pairs": [_pair(pair) for pair in comparison.pairs],
        "series": [
            {
                "name": ", ".join(filter(None, (first.series, first.arm))),
                "series": first.series,
                "arm": dict(comparison.arms[first.arm]),
                "costs": {
                    curve.x: _curve(curve)
                    for curve in comparison.curves
                    if (curve.series, curve.arm) == (first.series, first.arm)
                },
            }
            for first in comparison.first_curves
        ],
        "noise": noise
        and {
            "cells": noise.cells,
            "prior_sd": noise.prior_sd,
            "noisy": [" ".join(filter(None, key)) for key in noise.noisy],
        },
        "margin": comparison.margin,
        "corrected": {"method": "Holm", "gains": comparison.gains_claimed, "speedups": comparison.speedups_claimed},
        "left_out": dict(comparison.left_out),
        "unpaired": dict(comparison.unpaired),
        "notes": list(comparison.notes),
        "hours_note": comparison.hours_note,
        **({"scores": _scores(comparison)} if comparison.scores else {}),
        **({"scored_by": [asdict(each) for each in comparison.scored_by]} if comparison.scored_by else {}),
    }


def _scores(comparison: Comparison) -> dict[str, object]:
    return {
        cell: {name: {"seeds": of.n, **estimate_json(of)} for name, of in scores.items()}
        for cell, scores in comparison.scores.items()
    }


def _pair(pair: Pair) -> dict[str, object]:
    return {
        "cell": pair.cell,
        "series": pair.series,
        "at": pair.at,
        "arm": pair.arm,
        "seeds": list(pair.seeds),
        "baseline": pair.baseline_score,
        "score": pair.score,
        "gain": {**estimate_json(pair.gain), "values": list(pair.gain.values), "df": pair.gain.df},
        "effect": pair.gain.effect.name.lower(),
        "ids": [list(ids) for ids in pair.ids],
        "ratios": {name: _ratio(ratio) for name, ratio in pair.ratios.items()},
    }


def _ratio(ratio: Estimate) -> dict[str, object]:
    return {"value": ratio.mean, "values": list(ratio.values), "why": ratio.why}


def _curve(curve: Curve) -> dict[str, object]:
    """Readings along one cost."""
    read = curve.speedup
    crossover = curve.crossover
    return {
        "seeds": list(curve.seeds),
        "why": curve.why,
        "target": read and read.score,
        "target_at": read and read.at,
        "speedup": read and estimate_json(read.speedup),
        "cheaper_a_sample": read and estimate_json(read.cheaper),
        "samples": read and estimate_json(read.samples),
        "speedup_if_straight_in_x": curve.speedup_straight,
        "speedup_curve": [
            {
                "score": at.score,
                "speedup": at.speedup.mean,
                "interval": at.speedup.interval and ends_json(*at.speedup.interval),
                "samples": at.samples and at.samples.mean,
                "samples_interval": at.samples and at.samples.interval and ends_json(*at.samples.interval),
            }
            for at in curve.speedup_at
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


def _head(head: Head) -> dict[str, object]:
    return {
        "base_cell": head.base_cell,
        "is_base": head.is_base,
        "arms": [
            {
                "arm": arm.arm,
                "effects": {effect.name.lower(): n for effect, n in arm.effects.items()},
                "slopes": [vars(slope) | {"interval": slope.interval._asdict()} for slope in arm.slopes],
                "mean": arm.mean and {"value": arm.mean.mean, "interval": arm.mean.interval()._asdict()},
                **({} if arm.single_runs is None else {"single_runs": asdict(arm.single_runs)}),
            }
            for arm in head.arms
        ],
        "sensitivity": head.sensitivity and asdict(head.sensitivity),
        "seed_effect_p": head.seed_effect_p,
    }


def claims_json(stated: StudyClaims) -> dict[str, object]:
    """The claims for programs; docs/compare.md lists the keys."""
    return {
        "score": stated.score,
        "margin": stated.margin,
        "families": stated.families,
        "counts": {str(verdict): stated.count(verdict) for verdict in Verdict},
        "noise": {"prior_sd": stated.noise.prior_sd, "noisy": list(map(str, stated.noise.noisy))},
        "claims": [_claim_json(judged) for judged in stated.claims],
    }


def _claim_json(judged: JudgedClaim) -> dict[str, object]:
    claim = judged.claim
    difference = judged.difference
    scores = [claim.score, claim.than_score]
    return {
        "claim": claim.name,
        "family": claim.family,
        **_contrast_json(claim.contrast),
        "than": claim.than and _contrast_json(claim.than),
        **_best_json(judged),
        "expect": str(claim.expect),
        **({} if claim.margin is None else {"margin": claim.margin}),
        "score": scores[0],
        **({} if scores[1] is None else {"than_score": scores[1]}),
        "published": claim.published,
        "verdict": str(judged.verdict),
        "unit": judged.unit,
        "difference": difference and estimate_json(difference),
        "seeds": list(judged.seeds),
        "runs": list(judged.runs),
        "why": judged.why,
    }


def _budget_json(judged: JudgedClaim) -> dict[str, object]:
    """An arm at the best model of a budget. It is exploratory: its CI is not corrected, and it has no verdict."""
    difference = judged.difference and estimate_json(replace(judged.difference, corrected=None))
    return {
        "claim": judged.claim.name,
        **_contrast_json(judged.claim.contrast),
        **_best_json(judged),
        "unit": judged.unit,
        "difference": difference,
        "seeds": list(judged.seeds),
        "runs": list(judged.runs),
        "why": judged.why,
    }


def _best_json(judged: JudgedClaim) -> dict[str, object]:
    """What a claim with `best_of` or `along` adds: the values that the sides took, contrast by contrast."""
    claim = judged.claim
    parts: dict[str, object] = {}
    if claim.along:
        parts["along"] = [contrast.amount for contrast in claim.along]
    if claim.contrast.best_of:
        parts["best_of"] = claim.contrast.best_of
        parts["best"] = [list(choice.values) for choice in judged.best]
    return parts


def _contrast_json(contrast: Contrast) -> dict[str, Mapping[str, object]]:
    return {"left": contrast.left, "right": contrast.right}


def estimate_json(estimate: Estimate) -> dict[str, object]:
    """An estimate with its intervals; null is an open end, or what there is not."""
    both = estimate.corrected
    return {
        "value": estimate.mean,
        "interval": estimate.interval and ends_json(*estimate.interval),
        "p": estimate.p,
        "interval_corrected": both and both.interval and ends_json(*both.interval),
        "p_corrected": both and both.p,
        "comparisons": both and both.of,
        **({"failures": estimate.failures._asdict()} if estimate.failures else {}),
        **({"at_least": True} if estimate.at_least else {}),
        **({"p_level": estimate.p_level} if estimate.p_level is not None else {}),
        "why": estimate.why,
    }


def ends_json(*ends: float | None) -> list[float | None]:
    """An interval in JSON, which has no infinity."""
    return [end if end is not None and math.isfinite(end) else None for end in ends]
