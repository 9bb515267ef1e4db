"""Starts a raylet again as `ray start` once did (ray_start.py): python ray_again.py RAYLET DASHBOARD SECONDS LOG.

It is a new node of the cluster, by another id. `ray start` takes a second of CPU to find out the same command. Waits
for the node to be alive; exit code 1 if it is not alive within that time.
"""

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ID, SOCKETS = "--node_id=", ("--raylet_socket_name=", "--store_socket_name=")


def is_alive(dashboard: str, node: str) -> bool:
    try:
        with urllib.request.urlopen(f"{dashboard}/nodes?view=summary", timeout=5) as answer:
            nodes = json.load(answer)["data"]["summary"]
    except Exception:  # a busy dashboard may answer with anything
        return False
    return any((one["raylet"].get("nodeId"), one["raylet"].get("state")) == (node, "ALIVE") for one in nodes)


def main(raylet: str, dashboard: str, seconds: str, log: str) -> int:
    written = json.loads(Path(raylet).read_text())
    (earlier,) = (word.removeprefix(ID) for word in written["command"] if word.startswith(ID))
    node = os.urandom(len(earlier) // 2).hex()
    command = [word.replace(earlier, node) for word in written["command"]]
    for word in command:
        if word.startswith(SOCKETS):  # The killed raylet's, which another one could not make.
            Path(word.partition("=")[2]).unlink(missing_ok=True)
    environment = dict(word.split("=", 1) for word in written["environment"])
    with open(log, "a") as file:
        # All its descendants are found by its environment (ray.sh), whoever their parents are.
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    until = time.monotonic() + float(seconds)
    while not is_alive(dashboard, node):
        if process.poll() is not None or time.monotonic() > until:
            return 1
        time.sleep(0.2)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
