"""Which test items runs got right, from their folders: a bit an item, for the sampling error of the test set."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flipscale.analysis.stats.test_images import Bits
from flipscale.errors import RunFolderError
from flipscale.run import Hits, RunFolder
from flipscale.workspace import Workspace


@dataclass(frozen=True)
class HitsOfRun:
    """Which test items one run got right by one score."""

    items: str
    """The test set in words. Runs with equal words and numbers of items were scored on the same items, in one order."""
    hits: Bits
    """[items]"""

    def is_of_same_items(self, other: "HitsOfRun") -> bool:
        """Whether the two can be paired item by item."""
        return self.items == other.items and len(self.hits) == len(other.hits)


@dataclass(frozen=True)
class HitsFound:
    """The hits of one score in the folders of some runs."""

    runs: Mapping[str, HitsOfRun]
    """By run id, in the order in which they were asked for."""
    missing: Mapping[str, str]
    """Why a run has none, by its id."""


def hits_of(results_root: Path, run_ids: Iterable[str], score: str) -> HitsFound:
    """Which test items these runs got right by `score`, a column of results.csv as `imagenet_v2.zero_shot_top1`.

    One small file a run is read, so a caller names just the runs that it compares. Committed results whose run folders
    are gone, and scores that are not shares of items have none, and `missing` says why.
    """
    workspace = Workspace(results_root)
    runs: dict[str, HitsOfRun] = {}
    missing: dict[str, str] = {}
    for run_id in run_ids:
        folder = RunFolder(workspace.run(run_id))
        try:
            hits = folder.hits()
        except (RunFolderError, OSError) as error:
            missing[run_id] = str(error)
            continue
        if score in hits:
            runs[run_id] = _unpacked(hits[score])
        else:
            missing[run_id] = _why_missing(folder, hits, score)
    return HitsFound(runs, missing)


def _unpacked(hits: Hits) -> HitsOfRun:
    bits = np.unpackbits(np.frombuffer(hits.bits, np.uint8), count=hits.count)
    return HitsOfRun(hits.items, bits.astype(np.bool_))


def _why_missing(folder: RunFolder, hits: Mapping[str, Hits], score: str) -> str:
    if not folder.path.is_dir():
        return "its run folder is gone"
    return f"its hits.json has no {score}" if hits else "its run folder has no hits.json"
