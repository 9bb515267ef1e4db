"""What went wrong in a part of the torture, by kind: the table at the end, and bench/results/torture.json."""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

KINDS = ("lost", "doubled", "differing", "orphans", "tracebacks", "hangs")
"""lost: runs without an end. doubled: trained twice at once, or finished twice. differing: another result than the
undisturbed run's. orphans: processes that stay. hangs: cases over their time limit."""


@dataclass
class Counts:
    """The cases of a part and what went wrong in them. Every checker uses `report`."""

    cases: int = 0
    wrong: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    findings: list[str] = field(default_factory=list)
    """A sentence for each, with what is needed to reproduce it."""
    notes: list[str] = field(default_factory=list)
    """What was not done here, and why."""

    def report(self, kind: str, what: str) -> None:
        assert kind in KINDS, kind
        self.wrong[kind] += 1
        self.findings.append(f"{kind}: {what}")

    def add(self, other: "Counts") -> None:
        self.cases += other.cases
        for kind, number in other.wrong.items():
            self.wrong[kind] += number
        self.findings += other.findings
        self.notes += other.notes


@dataclass(frozen=True)
class Extent:
    """How much of a part is done, and with which seed."""

    seed: int
    short: bool
    work: Path
    """An empty folder for the part, removed afterwards."""
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)

    share: float = 1.0
    """The share of the form's cases that is done."""

    def cases(self, full: int, short: int) -> int:
        """How many cases: the share of the full number, or of that of the short form; none where the form has none."""
        number = short if self.short else full
        return max(1, round(self.share * number)) if number else 0


Part = Callable[[Extent], Counts]


@dataclass(frozen=True)
class Row:
    """The result of a part."""

    part: str
    cases: int
    wrong: Mapping[str, int]
    findings: Sequence[str]
    notes: Sequence[str]
    seconds: float
    cpu_seconds: float
    seed: int
    short: bool
    share: float
    date: str
    load: float
    """The machine's load average over a minute, at the start."""


def measured(name: str, part: Part, extent: Extent) -> Row:
    """Do a part and return its result."""
    load, began, cpu = os.getloadavg()[0], time.monotonic(), cpu_seconds()
    counts = part(extent)
    return Row(
        part=name,
        cases=counts.cases,
        wrong=counts.wrong,
        findings=counts.findings[:100],
        notes=counts.notes,
        seconds=round(time.monotonic() - began, 1),
        cpu_seconds=round(cpu_seconds() - cpu, 1),
        seed=extent.seed,
        short=extent.short,
        share=extent.share,
        date=time.strftime("%Y-%m-%d"),
        load=round(load, 1),
    )


def cpu_seconds() -> float:
    """CPU seconds of this process and of the children that it has waited for, without daemons and their jobs."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each part, as Markdown."""
    heads = ["part", "cases", *KINDS, "seconds"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in rows:
        cells = [row["part"] + _extent_in_words(row), f"{row['cases']:,}"]
        cells += [str(row["wrong"][kind]) for kind in KINDS] + [f"{row['seconds']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _extent_in_words(row: Mapping[str, Any]) -> str:
    words = (["short"] if row["short"] else []) + ([f"{row['share']:.0%} of it"] if row["share"] != 1 else [])
    return f" ({', '.join(words)})" if words else ""


def write(rows: Sequence[Row], out: Path) -> list[dict[str, Any]]:
    """Write the rows; rows of other parts in the file stay. Returns all rows, in the order of the file."""
    before = json.loads(out.read_text())["parts"] if out.exists() else []
    now = {row.part: asdict(row) for row in rows}
    kept = [now.pop(row["part"], row) for row in before]
    merged = [*kept, *now.values()]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"schema": 1, "parts": merged}, indent=1) + "\n")
    return merged
