"""A trial: an attendant sees its runs through, in a process of Ray's on any node that has room.

It reports to Ray Tune every few seconds. If the node or the trial's process is lost, Tune starts the trial again
elsewhere, and the later attempt takes the runs' leases. An attendant that cannot continue on its node ends the trial,
and the driver has Tune start another one that avoids the node.
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

from flipscale.guard import plain_file
from flipscale.launch.attend import Attendant, Breaker, Ending
from flipscale.launch.launcher import Attempt
from flipscale.launch.ray.processes import TrialWorker
from flipscale.launch.ray.trials import RayNode, Task, Trials, job_id
from flipscale.launch.workers import Workers
from flipscale.plain_files import read_text
from flipscale.run import ATTEMPT, CONNECT, JOB, NODE, FailureKind, RunFolder

REPORT_SECONDS = 10.0
"""Seconds between a trial's signs of life to Ray Tune."""

DEATH_SECONDS = 6.0
"""The longest time until Ray notices a node's death; it notices the death of processes earlier."""

_CRASHED = ("0", "UNSPECIFIED", "2", "UNEXPECTED_TERMINATION")
"""Why a node is gone, as Ray says it, where that is a failure. Idle and pre-empted nodes are drained."""


class Trial(tune.Trainable):
    """The runs of one task. Its config: `submission`, the path of submission.json, and `task`, an index in it."""

    def setup(self, config: dict[str, Any]) -> None:
        path = Path(config["submission"])
        trials, index = Trials.read(path), int(config["task"])
        task = trials.tasks[index]
        job = job_id(trials.name, index)
        node, starts = _own_node(), path.with_name(f"{index}.starts")
        attempt = Attempt(f"ray/{job}", _starts_before(starts, node), node["NodeName"])
        log = path.with_name(f"{index}.log")
        self.attendant = Attendant(
            [run for run_id in task.runs if trials.is_ours(run := trials.run(run_id), index)],
            attempt,
            Workers(partial(_start, trials, task, attempt, log), log),
            Breaker(path.parent, lambda: None, trials.run_folders),
            node_failed=partial(_node_failed, starts),
            stalled=trials.site.get("stalled"),
        )
        self.ending: Ending | None = None
        self.error: BaseException | None = None
        with open(log, "a", encoding="utf-8", opener=plain_file) as file:
            file.write(
                f"{time.strftime('%Y-%m-%d %H:%M:%S')} attempt {attempt.number + 1} of {job} on {attempt.node}\n"
            )
        self.work = threading.Thread(target=self._work, daemon=True)
        self.work.start()

    def _work(self) -> None:
        try:
            self.ending = self.attendant.work()
            if self.ending is Ending.STOPPED:  # Ray sends no signal: the system did, as before a shutdown.
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


def _own_node() -> RayNode:
    """This node, as Ray describes it. Its name is its address unless somebody gave it one."""
    here = ray.get_runtime_context().get_node_id()
    return next(node for node in _nodes() if node["NodeID"] == here)


def _nodes() -> list[RayNode]:
    """All nodes that Ray knows, dead ones included."""
    return list(ray.nodes())  # type: ignore[no-untyped-call]


def _starts_before(path: Path, node: RayNode) -> int:
    """How often the task was started before. Writes down that it is started now."""
    start = {"node": node["NodeName"], "id": node["NodeID"], "process": os.getpid(), "time": time.time()}
    with open(path, "a+", encoding="utf-8", opener=plain_file) as file:
        file.write(json.dumps(start) + "\n")
        file.seek(0)
        return sum(1 for _ in file) - 1


def _start(
    trials: Trials, task: Task, attempt: Attempt, log: Path, runs: Sequence[RunFolder], lane: int
) -> TrialWorker:
    environment = {JOB: attempt.job, ATTEMPT: str(attempt.number), NODE: attempt.node}
    environment[CONNECT] = str(trials.site.get("connect", ""))
    return TrialWorker(trials, task, [run.path for run in runs], log, environment)


def _node_failed(starts: Path, name: str) -> bool:
    """Whether the node of this name that last had the task crashed. Another one of that name may be there by now."""
    earlier = [json.loads(line) for line in read_text(starts).splitlines()][:-1]
    lost = next((start["id"] for start in reversed(earlier) if start["node"] == name), None)
    until = time.monotonic() + DEATH_SECONDS
    while True:
        node: RayNode = next((node for node in _nodes() if node["NodeID"] == lost), {})
        if not node.get("Alive"):
            return str(node.get("DeathReason", 0)) in _CRASHED
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
