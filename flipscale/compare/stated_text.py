"""The claims of a study for people, one row per claim with a legend, and for programs, in JSON's types."""

import math
from collections.abc import Mapping

from flipscale.collect import setting_value
from flipscale.compare.estimates import Estimate
from flipscale.compare.stated import JudgedClaim, StudyClaims, Verdict
from flipscale.study import Contrast, Expectation
from flipscale.words import count, fixed, joined, signed, times

SMALLEST_P = 1e-4
"""Smaller p values are written as less than this."""


def claim_rows(stated: StudyClaims) -> tuple[list[str], list[list[str]]]:
    """The header of the table of claims, and a row for each."""
    header = ["claim", "published", "here [95 % CI]", "corrected CI", "p, corrected", "verdict"]
    return header, [_row(judged) for judged in stated.claims]


def _row(judged: JudgedClaim) -> list[str]:
    unit, found = judged.unit, judged.difference
    published = "-" if judged.claim.published is None else claim_number(judged.claim.published, unit)
    if found is None or found.mean is None or found.corrected is None:
        return [judged.claim.name, published, "-", "-", "-", f"{judged.verdict}: {judged.why}"]
    level = " (90 %)" if judged.claim.expect is Expectation.LEVEL else ""
    alone = f" {_ends(found.low, found.high, unit)}{level}" if found.interval else ""
    number = f"{'at least ' if found.at_least else ''}{claim_number(found.mean, unit)}{unit if unit == 'x' else ''}"
    both = _ends(found.corrected.low, found.corrected.high, unit)
    if found.failures:
        alone, both = "", failures_words(found)
    return [judged.claim.name, published, f"{number}{alone}", both, p_words(found.corrected.p), judged.verdict]


def failures_words(estimate: Estimate) -> str:
    """'fails in 1 of 5 runs, the baseline in 3': why there is no CI."""
    assert estimate.failures is not None
    theirs, ours = estimate.failures
    return f"fails in {ours} of {count(estimate.n, 'run')}, the other side in {theirs}"


def claim_number(value: float, unit: str) -> str:
    """A difference or a factor, without its unit."""
    if unit == "x":
        return times(value)
    return fixed(value, sign=True) if unit else signed(value)


def _ends(low: float | None, high: float | None, unit: str) -> str:
    if low is None or high is None:
        return "-"
    if unit == "x" and (math.isinf(high) or low <= 0):
        return f"[above {times(low)}]" if low > 0 else f"[below {times(high)}]" if math.isfinite(high) else "[open]"
    return f"[{claim_number(low, unit)}, {claim_number(high, unit)}]"


def p_words(p: float) -> str:
    """'0.013', '< 0.0001'."""
    return f"< {SMALLEST_P:.4f}" if p < SMALLEST_P else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def claim_count(stated: StudyClaims) -> str:
    """'29 claims: 12 hold, 2 contradicted, 15 undecided'."""
    words = {Verdict.HOLDS: "hold"}
    counts = [f"{stated.count(verdict)} {words.get(verdict, verdict)}" for verdict in Verdict if stated.count(verdict)]
    return f"{count(len(stated.claims), 'claim')}: {', '.join(counts)}"


def claims_legend(stated: StudyClaims) -> str:
    """The meaning of the table's numbers, and how far they can be trusted together."""
    said = [f"{claim_count(stated)}."]
    units = {judged.unit for judged in stated.claims}
    if differences := sorted(unit for unit in units if unit not in ("x", "")):
        said.append(f"Differences are in {joined(differences)}, positive where the first side named is better.")
    if "x" in units:
        said.append("A factor (x) is what the other side takes to the claim's score over what the first side takes.")
    sizes = stated.families
    if len(sizes) > 1:
        listed = joined([f"{name or 'no family'} ({n})" for name, n in sizes.items()])
        said.append(
            f"Verdicts go by p values corrected within a family (Holm): {listed}. The chance of any wrong verdict in a "
            "family is at most 5 %."
        )
    elif max(sizes.values(), default=0) > 1:
        said.append(
            f"Verdicts go by the corrected CIs and p values (Holm, {count(max(sizes.values()), 'comparison')}): the "
            "chance of any wrong verdict is at most 5 %."
        )
    if any(judged.claim.expect is Expectation.LEVEL for judged in stated.claims):
        unit = next((unit for unit in sorted(units) if unit != "x"), "")
        margin = f"{stated.margin:g} {unit}".strip()
        said.append(f"Level means that the 90 % CI lies within {margin} of 0, the margin that the study states.")
    if stated.noise.noisy:
        listed = "; ".join(map(str, stated.noise.noisy))
        said.append(f"Much noisier than the rest, and so judged by their own seeds: {listed}.")
    if any(judged.difference and judged.difference.failures for judged in stated.claims):
        said.append("Where only some runs of a cell take off, an exact test of its pairs decides, without a CI.")
    return " ".join(said)


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
    claim, found = judged.claim, judged.difference
    scores = [_plain(score) if isinstance(score, Mapping) else score for score in (claim.score, claim.than_score)]
    return {
        "claim": claim.name,
        "family": claim.family,
        **_contrast_json(claim.contrast),
        "than": claim.than and _contrast_json(claim.than),
        "expect": str(claim.expect),
        "score": scores[0],
        **({} if scores[1] is None else {"than_score": scores[1]}),
        "published": claim.published,
        "verdict": str(judged.verdict),
        "unit": judged.unit,
        "difference": found and estimate_json(found),
        "seeds": list(judged.seeds),
        "runs": list(judged.runs),
        "why": judged.why,
    }


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    return {name: setting_value(value) for name, value in values.items()}


def _contrast_json(contrast: Contrast) -> dict[str, Mapping[str, object]]:
    return {"left": _plain(contrast.left), "right": _plain(contrast.right)}


def estimate_json(estimate: Estimate) -> dict[str, object]:
    """An estimate with its intervals; null is an open end, or what there is not."""
    both = estimate.corrected
    return {
        "value": estimate.mean,
        "interval": estimate.interval and ends_json(*estimate.interval),
        "p": estimate.p,
        "interval_corrected": ends_json(both.low, both.high) if both and both.low is not None else None,
        "p_corrected": both and both.p,
        "comparisons": both and both.of,
        **({"failures": list(estimate.failures)} if estimate.failures else {}),
        **({"at_least": True} if estimate.at_least else {}),
        **({"p_level": estimate.p_level} if estimate.p_level is not None else {}),
        "why": estimate.why,
    }


def ends_json(*ends: float | None) -> list[float | None]:
    """An interval in JSON, which has no infinity."""
    return [end if end is not None and math.isfinite(end) else None for end in ends]
