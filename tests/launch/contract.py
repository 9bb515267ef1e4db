"""What every launcher must do, run with the stand-in worker beside this file. A launcher's tests subclass it:

class TestLocal(LauncherContract):
    def launcher(self, results): return LocalLauncher(results, command=WORKER)
"""

import contextlib
import io
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pytest

from flipscale.cost.arithmetic import Cost
from flipscale.launch import Launcher, Redo, Submission, cancel, states, submit, wait
from flipscale.planning.runs import Trunk
from flipscale.planning.timing import RunTime
from flipscale.run import RunFolder, RunRequest, State
from flipscale.settings.declarations import KeepWeights, Resources
from tests.patience import PATIENCE, rest, wait_until

WORKER = (sys.executable, str(Path(__file__).with_name("worker.py")))


NO_COST = Cost(**{one.name: 0 for one in fields(Cost)})


class StandInSettings(dict[str, Any]):
    """What the worker of a stand-in does."""

    stages = None
    is_clip = True


@dataclass(frozen=True)
class StandInRun:
    """As much of a plan's Run as launching reads."""

    id: str
    seconds: float = 0.1
    first_seconds: float | None = None
    fail: str | None = None
    deaf: bool = False
    hangs: int = 0
    until: tuple[str, ...] = ()
    resources: Resources = field(default_factory=Resources)
    parents: tuple[str, ...] = ()
    cell: None = None
    name: str = ""
    timed: RunTime | None = None
    is_priced: bool = True
    trunk: Trunk | None = None
    keep_weights: KeepWeights = KeepWeights.ALWAYS

    @property
    def after(self) -> tuple[str, ...]:
        return (*self.parents, self.trunk.run) if self.trunk else self.parents

    @property
    def whole_cost(self) -> Cost:
        return self.cost

    @property
    def cost(self) -> Cost:
        seen = round(self.seconds / 0.05)
        return replace(NO_COST, train_flops=round(1e9 * self.seconds), samples_seen=seen, gpu_hours=self.seconds / 3600)

    @property
    def settings(self) -> "StandInSettings":
        settings = {name: getattr(self, name) for name in ("seconds", "first_seconds", "fail", "deaf", "hangs")}
        return StandInSettings(settings, until=list(self.until))


def begun(*runs: str) -> tuple[str, ...]:
    """For `until`: that these runs have begun. With its own name among them, that they are at work at once."""
    return tuple(f"{run}/metrics.jsonl" for run in runs)


def folder(results: Path, run: StandInRun) -> RunFolder:
    return RunFolder(results / "runs" / run.id)


def starts(results: Path, run: StandInRun) -> int:
    """How often the run was begun, over all workers."""
    return sum("start" in record for record in folder(results, run).records()[0])


def wait_for(runs, results, *wanted: State) -> dict[str, State]:
    """Look until every run is in one of the wanted states."""
    end = (began := time.monotonic()) + PATIENCE
    while not set((now := states(runs, results)).values()) <= set(wanted):
        assert time.monotonic() < end, f"still {now}"
        rest(began, every=0.2)
        began = time.monotonic()
    return now


@dataclass(frozen=True)
class Submits:
    """What a scenario wants to be submitted."""

    runs: Sequence[StandInRun]
    retry_diverged: bool = False
    redo: frozenset[str] = frozenset()


Scenario = Generator[Submits, Submission, None]
"""It yields what it wants to be submitted, looks at what became of it, and perhaps yields more."""


WAYS_TO_END = ("cancelled", "killed", "out-of-time")


