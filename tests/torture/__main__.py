"""python -m tests.torture [--part NAME ...] [--seed N] [--short] [--share F] [--out FILE]

The exit code is 1 if anything went wrong.
"""

import argparse
import importlib
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.torture.counts import Extent, Row, measured, table, write

PARTS = ("full_disk", "twos", "kills")
OUT = Path(__file__).parents[2] / "bench" / "results" / "torture.json"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description="Faults at random, counted.")
    parser.add_argument("--part", action="append", choices=PARTS, help="this part alone; may be repeated")
    parser.add_argument("--seed", type=int, help="repeat what a run with this seed did; drawn and printed by default")
    parser.add_argument("--short", action="store_true", help="a few cases of each part")
    parser.add_argument("--share", type=float, default=1.0, metavar="F", help="do this share of the cases")
    parser.add_argument("--out", type=Path, help=f"where the rows go; {OUT.name} in bench/results for the whole form")
    asked = parser.parse_args(arguments)
    seed = random.randrange(2**31) if asked.seed is None else asked.seed
    out = asked.out or (None if asked.short else OUT)
    rows = []
    for name in asked.part or PARTS:
        rows.append(_done(name, asked.short, asked.share, seed))
        if out:
            write(rows, out)
            print(f"wrote {out}", file=sys.stderr)
    for row in rows:
        for finding in row.findings:
            print(f"{row.part}: {finding}", file=sys.stderr)
        for note in row.notes:
            print(f"{row.part}: {note}", file=sys.stderr)
    print(table([asdict(row) for row in rows]))
    return int(any(any(row.wrong.values()) for row in rows))


def _done(name: str, short: bool, share: float, seed: int) -> Row:
    work = Path(tempfile.mkdtemp(prefix=f"flipscale-torture-{name}-"))
    print(f"{name}: seed {seed}{', short' if short else ''}", file=sys.stderr, flush=True)
    try:
        row = measured(
            name, importlib.import_module(f"tests.torture.{name}").torture, Extent(seed, short, work, share=share)
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)
    said = ", ".join(f"{number} {kind}" for kind, number in row.wrong.items() if number) or "nothing wrong"
    print(
        f"{name}: {row.cases:,} cases in {row.seconds:.0f} s ({row.cpu_seconds:.0f} of CPU), {said}",
        file=sys.stderr,
        flush=True,
    )
    return row


if __name__ == "__main__":
    raise SystemExit(main())
