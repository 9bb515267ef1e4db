"""What README says of the headline study, from its results files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flipscale.collecting import read_results
from flipscale.study import read_study
from flipscale.words import fixed, short
from tests.findings import cost_of_a_sample, curve, factor, figure_3

ROOT = Path(__file__).parents[1]

ARMS = {
    "mask 50 %, twice the batch": "mask_ratio=0.5, batch_size=128",
    "mask 75 %, four times the batch": "mask_ratio=0.75, batch_size=256",
    "mask 50 %, equal batch": "mask_ratio=0.5",
    "mask 75 %, equal batch": "mask_ratio=0.75",
    "small images, as few patches as 75 %": "image_size=14",
}
"""The rows, and their arms in plateau.yaml. The first two are those of the paper's Fig 3."""


def headline(root: Path = ROOT) -> str:
    """What the study is, its arms beside the paper's, the figure, its primary claims and its caveats."""
    data = json.loads((root / "results/plateau/comparison.json").read_text())
    table, study = read_results(root / "results/plateau/results.csv"), read_study(root / "studies/plateau.yaml")
    seeds, hours = table["seed"].nunique(), table["gpu_hours_probed"].sum()
    target = curve(data, ARMS["small images, as few patches as 75 %"], "gpu_hours")
    seen = target["target_at"] / table["unique_pairs"].max()
    rows = [
        f"| to {fixed(100 * target['target'])} %, the unmasked accuracy after {short(target['target_at'])} samples "
        "| cost of a sample | samples | speed-up |",
        "|---|---:|---:|---:|",
    ]
    for words, arm in ARMS.items():
        rows.append(_row(words, data, arm, "gpu_hours"))
        if "batch_size" in arm:
            rows.append(
                _row("the same in the paper", figure_3(), f"tuning_samples=0, {arm.partition(',')[0]}", "hours")
            )
    claims = [
        f"- {claim['claim']}: **{claim['verdict']}**"
        + (f", {factor(claim['difference'])}" if claim["difference"] else f", {claim['why']}")
        for claim in data["claims"]["claims"]
        if claim["family"] == "plateau"
    ]
    paragraphs = (
        f"**FLIP's Fig 3 in miniature, where accuracy levels off** ([studies/plateau.yaml](studies/plateau.yaml): "
        f"{len(table)} runs on Fashion-MNIST, {seeds} seeds, {fixed(hours)} core-hours of training by a probe; "
        f"[comparison](results/plateau/comparison.md)). The baseline sees each image {fixed(seen)} times:",
        "\n".join(rows),
        "![Accuracy against training time with and without masks](plots/plateau/speedup.png)",
        "**Claims**, committed before the first run, with factors of time or samples (95 % CIs, corrected):",
        "\n".join(claims),
        f"**Caveats:** {' '.join(study.caveats)}",
    )
    return "\n\n".join(paragraphs)


def _row(words: str, data: Mapping[str, Any], arm: str, x: str) -> str:
    """An arm's cost of a sample, and its samples and speed-up to the score, with their CIs where there are any."""
    read = curve(data, arm, x)
    return f"| {words} | {cost_of_a_sample(data, arm, x)} | {factor(read['samples'])} | {factor(read['speedup'])} |"
