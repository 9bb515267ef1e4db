"""SIGKILL at random moments: submitting commands, attendants, trainers, daemons of SLURM and of Ray.

A round is a small study, some kills, and a person who then resubmits lost runs until all are finished. Afterwards each
run has finished once with the losses of the undisturbed one, no two trainings wrote in turns, and no process is left.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flipscale.errors import FlipscaleError
from flipscale.launch import states
from flipscale.launch.launcher import TRAIN
from flipscale.launch.local import LocalLauncher
from flipscale.planning.runs import Run
from flipscale.run import RunFolder, State
from tests.clusters.ray import RayCluster
from tests.clusters.slurm import SlurmCluster
from tests.launch.contract import StandInRun
from tests.torture.checks import check, check_logs, losses
from tests.torture.counts import Counts, Extent
from tests.torture.processes import left_over, with_folder
from tests.torture.trainer import steps_of

ROOT = Path(__file__).parents[2]

SETTLE_SECONDS = 400.0
"""A round that has not finished this long after its last kill counts as a hang."""

ROUND_KILLS = 5


def torture(extent: Extent) -> Counts:
    counts = Counts()
    draw = random.Random(extent.seed)
    counts.add(_rounds(extent, draw, "local", extent.cases(24, 1), LOCAL))
    parts = (("real trainer", real_trainer, 6), ("slurm", slurm, 12), ("ray", ray, 5))
    for name, part, full in parts:
        if number := extent.cases(full, 0):
            counts.add(part(extent, draw, number))
        else:
            counts.notes.append(f"{name} is left to the whole form")
    return counts


Kill = Callable[[Path, random.Random], bool]
"""Kills a process of a study in this results folder; returns whether there was one to kill."""


def of_role(role: str) -> Kill:
    def kill(results: Path, draw: random.Random) -> bool:
        pids = sorted(pid for pid, its in with_folder(results).items() if its == role)
        if not pids:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(draw.choice(pids), signal.SIGKILL)
        return True

    return kill


LOCAL: Mapping[str, Kill] = {role: of_role(role) for role in ("trainer", "attendant", "submitter")}


def _nothing() -> None:
    pass


def _rounds(
    extent: Extent,
    draw: random.Random,
    launcher: str,
    number: int,
    kills: Mapping[str, Kill],
    tend: Callable[[], None] = _nothing,
) -> Counts:
    """tend: what a cluster's administrators do now and then."""
    counts = Counts()
    for index in range(number):
        place = extent.work / f"{launcher}-{index}" / "results"
        counts.add(Round(draw, place, launcher, kills, f"seed {extent.seed}, {launcher} round {index}", tend=tend).do())
        extent.say(f"  {launcher}: round {index + 1} of {number}, {counts.cases} kills, {counts.wrong}")
    return counts


@dataclass
class Round:
    """A small study that is disturbed."""

    draw: random.Random
    results: Path
    launcher: str
    kills: Mapping[str, Kill]
    where: str
    number: int = ROUND_KILLS
    tend: Callable[[], None] = _nothing

    def do(self) -> Counts:
        counts = Counts()
        runs = [StandInRun(f"run-{n}", seconds=round(self.draw.uniform(0.5, 4), 2)) for n in range(6)]
        self.results.mkdir(parents=True)
        study = Study(runs, self.results, lambda: self._submit(runs), self.tend)
        counts.cases = disturb(self.draw, self.kills, self.number, study)
        if not study.settle():
            counts.report("hangs", f"{self.where}: not over after {SETTLE_SECONDS:.0f} s")
        counts.add(check(self.results, {run.id: steps_of(run.seconds) for run in runs}, self.where))
        counts.add(check_logs(self.results, self.where))
        for process in left_over(self.results):
            counts.report("orphans", f"{self.where}: {process}")
        return counts

    def _submit(self, runs: Sequence[StandInRun]) -> "subprocess.Popen[bytes]":
        listed = json.dumps([[run.id, run.seconds] for run in runs])
        command = [sys.executable, "-m", "tests.torture.submitter", str(self.results), self.launcher, listed]
        with open(self.results.parent / "submitter.log", "ab") as log:
            return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)


