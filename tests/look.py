"""A program for tests/test_forked.py: it prints what it was started with, or ends in the way its argument names."""

import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

from flipscale import architecture


def found() -> dict[str, object]:
    proc = Path("/proc/self")
    status = dict(line.split(":\t") for line in (proc / "status").read_text().splitlines())
    in_proc = {name: (proc / name).read_bytes().split(b"\0") for name in ("cmdline", "environ")}
    listed = sorted(map(int, os.listdir(proc / "fd")))
    return {
        "name": __name__,
        "arguments": sys.argv[1:],
        "original arguments": sys.orig_argv[1:],
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
        "in /proc": {name: [part.decode() for part in parts if part] for name, parts in in_proc.items()},
        "parent": os.getppid(),
        "leads its session": os.getsid(0) == os.getpid(),
        "threads": threading.active_count(),
        "descriptors": [number for number in listed if os.path.lexists(proc / f"fd/{number}")],
        "standard input": str((proc / "fd/0").readlink()),
        "ignored signals": status["SigIgn"],
        "blocked signals": status["SigBlk"],
        "SIGINT": str(signal.getsignal(signal.SIGINT)),
        "SIGTERM": str(signal.getsignal(signal.SIGTERM)),
        "results kept": architecture.architecture.cache_info().currsize,
    }


def main(how: str) -> int:
    if how == "look":
        print(json.dumps({**found(), "has torch": "torch" in sys.modules, "drawn": random.random()}))
    elif how == "wait":
        print("ready", flush=True)
        while True:  # A signal that came just before signal.pause() would not end that.
            time.sleep(0.05)
    elif how == "words":
        raise SystemExit("words")
    elif how == "raise":
        raise ValueError("raised")
    return 3


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
