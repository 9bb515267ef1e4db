"""What README says of the headline study, from its results files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flipscale.collect import read_results
from flipscale.study import read_study
from flipscale.words import fixed
from tests.findings import Reading, readings

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
    half, most = _best("mask_ratio=0.5", root), _best("mask_ratio=0.75", root)
    tuned = _best("mask_ratio=0.75, tuning=1.6k", root)
    coarse, small = _best(COARSE, root), _best(SMALL, root)
    claims = {claim["claim"]: claim for claim in data["claims"]["claims"]}
    return "\n".join(
        [
            f"**FLIP's Fig 1 in miniature** ([studies/flip.yaml](studies/flip.yaml): {len(table)} runs on "
            f"Fashion-MNIST, {seeds} seeds,",
            f"{fixed(hours)} core-hours of training; [comparison](results/flip/comparison.md)):",
            "",
            "![Accuracy against training time with and without masks](plots/flip/speedup.png)",
            "",
            f"**It shows:** a mask of 50 % reaches the best unmasked accuracy ({fixed(100 * _target(data))} %)",
            f"{_told(half)} faster.",
            f"A mask of 75 % is {_told(most)} faster,",
            f"or {_told(tuned)} with tuning; the paper has 3.7x.",
            "At equal samples a mask of 50 % changes accuracy by",
            f"{_points(claims['at equal samples a mask of 50 % is worse'])},",
            f"one of 75 % by {_points(claims['at equal samples a mask of 75 % is worse'])}.",
            "",
            "**It does not show** that masks are the best use of that time. Patches twice as coarse and images",
            "half as large have as few tokens as the mask of 75 %. Unmasked, they reach that accuracy",
            f"{_told(coarse)} and",
            f"{_told(small)} faster.",
            "",
            f"**Caveats:** {' '.join(read_study(root / 'studies/flip.yaml').caveats)}",
        ]
    )


def _target(data: Mapping[str, Any]) -> float:
    """The best accuracy of the baseline, which the speed-ups are read at."""
    (target,) = {series["costs"]["gpu_hours"]["target"] for series in data["series"]}
    return float(target)


def _best(arm: str, root: Path) -> Reading:
    """The speed-up of an arm at the baseline's best."""
    return readings({"study": "flip", "speedup": arm, "published": "better"}, root)[-1]


def _told(reading: Reading) -> str:
    """'1.90x (95 % CI 1.60 to 2.2)', and whether that could be 1."""
    ends = reading.interval
    unsure = ", not significant" if ends is None or ends[0] <= 1 <= ends[1] else ""
    return f"{reading.number} (95 % CI {reading.certainty}{unsure})"


def _points(claim: Mapping[str, Any]) -> str:
    """'-1.3 points (95 % CI -1.9 to -0.6)', and whether that could be 0."""
    low, high = claim["interval_corrected"]
    unsure = ", not significant" if low <= 0 <= high else ""
    ends = f"{fixed(low, sign=True)} to {fixed(high, sign=True)}"
    return f"{fixed(claim['difference'], sign=True)} points (95 % CI {ends}{unsure})"
