"""Runs on a GPU as launchers start them: out of memory, two at once, and a GPU that breaks under one of them."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from flipscale.cost.arithmetic import Cost, memory_bytes
from flipscale.launch import states, submit
from flipscale.launch.attend import Attendant, Ending
from flipscale.launch.breaker import Breaker
from flipscale.launch.launcher import TRAIN, Attempt
from flipscale.launch.local import LocalLauncher
from flipscale.launch.workers import Workers
from flipscale.run import ATTEMPT, JOB, NODE, FailureKind, State
from flipscale.settings.declarations import Resources, Settings
from flipscale.study.settings import read_settings
from tests.launch.contract import NO_COST
from tests.train.conftest import SETTINGS

pytestmark = pytest.mark.gpu

PATIENCE = 150.0


def attend(folders, results: Path, lanes: int = 1) -> str:
    """See the runs through as a job on a cluster does, all of its lanes on the one GPU; what the workers said."""
    at, log = Attempt("slurm/test/0", 0, "here"), results / "job.log"
    environment = {**os.environ, JOB: at.job, ATTEMPT: "0", NODE: at.node, "OMP_NUM_THREADS": "1"}
    workers = []

    def start(runs, lane):
        with open(log, "ab") as output:
            command = [*TRAIN, *(str(run.path) for run in runs)]
            workers.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output))
        return workers[-1]

    attendant = Attendant(folders, at, Workers(start, log, lanes=lanes), Breaker(results, lambda: folders))
    try:
        assert attendant.work() is Ending.DONE
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
    return log.read_text()


def test_a_batch_that_does_not_fit_the_gpu_is_halved_until_it_does(ask, tmp_path):
    model: dict[str, Any] = {"model": "ViT-w768d12-4", "mask_ratio": 0.0, "precision": "fp32", "warmup": 0}
    memory = torch.cuda.get_device_properties(0).total_memory
    batch = 256
    # Half of it has room: what is predicted is up to 1.25 times too low.
    while memory_bytes(read_settings({**SETTINGS, **model, "batch_size": batch}), Resources(gpus=1)) < 1.25 * memory:
        batch += 256
    run = ask("large", **model, batch_size=batch, samples=2 * batch)
    said = attend([run], tmp_path)
    assert run.error() is None, run.error()
    result, failures = run.result(), run.failures()
    assert result is not None, said
    assert {failure.kind for failure in failures} == {FailureKind.OOM}
    assert failures[0].accumulate == 2
    assert failures[0].then.startswith("again with accumulate 2")
    assert run.asked().resources.accumulate == failures[-1].accumulate
    assert result.samples_seen == 2 * batch  # The global batch is what it was.
    assert result.peak_memory_bytes < memory


def test_two_runs_share_the_gpu_at_the_same_time(ask, tmp_path):
    runs = [ask(f"run-{seed}", seed=seed, samples=32 * 3000, precision="bf16") for seed in (0, 1)]
    said = attend(runs, tmp_path, lanes=2)
    results = [run.result() for run in runs]
    assert all(results), said
    assert {result.device for result in results} == {torch.cuda.get_device_name()}
    assert max(result.started for result in results) < min(result.finished for result in results)
    # Each has its own peak, not what both take of the GPU.
    assert results[0].peak_memory_bytes == pytest.approx(results[1].peak_memory_bytes, rel=0.1)


BREAK = """
import sys
from pathlib import Path
import numpy as np
from flipscale.train.trainers.builtin import pretrain
from flipscale.train import train
# A word that is not in the table is looked up beyond its end, which a GPU answers with an assertion for good.
pretrain.vocabulary = lambda data, evaluations: np.array([49406, 49407])
raise SystemExit(train([Path(path) for path in sys.argv[1:]]))
"""


def test_a_gpu_that_breaks_under_one_run_does_not_fail_the_next(ask):
    first, second = ask("first"), ask("second")
    command = [sys.executable, "-c", BREAK, str(first.path), str(second.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1, done.stderr
    assert first.error().kind == FailureKind.CODE
    assert "CUDA error" in first.error().reason
    assert second.error() is None
    assert "The GPU no longer works in this process" in done.stderr


@dataclass(frozen=True)
class StandInRun:
    """As much of a plan's Run as launching reads."""

    id: str
    parents: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    trunk: None = None
    cost: Cost = NO_COST
    whole_cost: Cost = NO_COST
    cell: None = None
    is_priced: bool = True
    settings: Settings = field(default_factory=lambda: read_settings(SETTINGS), hash=False)
    resources: Resources = field(default_factory=lambda: Resources(gpus=1))


def test_the_local_launcher_gives_a_run_the_gpu(tmp_path):
    runs = [StandInRun("run")]
    submit(runs, tmp_path, LocalLauncher(tmp_path))
    until = time.monotonic() + PATIENCE
    while (state := states(runs, tmp_path)["run"]) not in (State.FINISHED, State.FAILED):
        assert time.monotonic() < until, state
        time.sleep(0.2)
    folder = tmp_path / "runs" / "run"
    assert state is State.FINISHED, (folder / "error.json").read_text()
    assert torch.cuda.get_device_name() in (folder / "result.json").read_text()
