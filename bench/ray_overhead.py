"""What flipscale adds to Ray Tune: many runs that do nothing, against plain Ray Tune starting the same program.

    python -m bench.ray_overhead --out ray_overhead
    python -m bench.ray_overhead --address http://127.0.0.1:21380 --runs 40

Both run on the same Ray, in turns: `submit` of flipscale, and a Tuner in a Ray job, each from the call until Ray's Jobs
API says that the job has ended. A run's program is tests/launch/worker.py without any steps; plain Tune's trials start
it by subprocess on the same kind of folder, so that both pay for a process of the run. `bare` is the same trainable
without a program: Ray Tune alone. Without --address the test cluster is started (tests/clusters/ray.sh).
"""

import argparse
import contextlib
import json
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.report import leave, machine, table
from flipscale.launch import submit
from flipscale.launch.ray import RayLauncher, cluster
from flipscale.run import RunFolder, RunRequest
from tests.clusters.ray import RayCluster
from tests.launch.contract import WORKER, StandInRun
from tests.patience import rest

PATIENCE = 1800.0
"""The time that all runs of one kind may take."""

_PLAIN = """
import os, subprocess, sys, tempfile
os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_CHDIR_TO_TRIAL_DIR": "0", "RAY_AIR_NEW_OUTPUT": "0"}
os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "3600"
import ray
from ray import tune

folders, command = sys.argv[1].split(":"), sys.argv[2:]

class Plain(tune.Trainable):
    def step(self):
        if command:
            subprocess.run([*command, self.config["folder"]], check=True)
        return {"done": True}

    def reset_config(self, new_config):
        return True

ray.init(log_to_driver=False)
results = tune.Tuner(
    tune.with_resources(Plain, {"cpu": 1}),
    param_space={"folder": tune.grid_search(folders)},
    tune_config=tune.TuneConfig(reuse_actors=True),
    run_config=tune.RunConfig(
        storage_path=tempfile.mkdtemp(),
        checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
        verbose=0,
    ),
).fit()
if results.errors:
    raise SystemExit(str(results.errors[0]))
"""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and print; the facts that --out writes are returned."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--address", help="a Ray to run on; the test cluster if left out")
    parser.add_argument("--out", help="bench/results/NAME.json, or a path that ends in .json")
    asked = parser.parse_args(arguments)
    facts: dict[str, Any] = {"benchmark": "ray_overhead", "machine": machine(), "runs": asked.runs, "seconds": {}}
    with _ray(asked.address) as url, tempfile.TemporaryDirectory(prefix="flipscale-ray-bench-") as folder:
        kinds = {"flipscale": flipscale, "plain Tune, same program": plain, "plain Tune, no program": bare}
        for repeat in range(asked.repeats):
            for name, measure in kinds.items():
                seconds = measure(Path(folder) / f"{repeat}-{measure.__name__}", asked.runs, url)
                print(f"{name}: {asked.runs} runs in {seconds:.1f} s", file=sys.stderr, flush=True)
                facts["seconds"].setdefault(name, []).append(round(seconds, 2))
    middle = {name: statistics.median(seconds) for name, seconds in facts["seconds"].items()}
    facts["ratio"] = round(middle["flipscale"] / middle["plain Tune, same program"], 3)
    rows = [
        [name, f"{seconds:.1f}", f"{seconds / asked.runs:.3f}", f"{seconds / middle['plain Tune, same program']:.2f}"]
        for name, seconds in middle.items()
    ]
    leave(asked.out, facts, table([f"{asked.runs} runs", "seconds", "each", "ratio"], rows))
    return facts


def flipscale(folder: Path, runs: int, url: str) -> float:
    """Seconds of a submission."""
    asked = [StandInRun(f"run-{number}", seconds=0) for number in range(runs)]
    began = time.monotonic()
    submit(asked, folder, RayLauncher(folder, address=url, command=WORKER))
    (name,) = (path.name for path in (folder / "ray").iterdir())
    seconds = _ended(url, name, began)
    assert all((folder / "runs" / run.id / "result.json").exists() for run in asked)
    return seconds


def plain(folder: Path, runs: int, url: str) -> float:
    """Seconds of Ray Tune with a trainable that starts the same program on folders written beforehand."""
    paths = []
    for number in range(runs):
        run = StandInRun(f"run-{number}", seconds=0)
        RunFolder(folder / "runs" / run.id).ask(RunRequest.of(run), flush=False)
        paths.append(str(folder / "runs" / run.id))
    seconds = _job(f"plain-{folder.name}-{os.getpid()}", paths, WORKER, url)
    assert all((Path(path) / "result.json").exists() for path in paths)
    return seconds


def bare(folder: Path, runs: int, url: str) -> float:
    """Seconds of Ray Tune with a trainable that does nothing."""
    return _job(f"bare-{folder.name}-{os.getpid()}", [str(number) for number in range(runs)], (), url)


def _job(name: str, folders: Sequence[str], command: Sequence[str], url: str) -> float:
    began = time.monotonic()
    entrypoint = shlex.join([sys.executable, "-c", _PLAIN, ":".join(folders), *command])
    cluster.submit(url, name, f"exec {entrypoint}")
    return _ended(url, name, began)


def _ended(url: str, name: str, began: float) -> float:
    """Seconds since then until a job has ended well."""
    looked = time.monotonic()
    while (answer := cluster.ask(url, name)).lives:
        assert time.monotonic() - began < PATIENCE, str(answer)
        rest(looked, every=0.1)
        looked = time.monotonic()
    assert answer.status == "SUCCEEDED", json.dumps(vars(answer))
    return time.monotonic() - began


@contextlib.contextmanager
def _ray(address: str | None) -> Iterator[str]:
    if address:
        yield cluster.find(address)
        return
    ours = RayCluster.start()
    try:
        yield ours.url
    finally:
        ours.stop()


if __name__ == "__main__":
    main()
