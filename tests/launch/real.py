"""What the tests of launchers on real clusters share: small studies that really train, and how results are compared."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from flipscale.cli import main
from flipscale.launch import states, submit
from flipscale.launch.launcher import Launcher
from flipscale.launch.site import DEFAULTS
from flipscale.planning.runs import Run, plan
from flipscale.run import RunFolder, RunRequest, State, is_alive
from flipscale.settings.declarations import Resources
from flipscale.study import read_study
from flipscale.workflow.opened import open_study
from flipscale.workspace import Workspace
from tests.launch.contract import folder
from tests.patience import PATIENCE, rest, wait_until

if TYPE_CHECKING:
    import torch

OVER = (State.FINISHED, State.FAILED, State.LOST, State.CANCELLED)

_SLOWLY = """
import sys, time
from pathlib import Path
from flipscale.train import train
from flipscale.train.trainers.builtin.training import Training
step = Training.step
def slowly(training, *batch):
    if training.progress.attempts <= %d:
        time.sleep(0.3)
    step(training, *batch)
Training.step = slowly
raise SystemExit(train(list(map(Path, sys.argv[1:])), checkpoint_seconds=%s))
"""


def slowly(attempts: int, checkpoint_seconds: float) -> tuple[str, ...]:
    """`flipscale train`, which waits before each step of that many attempts, of a run that goes on from checkpoints.

    A run of 20 steps is long enough to be disturbed then; and where nothing disturbs it any more, nothing waits.
    """
    return sys.executable, "-c", _SLOWLY % (attempts, checkpoint_seconds)


SLOWLY = slowly(1, 30)

SLOWLY_OFTEN = slowly(9, 0)
"""The same, with a checkpoint as often as it can."""

BASE = {
    "model": "ViT-w16d1-4",
    "image_size": 28,
    "text_length": 16,
    "data": "shapes",
    "samples": 640,
    "mask_ratio": 0.5,
    "batch_size": 32,
    "lr": 1e-3,
    "evaluation": {"images": 160},
}


LONG = 12_800
"""The samples of the longest runs of STUDY_OF_24."""

STUDY_OF_24 = (
    f"axes: {{mask_ratio: [0, 0.5], samples: [640, 960, 1280, 1600, 1920, {LONG}], tuning: [null, {{samples: 320}}]}}"
)
"""12 runs, and a child of each, for `runs_of`."""

SHORT_TOGETHER = {**DEFAULTS["pack"], "time": 0.6}
"""With it the short ones of the 24 share two jobs, each with its child, and the two long ones have jobs of their own; a
sweep is one job. Each more would be a process, and to start one takes longer than to train a few runs."""

IN_LINES = {**DEFAULTS["pack"], "time": 0.1}
"""With it the runs of `survives_kills` share two tasks, each a run with all that start from it."""


def runs_of(place: Path, more: str = "", **base: Any) -> tuple[Run, ...]:
    """The runs of a study of a small model."""
    place.mkdir(parents=True, exist_ok=True)
    path = place / "small.yaml"
    path.write_text(f"schema: 1\nbase: {json.dumps({**BASE, **base})}\n{more}\n")
    return plan(read_study(path)).runs


def stages_on_trunks(place: Path) -> tuple[Run, ...]:
    """Two lengths of a constant schedule, in one stage and in two.

    The longer goes on from the trunk of the shorter, and a last stage from a first one; these share a trunk too.
    """
    more = """
