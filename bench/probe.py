"""How well a probe predicts what runs take: probe a study of several shapes, train its runs, and compare.

    python -m bench.probe
    python -m bench.probe --samples 16k --out NAME

The probe and the runs are those of `flipscale probe` and `flipscale submit`, one process at a time on this machine. Two
predictions of each run are compared with what it took: its device-hours, which on a CPU are processor time, and the
wall time of its training and evaluations. Other work on the machine affects both; the wall time over the processor time
of the runs shows how much there was.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.report import leave, machine, table
from flipscale.launch import submit, wait
from flipscale.launch.local import LocalLauncher
from flipscale.planning.runs import Run
from flipscale.run import RunFolder
from flipscale.workflow.opened import open_study
from flipscale.workflow.probed import finish_probe, start_probe
from flipscale.workspace import Workspace

STUDY = """\
schema: 1
question: Does a probe predict what runs take?
base: {{data: shapes, samples: {samples}, text_length: 16, batch_size: 64, lr: 1e-3}}
axes:
  model: [{models}]
  mask_ratio: [0, 0.5, 0.75]
  batch_size: [64, 128]
baseline: {{mask_ratio: 0}}
evaluation: {{images: 1000, at: [0.5]}}
"""

MEDIAN_ERROR, WORST_ERROR = 0.10, 0.30
"""The limits of a probe: the median and the worst error of a run's time."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Probe, train, compare and print; the facts that --out writes are returned."""
    asked = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        rows = _rows(Path(folder), asked.models, asked.samples)
    facts: dict[str, Any] = {
        "benchmark": "probe",
        "machine": machine(),
        "samples": asked.samples,
        "runs": rows,
        "wall_over_cpu": median(row["train_seconds"] / row["cpu_seconds"] for row in rows),
        "gpu_hours": _errors(row["hours_ratio"] for row in rows),
        "seconds": _errors(row["seconds_ratio"] for row in rows),
    }
    leave(asked.out, facts, _as_markdown(facts))
    return facts


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.probe", description=__doc__.splitlines()[0])
    models = ["ViT-w32d2-4", "ViT-w48d3-4", "ViT-w64d4-4"]
    parser.add_argument("--models", nargs="+", default=models, metavar="MODEL")
    parser.add_argument("--samples", default="25600", help="samples of each run")
    parser.add_argument("--out", metavar="NAME", help="keep the result in bench/results/NAME.json, or in a path .json")
    return parser


def _rows(folder: Path, models: Sequence[str], samples: str) -> list[dict[str, Any]]:
    """The predicted and measured times of each run."""
    file, workspace = folder / "probed.yaml", Workspace(folder / "results")
    file.write_text(STUDY.format(models=", ".join(models), samples=samples), encoding="utf-8")
    launcher = LocalLauncher(workspace.results, workers=1)
    opened = open_study(file, workspace, launcher.site_name)
    print("probing ...", file=sys.stderr)
    timed = finish_probe(opened, start_probe(opened, launcher))
    assert timed is not None, "the probe did not finish"
    print(f"training {len(timed.plan.runs)} runs ...", file=sys.stderr)
    wait(submit(timed.plan.runs, workspace.results, launcher), workspace.results)
    return [_row(run, RunFolder(workspace.run(run.id))) for run in timed.plan.runs]


def _row(run: Run, folder: RunFolder) -> dict[str, Any]:
    result, timed = folder.result(), run.timed
    assert result is not None, f"{run.id} did not finish"
    assert timed is not None, f"{run.id} was not timed"
    took = (result.train_seconds or 0.0) + (result.evaluation_seconds or 0.0)
    predicted = timed.train_seconds + timed.evaluation_seconds
    return {
        "id": run.id,
        "model": run.settings.model,
        "mask_ratio": run.settings.mask_ratio,
        "batch_size": run.settings.batch_size,
        "hours_foretold": timed.gpu_hours,
        "hours": result.gpu_hours,
        "hours_ratio": (result.gpu_hours or 0.0) / timed.gpu_hours,
        "seconds_foretold": predicted,
        "seconds": took,
        "seconds_ratio": took / predicted,
        "train_seconds": result.train_seconds,
        "cpu_seconds": result.cpu_seconds,
        "within_range": timed.hours.low <= (result.gpu_hours or 0.0) <= timed.hours.high,
    }


def _errors(ratios: Any) -> dict[str, Any]:
    """How far off predictions are, as a share of what runs took."""
    errors = sorted(abs(1 / ratio - 1) for ratio in ratios)
    return {
        "median_error": median(errors),
        "worst_error": errors[-1],
        "good_enough": median(errors) < MEDIAN_ERROR and errors[-1] < WORST_ERROR,
    }


def _as_markdown(facts: dict[str, Any]) -> str:
    head = ["model", "mask ratio", "batch", "foretold s", "took s", "ratio", "foretold core-s", "took core-s", "ratio"]
    rows = [
        [
            row["model"],
            f"{row['mask_ratio']:g}",
            str(row["batch_size"]),
            f"{row['seconds_foretold']:.2f}",
            f"{row['seconds']:.2f}",
            f"{row['seconds_ratio']:.2f}",
            f"{3600 * row['hours_foretold']:.2f}",
            f"{3600 * row['hours']:.2f}",
            f"{row['hours_ratio']:.2f}",
        ]
        for row in facts["runs"]
    ]
    said = [
        f"{what}: median error {100 * facts[key]['median_error']:.0f} %, worst {100 * facts[key]['worst_error']:.0f} %"
        for what, key in (("wall time", "seconds"), ("device-hours", "gpu_hours"))
    ]
    load = f"Wall time over processor time of the runs: {facts['wall_over_cpu']:.2f} in the median."
    return "\n".join([table(head, rows), "", *said, load])


if __name__ == "__main__":
    main()
