"""What each verb takes on a study of 10,000 runs: plan, status, collect, plot, compare and report.

    python -m bench.large_study --out large_study

The study is a full grid of 10 models, 5 data sizes, 8 schedules, 5 mask ratios and 5 seeds. Its folders are filled as
training fills them (bench/run_folders.py), with scores that follow a law with scatter, so that figures and laws have
something to draw. Then each verb runs as a user runs it, from Python's start to its end. Other work on the machine can
only add time, so the least of --repeats is printed; the file has all.
"""

import argparse
import math
import os
import random
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import run_folders
from bench.report import leave, limit, machine, machine_words, seconds_limit, table
from bench.verbs import run_verb, took
from flipscale.planning.runs import Run

STUDY = """\
schema: 1
question: How comfortable is a large study?
base: {{data: shapes, batch_size: 64, text_length: 16, lr: 1e-3}}
axes:
  model: [ViT-w16d1-4, ViT-w16d2-4, ViT-w32d1-4, ViT-w32d2-4, ViT-w48d2-4,
          ViT-w48d3-4, ViT-w64d3-4, ViT-w64d4-4, ViT-w96d4-4, ViT-w128d4-4]
  data_size: [1k, 4k, 16k, 64k, 256k]
  samples: [4k, 8k, 16k, 32k, 64k, 128k, 256k, 512k]
  mask_ratio: [0, 0.25, 0.5, 0.625, 0.75]
seeds: {seeds}
baseline: {{mask_ratio: 0}}
score: zero_shot_top1
"""

CELLS = 2000

VERBS = (["plan"], ["status"], ["collect", "--no-mlflow"], ["plot"], ["compare"], ["report"])

LIMITS = {"plan": 1.0, "status": 1.0, "plot": 10.0}
"""Wall seconds that a verb may take on 10,000 runs, on 2 cores."""

REPORT_BYTES = 10_000_000


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and print; the facts that --out writes are returned."""
    parser = argparse.ArgumentParser(prog="python -m bench.large_study", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help=f"of each of {CELLS:,} cells")
    parser.add_argument("--records", type=int, default=200, help="lines of loss in each metrics.jsonl")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="an empty folder for what is made, which is kept; a temporary one")
    parser.add_argument("--out", metavar="NAME", help="keep the result in bench/results/NAME.json, or in a path .json")
    asked = parser.parse_args(arguments)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        planned = run_folders.planned_study(folder, STUDY.format(seeds=asked.seeds))
        run_folders.fill(folder / "results", planned, asked.records, lawful)
        verbs = measure(folder, asked.repeats)
        figures = len(list((folder / "plots").rglob("*.svg")))
        page = (folder / "plots/study/report.html").stat().st_size
    facts: dict[str, Any] = {
        "benchmark": "large_study",
        "machine": machine() | {"load": round(load, 1)},
        "runs": len(planned.runs),
        "records": asked.records,
        "repeats": asked.repeats,
        "verbs": verbs,
        "figures": figures,
        "report_bytes": page,
    }
    facts["limits"] = limits(facts)
    leave(asked.out, facts, as_markdown(facts))
    return facts


def measure(folder: Path, repeats: int) -> dict[str, list[dict[str, Any]]]:
    """What each verb took, `repeats` times; the tables are deleted before each turn."""
    verbs: dict[str, list[dict[str, Any]]] = {}
    for _ in range(repeats):
        shutil.rmtree(folder / "results/study", ignore_errors=True)
        for verb, *options in VERBS:
            verbs.setdefault(verb, []).append(run_verb(verb, folder, *options))
    return verbs


def lawful(run: Run, name: str, draw: random.Random) -> float:
    """A score whose odds are a power of model size, samples and unique pairs, with scatter; masks cost samples."""
    settings = run.settings
    seen = run.cost.samples_seen * (1 - settings.mask_ratio) ** 0.4
    size = run.cost.flops_per_sample / (1 - 0.7 * settings.mask_ratio)
    logit = 0.25 * math.log(size / 1e7) + 0.4 * math.log(seen / 32_000) + 0.1 * math.log(settings.data_size / 64_000)
    logit += draw.gauss(0.5, 0.05)
    return 3 * math.exp(-0.2 * logit) if name.endswith("loss") else 1 / (1 + math.exp(-logit))


def limits(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    """The limits for 10,000 runs, and whether they hold; with fewer runs they prove less."""
    size = facts["report_bytes"]
    page = limit("report.html", f"{REPORT_BYTES / 1e6:g} MB", f"{size / 1e6:.1f} MB", size < REPORT_BYTES)
    return [*(seconds_limit(f"flipscale {verb}", most, facts["verbs"][verb]) for verb, most in LIMITS.items()), page]


def as_markdown(facts: Mapping[str, Any]) -> str:
    rows = [[f"flipscale {verb}", *took(runs)] for verb, runs in facts["verbs"].items()]
    return (
        table(["what", "wall s", "CPU s", "peak MiB"], rows)
        + f"\n{facts['runs']:,} runs of {facts['records']} records and 40 scores, {facts['figures']} figures in three "
        + f"formats. Each is the least of {facts['repeats']}, memory the most.\n\n"
        + table(["limit", "is", "measured", ""], [list(one.values()) for one in facts["limits"]])
        + f"\n{machine_words(facts['machine'])}"
    )


if __name__ == "__main__":
    main()
