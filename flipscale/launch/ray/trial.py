"""A trial: an attendant sees its runs through, in a process of Ray's on any node that has room.

It reports to Ray Tune every few seconds. If the node or the trial's process is lost, Tune starts the trial again
elsewhere, and the later attempt takes the runs' leases. An attendant that cannot continue on its node ends the trial,
and the driver has Tune start another one that avoids the node.
"""

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.util import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from flipscale.guard import plain_file
from flipscale.launch.attend import Attendant, Breaker, Ending
from flipscale.launch.launcher import Attempt, threads
from flipscale.launch.ray.trials import RayNode, Task, Trials, bundles_of, job_id
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
) -> "TrialWorker":
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


# A worker's processes: process 0 beside the attendant, each other one in a bundle of the trial's placement group.
# Whoever started them may end in any way, as where the driver is killed: the kernel then sends each of them the signal
# at which `train` writes a checkpoint and ends.

APART_SECONDS = 10.0
"""Seconds that a worker's processes have to end by themselves after one of them has ended."""

FAREWELL_SECONDS = 30.0
"""How long this process may live after Ray has killed its children. Ray does so as it ends this process itself."""

# Runs between a process of Ray's and a worker: it passes signals on and ends as the worker does. When Ray's processes
# end, Ray kills their children, which is this one, and the kernel then sends the worker SIGTERM. It is killed itself
# only in that case: for a worker that was killed it returns 137.
_BETWEEN = """
import ctypes, os, signal, sys
parent, command = int(sys.argv[1]), sys.argv[2:]
def end_with(parent, signum):
    try:
        ctypes.CDLL(None).prctl(1, signum)
    except AttributeError:
        pass
    if os.getppid() != parent:
        os._exit(1)
end_with(parent, signal.SIGKILL)
here, passed_on = os.getpid(), (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
signal.pthread_sigmask(signal.SIG_BLOCK, passed_on)
worker = os.fork()
if worker == 0:
    end_with(here, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, passed_on)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(127)
for one in passed_on:
    signal.signal(one, lambda signum, frame: os.kill(worker, signum))
signal.pthread_sigmask(signal.SIG_UNBLOCK, passed_on)
code = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
os._exit(code if code >= 0 else 128 - code)
"""


class TrialWorker:
    """`train` on some folders, in one process or several, to the attendant as if it were one."""

    def __init__(self, trials: Trials, task: Task, folders: Sequence[Path], log: Path, environment: Mapping[str, str]):
        bundles = bundles_of(task, trials.site)
        command = _command(trials, folders)
        environment = {**threads(trials.site["cpus_per_process"]), **environment}
        self.others: list[Any] = []
        if task.resources.devices > 1:
            meeting = {"MASTER_ADDR": own_address(), "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(len(bundles))}
            environment = {**environment, **meeting}
        self.leader = _popen(command, {**environment, **_rank(0, bundles)}, trials.folder, log)
        for rank in range(1, len(bundles)):
            beside = log.with_name(f"{log.stem}-{rank}.log")
            arguments = (command, {**environment, **_rank(rank, bundles)}, trials.folder, beside)
            self.others.append(_in_bundle(rank, bundles[rank], *arguments))
        self._apart_since: float | None = None
        self._farewell_since: float | None = None

    @property
    def returncode(self) -> int:
        return int(self.leader.returncode)

    def poll(self) -> int | None:
        """The exit code of process 0, once all have ended. Those that stay behind are ended."""
        code = self.leader.poll()
        if code == -signal.SIGKILL and self._apart_since is None and self._may_be_farewell():
            return None
        if not self.others:
            return code
        ended, alive = ray.wait(self.others, num_returns=len(self.others), timeout=0)
        if code is None and not ended:
            return None
        if code is not None and not alive:
            return code
        self._apart_since = self._apart_since or time.monotonic()
        if time.monotonic() - self._apart_since > APART_SECONDS:
            self._end_the_rest(code, alive)
        return None

    def _may_be_farewell(self) -> bool:
        """Whether Ray may be about to end this process too, as it killed process 0. Then the worker is writing its
        checkpoint, and nothing is wrong with it."""
        self._farewell_since = self._farewell_since or time.monotonic()
        return time.monotonic() - self._farewell_since < FAREWELL_SECONDS

    def _end_the_rest(self, code: int | None, alive: Sequence[Any]) -> None:
        """End the processes that stayed behind when one of them ended. code: of process 0, None while it lives."""
        if code is None:
            # A killed process counts as lost with its node: the node of another process may have failed.
            os.killpg(self.leader.pid, signal.SIGKILL)
            return
        for reference in alive:
            ray.cancel(reference)

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
    place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)
    remote = ray.remote(_run_to_its_end).options(
        num_cpus=bundle["CPU"],
        num_gpus=bundle.get("GPU", 0),
        memory=bundle.get("memory", 0),
        resources=more,
        max_retries=0,
        scheduling_strategy=place,
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
    """The command in that folder."""
    between = [sys.executable, "-I", "-S", "-c", _BETWEEN, str(os.getpid())]
    with open(log, "ab", opener=plain_file) as output:
        return subprocess.Popen(
            [*between, *command],
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


def _rank(rank: int, bundles: Sequence[Any]) -> dict[str, str]:
    # Each process is shown its own GPU alone, which is number 0 to it.
    return {"RANK": str(rank), "LOCAL_RANK": "0"} if len(bundles) > 1 else {}


def own_address() -> str:
    """The address at which other nodes of the cluster reach this one."""
    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
