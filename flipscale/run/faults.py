"""Faults of a GPU, its node or the network, by the words that CUDA, NCCL, the driver and `train` itself have for them.

CUDA's sentences are those of cudaGetErrorString. An Xid line is one of the driver's; 13, 31, 43 and 45 follow from what
a program did, see https://docs.nvidia.com/deploy/xid-errors. NCCL's sentences are those of ncclGetErrorString; its
watchdog ends its process with SIGABRT (134 or -6) where a process, its GPU or the network kept the others waiting.
"""

import os
import re
import socket
from typing import NamedTuple

from flipscale.errors import FlipscaleError
from flipscale.run.lease import NODE
from flipscale.run.records import FailureKind


class NodeFault(FlipscaleError):
    """This machine lacks what the run was given, or cannot reach the others; the run may go on elsewhere."""

    def __init__(self, why: str, node: str | None = None):
        """node: the one at fault; None is this one, and "" an unknown one, or the network."""
        self.node = node_name() if node is None else node
        super().__init__(f"{f'The node {self.node}' if self.node else 'A node or the network'} is at fault: {why}")


def node_name() -> str:
    """The name of this machine, as its scheduler has it. FLIPSCALE_NODE of an srun is the job's first node."""
    return os.environ.get("SLURMD_NODENAME") or os.environ.get(NODE) or socket.gethostname()


_FAULTS = (
    (
        FailureKind.NODE,
        re.compile(
            r"uncorrectable (ECC|NVLink) error|GPU is lost|fallen off the bus|hardware stack error|busy or unavailable"
            r"|[Nn]o CUDA-capable device|No CUDA GPUs are available|system not yet initialized"
            r"|Invalid access of peer GPU memory"
            r"|Xid \([^)]*\): (?!(13|31|43|45)\b)\d|(The node (?P<node>\S+)|A node or the network) is at fault: "
        ),
    ),
    (FailureKind.GPU, re.compile(r"illegal memory access|unspecified launch failure|Xid \([^)]*\): (13|31)\b")),
    (FailureKind.CODE, re.compile("device-side assert triggered")),  # The other processes only lose their connection.
    (FailureKind.NODE, re.compile("unhandled cuda error")),
    (
        FailureKind.NODE,
        re.compile(
            r"(?P<elsewhere>[Ww]atchdog (caught collective operation timeout|got stuck)|unhandled system error"
            r"|remote process exited or there was a network error)"
        ),
    ),
)
"""The first row that matches counts. In the last one another process, or the network, is gone."""


class Fault(NamedTuple):
    """What a text says of a fault."""

    kind: FailureKind
    line: str
    node: str | None
    """The one at fault, where the line names it."""
    is_here: bool
    """Whether it is of the machine that tells of it; else of another one, or of the network."""


def fault_in(text: str) -> Fault | None:
    """The fault that an error or a log tells of; None without one."""
    # A line of `train` about a failure that it recorded belongs to another run.
    lines = [line for line in text.splitlines() if not re.search(r"failed \(\w+\): ", line)]
    for kind, words in _FAULTS:
        for line in lines:
            if match := words.search(line):
                groups = match.groupdict()
                fault = Fault(kind, line.strip()[:300], groups.get("node"), "elsewhere" not in groups)
                return None if kind is FailureKind.CODE else fault
    return None
