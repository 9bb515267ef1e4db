"""docs/findings.md: what a masked sample costs, how many more it takes, when a mask is ahead; each with a figure."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from docs.parts.findings import cost_of_a_sample, curve, factor, figure_3, unstated
from docs.parts.studies import at_budgets, in_points
from flipscale.analysis.plotting.style import RC
from flipscale.collecting import read_results
from flipscale.settings.architecture import architecture
from flipscale.words import fixed, times

ROOT = Path(__file__).parents[2]

BLUE = "#0072B2"
RED = "#D55E00"
GREY = "#8a8a8a"
COLOURS = {0.5: BLUE, 0.75: RED}

ARMS = {
    "75 %, four times the batch": ("mask_ratio=0.75, batch_size=256", RED, "--"),
    "75 %": ("mask_ratio=0.75", RED, "-"),
    "50 %, twice the batch": ("mask_ratio=0.5, batch_size=128", BLUE, "--"),
    "50 %": ("mask_ratio=0.5", BLUE, "-"),
}
"""Of plateau, in the order in which their lines lie."""

PAPER = {0.5: "tuning_samples=0, mask_ratio=0.5", 0.75: "tuning_samples=0, mask_ratio=0.75"}


def cheaper() -> str:
    """How much cheaper a masked sample is, and on what that depends."""
    plateau = _comparison("plateau")
    half, most = (cost_of_a_sample(plateau, f"mask_ratio={mask}", "gpu_hours") for mask in (0.5, 0.75))
    there = [cost_of_a_sample(figure_3(), PAPER[mask], "hours") for mask in (0.5, 0.75)]
    few = costs("isoflop_tuned", 0.5)
    ends = [f"1/{times(few[width])}" for width in (min(few), max(few))]
    return "\n".join(
        [
            f"A mask of 50 % leaves {half} of the cost and one of 75 % {most}, with the paper's 196 patches in a model "
            f"{_width('plateau')} wide. In the paper's ViT-L/16 they leave {there[0]} and {there[1]}. It depends on",
            "",
            f"- **patches and width.** Attention is {_attention('ViT-w48d3-2', 28)} % of the block operations of "
            f"plateau's model, and {_attention('ViT-L-16', 224)} % of ViT-L/16's. Attention costs the square "
            "of the patches, so a narrow model saves more than a wide one.",
            f"- **what a mask leaves.** The text tower and each step's overhead stay. With 49 patches 50 % leaves "
            f"{ends[0]} at a width of {min(few)}, and {ends[1]} at {max(few)}.",
            "",
            "![How many times cheaper a masked sample is, by the width of the model](images/cheaper.svg)",
            "",
        ]
    )


def more() -> str:
    """How many more samples a mask takes."""
    data = _comparison("plateau")
    half = factor(curve(data, "mask_ratio=0.5", "gpu_hours")["samples"])
    scores: dict[str, object] = {"83": 0.83, "best": {"samples": "256k"}}
    mask = {"mask_ratio": 0.75, "batch_size": 64}
    both = {"mask_ratio": 0.75, "batch_size": 256}
    found = unstated(
        "plateau",
        {
            name + at: {"left": left, "right": right, "expect": "fewer_samples", "score": score}
            for name, left, right in (("mask", mask, {"mask_ratio": 0}), ("batch", both, mask))
            for at, score in scores.items()
        },
    )
    there = [times(curve(figure_3(), PAPER[ratio], "hours")["samples"]["value"]) for ratio in (0.5, 0.75)]
    flip = [curve(_comparison("flip"), f"mask_ratio={mask}, tuning=1.6k", "gpu_hours") for mask in (0.5, 0.75)]
    tuned = [curve(figure_3(), f"tuning_samples=128M, mask_ratio={mask}", "hours") for mask in (0.5, 0.75)]
    all_of_it = [
        point["samples"] for point in curve(data, ARMS["75 %, four times the batch"][0], "gpu_hours")["speedup_curve"]
    ]
    return "\n".join(
        [
            f"At equal batch a mask of 50 % takes {half} as many samples to "
            f"{fixed(100 * curve(data, 'mask_ratio=0.5', 'gpu_hours')['target'])} %, and one of 75 % "
            f"{factor(found['mask83'])} to 83 % ([plateau](studies.md#plateau-flips-fig-3-in-miniature)). In the "
            f"paper, with larger batches, they take {there[0]}x and {there[1]}x. It depends on",
            "",
            f"- **the larger batch,** which costs samples where few steps are left: four times the batch takes "
            f"{factor(found['batch83'])} more at 83 %, and {factor(found['batchbest'])} at the best unmasked accuracy. "
            f"So mask and batch together fall from {times(all_of_it[0])}x to {times(all_of_it[-1])}x as training "
            "lengthens (exploratory).",
            f"- **tuning without a mask** at the end: {_both(flip)} here (flip, short schedules), {_both(tuned)} in "
            "the paper.",
            f"- **repeats.** At equal samples 50 % loses {_gain('fashion', '60k')} points where images are seen once "
            f"at most, and gains {_gain('fashion', '250')} where they are seen 128 times; with crops and mirroring it "
            f"loses even there ({_cropped()}).",
            "",
            "![How many times as many samples a mask takes, by the accuracy that is reached](images/more.svg)",
            "",
        ]
    )


def ahead() -> str:
    """When a mask is ahead at equal compute."""
    verdicts = {claim["claim"]: claim["verdict"] for claim in _claims()}
    assert list(verdicts.values()) == ["holds", "holds", "undecided", "undecided", "undecided", "holds"], verdicts
    rise, rise_of_many, *_, fewer, lead = (claim["difference"] for claim in _claims())
    (*_, (_, last)) = at_budgets("when_masks_pay")
    assert last["left"]["data_size"] == 60_000
    repeats, budget = at_equal_size()
    most = curve(_comparison("plateau"), "mask_ratio=0.75, batch_size=256", "gpu_hours")["speedup"]
    small = curve(_comparison("plateau"), "image_size=14", "gpu_hours")["speedup"]
    return "\n".join(
        [
            "**At equal FLOPs a mask of 50 % is not ahead at small budgets, and is at the largest where 7,500 images "
            "repeat** ([when_masks_pay](studies.md#when_masks_pay-a-large-budget-or-repeated-images): 240 runs, 5 "
            "seeds, rates tuned, claims committed before the first run). With each side at its best size, its gain "
            "rises",
            "",
            f"- with 7,500 images by {in_points(rise)} points a doubling of the budget, to {in_points(lead)} at 4e12, "
            "where models without a mask overfit;",
            f"- with 60,000 by {in_points(rise_of_many)} a doubling, to "
            f"{fixed(last['difference']['value'], sign=True)}.",
            "",
            "Whether it is smaller with more images is undecided at each budget. At the largest "
            f"({in_points(fewer)}) it had been judged so, before CIs at the best size were corrected, which was after "
            "the results ([log](log.md#cis-at-the-best-size-2026-12-04)). At a fixed size repeats count: "
            f"{_range(repeats)} points a doubling of them, and {_range(budget)} a doubling of the budget at equal "
            "repeats (three sizes, exploratory). The best size grows with the budget, and a larger model saves more by "
            "a mask. Equal FLOPs are not equal time: by a probe no size is significantly faster with a mask.",
            "",
            "![What a mask of 50 % gains at equal FLOPs, by the budget and the images](images/ahead.svg)",
            "",
            f"With 196 patches a mask of 75 % is {factor(most)} as fast to the unmasked accuracy, by its cost a sample "
            f"alone; small images are {factor(small)} as fast.",
            "",
        ]
    )


def at_equal_size() -> tuple[list[float], list[float]]:
    """What the gain of a mask changes by, in points, for a doubling of repeats and of the budget, at each smaller size.

    Least squares over three budgets and two numbers of images, seeds averaged. The largest size is left out, which is
    undertrained at the smallest budget without a mask.
    """
    table = read_results(ROOT / "results/when_masks_pay/results.csv")
    table = table.assign(budget=(table["train_flops"] / 2.5e11).round())
    means = 100 * table.groupby(["model", "budget", "data_size", "mask_ratio"])["zero_shot_top1"].mean().unstack()
    gains = (means[0.5] - means[0.0]).rename("gain").reset_index()
    slopes = []
    for _, rows in gains[gains["model"] != "ViT-w48d3-4"].groupby("model"):
        budget = np.log2(rows["budget"])
        fewer = -np.log2(rows["data_size"])
        by_budget, by_fewer, _ = np.linalg.lstsq(np.stack([budget, fewer, budget * 0 + 1], 1), rows["gain"])[0]
        slopes.append((by_fewer, by_budget - by_fewer))
    repeats, budgets = zip(*slopes, strict=True)
    return list(repeats), list(budgets)


def costs(study: str, mask: float) -> dict[int, float]:
    """How many times cheaper a masked sample is at equal batch, by the width of the model; the mean over depths."""
    table = read_results(ROOT / f"results/{study}/results.csv")
    table = table[table["batch_size"].eq(64) & table["image_size"].eq(28)]
    table = table.assign(cost=table["gpu_hours_probed"].fillna(table["gpu_hours"]) / table["samples_seen"])
    means = table.groupby(["model", "mask_ratio"])["cost"].mean().unstack()
    ratios = pd.Series(means[0.0] / means[mask])
    return dict(ratios.groupby([architecture(model, 28).image.width for model in ratios.index]).mean())


def draw() -> None:
    """The three figures, into docs/images."""
    for name, picture in (("cheaper", _draw_cheaper), ("more", _draw_more), ("ahead", _draw_ahead)):
        with mpl.rc_context({**RC, "svg.hashsalt": name}):  # type: ignore[dict-item]
            figure, ax = plt.subplots(figsize=(5.6, 2.9), layout="constrained")
            picture(ax)
            figure.savefig(ROOT / f"docs/images/{name}.svg", metadata={"Date": None})
            plt.close(figure)


def _draw_cheaper(ax: Axes) -> None:
    for mask, colour in COLOURS.items():
        word = f"{100 * mask:.0f} %"
        many = costs("plateau", mask)
        ax.plot(list(many), list(many.values()), "s", color=colour, label=f"{word}, 196 patches (plateau)")
        few = costs("isoflop_tuned" if mask == 0.5 else "fashion", mask)
        study = "isoflop_tuned" if mask == 0.5 else "fashion"
        ax.plot(list(few), list(few.values()), "o-", color=colour, label=f"{word}, 49 patches ({study})")
        there = curve(figure_3(), PAPER[mask], "hours")["cheaper_a_sample"]["value"]
        ax.plot([1024], [there], "*", color=colour, markersize=10, label=f"{word}, ViT-L/16 (the paper)")
    ax.set_xscale("log", base=2)
    ax.set_xticks([16, 32, 64, 128, 256, 512, 1024], labels=["16", "32", "64", "128", "256", "512", "1024"])
    ax.set_xlabel("width of the image tower")
    ax.set_ylabel("times cheaper a sample")
    ax.set_ylim(1, 5.5)
    ax.legend(fontsize=7, loc="upper right")


def _draw_more(ax: Axes) -> None:
    data = _comparison("plateau")
    for word, (arm, colour, dashes) in ARMS.items():
        points = curve(data, arm, "gpu_hours")["speedup_curve"]
        scores = [100 * point["score"] for point in points]
        ax.plot(scores, [point["samples"] for point in points], dashes, color=colour, label=word)
        known = [point for point in points if point["samples_interval"][0] and point["samples_interval"][1]]
        ends = list(zip(*(point["samples_interval"] for point in known), strict=True))
        ax.fill_between([100 * point["score"] for point in known], *ends, color=colour, alpha=0.12, linewidth=0)
    ax.axhline(1, color="black", linewidth=1)
    ax.set_xlabel("accuracy that both reach, %")
    ax.set_ylabel("times as many samples")
    ax.set_ylim(0.8, 3.4)
    ax.legend(fontsize=7, loc="upper right")


def _draw_ahead(ax: Axes) -> None:
    now, before = at_budgets("when_masks_pay"), at_budgets("isoflop_tuned")
    lines = [
        (now[:3], RED, "o-", "7,500 images (when_masks_pay, 5 seeds)"),
        (now[3:], BLUE, "o-", "60,000 images (when_masks_pay, 5 seeds)"),
        (before, GREY, "o:", "60,000 images (isoflop_tuned, 3 seeds)"),
    ]
    for points, colour, marks, word in lines:
        found = [point["difference"] for _, point in points]
        gains = [each["value"] for each in found]
        below = [each["value"] - each["interval"][0] for each in found]
        above = [each["interval"][1] - each["value"] for each in found]
        ax.errorbar([at for at, _ in points], gains, [below, above], fmt=marks, color=colour, capsize=3, label=word)
    ax.axhline(0, color="black", linewidth=1)
    ax.set_xscale("log")
    ax.set_xticks([1e11, 2.5e11, 1e12, 4e12], labels=["1e11", "2.5e11", "1e12", "4e12"])
    ax.minorticks_off()
    ax.set_xlabel("training FLOPs, each side at its best size")
    ax.set_ylabel("gain of a mask of 50 %, points")
    ax.legend(fontsize=7, loc="upper left")


def _both(curves: list[dict[str, Any]]) -> str:
    return " and ".join(f"{times(each['samples']['value'])}x" for each in curves)


def _gain(study: str, pairs: str) -> str:
    cell = f"model=ViT-w48d3-4, data_size={pairs}, samples=32k"
    return fixed(abs(100 * _pair(study, cell)["value"]))


def _cropped() -> str:
    found = _pair("augmentation", "crop=0.5, flip=true")
    low, high = (100 * end for end in found["interval_corrected"])
    return f"{fixed(100 * found['value'], sign=True)}, {fixed(low, sign=True)} to {fixed(high, sign=True)}"


def _pair(study: str, cell: str) -> Mapping[str, Any]:
    pairs = _comparison(study)["pairs"]
    return next(each["gain"] for each in pairs if (each["cell"], each["arm"]) == (cell, "mask_ratio=0.5"))


def _width(study: str) -> int:
    (model,) = read_results(ROOT / f"results/{study}/results.csv")["model"].unique()
    return architecture(model, 28).image.width


def _attention(model: str, size: int) -> str:
    """The share of attention in the operations of a block, in percent."""
    tower = architecture(model, size).image
    attention = 4 * (tower.patches + 1)
    rest = 8 * tower.width + 4 * tower.mlp_width
    return fixed(100 * attention / (attention + rest), 0)


def _claims() -> list[dict[str, Any]]:
    return list(_comparison("when_masks_pay")["claims"]["claims"])


def _range(numbers: Sequence[float]) -> str:
    return f"{min(numbers):+.2f} to {max(numbers):+.2f}"


def _comparison(name: str) -> dict[str, Any]:
    return dict(json.loads((ROOT / f"results/{name}/comparison.json").read_text()))
