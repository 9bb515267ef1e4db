"""A comparison for programs: one entry for each arm of each series, as docs/compare.md lists its keys."""

from typing import TYPE_CHECKING, Any

from flipscale.compare.estimates import Estimate
from flipscale.compare.parts import Curve, Pair
from flipscale.compare.words import name_of, verdict

if TYPE_CHECKING:
    from flipscale.compare.comparison import Comparison


def entries(comparison: "Comparison") -> list[dict[str, Any]]:
    """One dict for each series and arm, in the order of the verdicts."""
    return [_entry(comparison, curve) for curve in comparison.told_curves]


def _entry(comparison: "Comparison", curve: Curve) -> dict[str, Any]:
    of_this = [one for one in comparison.curves if (one.series, one.arm) == (curve.series, curve.arm)]
    pairs = [pair for pair in comparison.pairs if (pair.series, pair.arm) == (curve.series, curve.arm)]
    told = [pair for pair in comparison.told_pairs if (pair.series, pair.arm) == (curve.series, curve.arm)]
    seeds = curve.seeds or (told[0].seeds if told else ())
    return {
        "name": name_of(curve.series, curve.arm),
        "arm": comparison.arms[curve.arm],
        "series": curve.series,
        "y": comparison.score,
        "n": len(seeds),
        "seeds": list(seeds),
        **_along(curve),
        "gain_at_equal_samples": _equal_samples(comparison, told[0]) if told else None,
        "at_equal_samples": [_equal_samples(comparison, pair) for pair in pairs],
        "costs": {one.x: _along(one) for one in of_this},
        "verdict": verdict(comparison, curve),
    }


def _along(curve: Curve) -> dict[str, Any]:
    """What is read along one cost."""
    speedup = curve.speedup
    crossover, shift = curve.crossover, curve.one_shift
    return {
        "x": curve.x,
        "target": curve.target,
        "speedup": speedup.mean,
        **_certainty(speedup),
        "speedup_if_straight_in_log_x": curve.speedup_log,
        "speedup_curve": [
            {"accuracy": level.score, "speedup": level.speedup.mean, **_certainty(level.speedup)}
            for level in curve.speedup_at
        ],
        "gain_at_equal_x": {"x": curve.equal_at, "gain": curve.gain.mean, **_certainty(curve.gain)},
        "gain_curve": [{"x": one.cost, "gain": one.gain.mean, **_certainty(one.gain)} for one in curve.gain_at],
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


def _certainty(estimate: Estimate) -> dict[str, Any]:
    """How far an estimate can be trusted; `why` where it is missing, or its interval is."""
    corrected = estimate.corrected
    return {
        "interval": estimate.interval,
        "p": estimate.p,
        "interval_corrected": corrected and [corrected.low, corrected.high],
        "p_corrected": corrected and corrected.p,
        "why": estimate.why,
    }


def _equal_samples(comparison: "Comparison", pair: Pair) -> dict[str, Any]:
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


def _speedup(ratio: Estimate) -> dict[str, Any]:
    """The cost of the baseline over the arm's: the other way up than Pair.ratios."""
    ends = ratio.interval
    return {
        "speedup": ratio.mean and 1 / ratio.mean,
        "interval": ends and [1 / ends[1], 1 / ends[0]],
        "why": ratio.why,
    }
