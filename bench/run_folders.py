"""Synthetic run folders: a study of many cells, each filled as training fills it, with numbers drawn from its id.

    python -m bench.run_folders DIR --runs 10000

DIR gets study.yaml and results/runs/ID/. Numbers differ from run to run and from record to record, so that tables
compress no better than those of real trainings. The same arguments give the same bytes.
"""

import argparse
import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flipscale.planning.runs import Plan, Run, plan
from flipscale.run import RunFolder, RunRequest, write_json
from flipscale.run.files import FOLDER_SCHEMA
from flipscale.scores import SCORES
from flipscale.study import read_study

SETS = ("sketch", "real", "shift")
"""Evaluation sets beside the main one; four sets of 10 scores together."""

STARTED = 1.7e9
"""When the first run began, as unix time."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.run_folders", description=__doc__.splitlines()[0])
    parser.add_argument("folder", metavar="DIR", type=Path, help="an empty folder, or a new one")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--records", type=int, default=200, help="lines of loss in each metrics.jsonl")
    asked = parser.parse_args(arguments)
    made = write_study(asked.folder, asked.runs)
    fill(asked.folder / "results", made, asked.records)
    print(f"wrote {len(made.runs)} run folders to {asked.folder / 'results' / 'runs'}")


def write_study(folder: Path, runs: int) -> Plan:
    """Write study.yaml with this even number of runs: two mask ratios, and seeds. Returns its plan."""
    return planned_study(
        folder,
        "schema: 1\n"
        "base: {model: ViT-w16d1-4, data: shapes, samples: 3200, batch_size: 32, warmup: 0}\n"
        "axes: {mask_ratio: [0, 0.5]}\n"
        "baseline: {mask_ratio: 0}\n"
        f"seeds: {runs // 2}\n",
    )


def planned_study(folder: Path, text: str) -> Plan:
    """Write this text to study.yaml in the folder. Returns its plan."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(text)
    return plan(read_study(str(folder / "study.yaml")))


def any_score(_run: Run, _name: str, draw: random.Random) -> float:
    return draw.random()


def fill(
    results: Path, planned: Plan, records: int, score: Callable[[Run, str, random.Random], float] = any_score
) -> None:
    """Write the folder of every run, finished; `score` gives a run's score by name."""
    for number, run in enumerate(planned.runs):
        folder = results / "runs" / run.id
        folder.mkdir(parents=True)
        draw = random.Random(run.id)
        RunFolder(folder).ask(RunRequest.of(run), flush=False)
        names = (*SCORES, *(f"{of}.{name}" for of in SETS for name in SCORES))
        scores = {name: score(run, name, draw) for name in names}
        began = STARTED + 60 * number
        lines = metrics(draw, records, run.cost.samples_seen, began, scores)
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        write_json(folder / "result.json", result(draw, run, began, scores), flush=False)


def metrics(
    draw: random.Random, records: int, samples: int, began: float, scores: Mapping[str, float]
) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl: the loss falls, and the scores come at the end."""
    lines: list[dict[str, Any]] = []
    for step in range(1, records + 1):
        seconds = 0.0625 * step + draw.random() / 100
        lines.append(
            {
                "step": step,
                "samples_seen": samples * step // records,
                "loss": 3.5 / step**0.3 + draw.gauss(0, 0.05),
                "lr": 1e-3 * (1 - step / records),
                "logit_scale": 2.66 + draw.random() / 10,
                "images_per_second": 500 + draw.gauss(0, 10),
                "seconds": seconds,
                "time": began + seconds,
            }
        )
    end = {"evaluation_seconds": draw.random(), "time": began + 0.0625 * records + 1}
    return [*lines, {"step": records, "samples_seen": samples, "scores": dict(scores), **end}]


def result(draw: random.Random, run: Run, began: float, scores: Mapping[str, float]) -> dict[str, Any]:
    """What result.json holds."""
    samples, hours = run.cost.samples_seen, run.cost.gpu_hours * draw.uniform(0.95, 1.05)
    return {
        "schema": FOLDER_SCHEMA,
        "scores": dict(scores),
        "samples_seen": samples,
        "steps": run.cost.steps,
        "unique_pairs": samples,
        "repeats": 1.0,
        "params": run.cost.params,
        "train_seconds": 3600 * hours + draw.random(),
        "cpu_seconds": 3600 * hours,
        "evaluation_seconds": draw.random(),
        "images_per_second": 500 + draw.random(),
        "devices": 1,
        "device": "cpu",
        "gpu_hours": hours,
        "peak_memory_bytes": draw.randrange(10**9),
        "final_loss": draw.random(),
        "attempts": 1,
        "corrupt_samples": 0,
        "started": began,
        "finished": began + 20,
        "versions": {"torch": "2.13", "open_clip": "3.1"},
    }


if __name__ == "__main__":
    main()