axes: {stages: [null, [{samples: 50 %, image_size: 12}, 50 %]], samples: [640, 1280]}
couple: {cooldown: samples // 5}"""
    return runs_of(place, more, data={"shapes": {"pairs": 0.3}}, data_size=600, schedule="constant", warmup=64)


def kill_each(runs: Sequence[Run], results: Path, times: int) -> None:
    """Kill the process of each run this many times, each time after further steps, of which a checkpoint holds some."""
    reached = {folder(results, run): [0] for run in runs}

    def at_work() -> tuple[RunFolder, Any] | None:
        for run, seen in reached.items():
            if len(seen) <= times and len(losses(run)) > seen[-1] and (lease := _freeze(run, "checkpoint.pt")):
                return run, lease
        return None

    for _ in range(times * len(runs)):
        run, lease = wait_until(at_work)
        reached[run].append(len(losses(run)))
        os.kill(lease.pid, signal.SIGKILL)


def survives_kills(
    place: Path, launcher: Callable[[Path, Sequence[str]], Launcher], alone: "Alone", times: int = 1
) -> None:
    """Trunks and stages that are killed come out as they do alone, bit by bit, and each is finished once.

    Each goes on from what was planned, and nothing but what was killed is started again. launcher: one for this results
    folder, whose workers execute this command.
    """
    results, runs = place / "results", stages_on_trunks(place)
    submit(runs, results, launcher(results, slowly(times, 0)))
    kill_each(runs, results, times)
    assert set(end(runs, results).values()) == {State.FINISHED}, logs(results)
    expected = alone(runs)
    for run in runs:
        assert_same(run, results, expected)
        here = folder(results, run)
        assert (here.path / "log.txt").read_text().count(" finished, ") == 1
        assert len(here.failures()) == times
        trunk = here.result().trunk
        assert (trunk and trunk.id) == (run.trunk and run.trunk.run)
    assert [bool(run.trunk) for run in runs] == [False, True, False, False, True, False]
    assert [len(run.parents) for run in runs] == [0, 0, 0, 1, 0, 1]


def to_be_scored(place: Path, alone: "Alone") -> tuple[Sequence[Run], Path]:
    """Two runs that are trained, to be scored by two processes on a set that came after; and their results folder."""
    trained = runs_of(place, "axes: {mask_ratio: [0, 0.5]}")
    for run in trained:
        shutil.copytree(folder(alone(trained), run).path, folder(place / "results", run).path)
    later = {"images": 16, "sets": {"more": {"shapes": {"seed": 3}}}}
    more = "axes: {mask_ratio: [0, 0.5]}\nresources: {processes: 2}"
    return runs_of(place, more, evaluation=later), place / "results"


class Alone:
    """Runs trained here and now, by themselves, for runs of a cluster to be compared with: each once for all tests.

    The result of a run follows from its settings alone, so its id says what is there already. Tests in other
    processes, such as those of pytest-xdist, share the folder.
    """

    def __init__(self, results: Path) -> None:
        self.results = results

    def __call__(self, runs: Sequence[Run]) -> Path:
        """The results folder where they, and runs of other tests, are finished."""
        self.results.mkdir(parents=True, exist_ok=True)
        with open(self.results / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            left = [run for run in runs if not folder(self.results, run).result()]
            for run in left:
                folder(self.results, run).ask(replace(RunRequest.of(run), resources=Resources()))
            if left:
                _train_here([folder(self.results, run).path for run in left])
        return self.results


def _train_here(paths: Sequence[Path]) -> None:
    """Train in this process, which has loaded torch: another one would take longer to do that than to train."""
    import torch

    from flipscale.train import train

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert train(paths) == 0
    finally:
        torch.set_num_threads(threads)


def end(runs: Sequence[Any], results: Path, seconds: float = PATIENCE) -> dict[str, State]:
    """Look until all runs are over, at the pace of `watch`."""
    until = (began := time.monotonic()) + seconds
    while not set((now := states(runs, results)).values()) <= set(OVER):
        assert time.monotonic() < until, f"still {now}\n{logs(results)}"
        rest(began, every=0.5)
        began = time.monotonic()
    return now


def logs(results: Path) -> str:
    """What the jobs of all submissions said."""
    return "\n".join(path.read_text() for path in sorted(results.glob("*/*/*.log")))


def losses(run: RunFolder) -> list[tuple[int, float]]:
    return [(record["step"], record["loss"]) for record in run.records()[0] if "loss" in record]


@contextlib.contextmanager
def frozen(*runs: RunFolder, once: str = "metrics.jsonl", seconds: float = PATIENCE) -> Iterator[tuple[RunFolder, Any]]:
    """The first of these runs that has losses and the file `once`, and its lease; its process stands still meanwhile.

    The run therefore cannot end before the test has acted on it, however slow the machine is.
    """
    until = time.monotonic() + seconds
    while not (caught := next(((run, lease) for run in runs if (lease := _freeze(run, once))), None)):
        assert time.monotonic() < until, "none of the runs is seen at work"
        time.sleep(0.05)
    try:
        yield caught
    finally:
        _thaw(caught[1])


def _freeze(run: RunFolder, once: str) -> dict[str, Any] | None:
    lease = run.holder()
    if not (lease and losses(run) and (run.path / once).exists() and is_alive(lease.pid, lease.born)):
        return None
    with contextlib.suppress(ProcessLookupError):
        os.kill(lease.pid, signal.SIGSTOP)
        # All of its threads have to have heard of it, or it seems to have been woken.
        wait_until(lambda: is_stopped(lease.pid) or not is_alive(lease.pid, lease.born))
    if run.result() is None and (now := run.holder()) and now.token == lease.token:
        return lease
    _thaw(lease)  # It was over just then, and the process does something else.
    return None


def is_stopped(pid: int) -> bool:
    """Whether the process is stopped, as by SIGSTOP."""
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.NoSuchProcess:
        return False


def _thaw(lease: dict[str, Any]) -> None:
    if is_alive(lease.pid, lease.born):
        os.kill(lease.pid, signal.SIGCONT)


def is_signalled(lease: dict[str, Any]) -> bool:
    """Whether a process that stands still will find a signal when it goes on, or one has woken or killed it."""
    if not is_alive(lease.pid, lease.born):
        return True
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{lease.pid}/status").read_text().splitlines())
    return int(status["ShdPnd"], 16) != 0 or not status["State"].startswith("T")


def weights(run: RunFolder) -> "dict[str, torch.Tensor]":
    import torch  # Processes that only submit import this module too, and do without its second and a half.

    return torch.load(run.path / "model.pt")["state_dict"]


def assert_same(run: Run, results: Path, expected: Path) -> None:
    """The run came out as it did elsewhere, bit by bit."""
    here, there = folder(results, run), folder(expected, run)
    assert losses(here) == losses(there)
    assert here.result().scores == there.result().scores
    ours, wanted = weights(here), weights(there)
    assert all(ours[name].equal(wanted[name]) for name in wanted)


def assert_close(run: Run, results: Path, expected: Path, *, losses_within: float, weights_within: float) -> None:
    """The run came out as it did elsewhere, but for how sums over other parts are rounded."""
    here, there = folder(results, run), folder(expected, run)
    wanted = [loss for _, loss in losses(there)]
    assert [loss for _, loss in losses(here)] == pytest.approx(wanted, rel=losses_within)
    ours, theirs = weights(here), weights(there)
    assert ours.keys() == theirs.keys()
    assert all(float((ours[name] - theirs[name]).abs().max()) <= weights_within for name in theirs)


_BOWL = """
import json, math, sys
run = json.load(open(sys.argv[1] + "/run.json"))["settings"]
best = 0.003 if run["mask_ratio"] == 0 else 0.0024
loss = 2 + 0.2 * math.log2(run["lr"] / best) ** 2 + 0.001 * (run["seed"] % 10)
scores = {"held_out_loss": loss, "zero_shot_top1": 1 / loss}
json.dump({"scores": scores}, open(sys.argv[1] + "/outcome.json", "w"))
"""


def tuned_study(place: Path) -> Path:
    """A study with `tune:` whose loss is a parabola: best at 0.003 without a mask, at 0.0024 with one."""
    base = {**BASE, "trainer": {"command": {"arguments": [sys.executable, "-c", _BOWL]}}}
    del base["lr"], base["mask_ratio"], base["evaluation"]
    place.mkdir(parents=True, exist_ok=True)
    file = place / "tuned.yaml"
    file.write_text(f"""\
schema: 1
question: Does a mask cost accuracy, each arm at its own rate?
base: {json.dumps(base)}
axes: {{mask_ratio: [0, 0.5]}}
seeds: 2
score: zero_shot_top1
tune:
  over: {{lr: [1e-3, 2e-3, 4e-3, 8e-3]}}
  seeds: [100]
""")
    return file


def assert_goes_on_by_itself(place: Path, on: str, **site: Any) -> Path:
    """`tuned_study`, submitted with --detach, finishes though nobody comes back. Returns its results folder."""
    file, results = tuned_study(place), place / "results"
    (place / "site.yaml").write_text(json.dumps({"schema": 1, "pack": {"time": "1s"}, **site}))
    words = ["submit", str(file), f"--results={results}", f"--on={on}", f"--site={place / 'site.yaml'}", "--detach"]
    assert main(words) == 0
    wait_until(lambda: len(list(results.glob("runs/*/result.json"))) == 12, "the runs that follow the sweep")
    assert_tuned(file, results)
    return results


def assert_tuned(file: Path, results: Path) -> None:
    """The sweep and then the compared runs of `tuned_study` have finished, with the best rate of each arm."""
    opened = open_study(file, Workspace(results))
    assert set(states(opened.plan.runs, results).values()) == {State.FINISHED}
    assert [(run.settings.mask_ratio, run.settings.lr) for run in opened.plan.cells] == [
        (0, 0.003),
        (0, 0.003),
        (0.5, 0.0024),
        (0.5, 0.0024),
    ]
    assert len(opened.plan.runs) == 12
