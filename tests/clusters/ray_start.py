"""`ray start` as ray.sh has it, with some changes: python -m tests.clusters.ray_start start OPTION...

- It does without the commands of Ray Serve, whose import takes half of its time.
- 127.0.0.1 is not replaced by the address of a network card: Ray has a variable for that (in ray.sh), which all its
  processes obey, but `ray start` itself takes it to mean that a cluster has one node.
- It waits longer than 30 s for a node to come up, which is not enough on a busy machine, but not where the raylet has
  ended: it waits 15 s for its agents, which that machine may not start in time either.
- It leaves out what flipscale and its tests never ask, as each is a process that takes a second of CPU to start and
  more while it idles: all modules of the dashboard but jobs and nodes, the server of Ray Client, and, if NO_AGENT names
  no_agent.py, the dashboard agent of the node.
- A process of Ray's loads Ray once, where it would do so twice (quick_worker.py).
"""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray._private import ray_constants, services
from ray._private.node import Node

NODE_SECONDS = 600
QUICK_WORKER = Path(__file__).with_name("quick_worker.py")


def patient(look: Callable[..., Any], raylets: Sequence[Any]) -> Callable[..., Any]:
    """`look` again while it finds nothing and the raylets live."""
    until = time.monotonic() + NODE_SECONDS

    def get_node(*node: Any) -> Any:
        while True:
            try:
                return look(*node)
            except RuntimeError:
                if time.monotonic() > until or any(raylet.poll() is not None for raylet in raylets):
                    raise
                time.sleep(0.1)

    return get_node


def changed(word: str) -> str:
    """A word of the raylet's command."""
    name, _, command = word.partition("=")
    words = shlex.split(command)
    if name == "--dashboard_agent_command" and os.environ["NO_AGENT"]:
        known = dict(word.split("=", 1) for word in words if "=" in word)
        if "--node-id" not in known:  # An older Ray, whose agent starts as it is.
            return word
        words = [sys.executable, "-I", "-S", os.environ["NO_AGENT"], known["--session-dir"], known["--node-id"]]
    elif name == "--python_worker_command":
        words[1:1] = ["-I", "-S", str(QUICK_WORKER)]
    else:
        return word
    return f"{name}={subprocess.list2cmdline(words)}"


def main() -> None:
    sys.modules["ray.serve"] = None  # type: ignore[assignment]
    start = services.start_ray_process
    raylets: list[Any] = []

    def start_ray_process(command: list[str], process_type: str, **options: Any) -> Any:
        if process_type == ray_constants.PROCESS_TYPE_DASHBOARD:
            command = [*command, "--modules-to-load=JobHead,NodeHead"]
        if process_type == ray_constants.PROCESS_TYPE_RAYLET:
            command = list(map(changed, command))
        started = start(command, process_type, **options)
        if process_type == ray_constants.PROCESS_TYPE_RAYLET:
            raylets.append(started.process)
        return started

    ray_constants.ENABLE_RAY_CLUSTER = True
    services.resolve_ip_for_localhost = lambda host: host
    services.get_node = patient(services.get_node, raylets)
    services.start_ray_process = start_ray_process
    Node.start_ray_client_server = lambda self: None

    from ray.scripts.scripts import cli

    cli(standalone_mode=False)


if __name__ == "__main__":
    main()
