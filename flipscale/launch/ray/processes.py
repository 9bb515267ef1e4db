"""The processes of a worker: process 0 beside the attendant, each other one in a bundle of the trial's placement group.

Whoever started them may end in any way, as where the driver is killed: the kernel then sends each of them the signal at
which `train` writes a checkpoint and ends.
"""

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flipscale.guard import plain_file
from flipscale.launch.launcher import threads
from flipscale.launch.ray.trials import Task, Trials, bundles_of
from flipscale.run import NODE

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
        import ray

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
        import ray

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
    import ray
    from ray.util import get_current_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

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
    import ray

    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
