"""Which findings of FLIP's Table 1 hold in studies/recipe.yaml: reads its results.csv, prints Markdown.

    python studies/recipe_claims.py results/recipe/results.csv > results/recipe/claims.md

Each claim is a difference of accuracies, in points, taken seed by seed and then averaged, with its 95 % t interval. A
claim holds if the interval lies above 0, fails if it lies below, and is undecided if it holds 0.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import t

from flipscale.collect import read_results

SCORE = "zero_shot_top1"

PLAIN = {
    "mask_ratio": 0.0,
    "batch_size": 64,
    "text_mask_ratio": 0.0,
    "text_mask": "prioritised",
    "inference": "full",
    "tuning": None,
    "reconstruction": None,
    "mask_shape": "random",
}
"""What is not said of a run below."""

TUNED = "1.6k"
TUNED_AT_A_TENTH = "(samples=1.6k, lr=0.0001)"


def accuracy(results: pd.DataFrame, **settings: Any) -> "pd.Series[float]":
    """The accuracy in points of the runs with these settings, by seed."""
    rows = results
    for name, value in {**PLAIN, **settings}.items():
        rows = rows[rows[name].isna() if value is None else rows[name] == value]
    assert rows["seed"].is_unique, f"several runs of a seed are {settings}"
    assert not rows.empty, f"no run is {settings}"
    return 100 * rows.set_index("seed")[SCORE]


def claims(results: pd.DataFrame) -> list[tuple[str, str, "pd.Series[float]"]]:
    """What the paper found, its numbers, and the difference here that is above 0 if it holds, by seed."""

    def at(mask: float, **settings: Any) -> "pd.Series[float]":
        return accuracy(results, mask_ratio=mask, **settings)

    def lost_by_masked_inference(mask: float) -> "pd.Series[float]":
        return at(mask) - at(mask, inference="masked")

    def won_by_tuning(mask: float, tuning: str) -> "pd.Series[float]":
        return at(mask, tuning=tuning) - at(mask)

    def text(way: str) -> "pd.Series[float]":
        return at(0.75, text_mask_ratio=0.5, text_mask=way)

    return [
        ("50 % costs accuracy per sample, at equal batch", "68.6 to 68.5", at(0.0) - at(0.5)),
        ("75 % costs more", "68.5 to 65.8", at(0.5) - at(0.75)),
        *(
            (f"a batch four times as large helps at {mask:.0%}", paper, at(mask, batch_size=256) - at(mask))
            for mask, paper in ((0.0, "-"), (0.5, "+1.9"), (0.75, "+2.4"))
        ),
        ("masked inference is worse at 50 %", "-3.2", lost_by_masked_inference(0.5)),
        ("masked inference is worse at 75 %", "-7.3", lost_by_masked_inference(0.75)),
        ("... and more so than at 50 %", "4.1 more", lost_by_masked_inference(0.75) - lost_by_masked_inference(0.5)),
        (
            "an ensemble of masks is better than one, 50 %",
            "+1.7",
            at(0.5, inference="ensemble") - at(0.5, inference="masked"),
        ),
        (
            "an ensemble of masks is better than one, 75 %",
            "+4.2",
            at(0.75, inference="ensemble") - at(0.75, inference="masked"),
        ),
        ("no mask at inference is better than an ensemble, 50 %", "+1.5", at(0.5) - at(0.5, inference="ensemble")),
        ("no mask at inference is better than an ensemble, 75 %", "+3.1", at(0.75) - at(0.75, inference="ensemble")),
        *(
            row
            for tuning, how in ((TUNED, "a hundredth of lr"), (TUNED_AT_A_TENTH, "a tenth of lr"))
            for row in (
                (f"tuning helps 50 % ({how})", "+0.5", won_by_tuning(0.5, tuning)),
                (f"tuning helps 75 % ({how})", "+1.3", won_by_tuning(0.75, tuning)),
                ("... and more than 50 %", "0.8 more", won_by_tuning(0.75, tuning) - won_by_tuning(0.5, tuning)),
            )
        ),
        ("random text masking is worse than none, at 75 %", "-2.2", at(0.75) - text("random")),
        ("... and worse than prioritised", "-1.8", text("prioritised") - text("random")),
        ("prioritised text masking is worse than none", "-0.4", at(0.75) - text("prioritised")),
        *(
            (f"reconstruction does not help at {mask:.0%}", paper, at(mask) - at(mask, reconstruction="on"))
            for mask, paper in ((0.5, "-0.2"), (0.75, "-0.3"))
        ),
        *(
            (f"random masks are better than a {shape}, at {mask:.0%}", "-", at(mask) - at(mask, mask_shape=shape))
            for mask in (0.5, 0.75)
            for shape in ("grid", "block")
        ),
    ]


def verdict(difference: "pd.Series[float]") -> tuple[str, str]:
    """The mean difference with its 95 % interval over seeds, and what follows."""
    seeds, mean = len(difference), difference.mean()
    half = t.ppf(0.975, seeds - 1) * difference.std(ddof=1) / seeds**0.5
    said = "holds" if mean - half > 0 else "does not hold" if mean + half < 0 else "undecided"
    return f"{mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f})", said


def markdown(results: pd.DataFrame) -> str:
    rows: list[Mapping[str, str]] = []
    for claim, paper, difference in claims(results):
        number, said = verdict(difference.dropna())
        rows.append({"claim": claim, "paper": paper, "here": number, "": said})
    seeds = results["seed"].nunique()
    model, data = results["model"].iloc[0], results["data"].iloc[0]
    head = (
        f"# FLIP's Table 1 in miniature\n\n{model} on {data}, {len(results)} runs, {seeds} seeds; the paper has "
        "ViT-L/16 on LAION-400M, one run a cell.\nDifferences of zero-shot accuracy in points, seed by seed, with "
        "the 95 % interval over seeds; above 0 is as the paper found.\n\n"
    )
    lines = ["| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
    return head + "\n".join([*lines, *("| " + " | ".join(row.values()) + " |" for row in rows)]) + "\n"


if __name__ == "__main__":
    print(markdown(read_results(Path(sys.argv[1]))), end="")