class LauncherContract:
    """The tests of a launcher; `launcher` makes one whose workers execute WORKER."""

    def launcher(self, results: Path) -> Launcher:
        raise NotImplementedError

    def narrow_launcher(self, results: Path) -> Launcher:
        """One that does a few runs at once, on a cluster of any size."""
        return self.launcher(results)

    def submit(self, runs, results, **options):
        return submit(runs, results, self.launcher(results), **options)

    def play(self, results: Path, *scenarios: Scenario) -> None:
        """Play the scenarios, one after another between submissions, which they share where there are several."""
        going = {scenario: next(scenario) for scenario in scenarios}
        while going:
            runs = [run for asked in going.values() for run in asked.runs]
            anew = frozenset().union(*(asked.redo for asked in going.values()))
            redo = Redo(anew, diverged=any(asked.retry_diverged for asked in going.values()))
            submission = self.submit(runs, results, redo=redo)
            played, going = tuple(going), {}
            for scenario in played:
                with contextlib.suppress(StopIteration):
                    going[scenario] = scenario.send(submission)

    def all_finish(self, results: Path) -> Scenario:
        runs = [StandInRun(f"run-{number}") for number in range(6)]
        submission = yield Submits(runs)
        jobs = {job.run_id: job for job in submission.jobs}
        assert jobs.keys() >= {run.id for run in runs}
        assert [folder(results, run).asked() for run in runs] == list(map(RunRequest.of, runs))
        assert [folder(results, run).job() for run in runs] == [jobs[run.id] for run in runs]
        wait_for(runs, results, State.FINISHED)
        assert [starts(results, run) for run in runs] == [1] * 6
        planned = StandInRun("planned")
        assert cancel([*runs, planned], results) == []
        assert states([runs[0], planned], results) == {"run-0": State.FINISHED, "planned": State.PLANNED}

    def test_every_run_is_finished_as_asked_was_started_once_and_cannot_be_cancelled_then(self, tmp_path):
        self.play(tmp_path, self.all_finish(tmp_path))

    def known(self, results: Path) -> Scenario:
        seen_running = results / "seen running"
        runs = [StandInRun("seen", until=(str(seen_running),)), StandInRun("next")]
        yield Submits(runs)
        again = self.submit(runs, results)
        assert again.jobs == ()
        assert sum(again.skipped.values()) == 2
        seen = []
        while not seen or seen[-1] is not State.FINISHED:
            began = time.monotonic()
            seen.append(states(runs, results)["seen"])
            rest(began)
            assert seen[-1] in (State.WAITING, State.RUNNING, State.FINISHED), seen
            if seen[-1] is State.RUNNING and not seen_running.exists():
                assert self.submit(runs, results).jobs == ()
                seen_running.touch()
        assert State.RUNNING in seen
        wait_for(runs, results, State.FINISHED)
        done = self.submit(runs, results)
        assert (done.jobs, done.skipped) == ((), {State.FINISHED: 2})
        assert [starts(results, run) for run in runs] == [1, 1]

    def test_a_run_is_known_from_submit_to_result_and_submitting_again_starts_nothing(self, tmp_path):
        self.play(tmp_path, self.known(tmp_path))

    def begun_anew(self, results: Path) -> Scenario:
        runs = [StandInRun("anew"), StandInRun("other")]
        yield Submits(runs)
        wait_for(runs, results, State.FINISHED)
        first = folder(results, runs[0])
        wait_until(lambda: not first.holder(), "the end of its process")
        again = yield Submits(runs, redo=frozenset({"anew"}))
        assert {job.run_id for job in again.jobs} & {"anew", "other"} == {"anew"}
        wait_for(runs, results, State.FINISHED)
        assert [starts(results, run) for run in runs] == [1, 1]
        earlier = RunFolder(first.path / "earlier")
        assert earlier.state() is State.FINISHED
        assert earlier.records()[0] != first.records()[0]

    def test_a_finished_run_begins_anew_when_asked_and_what_it_gave_is_kept(self, tmp_path):
        self.play(tmp_path, self.begun_anew(tmp_path))

    def failed(self, results: Path) -> Scenario:
        bad, good, hot = StandInRun("bad", fail="code"), StandInRun("good"), StandInRun("hot", fail="diverged")
        yield Submits([bad, good, hot])
        ended = wait_for([bad, good, hot], results, State.FINISHED, State.FAILED)
        assert ended == {"bad": State.FAILED, "good": State.FINISHED, "hot": State.FAILED}
        for run in (bad, hot):
            while not folder(results, run).error().noted:
                time.sleep(0.02)  # Its attendant gives it up a moment after it failed.
        (failure,) = folder(results, hot).failures()
        assert (failure.kind, failure.then) == ("diverged", "given up: it would diverge again")
        unasked = self.submit([good, hot], results)
        assert (unasked.jobs, unasked.skipped) == ((), {State.FINISHED: 1, State.FAILED: 1})
        again = yield Submits([bad, good, hot], retry_diverged=True)
        assert {job.run_id for job in again.jobs} & {"bad", "good", "hot"} == {"bad", "hot"}
        wait_for([bad, good, hot], results, State.FINISHED, State.FAILED)
        assert [starts(results, run) for run in (bad, good, hot)] == [2, 1, 2]

    def test_a_failed_run_takes_no_neighbour_along_and_is_tried_again_if_diverged_only_when_asked(self, tmp_path):
        self.play(tmp_path, self.failed(tmp_path))

    def killed(self, results: Path) -> Scenario:
        run = StandInRun("killed", first_seconds=60)
        yield Submits([run])
        wait_for([run], results, State.RUNNING)
        while not starts(results, run):  # Killed before it noted its start, its second would count as the first.
            time.sleep(0.02)
        os.kill(folder(results, run).holder().pid, signal.SIGKILL)
        wait_for([run], results, State.FINISHED)
        assert starts(results, run) == 2
        assert [failure.kind for failure in folder(results, run).failures()] == ["node"]

    def test_the_run_of_a_killed_process_goes_on_by_itself(self, tmp_path):
        self.play(tmp_path, self.killed(tmp_path))

    def hanging(self, results: Path) -> Scenario:
        run = StandInRun("hanging", seconds=1.0, hangs=1, resources=Resources(gpus=0, stalled=5))
        yield Submits([run])
        wait_for([run], results, State.FINISHED)
        failure, *others = folder(results, run).failures()
        assert (failure.kind, failure.then) == ("stalled", "started again without a checkpoint (1 of 3)")
        # On a busy machine a later start may take no step for 5 s as well.
        assert starts(results, run) == 2 + len(others)
        assert {other.kind for other in others} <= {"stalled"}
        assert re.match(r"No step for \d+ s, where one takes 0\.\d", failure.reason)
        log = (folder(results, run).path / "log.txt").read_text()
        assert failure.reason in log
        assert re.search(r"Current thread 0x\w+.*?\n  File .*worker.py\", line \d+ in hang", log, re.DOTALL), log

    def test_a_run_that_hangs_is_killed_with_its_stacks_in_the_log_and_resumed(self, tmp_path):
        self.play(tmp_path, self.hanging(tmp_path))

    def test_a_submission_whose_first_runs_all_fail_is_stopped_and_says_so(self, tmp_path):
        runs = [StandInRun(f"run-{number}", seconds=0, fail="code") for number in range(12)]
        submission = submit(runs, tmp_path, self.narrow_launcher(tmp_path))
        said = io.StringIO()
        ended = wait(submission, tmp_path, said)
        assert 3 <= ended.count(State.FAILED) <= 8, said.getvalue()
        assert ended.count(State.FAILED) + ended.count(State.CANCELLED) == 12
        why = "its submission was stopped, as its first . runs failed within a minute of their start"
        assert re.search(rf"^\d+ runs: cancelled, {why}$", said.getvalue(), re.MULTILINE), said.getvalue()
        never = [run for run in ended.runs if run.state is State.CANCELLED]
        assert [starts(tmp_path, run) for run in runs if run.id in {one.id for one in never}] == [0] * len(never)
        again = self.submit(runs, tmp_path)
        assert len(again.jobs) == 12
        cancel(runs, tmp_path)

    def test_two_processes_that_submit_at_once_hand_no_run_out_twice_and_may_be_gone(self, tmp_path):
        runs = [StandInRun(f"run-{number}", seconds=1.0) for number in range(4)]
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            handed_out = pool.map(_Submit(self, runs, tmp_path), range(2))
        assert sorted(handed_out) == [0, 4]
        assert set(states(runs, tmp_path).values()) <= {State.WAITING, State.RUNNING, State.FINISHED}
        wait_for(runs, tmp_path, State.FINISHED)
        assert [starts(tmp_path, run) for run in runs] == [1] * 4

    def cancelled(self, results: Path) -> Scenario:
        runs = [StandInRun(f"cancelled-{number}", seconds=0.4) for number in range(4)]
        long = StandInRun("cancelled-long", seconds=0.5, first_seconds=600)  # Those that cost most begin first.
        yield Submits([long, *runs])
        wait_for([long], results, State.RUNNING)
        cancelled = cancel([long, *runs], results)
        assert long.id in cancelled
        ended = wait_for([long, *runs], results, State.CANCELLED, State.FINISHED)
        assert (folder(results, long).path / "checkpoint.pt").exists()
        # One in hand may have come to its end before it heard of it.
        stopped = {run_id for run_id in cancelled if ended[run_id] is State.CANCELLED} - {long.id}
        again = yield Submits(runs)
        assert {job.run_id for job in again.jobs} & {run.id for run in runs} == stopped
        wait_for(runs, results, State.FINISHED)
        assert states([long], results) == {long.id: State.CANCELLED}

    def test_cancelled_runs_write_a_checkpoint_and_submit_goes_on_with_them(self, tmp_path):
        self.play(tmp_path, self.cancelled(tmp_path))

    def some_cancelled(self, results: Path) -> Scenario:
        long = [StandInRun(f"long-{number}", seconds=0.5, first_seconds=600) for number in range(2)]
        others = [StandInRun(f"other-{number}", seconds=0.3) for number in range(4)]
        yield Submits([*long, *others])
        wait_for(long[:1], results, State.RUNNING)
        assert cancel(long, results) == ["long-0", "long-1"]
        wait_for(others, results, State.FINISHED)
        assert set(wait_for(long, results, State.CANCELLED).values()) == {State.CANCELLED}

    def test_cancelling_some_leaves_the_others_to_finish(self, tmp_path):
        self.play(tmp_path, self.some_cancelled(tmp_path))

    def shortest(self, how: str) -> StandInRun:
        """The shortest length of a trunk, which ends in this way. Without a limit of time it says that it met one."""
        return StandInRun(how, first_seconds=600) if how != "out-of-time" else StandInRun(how, fail="timeout")

    def end(self, run: StandInRun, results: Path) -> None:
        """End the run, or its job, in the way that it is named after."""
        if run.id == "cancelled":
            assert cancel([run], results) == [run.id]
        elif run.id == "killed":
            os.kill(folder(results, run).holder().pid, signal.SIGKILL)

    def trunk(self, results: Path, how: str) -> Scenario:
        lengths = [self.shortest(how)]
        for number in range(2, 5):
            lengths.append(StandInRun(f"{how}-{number}", trunk=Trunk(lengths[-1].id, 1)))
        needy = StandInRun(f"{how}-tuned", parents=(how,))
        yield Submits([*lengths, needy])
        wait_until(lambda: starts(results, lengths[0]), "the start of the shortest length")
        self.end(lengths[0], results)
        wait_for([*lengths[1:], needy], results, State.FINISHED)

    @pytest.mark.parametrize("how", WAYS_TO_END)
    def test_the_longer_lengths_of_a_trunk_finish_though_the_shortest_ends_early(self, tmp_path, how):
        self.play(tmp_path, self.trunk(tmp_path, how))


class _Submit:
    """A submit in another process: the number of runs it handed out."""

    def __init__(self, contract: LauncherContract, runs, results: Path):
        self.contract, self.runs, self.results = contract, runs, results

    def __call__(self, _: int) -> int:
        return len(self.contract.submit(self.runs, self.results).jobs)
