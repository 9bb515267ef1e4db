"""How long runs take on the clock: the arithmetic of workers, and how it is said."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from flipscale.cli import main
from flipscale.launch import wall_clock, watch
from flipscale.launch.order import WallClock, clock_seconds
from flipscale.planning.runs import Plan, Run
from flipscale.planning.timing import RunTime, TimingPlace
from flipscale.run import RunFolder
from flipscale.settings.declarations import Budget, Resources
from tests.asked import settings_of
from tests.launch.contract import NO_COST, folder

ROOT = Path(__file__).parents[2]


def run_of(name, seconds, *parents, spread=1.1, program=0.0, timed=True):
    time = RunTime(TimingPlace("local", "cpu", "a CPU"), 0.0, seconds, 0.0, seconds / 3600, program, spread)
    hours = {"gpu_hours": seconds / 3600, "gpu_hours_low": seconds / 7200, "gpu_hours_high": seconds / 1800}
    cost = replace(NO_COST, train_flops=seconds, samples_seen=100, **hours)
    resources = Resources(device="cpu")
    return Run(name, settings_of(), parents, cost, (("run", name),), resources, time if timed else None)


def test_runs_are_shared_out_among_workers_the_costliest_first():
    runs = [run_of(name, seconds) for name, seconds in zip("abcd", (10, 20, 30, 40), strict=True)]
    assert clock_seconds(runs, 1) == 100
    assert clock_seconds(runs, 2) == 50  # 40 and 10 beside 30 and 20
    assert clock_seconds(runs, 8) == 40
    assert clock_seconds([], 2) == 0


def test_a_child_waits_for_its_parent_and_a_worker_starts_once():
    runs = [run_of("parent", 10, program=4.0), run_of("child", 20, "parent", program=4.0)]
    assert clock_seconds(runs, 2) == 34


def test_the_range_is_that_of_the_probe_or_of_the_prediction():
    assert clock_seconds([run_of("a", 10, spread=1.25)], 1, "high") == pytest.approx(12.5)
    assert clock_seconds([run_of("a", 10, timed=False)], 1, "low") == pytest.approx(5)


def test_it_reads_as_a_line():
    clock = WallClock(24, 36, workers=2, seconds=190, low=180, high=200, timed=True)
    assert str(clock) == "about 3 min 10 s on 2 workers, 24 of 36 done"
    assert str(replace(clock, done=0, workers=1)) == "about 3 min 10 s on 1 worker"
    assert (
        str(replace(clock, high=700, timed=False)) == "3 min 0 s to 11 min 40 s of training on 2 workers, 24 of 36 done"
    )
    tiny = replace(clock, done=0, workers=1, low=0.02, high=0.04, timed=False)
    assert str(tiny) == "under a second of training on 1 worker"
    assert str(replace(tiny, high=2.6)) == "under 3 s of training on 1 worker"
    assert str(replace(clock, workers=0)) == "24 of 36 done"
    assert str(replace(clock, done=36)) == "36 of 36 done"


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1}, raising=False)


@pytest.mark.usefixtures("two_cores")
def test_what_is_finished_takes_no_more_time(tmp_path):
    runs = [run_of("a", 10), run_of("b", 20), run_of("c", 30)]
    plan = Plan("mask", tuple(runs), Budget(None, None, None))
    assert str(wall_clock(plan, tmp_path)) == "about 30 s on 2 workers"
    done = folder(tmp_path, runs[2])
    done.path.mkdir(parents=True)
    (done.path / "result.json").write_text("{}")
    (done.path / "scoring.json").write_text("{}")  # To score weights is no training.
    assert str(wall_clock(plan, tmp_path)) == "about 20 s on 2 workers, 1 of 3 done"
    assert str(wall_clock(plan, tmp_path / "nowhere", finished={"c"})) == "about 20 s on 2 workers, 1 of 3 done"
    on_a_cluster = tuple(replace(run, resources=Resources(gpus=8, device="H100")) for run in runs)
    assert str(wall_clock(replace(plan, runs=on_a_cluster), tmp_path)) == "1 of 3 done"


def test_status_looks_at_each_folder_once_and_says_the_time(tmp_path, monkeypatch, capsys):
    looked = []
    glance = RunFolder.glance
    monkeypatch.setattr(RunFolder, "glance", lambda folder: looked.append(folder.id) or glance(folder))
    assert main(["status", str(ROOT / "studies/quickstart.yaml"), "--results", str(tmp_path)]) == 0
    assert len(looked) == len(set(looked)) == 48
    assert re.fullmatch(r".* of training on \d+ workers?", capsys.readouterr().out.splitlines()[-1])


def test_the_time_left_follows_from_a_probes_seconds_and_not_from_flops(tmp_path):
    """One of two runs of equal FLOPs takes twice as long."""
    fast, slow = (
        replace(run_of(name, seconds), cost=replace(NO_COST, train_flops=1, samples_seen=100))
        for name, seconds in (("fast", 10), ("slow", 20))
    )
    for run in (fast, slow):
        folder(tmp_path, run).path.mkdir(parents=True)
    with folder(tmp_path, fast).hold(), folder(tmp_path, slow).hold():
        for run, speed in ((fast, 10), (slow, 5)):
            (folder(tmp_path, run).path / "metrics.jsonl").write_text(
                f'{{"step": 1, "samples_seen": 50, "loss": 1.0, "images_per_second": {speed}}}\n'
            )
        assert next(watch([fast, slow], tmp_path)).left == pytest.approx((5 + 10) / 2)
