"""A study of many runs with a table of results that nobody trained: what a report of thousands of runs costs."""

import math
import random
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from flipscale.cell import write_cell
from flipscale.collecting import COLUMNS, setting_value
from flipscale.door.columns import COLUMN_DTYPES, SETTING_COLUMNS
from flipscale.planning.runs import Plan, Run, plan
from flipscale.study import Study, read_study

STUDY = """\
schema: 1
question: Does a study of thousands of runs still fit into a page?
base: {data: shapes, model: ViT-w16d1-4, text_length: 16, batch_size: 32, lr: 1e-3}
axes:
  model: [ViT-w16d1-4, ViT-w32d2-4, ViT-w48d3-4, ViT-w64d4-4, ViT-w80d5-4]
  mask_ratio: [0, 0.5]
  samples: [3200, 12800]
seeds: SEEDS
baseline: {mask_ratio: 0}
"""
"""20 cells: what is drawn and compared of them takes longer with each, and hardly longer with each seed."""

SCORES = ("zero_shot_top1", "image_retrieval_r1", "held_out_loss")


def write_study(folder: Path, seeds: int, finished: float = 1.0) -> tuple[Study, Plan, Path]:
    """The study's file and its results.csv, in which a share of its runs has finished."""
    file = folder / "many.yaml"
    file.write_text(STUDY.replace("SEEDS", str(seeds)))
    study = read_study(file)
    planned = plan(study)
    write_results(folder, study, planned.cells[: round(finished * len(planned.cells))])
    return study, planned, file


def write_results(folder: Path, study: Study, finished: Sequence[Run], scores: Sequence[str] = SCORES) -> None:
    """The study's results.csv with a row for each of these runs."""
    draw = random.Random(0)
    rows = []
    for run in finished:
        settings = run.settings
        score = 0.2 * math.log10(settings.samples / 1000) - 0.1 * settings.mask_ratio + draw.gauss(0.3, 0.02)
        hours = run.cost.gpu_hours * draw.uniform(0.9, 1.6)
        row = {name: setting_value(getattr(settings, name)) for name in SETTING_COLUMNS}
        row |= {
            "id": run.id,
            "study": study.name,
            "cell": write_cell(run.cell or ()),
            "flops_per_sample": run.cost.flops_per_sample,
            "samples_seen": settings.samples,
            "train_flops": run.cost.train_flops,
            "gpu_hours": hours,
            "gpu_hours_predicted": run.cost.gpu_hours,
            "device": "cpu",
            "images_per_second": settings.samples / hours / 3600,
            "final_loss": 3 - score,
            "attempts": 1,
            "finished": 1.8e9 + len(rows),
        }
        of_run = {"zero_shot_top1": score, "image_retrieval_r1": score / 2, "held_out_loss": 3.2 - score}
        row |= {name: of_run[name] for name in scores}
        rows.append(row)
    table = {
        name: pd.Series([row.get(name) for row in rows], dtype=COLUMN_DTYPES[c.kind]) for name, c in COLUMNS.items()
    }
    out = folder / "results" / study.name
    out.mkdir(parents=True)
    pd.DataFrame(table).to_csv(out / "results.csv", index=False)
