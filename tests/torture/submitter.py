"""Submits runs in a process of its own, which may be killed: python -m tests.torture.submitter RESULTS LAUNCHER JSON

JSON is a list of [id, seconds]. Prints what it submitted.
"""

import json
import sys
from pathlib import Path

from flipscale.launch import submit
from flipscale.launch.launcher import Launcher
from flipscale.launch.local import LocalLauncher
from flipscale.launch.site import DEFAULTS
from tests.launch.contract import StandInRun

TRAINER = (sys.executable, str(Path(__file__).with_name("trainer.py")))

SITE = {**DEFAULTS, "partition": "main", "time": 600, "warning": 20, "memory_per_process": None}


def launcher_of(name: str, results: Path) -> Launcher:
    if name == "slurm":
        from flipscale.launch.slurm import SlurmLauncher

        return SlurmLauncher(results, SITE, command=TRAINER)
    if name == "ray":
        from flipscale.launch.ray import RayLauncher

        return RayLauncher(results, command=TRAINER)
    return LocalLauncher(results, command=TRAINER)


def main() -> int:
    results, name, listed = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    runs = [StandInRun(run_id, seconds=seconds) for run_id, seconds in listed]
    print(submit(runs, results, launcher_of(name, results)).summary(), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
