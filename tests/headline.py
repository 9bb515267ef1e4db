"""What README says of the headline study, from its results files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flipscale.collecting import read_results
from flipscale.study import read_study
from flipscale.words import fixed, short, times

ROOT = Path(__file__).parents[1]

COARSE, SMALL = "model=ViT-w48d3-4", "image_size=14"
"""The arms that have as few tokens as the mask of 75 %, and are not masked."""


def headline(root: Path = ROOT) -> str:
    """The paragraphs around the figure: what it is, what it shows, and what it does not."""
    data = json.loads((root / "results/flip/comparison.json").read_text())
    table = read_results(root / "results/flip/results.csv")
    taken = table.set_index("id")["gpu_hours_probed"]
    hours = taken.sum() - taken[table["parent"].dropna()].sum()  # A tuned run's row has its parent's hours too.
    seeds = table["seed"].nunique()
    arms = {series["name"]: series["costs"]["gpu_hours"] for series in data["series"]}
    half, most, tuned = arms["mask_ratio=0.5"], arms["mask_ratio=0.75"], arms["mask_ratio=0.75, tuning=1.6k"]
    coarse, small = arms[COARSE], arms[SMALL]
    claims = {claim["claim"]: claim for claim in data["claims"]["claims"]}
    paragraphs = (
        f"**FLIP's Fig 1 in miniature** ([studies/flip.yaml](studies/flip.yaml): {len(table)} runs on Fashion-MNIST, "
        f"{seeds} seeds, {fixed(hours)} core-hours of training by a probe; [comparison](results/flip/comparison.md)):",
        "![Accuracy against training time with and without masks](plots/flip/speedup.png)",
        f"**It shows:** to {fixed(100 * half['target'])} %, the unmasked accuracy at {short(half['target_at'])} "
        f"samples, a mask of 50 % is {_told(half)} faster: {_split(half)}. One of 75 % is {_told(most)} faster: "
        f"{_split(most)}. With tuning it is {_told(tuned)} faster. The paper has 3.7x to its best accuracy. At equal "
        f"samples a mask of 50 % changes accuracy by {_points(claims['at equal samples a mask of 50 % is worse'])}, "
        f"one of 75 % by {_points(claims['at equal samples a mask of 75 % is worse'])}.",
        "**It does not show** that masks are the best use of that time. Patches twice as coarse, or images half as "
        "large, have as few tokens as the mask of 75 %. Without a mask they reach that accuracy "
        f"{_told(coarse)} and {_told(small)} faster.",
        f"**Caveats:** {' '.join(read_study(root / 'studies/flip.yaml').caveats)}",
    )
    return "\n\n".join(paragraphs)


def _told(curve: Mapping[str, Any]) -> str:
    """'1.90x (95 % CI 1.60 to 2.2)', and whether that could be 1."""
    found = curve["speedup"]
    unsure = "" if found["p_corrected"] <= 0.05 else ", not significant"
    least = "at least " if found.get("at_least") else ""
    return f"{least}{times(found['value'])}x (95 % CI {ends_words(found)}{unsure})"


def ends_words(found: Mapping[str, Any]) -> str:
    """'1.60 to 2.2', 'below 0.58': the corrected CI of a factor."""
    low, high = found["interval_corrected"]
    if high is None:
        return f"above {times(low)}" if low else "open on both sides"
    return f"{times(low)} to {times(high)}" if low else f"below {times(high)}"


def _split(curve: Mapping[str, Any]) -> str:
    """'a sample costs 4.7x less, and it takes 1.53x as many'."""
    cheaper, samples = (times(curve[name]["value"]) for name in ("cheaper_a_sample", "samples"))
    return f"a sample costs {cheaper}x less, and it takes {samples}x as many"


def _points(claim: Mapping[str, Any]) -> str:
    """'-1.3 points (95 % CI -1.9 to -0.6)', and whether that could be 0."""
    low, high = claim["difference"]["interval_corrected"]
    unsure = ", not significant" if low <= 0 <= high else ""
    ends = f"{fixed(low, sign=True)} to {fixed(high, sign=True)}"
    return f"{fixed(claim['difference']['value'], sign=True)} points (95 % CI {ends}{unsure})"
