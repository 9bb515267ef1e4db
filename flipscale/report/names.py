"""Names of columns as a reader knows them. Files and programs keep the names of results.csv."""

import re

COLUMN_WORDS = {
    "gpu_hours": "training time",
    "gpu_hours_predicted": "predicted training time",
    "train_flops": "training FLOPs",
    "peak_memory_bytes": "peak memory",
    "flops_per_sample": "FLOPs per sample",
    "samples_seen": "samples seen",
    "unique_pairs": "unique pairs",
}
"""Column of results.csv, and what the page calls it."""

_COLUMN_NAME = re.compile(rf"\b(?:{'|'.join(sorted(COLUMN_WORDS, key=len, reverse=True))})\b")


def readable(words: str) -> str:
    """The words, or HTML made of them, with the names of columns as a reader knows them."""
    return _COLUMN_NAME.sub(lambda found: COLUMN_WORDS[found[0]], words)
