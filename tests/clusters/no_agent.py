"""Stands in for a worker node's dashboard agent: python no_agent.py SESSION NODE.

The raylet waits for the ports of its node's agent, and ends when the agent does. This stand-in says that it has none,
as the agent of a minimal Ray does, and stays. A real agent takes a second of CPU to start, and more while it idles. It
gives the dashboard the figures of its node, and starts jobs, which only the head's agent does here.
"""

import signal
import sys
from pathlib import Path

PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port")

if __name__ == "__main__":
    session, node, *_ = sys.argv[1:]  # The raylet adds options of its own.
    for name in PORTS:
        written = Path(session, f".{name}_{node}")
        written.write_text("-1")
        written.replace(Path(session, f"{name}_{node}"))
    signal.pause()
