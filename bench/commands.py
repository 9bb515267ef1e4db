"""CPU seconds of each command on the quickstart study, beside a short program that does the same with other libraries.

    python -m bench.commands --out commands

The runs are trained first, which takes two minutes. A command and its peer run in turns, from Python's start to
its end; the least of --repeats counts. The peer does the core of the chore and no more: no checks, no intervals by
draws, no layout. A ratio below 1 is the price of what flipscale adds. Compare ratios only: seconds depend on the day.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import leave, machine, machine_words, table

ROOT = Path(__file__).parents[1]

STUDY = "quickstart"
FIGURES = 12
"""As many as `plot` draws of the study."""


@dataclass(frozen=True)
class Chore:
    """A command, and a program that does the core of it without flipscale."""

    arguments: tuple[str, ...]
    peer: str
    """What the peer is, in words."""
    script: str

    @property
    def name(self) -> str:
        return self.arguments[0]


FILE = f"studies/{STUDY}.yaml"

READ = """\
import glob, json, pandas
results = pandas.json_normalize([json.load(open(name)) for name in glob.glob("results/runs/*/result.json")])
"""

TABLE = f"""\
import pandas
table = pandas.read_csv("results/{STUDY}/results.csv")
"""

CHORES = (
    Chore(("--help",), "python -c 'import pandas'", "import pandas"),
    Chore(
        ("plan", FILE),
        "open_clip builds each model, torch counts its FLOPs",
        """\
import open_clip, torch
from torch.utils.flop_counter import FlopCounterMode
from flipscale.settings.architecture import architecture
for name in ("ViT-w32d2-4", "ViT-w48d3-4"):
    shape = architecture(name)
    model = open_clip.create_model("ViT-B-16", **shape.open_clip_config)
    size = model.visual.image_size[0] if isinstance(model.visual.image_size, tuple) else model.visual.image_size
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, size, size), torch.zeros(1, model.context_length, dtype=torch.long))
    print(name, sum(weights.numel() for weights in model.parameters()), counter.get_total_flops())
""",
    ),
    Chore(("status", FILE), "pandas reads each result.json", READ + "print(len(results))\n"),
    Chore(
        ("collect", FILE, "--no-mlflow"),
        "pandas: result.json to CSV, metrics.jsonl to Parquet",
        READ
        + """\
results.to_csv("peer.csv")
names = glob.glob("results/runs/*/metrics.jsonl")
pandas.concat([pandas.read_json(name, lines=True) for name in names]).astype(str).to_parquet("peer.parquet")
""",
    ),
    Chore(
        ("compare", FILE),
        "pandas and scipy: a paired t test per cell, Holm",
        TABLE
        + """\
import scipy.stats
base = table[table.mask_ratio == 0].set_index(["cell", "seed"]).zero_shot_top1
found = []
for (cell, mask), rows in table[table.mask_ratio > 0].groupby(["cell", "mask_ratio"]):
    scores = rows.set_index(["cell", "seed"]).zero_shot_top1
    found.append((scipy.stats.ttest_rel(scores, base.loc[scores.index]).pvalue, cell, mask))
for rank, (p, cell, mask) in enumerate(sorted(found)):
    print(cell, mask, min(1, p * (len(found) - rank)))
""",
    ),
    Chore(
        ("fit", FILE),
        "scipy.optimize.curve_fit, 1,000 resamples",
        TABLE
        + """\
