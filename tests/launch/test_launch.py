import json
from dataclasses import replace

import pytest

from flipscale.errors import LaunchError
from flipscale.launch import StateReader, launcher_named, states, submit
from flipscale.launch.launcher import JobState, Request, by_resources, grouped
from flipscale.launch.submit import hand_over
from flipscale.run import FailureKind, Job, RunFolder, RunRequest, State, ask_for_scores
from flipscale.settings.declarations import Resources
from tests.launch.contract import StandInRun, folder
from tests.launch.real import runs_of


class Recorder:
    """A launcher that starts nothing: it notes what it was asked for."""

    def __init__(self):
        self.submitted = []

    def submit(self, requests):
        self.submitted += [(one.id, one.resources) for one in requests]
        return [Job(one.id, "local", "none", 0.0, log="") for one in requests]

    def preview(self, requests):
        return "\n".join(one.id for one in requests)

    def poll(self, jobs, *, closely=False):
        return {job.run_id: JobState(None) for job in jobs}

    def cancel(self, jobs, study=None):
        pass


def test_an_unknown_launcher_is_refused_with_the_nearest_name(tmp_path):
    with pytest.raises(LaunchError, match=r"no launcher 'lokal'; did you mean 'local'\? Choices: local, slurm"):
        launcher_named("lokal", tmp_path)


def test_the_costliest_run_is_asked_for_first_whatever_it_needs(tmp_path):
    launcher = Recorder()
    runs = [
        StandInRun("a", seconds=1, resources=Resources(gpus=1)),
        StandInRun("b", seconds=3, resources=Resources(gpus=8)),
        StandInRun("c", seconds=2, resources=Resources(gpus=1)),
    ]
    submit(runs, tmp_path, launcher)
    assert launcher.submitted == [("b", Resources(gpus=8)), ("c", Resources(gpus=1)), ("a", Resources(gpus=1))]
    requests = [Request(folder(tmp_path, run), RunRequest.of(run)) for run in runs]
    assert [[one.id for one in alike] for alike in grouped(requests, by_resources)] == [["a", "c"], ["b"]]


def test_a_job_hands_over_what_is_scored_with_the_resources_of_the_request_and_not_of_the_training(tmp_path):
    launcher = Recorder()
    (run,) = runs_of(tmp_path)
    here = folder(tmp_path, run)
    here.ask(replace(RunRequest.of(run), resources=Resources(processes=8)))
    (here.path / "result.json").write_text("{}")
    ask_for_scores(here, run.settings.evaluation, Resources(processes=2))
    hand_over([here], tmp_path, launcher)
    assert launcher.submitted == [(run.id, Resources(processes=2))]


def test_parents_go_out_before_their_children_and_a_long_line_before_a_costly_run(tmp_path):
    launcher = Recorder()
    runs = [
        StandInRun("parent", seconds=1),
        StandInRun("child", seconds=3, parents=("parent",)),
        StandInRun("evaluation", seconds=0, parents=("child",)),
        StandInRun("alone", seconds=2),
    ]
    submit(runs, tmp_path, launcher)
    assert [run for run, _ in launcher.submitted] == ["parent", "child", "alone", "evaluation"]


def test_a_submission_says_what_it_did(tmp_path):
    done = StandInRun("done")
    folder(tmp_path, done).path.mkdir(parents=True)
    (folder(tmp_path, done).path / "result.json").write_text("{}")
    assert submit([done, StandInRun("new")], tmp_path, Recorder()).summary() == (
        "submitted 1 run to local, left alone 1 finished"
    )
    assert submit([done], tmp_path, Recorder()).summary() == "submitted 0 runs, left alone 1 finished"


def test_the_same_run_twice_is_handed_out_once(tmp_path):
    launcher = Recorder()
    submit([StandInRun("run"), StandInRun("run")], tmp_path, launcher)
    assert launcher.submitted == [("run", Resources(gpus=0))]


def test_a_job_reads_back_as_it_was_written(tmp_path):
    run_folder = RunFolder(tmp_path / "run")
    run_folder.path.mkdir()
    job = Job("run", "local", "20260101-000000-abc", 1767225600.0, log="here", cancelled=1767225601.5)
    run_folder.write_job(job)
    assert run_folder.job() == job
    assert RunFolder(tmp_path / "other").job() is None


def test_a_retried_run_forgets_its_failure_and_keeps_its_checkpoint(tmp_path):
    run = StandInRun("run")
    submit([run], tmp_path, Recorder())
    folder(tmp_path, run).write_error(FailureKind.OOM, "Too big.")
    (folder(tmp_path, run).path / "checkpoint.pt").touch()
    assert states([run], tmp_path) == {"run": State.FAILED}
    assert len(submit([run], tmp_path, Recorder()).jobs) == 1
    assert folder(tmp_path, run).error() is None
    assert (folder(tmp_path, run).path / "checkpoint.pt").exists()
    (folder(tmp_path, run).path / "error.json").write_text('{"schema": 1}')
    assert len(submit([run], tmp_path, Recorder()).jobs) == 1


@pytest.mark.parametrize("name", ["run.json", "job.json"])
def test_a_folder_of_a_newer_flipscale_is_left_out_by_name_and_the_others_go_out(tmp_path, name):
    run, other = StandInRun("run"), StandInRun("other")
    folder(tmp_path, run).path.mkdir(parents=True)
    (folder(tmp_path, run).path / name).write_text('{"schema": 2}')
    submission = submit([run, other], tmp_path, Recorder())
    assert [job.run_id for job in submission.jobs] == ["other"]
    assert "newer than this flipscale" in submission.left_out["run"]
    assert submission.summary() == "submitted 1 run to local, left out 1 that cannot start"


def test_a_job_json_of_somebody_else_is_named(tmp_path):
    run = StandInRun("run")
    folder(tmp_path, run).path.mkdir(parents=True)
    (folder(tmp_path, run).path / "job.json").write_text(json.dumps({"pbs": 17}))
    look = StateReader(tmp_path).read([run])["run"]
    assert look.state is State.LOST
    assert "job.json: has no 'launcher'. Delete it and submit again." in look.says
