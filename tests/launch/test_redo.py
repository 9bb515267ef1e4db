"""Runs that are trained anew: what they gave is kept, nothing is lost where something goes wrong on the way."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from flipscale.data.code_changes import CodeToday
from flipscale.errors import LaunchError
from flipscale.launch import Redo, Submission, preview, states, submit
from flipscale.launch.launcher import JobState, Request
from flipscale.planning.runs import Run
from flipscale.run import CodeIdentity, Job, Result, RunFolder, RunRequest, State
from flipscale.settings.declarations import Resources
from tests.asked import settings_of
from tests.launch.contract import NO_COST


class Noting:
    """A launcher that takes runs and does nothing; it knows no job, or all of them, or refuses the runs."""

    ends_with_the_watcher = False
    poll_seconds = 0.0
    study = ""

    def __init__(self, refuses_after: int | None = None, waiting: bool = False):
        self.refuses_after = refuses_after
        self.waiting = waiting

    def submit(self, requests: Sequence[Request]) -> Iterable[Job]:
        for number, request in enumerate(requests):
            if number == self.refuses_after:
                raise LaunchError("The cluster takes no more.")
            yield Job(request.id, "local", "noted", 0.0, "")

    def preview(self, requests: Sequence[Request]) -> str:
        return " ".join(request.id for request in requests)

    def poll(self, jobs: Sequence[Job], *, closely: bool = False) -> dict[str, JobState]:
        return {job.run_id: JobState(State.WAITING if self.waiting else None) for job in jobs}

    def cancel(self, jobs: Sequence[Job], study: str | None = None) -> Sequence[str]:
        raise AssertionError("nothing is cancelled here")


def run_of(name: str, *parents: str) -> Run:
    return Run(name, settings_of(), parents, NO_COST, None, Resources())


def finish(results: Path, run: Run, *codes: CodeIdentity, score: float = 0.5) -> RunFolder:
    folder = RunFolder(results / "runs" / run.id)
    folder.ask(RunRequest.of(run))
    with folder.hold() as lease:
        assert lease is not None
        for code in codes:
            lease.note_code(code)
        lease.append([{"step": 1, "loss": score}])
        (folder.path / "model.pt").write_text(f"weights {score}")
        lease.write_result(Result(scores={"zero_shot_top1": score}))
    return folder


def redo(
    runs: Sequence[Run], results: Path, *ids: str, launcher: Noting | None = None, stale: bool = False
) -> Submission:
    return submit(runs, results, launcher or Noting(), redo=Redo(frozenset(ids), stale))


def started(submission: Submission) -> list[str]:
    return [job.run_id for job in submission.jobs]


def score(folder: RunFolder) -> float | None:
    result = folder.result()
    return None if result is None else result.scores["zero_shot_top1"]


def test_a_run_begins_anew_and_what_it_gave_is_kept_each_time(tmp_path: Path) -> None:
    run, other = run_of("a"), run_of("b")
    folder = finish(tmp_path, run, score=0.1)
    finish(tmp_path, other)
    done = redo([run, other], tmp_path, "a")
    assert started(done) == ["a"]
    assert (
        done.summary()
        == "submitted 1 run to local (1 of them retrained; earlier results are kept), left alone 1 finished"
    )
    assert (score(folder), folder.records()[0]) == (None, [])
    assert not (folder.path / "model.pt").exists()
    assert folder.asked() == RunRequest.of(run)
    (folder.path / "job.json").unlink()
    finish(tmp_path, run, score=0.2)
    redo([run, other], tmp_path, "a")
    earlier = RunFolder(folder.path / "earlier")
    assert (score(earlier), score(RunFolder(earlier.path / "earlier"))) == (0.2, 0.1)
    assert (earlier.path / "earlier" / "model.pt").read_text() == "weights 0.1"
    assert states([run, other], tmp_path) == {"a": State.LOST, "b": State.FINISHED}


def test_what_starts_from_it_begins_anew_too(tmp_path: Path) -> None:
    runs = [run_of("parent"), run_of("child", "parent"), run_of("grandchild", "child"), run_of("other")]
    for run in runs:
        finish(tmp_path, run)
    assert set(started(redo(runs, tmp_path, "parent"))) == {"parent", "child", "grandchild"}


def test_a_child_alone_begins_anew_from_its_parents_weights_if_they_are_there(tmp_path: Path) -> None:
    runs = [run_of("parent"), run_of("child", "parent")]
    parent, child = (finish(tmp_path, run) for run in runs)
    (parent.path / "model.pt").unlink()
    held = redo(runs, tmp_path, "child")
    assert (held.jobs, list(held.left_out), held.anew) == ((), ["child"], [])
    assert held.left_out["child"].endswith("or train it anew: submit with --redo parent.")
    assert score(child) == 0.5
    assert set(started(redo(runs, tmp_path, "child", "parent"))) == {"child", "parent"}


def test_a_run_in_hand_does_not_begin_anew(tmp_path: Path) -> None:
    runs = [run_of("parent"), run_of("child", "parent")]
    finish(tmp_path, runs[0])
    folder = RunFolder(tmp_path / "runs" / "child")
    folder.ask(RunRequest.of(runs[1]))
    with folder.hold():
        for name in ("child", "parent"):
            with pytest.raises(LaunchError, match="child is running; cancel it before you retrain it"):
                redo(runs, tmp_path, name)
    assert states(runs, tmp_path)["parent"] is State.FINISHED


def test_a_run_whose_process_still_tidies_up_does_not_begin_anew(tmp_path: Path) -> None:
    run = run_of("a")
    folder = finish(tmp_path, run)
    with folder.hold(), pytest.raises(LaunchError, match="a is still held by the process that ended it"):
        redo([run], tmp_path, "a")
    assert score(folder) == 0.5
    assert started(redo([run], tmp_path, "a")) == ["a"]


def test_a_run_that_has_only_begun_begins_anew_and_one_that_has_not_just_starts(tmp_path: Path) -> None:
    begun, planned = run_of("begun"), run_of("planned")
    folder = RunFolder(tmp_path / "runs" / "begun")
    folder.ask(RunRequest.of(begun))
    (folder.path / "checkpoint.pt").write_text("")
    done = redo([begun, planned], tmp_path, "begun", "planned")
    assert (set(started(done)), len(done.anew)) == ({"begun", "planned"}, 1)
    assert not (folder.path / "checkpoint.pt").exists()
    assert (folder.path / "earlier" / "checkpoint.pt").exists()


def test_where_the_launcher_refuses_the_results_are_as_they_were(tmp_path: Path) -> None:
    runs = [run_of(name) for name in "abc"]
    folders = [finish(tmp_path, run) for run in runs]
    before = [sorted(os.listdir(folder.path)) for folder in folders]
    with pytest.raises(LaunchError, match="takes no more"):
        redo(runs, tmp_path, "a", "b", launcher=Noting(refuses_after=1))
    taken = [folder for folder in folders if folder.job() is not None]
    assert len(taken) == 1
    assert (score(taken[0]), score(RunFolder(taken[0].path / "earlier"))) == (None, 0.5)
    for folder, names in zip(folders, before, strict=True):
        assert folder in taken or sorted(os.listdir(folder.path)) == names
    assert sorted(os.listdir(tmp_path / "runs")) == ["a", "b", "c"]


def test_a_check_that_raises_leaves_all_as_it_was(tmp_path: Path) -> None:
    run = run_of("a")
    folder = finish(tmp_path, run)
    shown = []

    def check(runs: Sequence[Run]) -> None:
        shown.extend(runs)
        raise LaunchError("Its data is gone.")

    with pytest.raises(LaunchError, match="Its data is gone"):
        submit([run], tmp_path, Noting(), redo=Redo(frozenset({"a"})), check=check)
    assert shown == [run]
    assert score(folder) == 0.5
    assert preview([run], tmp_path, Noting(), redo=Redo(frozenset({"a"}))) == "a"
    assert score(folder) == 0.5


def test_a_crash_on_the_way_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of("a")
    folder = finish(tmp_path, run)

    def crash(folder: RunFolder) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "_finish_setting_aside", crash)
        with pytest.raises(KeyboardInterrupt):
            folder.set_aside()
    assert states([run], tmp_path) == {"a": State.PLANNED}
    assert started(submit([run], tmp_path, Noting())) == ["a"]
    assert score(RunFolder(folder.path / "earlier")) == 0.5
    assert os.listdir(tmp_path / "runs") == ["a"]


def test_stale_runs_are_those_whose_code_differs_from_todays(tmp_path: Path) -> None:
    runs = [run_of(name) for name in ("same", "other", "old", "planned")]
    same, other, old, _ = runs
    now = CodeToday().of(same.settings)
    finish(tmp_path, same, now)
    finish(tmp_path, other, replace(now, source="0" * 64))
    finish(tmp_path, old)
    said = submit(runs, tmp_path, Noting(waiting=True))
    assert (started(said), list(said.code.differing), said.code.unrecorded) == (["planned"], ["other"], ("old",))
    RunFolder(tmp_path / "runs" / "planned").clear_for_retry()
    done = redo(runs, tmp_path, stale=True)
    assert (set(started(done)), len(done.anew)) == ({"other", "planned"}, 1)
