"""Named recipes: settings and couplings that a study with `recipe: flip` or `recipe: openclip` builds on.

The study's own values, in base, axes or couple, win over them. docs/recipes.md lists the substitutes for parts of
FLIP's released code that open_clip's model or program lacks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from flipscale.door.statements import Values


@dataclass(frozen=True)
class Recipe:
    """Settings as a study's base gives them, and couplings as its couple does."""

    base: Values
    couple: Mapping[str, str]


RECIPES: Mapping[str, Recipe] = {
    # FLIP (arXiv 2212.00794, tables 1 and 10, and its released configuration). Its ablations tie the batch to the
    # masked share, so that a step costs about as much memory: 16k, 32k and 64k at 0, 50 and 75 %. Its TPUs multiply
    # fp32 as bf16; on a GPU fp32 takes twice the hours.
    "flip": Recipe(
        base={
            "text_length": 32,
            "crop": 0.5,
            "flip": True,
            "normalization": "imagenet",
            "schedule": "cosine",
            "weight_decay": 0.2,
            "beta1": 0.9,
            "beta2": 0.95,
            "eps": 1e-8,
            "grad_clip": None,
            "precision": "bf16",
        },
        couple={
            "batch_size": "round(16384 / (1 - mask_ratio))",
            "lr": "4e-6 * batch_size / 256",
            "warmup": "min(51200000, samples // 10)",
        },
    ),
    # The defaults of open_clip_train 3.3 for a ViT. Its warm-up is 10,000 steps, whatever the schedule's length; here a
    # tenth of the schedule is the most. Its precision, amp, is left to the study: on a CPU it is slow.
    "openclip": Recipe(
        base={
            "text_length": None,
            "crop": 0.9,
            "flip": False,
            "normalization": "openai",
            "schedule": "cosine",
            "lr": 5e-4,
            "weight_decay": 0.2,
            "beta1": 0.9,
            "beta2": 0.98,
            "eps": 1e-6,
            "grad_clip": None,
        },
        couple={"warmup": "min(10000 * batch_size, samples // 10)"},
    ),
}
