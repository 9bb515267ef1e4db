"""Predicted against published memory of trainings of CLIP-like models.

    python -m bench.memory                   write bench/results/memory.json and print the table
    python -m bench.memory --check           write nothing; exit code 1 if a limit does not hold

bench/published/memory.csv has the rows (its columns: bench/published/README.md). If a source says how much of a card
was in use, the prediction is compared with that; if it says only that a training ran on a card, the prediction should
fit. As far as their sources say, all rows were trained with 2-byte values.
"""

import argparse
import csv
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.hours import rounded, share_within
from bench.report import leave, table
from flipscale.cost.arithmetic import memory_bytes
from flipscale.settings.declarations import Resources
from flipscale.settings.devices import DEVICES
from flipscale.study.settings import read_settings

ROWS = Path(__file__).with_name("published") / "memory.csv"

GIB = 2**30

WITHIN = 1.3
"""Every row that says how much was in use is predicted within this factor."""

MEDIAN = (0.9, 1.1)
"""The limits of the median of predicted over published."""


@dataclass(frozen=True)
class Prediction:
    """A row of the result."""

    row: str
    source: str
    device: str
    device_gib: float
    local_batch: int
    checkpointing: bool
    published: float | None
    """GiB in use; None if the source says only that it fits."""
    predicted: float
    ratio: float | None
    fits: bool
    """Whether it is predicted to fit its card."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict, print and keep; with --check 1 if a limit does not hold, else 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a limit does not hold")
    parser.add_argument("--out", default="memory", metavar="NAME", help="keep the result under another name or path")
    asked = parser.parse_args(arguments)
    found = result()
    leave(None if asked.check else asked.out, found, as_markdown(found))
    return 0 if not asked.check or found["summary"]["holds"] else 1


def result(path: Path = ROWS) -> dict[str, Any]:
    """The predictions, and how good they are."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = [predict(row) for row in csv.DictReader(file)]
    ratios = [row.ratio for row in rows if row.ratio is not None]
    only_fit = [row for row in rows if row.ratio is None]
    within, median, fitting = share_within(ratios, WITHIN), statistics.median(ratios), sum(row.fits for row in only_fit)
    summary = {
        "rows": len(ratios),
        f"within_{WITHIN}_times": rounded(within),
        "median_ratio": rounded(median),
        "rows_that_fit": len(only_fit),
        "predicted_to_fit": fitting,
        "holds": within == 1 and MEDIAN[0] <= median <= MEDIAN[1] and fitting == len(only_fit),
    }
    return {"benchmark": "memory", "summary": summary, "rows": [asdict(row) for row in rows]}


def predict(row: Mapping[str, str]) -> Prediction:
    """What the cost model predicts for a row."""
    batch, devices = int(row["local_batch"]), int(row["devices"])
    settings = read_settings(
        {
            "model": row["model"],
            "image_size": int(row["image_size"]),
            "text_length": int(row["text_length"]),
            "mask_ratio": float(row["mask_ratio"]),
            "batch_size": batch * devices,
            "samples": batch * devices,
            "lr": 1e-3,
            "warmup": 0,
            "precision": "bf16",
        }
    )
    is_checkpointed = row["checkpointing"] == "yes"
    resources = Resources(
        gpus=devices,
        device=row["device"],
        activation_checkpointing=is_checkpointed,
        software=int(row["software"]),
    )
    predicted = memory_bytes(settings, resources) / GIB
    used = float(row["used_gib"]) if row["used_gib"] else None
    card = (DEVICES[row["device"]].memory or 0) / GIB
    return Prediction(
        row=row["row"],
        source=row["source"],
        device=row["device"],
        device_gib=card,
        local_batch=batch,
        checkpointing=is_checkpointed,
        published=used,
        predicted=rounded(predicted),
        ratio=None if used is None else rounded(predicted / used),
        fits=predicted <= card,
    )


def as_markdown(found: Mapping[str, Any]) -> str:
    """The table, and under it how good the predictions are."""
    columns = ["training", "local batch", "checkpointing", "card (GiB)", "published (GiB)", "predicted", "ratio"]
    rows = [
        [
            row["row"],
            row["local_batch"],
            "yes" if row["checkpointing"] else "no",
            f"{row['device']} ({row['device_gib']:.0f})",
            "fits" if row["published"] is None else f"{row['published']:g}",
            f"{row['predicted']:.1f}",
            "" if row["ratio"] is None else f"{row['ratio']:.2f}",
        ]
        for row in found["rows"]
    ]
    of = found["summary"]
    return (
        table(columns, rows) + f"\nThe ratio is predicted over published. {of[f'within_{WITHIN}_times']:.0%} of "
        f"{of['rows']} rows are within {WITHIN} times, their median is {of['median_ratio']:.2f} ({MEDIAN[0]} to "
        f"{MEDIAN[1]}); {of['predicted_to_fit']} of {of['rows_that_fit']} trainings that ran on a card are predicted "
        f"to fit it: {'holds' if of['holds'] else 'DOES NOT HOLD'}.\n"
    )


if __name__ == "__main__":
    raise SystemExit(main())
