"""A trial: an attendant sees its runs through, in a process of Ray's on any node that has room.

If the node or the trial's process is lost, Tune starts the trial again elsewhere, and the later attempt takes the
runs' leases. An attendant that cannot continue on its node ends the trial, and the driver has Tune start another one
that avoids the node.
"""

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.util import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from flipscale.launch.attend import Attendant, Ending
from flipscale.launch.breaker import Breaker
from flipscale.launch.launcher import Attempt, threads
from flipscale.launch.ray.trials import RayNode, Task, Trials, bundle_of, job_id
from flipscale.launch.workers import Workers, ends_with_this_process
from flipscale.plain_files import open_plain, read_text
from flipscale.run import ATTEMPT, CONNECT, JOB, NODE, FailureKind

DEATH_SECONDS = 6.0
"""The longest time until Ray notices a node's death; it notices the death of processes earlier."""

_CRASHED = ("0", "UNSPECIFIED", "2", "UNEXPECTED_TERMINATION")
"""Why a node is gone, as Ray says it, where that is a failure. Idle and pre-empted nodes are drained."""


class Trial(tune.Trainable):
    """The runs of one task. Its config: `submission`, the path of submission.json, and `task`, an index in it."""

    def setup(self, config: dict[str, Any]) -> None:
        path = Path(config["submission"])
        trials = Trials.read(path)
        index = int(config["task"])
        task = trials.tasks[index]
        job = job_id(trials.name, index)
        node = _node(ray.get_runtime_context().get_node_id())
        starts = path.with_name(f"{index}.starts")
        attempt = Attempt(f"ray/{job}", _starts_before(starts, node), node["NodeName"])
        log = path.with_name(f"{index}.log")
        self.attendant = Attendant(
            [run for run_id in task.runs if trials.is_ours(run := trials.run(run_id), index)],
            attempt,
            Workers(lambda runs, lane: TrialWorker(trials, task, [run.path for run in runs], log, attempt), log),
            Breaker(path.parent, trials.run_folders),
            node_failed=partial(_node_failed, starts),
            stalled=trials.site["stalled"],
        )
        with open(log, "a", encoding="utf-8", opener=open_plain) as file:
            file.write(
                f"{time.strftime('%Y-%m-%d %H:%M:%S')} attempt {attempt.number + 1} of {job} on {attempt.node}\n"
            )

    def step(self) -> dict[str, Any]:
        ending = self.attendant.work()
        if ending is Ending.STOPPED:  # Ray sends no signal: the system did, as before a shutdown.
            self.attendant.note_interruption(FailureKind.PREEMPTED, "Its process was asked to stop.")
        return {"done": True, "again": ending is not Ending.DONE}


def _node(node_id: str | None) -> RayNode:
    """The node of this id, dead or alive; empty where Ray knows none. By default its name is its address."""
    nodes: list[RayNode] = ray.nodes()  # type: ignore[no-untyped-call]
    return next((node for node in nodes if node["NodeID"] == node_id), {})


def _starts_before(path: Path, node: RayNode) -> int:
    """How often the task was started before. Writes down that it is started now."""
    start = {"node": node["NodeName"], "id": node["NodeID"], "process": os.getpid(), "time": time.time()}
    with open(path, "a+", encoding="utf-8", opener=open_plain) as file:
        file.write(json.dumps(start) + "\n")
        file.seek(0)
        return sum(1 for _ in file) - 1


def _node_failed(starts: Path, name: str) -> bool:
    """Whether the node of this name that last had the task crashed. Another one of that name may be there by now."""
    earlier = [json.loads(line) for line in read_text(starts).splitlines()][:-1]
    lost = next((start["id"] for start in reversed(earlier) if start["node"] == name), None)
    until = time.monotonic() + DEATH_SECONDS
    while (node := _node(lost)).get("Alive") and time.monotonic() < until:
        time.sleep(0.5)
    return not node.get("Alive") and str(node.get("DeathReason", 0)) in _CRASHED


# A worker's processes: process 0 beside the attendant, each other one in a bundle of the trial's placement group.

APART_SECONDS = 10.0
"""Seconds that a worker's processes have to end by themselves after one of them has ended."""


