"""What README says of the headline study, from its results files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flipscale.collecting import read_results
from flipscale.study import read_study
from flipscale.words import fixed, short, times
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
    """What the study is, its arms beside the paper's, the figure, what it shows, its primary claims, its limits."""
    data = json.loads((root / "results/plateau/comparison.json").read_text())
    table, study = read_results(root / "results/plateau/results.csv"), read_study(root / "studies/plateau.yaml")
    seeds, hours = table["seed"].nunique(), table["gpu_hours_probed"].sum()
    most, small = (curve(data, arm, "gpu_hours") for arm in ("mask_ratio=0.75, batch_size=256", "image_size=14"))
    at = most["target_at"]
    unmasked = table[table["mask_ratio"].eq(0) & table["image_size"].eq(28)].groupby("samples")["zero_shot_top1"].mean()
    rows = [
        f"| to {fixed(100 * most['target'])} %, the unmasked accuracy after {short(at)} samples "
        "| cost of a sample | samples | speed-up |",
        "|---|---:|---:|---:|",
    ]
    for words, arm in ARMS.items():
        rows.append(_row(words, data, arm, "gpu_hours"))
        if "batch_size" in arm:
            rows.append(
                _row("the same in the paper", figure_3(), f"tuning_samples=0, {arm.partition(',')[0]}", "hours")
            )
    there, tuned = (curve(figure_3(), f"tuning_samples={of}, mask_ratio=0.75", "hours") for of in ("0", "128M"))
    cheaper, samples = there["cheaper_a_sample"]["value"], most["samples"]
    low, high = (cheaper / end for end in reversed(samples["interval"]))
    claims = [
        f"- {claim['claim']}: **{claim['verdict']}**"
        + (f", {factor(claim['difference'])}" if claim["difference"] else f", {claim['why']}")
        for claim in data["claims"]["claims"]
        if claim["family"] == "plateau"
    ]
    paragraphs = (
        f"**FLIP's Fig 3 in miniature** ([studies/plateau.yaml](studies/plateau.yaml): {len(table)} runs on "
        f"Fashion-MNIST, {seeds} seeds, {fixed(hours)} core-hours of training by a probe; "
        "[comparison](results/plateau/comparison.md)):",
        "\n".join(rows),
        "![Accuracy against training time with and without masks](plots/plateau/speedup.png)",
        "**It shows** that masks pay here by their cost a sample alone. A mask of 75 % takes "
        f"{times(samples['value'])}x as many samples, each at 1/{times(most['cheaper_a_sample']['value'])} of the "
        f"cost. At the paper's 1/{times(cheaper)} they would leave a speed-up of {times(cheaper / samples['value'])}x "
        f"({times(low)} to {times(high)}). Small images without a mask, which have as few patches, are "
        f"{factor(small['speedup'])} faster.",
        "**It does not show** what happens where accuracy levels off, as the study asks: another doubling of samples "
        f"still gains {fixed(100 * (unmasked[2 * at] - unmasked[at]))} points. At {short(at)} each image was seen "
        f"{fixed(at / table['unique_pairs'].max())} times. No arm is tuned without a mask at its end, with which the "
        f"paper's 75 % takes {times(tuned['samples']['value'])}x as many samples.",
        "**Claims**, committed before the first run. Above 1 the side named first needs less time, or fewer samples:",
        "\n".join(claims),
        "**Caveats:** Parentheses are 95 % CIs, corrected but for those of samples. Seeds move all cells alike "
        f"(p = {data['head']['seed_effect_p']:.2g}), so they may be too narrow. {' '.join(study.caveats)}",
    )
    return "\n\n".join(paragraphs)


def _row(words: str, data: Mapping[str, Any], arm: str, x: str) -> str:
    """An arm's cost of a sample, and its samples and speed-up to the score, with their CIs where there are any."""
    read = curve(data, arm, x)
    return f"| {words} | {cost_of_a_sample(data, arm, x)} | {factor(read['samples'])} | {factor(read['speedup'])} |"