def disturb(draw: random.Random, kills: Mapping[str, Kill], number: int, study: "Study") -> int:
    """Kill living processes this many times, at random moments, and resubmit lost runs. Returns the number of kills."""
    done, until = 0, time.monotonic() + SETTLE_SECONDS
    while done < number and time.monotonic() < until:
        time.sleep(draw.uniform(0.05, 0.9))
        names = list(kills)
        draw.shuffle(names)
        if any(kills[name](study.results, draw) for name in names):
            done += 1
        elif study.is_over():
            break
        else:
            study.go_on()
    return done


@dataclass
class Study:
    """Runs, and how a person keeps them going."""

    runs: Sequence[Any]
    results: Path
    submit: Callable[[], "subprocess.Popen[bytes] | None"]
    tend: Callable[[], None] = _nothing

    def __post_init__(self) -> None:
        self.submitting = self.submit()

    def is_over(self) -> bool:
        return set(self._states()) == {State.FINISHED}

    def go_on(self) -> None:
        """Submit again if no run is waiting or running and some are not finished."""
        if self.submitting is not None and self.submitting.poll() is None:
            return
        self.tend()
        now = self._states()
        if now and not now & {State.WAITING, State.RUNNING, None} and now != {State.FINISHED}:
            self.submitting = self.submit()

    def _states(self) -> "set[State | None]":
        """The states of all runs; None stands for a scheduler that could not be asked."""
        try:
            return set(states(self.runs, self.results).values())
        except FlipscaleError:
            return {None}

    def settle(self) -> bool:
        """Go on as a person would until all runs are finished. Returns whether they are."""
        until = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < until:
            if self.is_over():
                if self.submitting is not None:
                    self.submitting.wait(timeout=SETTLE_SECONDS)
                return True
            self.go_on()
            time.sleep(0.3)
        return False


# The real trainer


def real_trainer(extent: Extent, draw: random.Random, number: int) -> Counts:
    """flipscale's own trainer on this machine, against runs that were trained undisturbed."""
    from flipscale.launch import submit
    from tests.launch.real import Alone, runs_of

    counts = Counts()
    runs: Sequence[Run] = runs_of(extent.work / "real", "axes: {mask_ratio: [0, 0.5]}", samples=1600)
    expected = Alone(extent.work / "real" / "alone")(runs)
    often = (*TRAIN[:1], "-c", OFTEN, "flipscale", "train")
    for index in range(number):
        where, results = f"seed {extent.seed}, real trainer round {index}", extent.work / f"real-{index}" / "results"

        def again(at: Path = results) -> None:
            submit(runs, at, LocalLauncher(at, command=often))

        study = Study(runs, results, again)
        for _ in range(3):
            counts.cases += _kill_at_work(draw, results)
            study.go_on()
        if not study.settle():
            counts.report("hangs", f"{where}: not over")
        counts.add(compare(runs, results, expected, where))
        counts.add(check_logs(results, where))
        for process in left_over(results):
            counts.report("orphans", f"{where}: {process}")
        extent.say(f"  real trainer: round {index + 1} of {number}, {counts.cases} kills, {counts.wrong}")
    return counts


OFTEN = (
    "import sys; from pathlib import Path; from flipscale.train import train\n"
    "raise SystemExit(train(list(map(Path, sys.argv[3:])), checkpoint_seconds=0.2))"
)
"""`flipscale train` with many checkpoints; 'flipscale train' is in its command line too."""


def _kill_at_work(draw: random.Random, results: Path) -> int:
    """Kill a trainer some moments after it has begun a run."""
    until = time.monotonic() + 60
    while time.monotonic() < until and not any(results.glob("runs/*/lease.json")):
        time.sleep(0.05)
    time.sleep(draw.uniform(0, 2.5))
    return int(of_role("trainer")(results, draw))


def compare(runs: Sequence[Run], results: Path, expected: Path, where: str) -> Counts:
    """Compare each run with the same run trained undisturbed."""
    counts = Counts()
    for run in runs:
        here, there = (RunFolder(base / "runs" / run.id) for base in (results, expected))
        result, wanted = here.result(), there.result()
        assert wanted is not None
        if result is None:
            counts.report("lost", f"{where}: {run.id} is {here.state()}")
        elif losses(here) != losses(there) or result.scores != wanted.scores:
            counts.report("differing", f"{where}: {run.id} has other losses or scores than the undisturbed run")
    return counts


