"""What docs/studies.md says of plateau, from its results files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flipscale.collecting import read_results
from flipscale.study import read_study
from flipscale.words import fixed, short, times
from tests.findings import cost_of_a_sample, curve, factor, figure_3, many

ROOT = Path(__file__).parents[1]

ARMS = {
    "mask 50 %, twice the batch": "mask_ratio=0.5, batch_size=128",
    "mask 75 %, four times the batch": "mask_ratio=0.75, batch_size=256",
    "mask 50 %, equal batch": "mask_ratio=0.5",
    "mask 75 %, equal batch": "mask_ratio=0.75",
    "small images, as few patches as 75 %": "image_size=14",
}
"""The rows, and their arms in plateau.yaml. The first two are those of the paper's Fig 3."""


def answer(root: Path = ROOT) -> str:
    """What the study is, its arms beside the paper's, the figure, what it shows, its primary claims, its limits."""
    data = json.loads((root / "results/plateau/comparison.json").read_text())
    table, study = read_results(root / "results/plateau/results.csv"), read_study(root / "studies/plateau.yaml")
    seeds, hours = table["seed"].nunique(), table["gpu_hours_probed"].sum()
    most = curve(data, "mask_ratio=0.75, batch_size=256", "gpu_hours")
    at = most["target_at"]
    unmasked = table[table["mask_ratio"].eq(0) & table["image_size"].eq(28)].groupby("samples")["zero_shot_top1"].mean()
    paper = {ratio: curve(figure_3(), f"tuning_samples=0, mask_ratio={ratio}", "hours") for ratio in ("0.5", "0.75")}
    rows = [
        f"| to no mask's accuracy after {short(at)} samples, {fixed(100 * most['target'])} % "
        "| cost of a sample | samples | speed-up |",
        "|---|---:|---:|---:|",
    ]
    for words, arm in ARMS.items():
        rows.append(_row(words, data, arm, "gpu_hours"))
        if "batch_size" in arm:
            ratio = arm.partition(",")[0]
            there = paper[ratio.removeprefix("mask_ratio=")]
            words = f"the same in the paper, to {fixed(there['target'])} % after {short(there['target_at'])}"
            rows.append(_row(words, figure_3(), f"tuning_samples=0, {ratio}", "hours"))
    cheaper, samples = paper["0.75"]["cheaper_a_sample"]["value"], most["samples"]
    tuned = curve(figure_3(), "tuning_samples=128M, mask_ratio=0.75", "hours")["samples"]["value"]
    low, high = (cheaper / end for end in reversed(samples["interval"]))
    stated = [claim for claim in data["claims"]["claims"] if claim["family"] == "plateau"]
    (ahead,) = (claim for claim in stated if claim["left"]["image_size"] == 14)
    gains = [100 * (unmasked[2 * n] - unmasked[n]) for n in (at, at // 2)]
    paragraphs = (
        f"**After FLIP's Fig 3, untuned** ([studies/plateau.yaml](../studies/plateau.yaml): {len(table)} runs on "
        f"Fashion-MNIST, {seeds} seeds, {fixed(hours)} core-hours of training, as a probe timed them; "
        "[comparison](../results/plateau/comparison.md)):",
        "\n".join(rows),
        "![Accuracy against training time with and without masks](../plots/plateau/speedup.svg)",
        "**It shows** that the mask pays here by its cost a sample alone. 75 % with four times the batch "
        f"is {times(most['speedup']['value'])}x as fast: it takes {times(samples['value'])}x as many samples, each "
        f"at 1/{times(most['cheaper_a_sample']['value'])} of the cost. At the paper's 1/{times(cheaper)} that would "
        f"leave {times(cheaper / samples['value'])}x ({times(low)} to {times(high)}). It is not the cheapest way to "
        f"see fewer patches: small images without a mask are {factor(ahead['difference'])} as fast as it.",
        "**It does not show** what the study asks, what happens where accuracy levels off: the last doubling of "
        f"samples gains {fixed(gains[0])} points without a mask, the one before {fixed(gains[1])}. Nor does any arm "
        "end with the paper's short tuning without a mask, with which its 75 % takes "
        f"{times(tuned)}x as many samples.",
        "**Claims**, committed before the sweep of rates. Of time, a factor above 1 speaks for the claim:",
        "\n".join(map(_claim, stated)),
        "**Caveats:** Parentheses are 95 % CIs, corrected (Holm) but for the table's samples and the speed-up at the "
        "paper's cost. In one arm seeds move all cells alike (the smallest p of the arms is "
        f"{data['head']['seed_effect_p']:.2g}), so CIs may be too narrow. {' '.join(study.caveats)}",
    )
    return "\n\n".join(paragraphs)


def _claim(claim: Mapping[str, Any]) -> str:
    found = claim["difference"]
    if claim["expect"] == "fewer_samples":
        said = f"it takes {factor(many(found, 'interval_corrected'))} as many"
    else:
        said = f"{'the ratio of the two is ' if claim['than'] else ''}{factor(found)}"
    return f"- {claim['claim']}: **{claim['verdict']}**, {said}"


def _row(words: str, data: Mapping[str, Any], arm: str, x: str) -> str:
    """An arm's cost of a sample, and its samples and speed-up to the score, with their CIs where there are any."""
    read = curve(data, arm, x)
    return f"| {words} | {cost_of_a_sample(data, arm, x)} | {factor(read['samples'])} | {factor(read['speedup'])} |"
