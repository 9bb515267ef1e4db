"""What a trial does: an attendant sees its runs through, in a process of Ray's on whichever node has room.

Ray Tune hears of it every few seconds. Where the node is lost, or the trial's process, Tune starts the trial again
elsewhere, and so a later attempt takes the runs' leases. What an attendant cannot go on with on its node ends the
trial, and the driver has Tune start another one that avoids the node.
"""

import json
import os
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune

from flipscale.launch.attend import Attendant, Breaker, Ending, Place
from flipscale.launch.ray.processes import Worker, own_address
from flipscale.launch.ray.trials import Task, Trials, job_id
from flipscale.run import ATTEMPT, JOB, NODE, FailureKind, RunFolder

REPORT_SECONDS = 10.0
"""Ray Tune hears so often from a trial that it lives."""

DEATH_SECONDS = 6.0
"""Ray knows so long after a node's death of it at the latest: the death of its processes is known earlier."""

_CRASHED = ("0", "UNSPECIFIED", "2", "UNEXPECTED_TERMINATION")
"""Why a node is gone, as Ray says it, where that is a failure. Idle and pre-empted nodes are drained."""


class Trial(tune.Trainable):
    """The runs of one task. Its config: `submission`, the path of submission.json, and `task`, an index in it."""

    def setup(self, config: dict[str, Any]) -> None:
        path = Path(config["submission"])
        trials, index = Trials.read(path), int(config["task"])
        task = trials.tasks[index]
        job = job_id(trials.name, index)
        address = own_address()
        place = Place(f"ray/{job}", _attempt(path.with_name(f"{index}.starts"), address), address)
        log = path.with_name(f"{index}.log")
        self.attendant = Attendant(
            [run for run_id in task.runs if trials.is_ours(run := trials.run(run_id), index)],
            place,
            start=partial(_start, trials, task, place, log),
            log=log,
            breaker=Breaker(path.parent, lambda: None, trials.run_folders),
            node_failed=_node_failed,
            stalled=trials.site.get("stalled"),
        )
        self.ending: Ending | None = None
        self.error: BaseException | None = None
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} attempt {place.attempt + 1} of {job} on {address}\n")
        self.work = threading.Thread(target=self._work, daemon=True)
        self.work.start()

    def _work(self) -> None:
        try:
            self.ending = self.attendant.work()
            if self.ending is Ending.STOPPED:  # Ray tells nobody. It was the system, as before a machine goes down.
                self.attendant.note_interruption(FailureKind.PREEMPTED, "Its process was asked to stop.")
        except BaseException as error:
            self.error = error

    def step(self) -> dict[str, Any]:
        self.work.join(REPORT_SECONDS)
        if self.error is not None:
            raise self.error
        ended = not self.work.is_alive()
        return {"done": ended, "again": ended and self.ending is not Ending.DONE}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Another task in the same process: to start one takes Ray a second."""
        self.setup(new_config)
        return True


def _attempt(path: Path, node: str) -> int:
    """How often the task was started before; written down is that it is now."""
    with open(path, "a+", encoding="utf-8") as file:
        file.write(json.dumps({"node": node, "process": os.getpid(), "time": time.time()}) + "\n")
        file.seek(0)
        return sum(1 for _ in file) - 1


def _start(trials: Trials, task: Task, place: Place, log: Path, runs: Sequence[RunFolder], lane: int) -> Worker:
    environment = {JOB: place.job, ATTEMPT: str(place.attempt), NODE: place.node}
    return Worker(trials, task, [run.path for run in runs], log, environment)


def _node_failed(address: str) -> bool:
    """Whether the node is gone, and was not taken away in order."""
    until = time.monotonic() + DEATH_SECONDS
    while True:
        nodes = [node for node in ray.nodes() if node["NodeManagerAddress"] == address]  # type: ignore[no-untyped-call]
        if not any(node["Alive"] for node in nodes):
            return str(nodes[-1].get("DeathReason", 0) if nodes else 0) in _CRASHED
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
