"""What a benchmark leaves: a Markdown table on stdout, and a JSON file with it, its numbers and the machine's facts."""

import datetime as dt
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")


def machine() -> dict[str, Any]:
    """What the numbers were measured on. The load is that of the minute before, which is other work."""
    # A child's peak memory includes its parent's at the fork, so a benchmark of memory calls this last.
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "open_clip": importlib.metadata.version("open_clip_torch"),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
    }


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def machine_words(machine: Mapping[str, Any]) -> str:
    """The last line of a benchmark's output."""
    return "{cpu}, {cores} cores, load {load}, Python {python}, {date}.".format(**machine)


def limit(what: str, limit: str, measured: str, holds: bool) -> dict[str, str]:
    """A limit, and whether it holds."""
    return {"what": what, "limit": limit, "measured": measured, "verdict": "holds" if holds else "DOES NOT HOLD"}


def seconds_limit(what: str, seconds: float, runs: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """Whether the fastest of these runs of a program took at most this number of seconds of wall time."""
    wall, cpu = (min(run[name] for run in runs) for name in ("wall_seconds", "cpu_seconds"))
    return limit(what, f"{seconds:g} s", f"{wall:.2f} s ({cpu:.2f} of CPU)", wall <= seconds)


def leave(name: str | None, facts: Mapping[str, Any], said: str) -> None:
    """Print what is said, and write it and the facts to bench/results/<name>.json, or to a path that ends in .json."""
    print(said)
    if name is not None:
        path = out_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**facts, "table": said.splitlines()}, indent=1) + "\n")
        print(f"wrote {path}")


def out_path(name: str) -> Path:
    """bench/results/<name>.json, or the path itself if it ends in .json."""
    return Path(name) if name.endswith(".json") else RESULTS / f"{name}.json"


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