import numpy
from scipy.optimize import curve_fit
def law(x, a, b, c): return a + b * x[0] + c * x[1]
x = numpy.log([table.flops_per_sample, table.samples_seen])
y = numpy.log(table.zero_shot_top1 / (1 - table.zero_shot_top1)).to_numpy()
draw = numpy.random.default_rng(0)
rows = [draw.integers(len(y), size=len(y)) for _ in range(1000)]
print(numpy.percentile([curve_fit(law, x[:, row], y[row])[0] for row in rows], [2.5, 97.5], axis=0))
""",
    ),
    Chore(
        ("plot", FILE, "--format", "png", "--format", "pdf"),
        "matplotlib: as many plain figures in three formats",
        TABLE
        + f"""\
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
for number in range({FIGURES}):
    figure, axes = plt.subplots(layout="constrained")
    for mask, rows in table.groupby("mask_ratio"):
        means = rows.groupby("samples").zero_shot_top1.agg(["mean", "std"])
        axes.errorbar(means.index, means["mean"], means["std"], label=str(mask))
    axes.legend()
    for form in ("svg", "png", "pdf"):
        figure.savefig(f"peer{{number}}.{{form}}")
    plt.close(figure)
""",
    ),
    Chore(
        ("report", FILE),
        "pandas.to_html, with the figures in base64",
        TABLE
        + f"""\
import base64, glob
page = [table.to_html()]
for name in sorted(glob.glob("plots/{STUDY}/*.png")):
    page.append(f'<img src="data:image/png;base64,{{base64.b64encode(open(name, "rb").read()).decode()}}">')
open("peer.html", "w").write("".join(page))
""",
    ),
)
"""Each comes after those whose output it needs."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and print; the facts that --out writes are returned."""
    parser = argparse.ArgumentParser(prog="python -m bench.commands", description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of commands (all)")
    parser.add_argument("--out", metavar="NAME", help="keep the result in bench/results/NAME.json, or in a path .json")
    asked = parser.parse_args(arguments)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder)
        chores = [chore for chore in CHORES if not asked.only or chore.name in asked.only]
        measured = [measure(chore, folder, asked.repeats) for chore in chores]
    facts: dict[str, Any] = {
        "benchmark": "commands",
        "machine": machine() | {"load": round(load, 1)},
        "study": STUDY,
        "repeats": asked.repeats,
        "commands": measured,
    }
    leave(asked.out, facts, as_markdown(facts))
    return facts


def prepare(folder: Path) -> None:
    """A folder with the study, its finished runs, its tables and its figures."""
    shutil.copytree(ROOT / "studies", folder / "studies")
    run = (sys.executable, "-m", "flipscale", "run", FILE, "--no-mlflow")
    subprocess.run(run, cwd=folder, env=environment(), capture_output=True, check=True)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def measure(chore: Chore, folder: Path, repeats: int) -> dict[str, Any]:
    """CPU seconds of the command and of its peer, in turns."""
    programs: dict[str, Callable[[], float]] = {
        "flipscale": lambda: cpu_seconds([sys.executable, "-m", "flipscale", *chore.arguments], folder),
        "peer": lambda: cpu_seconds([sys.executable, "-c", chore.script], folder),
    }
    taken: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        if chore.name == "plot":
            shutil.rmtree(folder / "plots", ignore_errors=True)
        for name, run in programs.items():
            taken[name].append(run())
    least = {name: min(seconds) for name, seconds in taken.items()}
    ratio = least["peer"] / least["flipscale"]
    return {"name": chore.name, "peer": chore.peer, "cpu_seconds": taken, "least": least, "ratio": ratio}


def cpu_seconds(command: Sequence[str], folder: Path) -> float:
    """What a program and its children used."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        assert process.returncode == 0, said.read()
    return used.ru_utime + used.ru_stime


def as_markdown(facts: Mapping[str, Any]) -> str:
    rows = [
        [f"flipscale {one['name']}", f"{one['least']['flipscale']:.2f}", f"{one['least']['peer']:.2f}",
         f"{one['ratio']:.2f}", one["peer"]]
        for one in facts["commands"]
    ]  # fmt: skip
    return (
        table(["command", "CPU s", "peer's CPU s", "peer / flipscale", "peer"], rows)
        + f"\nThe 48 runs of studies/{facts['study']}.yaml; the least of {facts['repeats']}.\n"
        + machine_words(facts["machine"])
    )


if __name__ == "__main__":
    main()
