"""Requests and measurements of probes, as files: probe.json of a probe's folder, and timings.json.

A probe is a run folder like any other, so that every launcher starts it as it starts runs; probe.json in it tells
`train` which shapes to time. All probes of a results folder write into one timings.json.
"""

import contextlib
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeVar

from flipscale.guard import locked
from flipscale.kinds import By, JsonObject, record_of
from flipscale.plain_files import or_none, read_json
from flipscale.planning.timing import EvaluationTime, StepTime, Timings
from flipscale.run.codec import read_record
from flipscale.run.files import FOLDER_SCHEMA, PROBE_FILE, storable, write_json
from flipscale.run.folder import RunFolder
from flipscale.settings.declarations import Settings, plain
from flipscale.study.settings import read_settings

_SettingsRead = Annotated[Settings, By(read_settings)]


@dataclass(frozen=True)
class Probe:
    """The request for a probe."""

    study: str
    """Whose shapes they are."""
    site: str
    """Where they are timed, as `Launcher.site_name` says it."""
    shapes: tuple[_SettingsRead, ...] = field(hash=False)
    """The settings of one run of each shape, in the form of run.json."""
    evaluations: tuple[_SettingsRead, ...] = field(hash=False)
    """The settings of one run of each evaluation."""


def write_probe(folder: Path, probe: Probe) -> None:
    """Write probe.json."""
    lists = {name: [plain(each) for each in getattr(probe, name)] for name in ("shapes", "evaluations")}
    write_json(folder / PROBE_FILE, {"schema": FOLDER_SCHEMA, "study": probe.study, "site": probe.site, **lists})


def read_probe(folder: Path) -> Probe | None:
    """The content of probe.json; None if the folder is that of a training. RunFolderError if it cannot be read."""
    return read_record(Probe, folder, PROBE_FILE)


def probes_in(runs: Path) -> Iterator[tuple[RunFolder, Probe]]:
    """The probes among the run folders in `runs`, by name; one whose file is damaged is skipped."""
    for path in sorted(runs.glob(f"probe_*/{PROBE_FILE}")):
        if (probe := or_none(read_probe, path.parent)) is not None:
            yield RunFolder(path.parent), probe


def is_probe(folder: RunFolder) -> bool:
    """Whether the folder is a probe's and not that of a training."""
    return PROBE_FILE in folder.glance().files


def read_timings(path: Path) -> Timings:
    """The measurements of probes of this results folder, without those on another machine's CPU: for plans.

    Unreadable ones count as missing: a probe writes them anew.
    """
    here = cpu_name()
    return all_timings(path).where(
        lambda timed: timed.site != "local" or timed.device != "cpu" or timed.hardware == here
    )


def all_timings(path: Path) -> Timings:
    """The measurements of probes of this results folder, on any machine: for tables of finished runs."""
    return timings_from_json(or_none(read_json, path, JsonObject))


def add_timings(path: Path, new: Timings) -> None:
    """Add what a probe has measured; several may do so at once. Older times of the same shape and place are dropped."""
    with locked(path.with_name(f".{path.name}.lock")):
        timings = all_timings(path).and_new(new)
        write_json(path, storable({"schema": FOLDER_SCHEMA, **timings_as_json(timings)}))


def cpu_name() -> str:
    """The model of this machine's CPU, as the system names it."""
    try:
        match = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        match = None
    return match[1].strip() if match else platform.processor() or platform.machine()


def timings_as_json(timings: Timings) -> dict[str, list[JsonObject]]:
    """The two lists of times as JSON has them; `timings_from_json` reads them."""
    return {name: [vars(each) for each in getattr(timings, name)] for name in ("steps", "evaluations")}


def timings_from_json(data: object) -> Timings:
    """The times in a JSON object; none where it is something else."""
    if not isinstance(data, dict):
        return Timings()
    return Timings(tuple(_records(StepTime, data, "steps")), tuple(_records(EvaluationTime, data, "evaluations")))


_Record = TypeVar("_Record", StepTime, EvaluationTime)


def _records(kind: type[_Record], data: JsonObject, name: str) -> Iterator[_Record]:
    """The records under that name; those that lack a field, or have another kind of value there, are left out."""
    entries = data.get(name)
    for entry in entries if isinstance(entries, list) else ():
        with contextlib.suppress(ValueError):
            yield record_of(kind, entry)
