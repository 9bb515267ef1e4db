"""How the processes of a run meet: where process 0 is, which device each has, and what to say if one does not come."""

import contextlib
import os
import re
import socket
from collections.abc import Mapping

import psutil
import torch

from flipscale.run import CONNECT, NodeFault
from flipscale.words import duration


def connect_seconds() -> float:
    """How long processes may take to meet and to reduce a first number over all of them: `connect` of a site file."""
    return float(os.environ.get(CONNECT) or 600)


def own_device(local_rank: int, size: int) -> torch.device:
    """The GPU of this process, which works, or the CPU of a machine without GPUs. Raises NodeFault for too few GPUs."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    # A scheduler may show each process its own GPU only, which is then number 0 to it.
    shown = torch.cuda.device_count()
    number = 0 if size == 1 or shown == 1 else local_rank
    if number >= shown:
        raise NodeFault(f"torch sees {shown} GPUs, and there are at least {local_rank + 1} processes of one GPU each.")
    device = torch.device("cuda", number)
    torch.cuda.set_device(device)
    return device


def without_cuda() -> str:
    """What torch says about CUDA where it has none."""
    try:
        torch.zeros(1, device="cuda")
    except Exception as error:  # An AssertionError of a torch for CPUs, a RuntimeError of the driver.
        return str(error).splitlines()[0]
    return "torch.cuda.is_available() is false"


def slurm_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The facts about a SLURM step that torch needs. Process 0 is on the first node of the step's list."""
    job = int(environment.get("SLURM_JOB_ID", 0))
    step = int(environment.get("SLURM_STEP_ID", 0))
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": environment.get("SLURM_LOCALID", "0"),
        "MASTER_ADDR": environment.get("MASTER_ADDR") or (step_nodes(environment) or ["127.0.0.1"])[0],
        "MASTER_PORT": environment.get("MASTER_PORT", str(20000 + (101 * job + step) % 10000)),
    }


def step_nodes(environment: Mapping[str, str]) -> list[str]:
    """The nodes of a SLURM step, written out in order: 'rack[1-2]n[01-02],x' are rack1n01, rack1n02, rack2n01, ..., x.

    [] outside of SLURM.
    """
    written = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "")
    return [name for names in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", written) for name in _written_out(names)]


def _written_out(names: str) -> list[str]:
    before, bracket, rest = names.partition("[")
    if not bracket:
        return [names]
    numbers, _, after = rest.partition("]")
    written = []
    for part in numbers.split(","):
        first, _, last = part.partition("-")
        written += [str(number).zfill(len(first)) for number in range(int(first), int(last or first) + 1)]
    return [f"{before}{number}{end}" for number in written for end in _written_out(after)]


def why_apart(absent: list[int], size: int) -> NodeFault:
    """Whom to blame when the time to connect is over. absent: ranks that did not come; [] if none could reduce."""
    seconds = duration(connect_seconds())
    network = _network(os.environ.get("MASTER_ADDR", "127.0.0.1"))
    if not absent:
        return NodeFault(f"all {size} processes came, and no sum over them was ready within {seconds}. {network}", "")
    nodes = step_nodes(os.environ)
    # srun gives each node the same number of processes, one node after the other.
    node = nodes[absent[0] * len(nodes) // size] if nodes and size % len(nodes) == 0 else ""
    which = ", ".join(map(str, absent[:9])) + ", ..." * (len(absent) > 9)
    return NodeFault(f"{len(absent)} of {size} processes did not come within {seconds}: {which}. {network}", node)


def _network(address: str) -> str:
    """How this process reaches process 0, and what would change it."""
    used = "an interface that is not known"
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        here = probe.getsockname()[0]
        names = (name for name, held in psutil.net_if_addrs().items() if here in [each.address for each in held])
        used = next(names, used)
    variables = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")
    chosen = " and ".join(f"{name} is {os.environ.get(name) or 'not set'}" for name in variables)
    return (
        f"This process reaches {address} by {used}; {chosen}. If another interface joins the nodes, export both in "
        f"setup of the site file; if they only need longer, set connect there."
    )
