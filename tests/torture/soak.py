"""2,000 tiny runs on this machine, SLURM and Ray. The watching process must need little memory and few files."""

import contextlib
import os
import resource
import tempfile
import time
from collections.abc import Callable, Mapping

from flipscale.errors import FlipscaleError
from flipscale.launch import states, submit
from flipscale.run import State
from tests.clusters import ray as ray_parts
from tests.clusters import slurm as slurm_parts
from tests.launch.contract import StandInRun
from tests.torture.checks import check, check_logs
from tests.torture.counts import Counts, Extent
from tests.torture.processes import left_over, with_folder
from tests.torture.submitter import launcher_of
from tests.torture.trainer import steps_of

SHARE = {"local": 1400, "slurm": 400, "ray": 200}

SECONDS = 1500.0
"""A share that takes longer counts as a hang."""

GROWTH = 300 * 2**20
"""Bytes by which the watching process may grow."""

SLOTS = {"local": os.cpu_count() or 1, "slurm": 32, "ray": 8}
"""Runs at once: one per core of this machine, or per core that the cluster's nodes claim."""

PROCESSES = 6
"""Processes per run: script, attendant, srun and its helper, trainer, and one that is just ending."""


def torture(extent: Extent) -> Counts:
    counts = Counts()
    counts.add(share(extent, "local", extent.cases(SHARE["local"], 32)))
    if extent.short:
        counts.notes.append("SLURM and Ray are left to the whole form")
        return counts
    parts: tuple[tuple[str, Callable[[], str], Callable[[], object]], ...] = (
        ("slurm", slurm_parts.missing, slurm_parts.SlurmCluster.start),
        ("ray", ray_parts.missing, ray_parts.RayCluster.start),
    )
    for name, missing, start in parts:
        if reason := missing():
            counts.notes.append(f"no {name}: {reason}")
            continue
        cluster = start()
        try:
            with _environment(cluster.env):  # type: ignore[attr-defined]
                counts.add(share(extent, name, extent.cases(SHARE[name], 0)))
        finally:
            cluster.stop()  # type: ignore[attr-defined]
    return counts


def share(extent: Extent, name: str, number: int) -> Counts:
    """This number of runs with this launcher, submitted in four parts while earlier ones run."""
    counts = Counts(cases=number)
    results = extent.work / f"soak-{name}" / "results"
    runs = [StandInRun(f"run-{n:04}", seconds=0.05) for n in range(number)]
    before = _used()
    parts = [runs[first::4] for first in range(4)]
    most, until = 0, time.monotonic() + SECONDS
    while time.monotonic() < until:
        with contextlib.suppress(FlipscaleError):
            if parts:
                submit(parts.pop(), results, launcher_of(name, results))
            now = states(runs, results)
            most = max(most, len(with_folder(results)))
            if set(now.values()) == {State.FINISHED}:
                break
            lost = [run for run in runs if now[run.id] in (State.LOST, State.FAILED, State.CANCELLED)]
            if lost and not parts:
                submit(lost, results, launcher_of(name, results))
        time.sleep(1)
    else:
        counts.report("hangs", f"soak on {name}: not over after {SECONDS:.0f} s")
    counts.add(check(results, {run.id: steps_of(run.seconds) for run in runs}, f"soak on {name}"))
    counts.add(check_logs(results, f"soak on {name}"))
    counts.add(bounded(before, _used(), f"soak on {name}"))
    limit = PROCESSES * SLOTS[name] + 20
    if most > limit:
        counts.report("orphans", f"soak on {name}: {most} processes at once, {limit} at most are meant")
    for left in [*left_over(results), *map(str, results.rglob(".*.tmp"))]:
        counts.report("orphans", f"soak on {name}: {left}")
    extent.say(f"  {name}: {number} runs, {most} processes at most, {counts.wrong}")
    return counts


Used = Mapping[str, int]


def _used() -> Used:
    """What this process holds, and what lies in the temporary folder."""
    ours = [one for one in os.listdir(tempfile.gettempdir()) if one.startswith(("submitit", "flipscale-launch"))]
    return {
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "open files": len(os.listdir("/proc/self/fd")),
        "temporary files": len(ours),
    }


def bounded(before: Used, after: Used, where: str) -> Counts:
    counts = Counts()
    if after["memory"] > before["memory"] + GROWTH:
        counts.report("over_memory", f"{where}: grew by {(after['memory'] - before['memory']) / 2**20:.0f} MB")
    for what, most in (("open files", 20), ("temporary files", 0)):
        if after[what] > before[what] + most:
            counts.report("orphans", f"{where}: {after[what] - before[what]} more {what} than before")
    return counts


@contextlib.contextmanager
def _environment(more: Mapping[str, str]):  # type: ignore[no-untyped-def]
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
