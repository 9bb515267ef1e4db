"""The claims of a study for people, one row per claim with a legend, and for programs, in JSON's types."""

from collections.abc import Mapping

from flipscale.collect import setting_value
from flipscale.compare.stated import ClaimDifference, ClaimFamily, JudgedClaim, Verdict
from flipscale.stats import Interval, NoiseMethod
from flipscale.study import Contrast, Expectation
from flipscale.words import count, signed

SMALLEST_P = 1e-4
"""Smaller p values are written as less than this."""


def claim_rows(family: ClaimFamily) -> tuple[list[str], list[list[str]]]:
    """The header of the table of claims, and a row for each."""
    unit = f", {family.unit}" if family.unit else ""
    header = ["claim", "published", f"here{unit} [95 % CI]", "corrected CI", "p, corrected", "p, own seeds", "verdict"]
    return header, [_row(family, judged) for judged in family.claims]


def _row(family: ClaimFamily, judged: JudgedClaim) -> list[str]:
    published = "-" if judged.claim.published is None else _number(family, judged.claim.published)
    found, by_own_seeds = judged.difference, judged.by_own_seeds
    if found is None:
        return [judged.claim.name, published, "-", "-", "-", "-", f"{judged.verdict}: {judged.why}"]
    level = " (90 %)" if judged.claim.expect is Expectation.LEVEL else ""
    return [
        judged.claim.name,
        published,
        f"{_number(family, found.estimate)} {_ends(family, found.interval)}{level}",
        _ends(family, found.corrected),
        _p(found.p_corrected),
        "-" if by_own_seeds is None else _p(by_own_seeds.p_corrected),
        judged.verdict,
    ]


def _number(family: ClaimFamily, value: float) -> str:
    return f"{value:+.1f}" if family.unit else signed(value)


def _ends(family: ClaimFamily, interval: Interval) -> str:
    return f"[{_number(family, interval.low)}, {_number(family, interval.high)}]"


def _p(p: float) -> str:
    return f"< {SMALLEST_P:.4f}" if p < SMALLEST_P else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def claim_count(family: ClaimFamily) -> str:
    """'29 claims: 12 hold, 2 contradicted, 15 undecided'."""
    words = {Verdict.HOLDS: "hold"}
    counts = [f"{family.count(verdict)} {words.get(verdict, verdict)}" for verdict in Verdict if family.count(verdict)]
    return f"{count(len(family.claims), 'claim')}: {', '.join(counts)}"


def claims_legend(family: ClaimFamily) -> str:
    """The meaning of the table's numbers, and how far they can be trusted together."""
    said = [f"{claim_count(family)}."]
    said.append("A difference is that of the first side named to the other, positive where the first is better.")
    if family.tested > 1:
        said.append(
            f"Verdicts go by the corrected CIs and p values (Holm, {count(family.tested, 'comparison')}): the chance "
            "of any wrong verdict is at most 5 %."
        )
    if any(judged.claim.expect is Expectation.LEVEL for judged in family.claims):
        margin = f"{family.margin:g} {family.unit}".strip()
        said.append(f"Level means that the 90 % CI lies within {margin} of 0, the margin that the study states.")
    return " ".join([*said, *_noise_words(family)])


def _noise_words(family: ClaimFamily) -> list[str]:
    """By which scatter the claims are judged."""
    noise = family.noise
    if noise is None:
        return []
    if noise.method is NoiseMethod.OWN:
        return ["Too few claims or seeds to pool their noise: each claim is judged by its own seeds."]
    said = [
        "The scatter over seeds is pooled over the claims (moderated t); p values by a claim's own seeds stand beside."
    ]
    if noise.wild:
        said.append(f"Much noisier than the rest, and so judged by their own seeds: {'; '.join(noise.wild)}.")
    return said


def claims_json(family: ClaimFamily) -> dict[str, object]:
    """The claims for programs; docs/compare.md lists the keys."""
    noise = family.noise
    return {
        "score": family.score,
        "unit": family.unit,
        "margin": family.margin,
        "comparisons": family.tested,
        "counts": {str(verdict): family.count(verdict) for verdict in Verdict},
        "noise": noise
        and {
            "method": noise.method.name.lower(),
            "prior_df": noise.prior_df,
            "prior_sd": noise.prior_sd,
            "own_seeds_only": list(noise.wild),
        },
        "claims": [_claim_json(judged) for judged in family.claims],
    }


def _claim_json(judged: JudgedClaim) -> dict[str, object]:
    claim = judged.claim
    return {
        "claim": claim.name,
        **_contrast_json(claim.contrast),
        "than": claim.than and _contrast_json(claim.than),
        "expect": str(claim.expect),
        "published": claim.published,
        "verdict": str(judged.verdict),
        **(_difference_json(judged.difference) if judged.difference else {"difference": None}),
        "by_own_seeds": judged.by_own_seeds and _difference_json(judged.by_own_seeds),
        "seeds": list(judged.seeds),
        "runs": list(judged.runs),
        "why": judged.why,
    }


def _contrast_json(contrast: Contrast) -> dict[str, Mapping[str, object]]:
    return {
        side: {name: setting_value(value) for name, value in values.items()}
        for side, values in (("left", contrast.left), ("right", contrast.right))
    }


def _difference_json(found: ClaimDifference) -> dict[str, object]:
    return {
        "difference": found.estimate,
        "interval": [found.interval.low, found.interval.high],
        "p": found.p,
        "interval_corrected": [found.corrected.low, found.corrected.high],
        "p_corrected": found.p_corrected,
    }