class TrialWorker:
    """`train` on some folders, in one process or several, to the attendant as if it were one."""

    def __init__(self, trials: Trials, task: Task, folders: Sequence[Path], log: Path, attempt: Attempt):
        command = _command(trials, folders)
        processes = task.resources.devices
        environment = {
            **threads(trials.site["cpus_per_process"]),
            JOB: attempt.job,
            ATTEMPT: str(attempt.number),
            NODE: attempt.node,
            CONNECT: str(trials.site["connect"]),
        }
        if processes > 1:
            meeting = {"MASTER_ADDR": own_address(), "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(processes)}
            # Each process is shown its own GPU alone, which is number 0 to it.
            environment |= {**meeting, "RANK": "0", "LOCAL_RANK": "0"}
        self.leader = _popen(command, environment, trials.folder, log)
        self.others: list[Any] = [
            _in_bundle(
                rank,
                bundle_of(task, trials.site),
                command,
                {**environment, "RANK": str(rank)},
                trials.folder,
                log.with_name(f"{log.stem}-{rank}.log"),
            )
            for rank in range(1, processes)
        ]
        self._apart_since: float | None = None

    @property
    def returncode(self) -> int:
        return int(self.leader.returncode)

    def poll(self) -> int | None:
        """The exit code of process 0, once all have ended. Those that stay behind are ended."""
        code = self.leader.poll()
        if not self.others:
            return code
        ended, alive = ray.wait(self.others, num_returns=len(self.others), timeout=0)
        if code is None and not ended:
            return None
        if code is not None and not alive:
            return code
        self._apart_since = self._apart_since or time.monotonic()
        if time.monotonic() - self._apart_since > APART_SECONDS:
            if code is None:
                # A killed process counts as lost with its node: the node of another process may have failed.
                os.killpg(self.leader.pid, signal.SIGKILL)
            for reference in alive if code is not None else ():
                ray.cancel(reference)
        return None

    def send_signal(self, signum: int) -> None:
        """Signal process 0, which agrees with the others on when to stop."""
        self.leader.send_signal(signum)

    def terminate(self) -> None:
        self.leader.terminate()


def _in_bundle(rank: int, bundle: Mapping[str, float], *arguments: Any) -> Any:
    """A process in a bundle of this trial's placement group; the reference becomes ready when it has ended."""
    more = {name: amount for name, amount in bundle.items() if name not in ("CPU", "GPU", "memory")}
    group = get_current_placement_group()
    assert group is not None, "Ray Tune starts a trial in a placement group"
    remote = ray.remote(_run_to_its_end).options(
        num_cpus=bundle["CPU"],
        num_gpus=bundle.get("GPU", 0),
        memory=bundle.get("memory", 0),
        resources=more,
        max_retries=0,
        scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank),
    )
    return remote.remote(*arguments)


def _run_to_its_end(command: Sequence[str], environment: Mapping[str, str], folder: str, log: Path) -> int:
    process = _popen(command, {**environment, NODE: own_address()}, folder, log)
    try:
        while True:
            # Python notices `ray.cancel` only between short waits.
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=1)
    except KeyboardInterrupt:  # That is `ray.cancel`: the others have ended.
        os.killpg(process.pid, signal.SIGKILL)
        raise


def _popen(command: Sequence[str], environment: Mapping[str, str], folder: str, log: Path) -> "subprocess.Popen[bytes]":
    """The command in that folder. It is asked to stop when this process of Ray's ends in any way, as where the driver
    is killed: it then writes a checkpoint (driver.py keeps Ray from killing it first)."""
    with open(log, "ab", opener=open_plain) as output:
        return subprocess.Popen(
            ends_with_this_process(command),
            cwd=folder if Path(folder).is_dir() else None,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ray ends the groups of its own processes hard.
        )


def _command(trials: Trials, folders: Sequence[Path]) -> list[str]:
    """The worker's command, after the site's lines of shell if there are any."""
    command = [*trials.command, *map(str, folders)]
    if not trials.site["setup"]:
        return command
    return ["bash", "-c", "\n".join([*trials.site["setup"], f"exec {shlex.join(command)}"])]


def own_address() -> str:
    """The address at which other nodes of the cluster reach this one."""
    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
