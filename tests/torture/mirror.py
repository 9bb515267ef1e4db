"""Kills of collectors and of the MLflow server they write to. Afterwards MLflow has each run once."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench.run_folders import fill, planned_study
from tests.torture.counts import Counts, Extent
from tests.torture.processes import left_over, with_folder

STUDY = """schema: 1
base: {model: ViT-w16d1-4, data: shapes, samples: 3200, batch_size: 32, warmup: 0}
axes: {mask_ratio: [0, 0.5]}
baseline: {mask_ratio: 0}
seeds: 8
"""


def torture(extent: Extent, draw: random.Random) -> Counts:
    from tests.clusters.mlflow_server import free_port, mlflow_server

    counts = Counts()
    place = extent.work / "mirror"
    planned = planned_study(place, STUDY)
    fill(place / "results", planned, records=30)
    store, port = f"sqlite:///{place / 'mlflow.db'}", free_port()
    with mlflow_server(place, f"sqlite:///{place / 'first.db'}", port=port) as uri:
        began = time.monotonic()
        _collect(place, uri).wait(timeout=600)
        seconds = time.monotonic() - began  # of an undisturbed collect on this machine
    for index in range(extent.cases(8, 1)):
        with mlflow_server(place, store, port=port) as uri:
            collecting = _collect(place, uri)
            time.sleep(draw.uniform(0.3, 1) * seconds)
            counts.cases += _kill_one(draw, place, port)
            with contextlib.suppress(subprocess.TimeoutExpired):
                collecting.wait(timeout=120)
        extent.say(f"  mirror: {index + 1} kills")
    with mlflow_server(place, store, port=port) as uri:
        done = _collect(place, uri)
        if done.wait(timeout=600):
            counts.report("hangs", f"seed {extent.seed}: collect ends with {done.returncode} after the kills")
        counts.add(check(uri, [run.id for run in planned.runs], f"seed {extent.seed}, mirror"))
    said = (place / "collect.log").read_text(errors="replace")
    if "Traceback (most recent call last)" in said:
        counts.report("tracebacks", f"seed {extent.seed}: collect said {said[said.index('Traceback') :][-400:]}")
    for process in left_over(place):
        counts.report("orphans", f"seed {extent.seed}: {process}")
    return counts


def _collect(place: Path, uri: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "flipscale", "collect", str(place / "study.yaml"), "--check-mlflow"]
    more = ["--results", str(place / "results"), "--tracking-uri", uri]
    with open(place / "collect.log", "ab") as log:
        return subprocess.Popen([*command, *more], stdout=log, stderr=log, cwd=place, start_new_session=True)


def _kill_one(draw: random.Random, place: Path, port: int) -> int:
    """Kill the collector or the server; 1 if there was something to kill."""
    if draw.random() < 0.5:
        doomed = [pid for pid, role in with_folder(place).items() if role == "collector"]
    else:
        doomed = _servers(port)
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return int(bool(doomed))


def _servers(port: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if str(port).encode() in words or f"127.0.0.1:{port}".encode() in words:
                found.append(int(path.parent.name))
    return found


def check(uri: str, ids: list[str], where: str) -> Counts:
    """Check that MLflow has every run once."""
    from mlflow import MlflowClient

    counts = Counts()
    client = MlflowClient(uri)
    experiments = [one.experiment_id for one in client.search_experiments()]
    there = [run.data.tags.get("flipscale.id") for run in client.search_runs(experiments, max_results=5000)]
    for run_id in ids:
        number = there.count(run_id)
        if number != 1:
            counts.report("doubled" if number else "lost", f"{where}: {run_id} is {number} times in MLflow")
    return counts