# SLURM


def slurm(extent: Extent, draw: random.Random, number: int) -> Counts:
    """On real daemons, which are killed too."""
    if reason := SlurmCluster.missing():
        return Counts(notes=[f"no SLURM: {reason}"])
    cluster = SlurmCluster.start()
    try:
        with _environment(cluster.env):
            kills = {role: of_role(role) for role in ("trainer", "attendant", "submitter")}
            kills["slurmctld"] = lambda results, draw: _kill_controller(cluster)
            kills["slurmd"] = lambda results, draw: _kill_node(cluster, draw)
            return _rounds(extent, draw, "slurm", number, kills, tend=_tend)
    finally:
        cluster.stop()


def _kill_controller(cluster: SlurmCluster) -> bool:
    """By SIGKILL, so it forgets what it has not written yet. It is back a moment later."""
    with contextlib.suppress(OSError, ValueError):
        os.kill(int((cluster.folder / "run" / "slurmctld.pid").read_text()), signal.SIGKILL)
    cluster.start_controller()
    return True


def _tend() -> None:
    """A controller that was killed forgets jobs and reuses their numbers, so nodes refuse the new ones: SLURM drains
    these nodes and holds the jobs until somebody brings both back, as `status` says of the jobs.
    """
    listed = subprocess.run(
        ["squeue", "-h", "-r", "-o", "%F_%K|%r"], capture_output=True, text=True, check=False
    ).stdout
    for line in listed.splitlines():
        job, _, reason = line.partition("|")
        if reason == "launch failed requeued held":
            subprocess.run(["scontrol", "release", job], capture_output=True, check=False)
    drained = subprocess.run(
        ["sinfo", "-h", "-N", "-t", "drain", "-o", "%N"], capture_output=True, text=True, check=False
    )
    for node in set(drained.stdout.split()):
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], capture_output=True, check=False)


def _kill_node(cluster: SlurmCluster, draw: random.Random) -> bool:
    name = draw.choice(cluster.nodes)
    with contextlib.suppress(RuntimeError):
        cluster.kill_node(name)
    cluster.start_node(name)
    return True


# Ray


def ray(extent: Extent, draw: random.Random, number: int) -> Counts:
    """On a real head and two workers; at the end the whole cluster dies, and the study goes on without it."""
    if reason := RayCluster.missing():
        return Counts(notes=[f"no Ray: {reason}"])
    counts = Counts()
    cluster = RayCluster.start()
    kills = {role: of_role(role) for role in ("trainer", "driver", "submitter")}
    try:
        with _environment(cluster.env):
            kills["node"] = lambda results, draw: _kill_ray_node(cluster, draw)
            counts.add(_rounds(extent, draw, "ray", number, kills))
        counts.add(_without_a_head(extent, draw, cluster))
    finally:
        cluster.stop()
    return counts


def _kill_ray_node(cluster: RayCluster, draw: random.Random) -> bool:
    name = draw.choice(cluster.nodes)
    cluster.kill_node(name)
    cluster.start_node(name)
    return True


def _without_a_head(extent: Extent, draw: random.Random, cluster: RayCluster) -> Counts:
    """The whole cluster is killed in the middle of a study, which then continues on this machine."""
    where = f"seed {extent.seed}, ray without a head"
    first = Round(draw, extent.work / "ray-head" / "results", "ray", {}, where)
    first.results.mkdir(parents=True)
    runs = [StandInRun(f"run-{n}", seconds=2.0) for n in range(6)]
    with _environment(cluster.env):
        first._submit(runs).wait(timeout=SETTLE_SECONDS)
        time.sleep(draw.uniform(1, 8))
    counts = Counts(cases=1)
    for pid in cluster.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    # A Ray that is gone cannot say that its jobs are gone too: the driver's silence shows it, after a minute.
    first.launcher = "local"
    if not Study(runs, first.results, lambda: first._submit(runs)).settle():
        counts.report("hangs", f"{where}: not over")
    counts.add(check(first.results, {run.id: steps_of(run.seconds) for run in runs}, where))
    for process in left_over(first.results):
        counts.report("orphans", f"{where}: {process}")
    return counts


@contextlib.contextmanager
def _environment(more: Mapping[str, str]) -> Any:
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
