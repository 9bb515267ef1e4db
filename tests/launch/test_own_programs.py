"""Programs of a user's own on this machine, real SLURM and real Ray: each is killed once and comes to its end."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from flipscale.cli import main
from flipscale.planning.runs import plan
from flipscale.run import RunFolder, State
from flipscale.study import read_study
from tests.launch.contract import folder
from tests.launch.real import end, frozen, logs

ROOT = Path(__file__).parent.parent.parent

ANNEALING = """
import json, math, pathlib, random, sys, time
folder, cooling = pathlib.Path(sys.argv[1]), float(sys.argv[2])
random.seed(int(sys.argv[3]))
starts = folder / "starts.txt"
starts.write_text(starts.read_text() + "x" if starts.exists() else "x")
place, heat = 10.0, 5.0
with open(folder / "metrics.jsonl", "a") as metrics:
    for step in range(1, 41):
        tried = place + random.gauss(0, 1)
        if random.random() < math.exp(min(0, (place**2 - tried**2) / heat)):
            place = tried
        heat *= cooling
        print(json.dumps({"step": step, "loss": place**2}), file=metrics, flush=True)
        time.sleep(0.2 if starts.read_text() == "x" else 0)
print(json.dumps({"scores": {"energy": place**2}}))
"""
"""Simulated annealing: no neural network, and no checkpoint. Its first attempt waits to be disturbed."""


def studies(place: Path) -> tuple[Path, Path]:
    """studies/own/nanolm.yaml in miniature, and two arms of ANNEALING."""
    whole = (ROOT / "studies/own/nanolm.yaml").read_text()
    head = whole[: whole.index("axes:")]
    small = place / "small.yaml"
    small.write_text(
        head.replace("depth: 2", "depth: 1").replace("tokens: 100k", "tokens: 200k") + "scores: {val_loss: lower}\n"
    )
    (place / "anneal.py").write_text(ANNEALING)
    annealing = place / "annealing.yaml"
    annealing.write_text(f"""\
schema: 1
parameters: {{cooling: 0.9}}
base: {{trainer: {{command: "python {place}/anneal.py {{folder}} {{cooling}} {{seed}}"}}}}
axes: {{cooling: [0.9, 0.99]}}
scores: {{energy: lower}}
""")
    return small, annealing


def killed_once(study: Path, on: str, once: str, **site: Any) -> tuple[RunFolder, list[int]]:
    """The run whose process was killed once it had this file, and the steps that it recorded; all have finished."""
    results = study.parent / "results"
    words = ["submit", str(study), f"--results={results}", f"--on={on}", "--detach"]
    if site:
        place = study.with_name("site.yaml")
        place.write_text(json.dumps({"schema": 1, **site}))
        words.append(f"--site={place}")
    assert main(words) == 0
    runs = plan(read_study(study)).runs
    with frozen(*(folder(results, run) for run in runs), once=once) as (hit, lease):
        os.kill(lease.pid, signal.SIGKILL)
    assert set(end(runs, results).values()) == {State.FINISHED}, logs(results)
    assert hit.result().attempts == 2
    return hit, [record["step"] for record in hit.records()[0]]


def goes_on(place: Path, monkeypatch: pytest.MonkeyPatch, on: str, **site: Any) -> None:
    monkeypatch.chdir(ROOT)
    small, annealing = studies(place)
    model, steps = killed_once(small, on, "checkpoint.pt", **site)
    assert sorted({*steps}) == [50, 100, 150, 195]
    assert len(steps) <= 5  # It went on from its checkpoint; the kill may have come between the record and that.
    assert 2 < model.result().scores["val_loss"] < 3.5
    search, steps = killed_once(annealing, on, "program.json", **site)
    assert steps[-40:] == [*range(1, 41)]
    assert (search.path / "starts.txt").read_text() == "xx"
    assert search.result().scores["energy"] < 100


@pytest.mark.slow
def test_a_killed_program_resumes_or_starts_again_here(tmp_path, monkeypatch):
    goes_on(tmp_path, monkeypatch, "local")


@pytest.mark.slow
def test_a_killed_program_resumes_or_starts_again_on_slurm(tmp_path, monkeypatch, slurm):
    goes_on(tmp_path, monkeypatch, "slurm", partition="main", time="10m", warning="20s", memory_per_process="1G")


@pytest.mark.slow
def test_a_killed_program_resumes_or_starts_again_on_ray(tmp_path, monkeypatch, ray):
    goes_on(tmp_path, monkeypatch, "ray")
