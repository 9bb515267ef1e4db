"""Time and memory to collect many run folders.

    python -m bench.collect --out collect

A study of --runs cells is planned and its folders are filled as training fills them (bench/run_folders.py): --records
lines of loss, and 40 scores. Then `flipscale collect STUDY --no-mlflow` runs as a user runs it, from Python's start to
its end: without a table, and again at once.

Other work on the machine can only add time, so the least of --repeats is printed; the file has all. The folders have
just been written, so they are in the file system's cache: reading them from a disk takes longer.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import run_folders
from bench.report import leave, machine, machine_words, seconds_limit, table
from bench.verbs import run_verb, took

MOST_SECONDS = 30.0
"""Wall seconds that collecting 10,000 folders may take on 2 cores."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and print; the facts that --out writes are returned."""
    parser = argparse.ArgumentParser(prog="python -m bench.collect", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--records", type=int, default=200, help="lines of loss in each metrics.jsonl")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="an empty folder for what is made, which is kept; a temporary one")
    parser.add_argument("--out", metavar="NAME", help="keep the result in bench/results/NAME.json, or in a path .json")
    asked = parser.parse_args(arguments)
    facts: dict[str, Any] = {
        "benchmark": "collect",
        "machine": {},
        "runs": asked.runs,
        "records": asked.records,
        "repeats": asked.repeats,
    }
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        planned = run_folders.write_study(folder, asked.runs)
        run_folders.fill(folder / "results", planned, asked.records)
        facts |= measure(folder, asked.repeats)
        facts["machine"] = machine() | {"load": round(load, 1)}
        facts["limits"] = limits(facts)
        leave(asked.out, facts, as_markdown(facts))
    return facts


def measure(folder: Path, repeats: int) -> dict[str, Any]:
    tables = folder / "results" / "study"
    facts: dict[str, Any] = {"anew": [], "again": []}
    for _ in range(repeats):
        shutil.rmtree(tables, ignore_errors=True)
        facts["anew"].append(collect(folder))
        facts["again"].append(collect(folder))
    facts["rows"] = (tables / "results.csv").read_bytes().count(b"\n") - 1
    folders = (folder / "results" / "runs").iterdir()
    facts["bytes"] = {
        "run folders": sum(file.stat().st_size for path in folders for file in path.iterdir()),
        **{name: (tables / name).stat().st_size for name in ("results.csv", "curves.parquet")},
    }
    return facts


def collect(folder: Path) -> dict[str, Any]:
    """What the command took, and what it said about the folders."""
    found = run_verb("collect", folder, "--no-mlflow")
    return found | {"said": found["said"].rpartition("(")[2].rstrip(")")}


def limits(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    """The limits for 10,000 runs, and whether they hold; with fewer runs they prove less."""
    return [seconds_limit(what, MOST_SECONDS, facts[what]) for what in ("anew", "again")]


def as_markdown(facts: Mapping[str, Any]) -> str:
    rows = [[f"flipscale collect, {what}", f"{facts['runs']:,}", *took(facts[what])] for what in ("anew", "again")]
    sizes = ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in facts["bytes"].items())
    return (
        table(["what", "runs", "wall s", "CPU s", "peak MiB"], rows)
        + f"\nEach is the least of {facts['repeats']}, memory the most. "
        + f"{facts['records']} records and 40 scores a run; {sizes}.\n\n"
        + table(["limit", "is", "measured", ""], [list(one.values()) for one in facts["limits"]])
        + f"\n{machine_words(facts['machine'])}"
    )


if __name__ == "__main__":
    main()
