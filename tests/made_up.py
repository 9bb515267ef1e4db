"""Results that follow a law exactly: to see whether a figure shows it."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from flipscale.collecting import COLUMNS
from flipscale.door.columns import COLUMN_DTYPES
from flipscale.words import short

GROWTH = 0.22 / (0.13 + 0.22)
"""The exponent of the best size against the budget under the law of `isoflop_runs`: b / (a + b)."""


def table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Rows as `read_results` would give them."""
    return pd.DataFrame(
        {name: pd.Series([row.get(name) for row in rows], dtype=COLUMN_DTYPES[c.kind]) for name, c in COLUMNS.items()}
    )


def isoflop_runs() -> pd.DataFrame:
    """Models of seven sizes at four budgets of FLOPs, error = 0.12 + 3 G^-0.13 + 6 S^-0.22, without and with a mask."""
    rows = []
    for width, depth in ((64, 4), (96, 5), (128, 6), (192, 8), (256, 10), (384, 12), (512, 16)):
        for budget in (4e15, 1.2e16, 4e16, 1.2e17):
            for mask in (0.0, 0.5):
                size = width * width * depth * 2e3 * (1 - 0.45 * mask)
                samples = int(budget / size)
                error = 0.12 + 3 * size**-0.13 + 6 * samples**-0.22 * (1 + 0.3 * mask)
                model = f"ViT-w{width}d{depth}-4"
                rows.append(
                    {
                        "id": f"{model}-{samples}-{mask}",
                        "study": "made-up",
                        "cell": f"model={model}, samples={short(samples)}",
                        "model": model,
                        "samples": samples,
                        "mask_ratio": mask,
                        "seed": 0,
                        "flops_per_sample": size,
                        "samples_seen": samples,
                        "train_flops": size * samples,
                        "zero_shot_top1": 1 - error,
                        "device": "made up",
                    }
                )
    return table(rows)
